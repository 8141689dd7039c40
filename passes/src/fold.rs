//! Computes while compiling what depends on nothing given at run time, as typed: each result is
//! rounded as it would be then.
//!
//! ```ir
//! axis E = 4
//! axis S <= 8
//!
//! fn @model (input %x : f32[S, E]) {
//!   %0 = iota {axis = E} : i32[E]
//!   %1 = cast %0 {dtype = f32} : f32[E]
//!   %2 = extent {axis = E} : f32[]
//!   %3 = div %1 %2 : f32[E]
//!   %4 = mul %x %3 : f32[S, E]
//!   return y = %4
//! }
//! ```
//! becomes
//! ```ir
//! axis E = 4
//! axis S <= 8
//!
//! fn @model (input %x : f32[S, E]) {
//!   %0 = constant {dtype = f32, axes = [E], values = [0.0, 0.25, 0.5, 0.75]} : f32[E]
//!   %1 = mul %x %0 : f32[S, E]
//!   return y = %1
//! }
//! ```

use std::collections::BTreeMap;

use ir::{
    Axis, AxisDecl, Extent, Function, Module, Name, Op, Real, Run, Scope, Sizes, Tensor, Type,
    Value, ops::Constant,
};

use crate::{Contract, Cx, Fault, Pass};

/// The most elements that a table of constants may have.
const MAX_ELEMENTS: usize = 16384;

/// See the module.
pub struct Fold;

impl Pass for Fold {
    fn name(&self) -> &'static str {
        "fold"
    }

    fn about(&self) -> &'static str {
        "computes while compiling what depends on nothing given at run time"
    }

    fn contract(&self) -> Contract {
        Contract::Rounds
    }

    fn run(&self, module: &Module, _: &mut Cx) -> Result<Module, Fault> {
        let sizes = fixed_sizes(module)?;
        let fold = |done: &Module, function: &Function| {
            let run = Run { module, sizes: &sizes, typed: true };
            let scope = done.scope();
            let folded = function.rewrite(scope, |f, op, it| fold_node(f, scope, run, op, it));
            folded.rewrite(scope, |_, _, _| None)
        };
        let mut result = module.map(fold);
        result.prune();
        Ok(result)
    }
}

/// The extents of all axes; those of run-time axes mean nothing and are never looked at.
fn fixed_sizes(module: &Module) -> Result<Sizes, Fault> {
    let runtime = |it: &Extent| matches!(it, Extent::Runtime { .. });
    let runtime = module.axes.iter().filter(|(_, decl)| runtime(&decl.extent));
    let given: BTreeMap<_, _> = runtime.map(|(name, _)| (name.clone(), 0)).collect();
    module.axes.sizes(&given).map_err(Fault::new)
}

fn fold_node(
    f: &mut Function,
    scope: Scope<'_>,
    run: Run<'_>,
    op: &Op,
    operands: &[Value],
) -> Option<Vec<Value>> {
    if matches!(op, Op::Constant(_) | Op::Call(_) | Op::Scan(_)) {
        return None;
    }
    let types = f.operand_types(operands);
    let results = op.rules().infer(&types, scope).ok()?;
    let mut named: Vec<Axis> =
        types.iter().chain(&results).flat_map(|it| it.axes.clone()).collect();
    op.clone().visit_axes(&mut |it| named.push(it.clone()));
    let is_small = |ty: &Type| elements(scope, ty).is_some_and(|it| it <= MAX_ELEMENTS);
    if !named.iter().all(|it| is_known(scope, it)) || !types.iter().chain(&results).all(is_small) {
        return None;
    }
    let constants: Vec<Tensor> =
        operands.iter().map(|&it| constant(f, run, it)).collect::<Option<_>>()?;
    let values = op.rules().eval(&constants.iter().collect::<Vec<_>>(), &results, run);
    let folded = values.into_iter().map(|it| f.add(scope, as_constant(it.round()), &[]));
    Some(folded.collect())
}

/// Whether the extent of `axis`, and where its index begins, are known and stay as they are.
fn is_known(scope: Scope<'_>, axis: &Axis) -> bool {
    let is_settled = |decl: &AxisDecl| match &decl.extent {
        Extent::Fixed { choices, .. } => choices.is_empty() && decl.origin.is_none(),
        Extent::Like(_) => decl.origin.is_none(),
        Extent::Runtime { .. } => false,
    };
    let atoms = scope.axes.resolve(axis);
    let settled = |it: &Name| scope.axes.get(it.as_str()).is_some_and(is_settled);
    axis.atoms().chain(atoms.atoms()).all(settled) && scope.axes.fixed(axis).is_some()
}

fn elements(scope: Scope<'_>, ty: &Type) -> Option<usize> {
    ty.axes.iter().try_fold(1usize, |product, it| product.checked_mul(scope.axes.fixed(it)?))
}

/// The elements of `value`, rounded to its type, if it is a constant.
fn constant(f: &Function, run: Run<'_>, value: Value) -> Option<Tensor> {
    let node = f.maker(value).filter(|it| matches!(it.op, Op::Constant(_)))?;
    let result = node.op.rules().eval(&[], &[f.ty(value).clone()], run);
    result.into_iter().next().map(Tensor::round)
}

/// One number where all are the same.
fn as_constant(tensor: Tensor) -> Constant {
    let mut values: Vec<Real> = tensor.data.into_iter().map(Real).collect();
    if values.iter().all(|it| *it == values[0]) {
        values.truncate(1);
    }
    Constant { dtype: tensor.ty.dtype, axes: tensor.ty.axes, values }
}
