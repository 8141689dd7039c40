//! Computes while compiling what depends on nothing given at run time, as typed: each result is
//! rounded as it would be then. Cheap arithmetic on indices stays, unless something that costs more
//! is made of it: a table would have to be read.
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

use crate::{
    Contract, Cx, Fault, Pass,
    cost::{is_costly, is_pointwise},
};

/// The most elements that a table of constants may have.
const MAX_ELEMENTS: usize = 16384;
/// The most elements that are computed for one function.
const MAX_COMPUTED: usize = 1 << 22;

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

    fn run(&self, module: &Module, cx: &mut Cx) -> Result<Module, Fault> {
        let sizes = fixed_sizes(module)?;
        let mut result = module.map(|done, function| {
            let run = Run { module, sizes: &sizes, typed: true };
            let mut folding =
                Folding { scope: done.scope(), run, known: BTreeMap::new(), left: MAX_COMPUTED };
            let folded = cx.rewrite(done.scope(), function, |f, op, it| folding.fold(f, op, it));
            folded.rewrite(done.scope(), |_, _, _| None)
        });
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

/// A function being rewritten.
struct Folding<'a> {
    scope: Scope<'a>,
    run: Run<'a>,
    /// The elements of what depends on nothing given at run time.
    known: BTreeMap<Value, Tensor>,
    /// How many elements more may be computed.
    left: usize,
}

impl Folding<'_> {
    fn fold(&mut self, f: &mut Function, op: &Op, operands: &[Value]) -> Option<Vec<Value>> {
        let computed = self.compute(f, op, operands)?;
        self.left -= computed.iter().map(|it| it.data.len()).sum::<usize>();
        let values = match is_worth_a_table(f, op, operands, &computed) {
            true => computed.iter().map(|it| f.add(self.scope, as_constant(it), &[])).collect(),
            false => f.add_all(self.scope, op.clone(), operands),
        };
        self.known.extend(values.iter().copied().zip(computed));
        Some(values)
    }

    /// What `op` gives, if that can be known and is small.
    fn compute(&self, f: &Function, op: &Op, operands: &[Value]) -> Option<Vec<Tensor>> {
        if matches!(op, Op::Call(_) | Op::Scan(_)) {
            return None;
        }
        let constants = operands.iter().map(|it| self.known.get(it));
        let constants: Vec<&Tensor> = constants.collect::<Option<_>>()?;
        let results = op.rules().infer(&f.operand_types(operands), self.scope).ok()?;
        let mut named: Vec<Axis> = results.iter().flat_map(|it| it.axes.clone()).collect();
        op.clone().visit_axes(&mut |it| named.push(it.clone()));
        let is_small =
            |ty| elements(self.scope, ty).is_some_and(|it| it <= MAX_ELEMENTS.min(self.left));
        let is_known = named.iter().all(|it| is_known(self.scope, it));
        (is_known && results.iter().all(is_small)).then(|| {
            let values = op.rules().eval(&constants, &results, self.run);
            values.into_iter().map(Tensor::round).collect()
        })
    }
}

/// Whether reading `computed` back is better than computing it in place.
fn is_worth_a_table(f: &Function, op: &Op, operands: &[Value], computed: &[Tensor]) -> bool {
    let is_table = |&it: &Value| match f.maker(it).map(|it| &it.op) {
        Some(Op::Constant(it)) => it.values.len() != 1,
        _ => false,
    };
    if matches!(op, Op::Constant(_)) {
        return false;
    }
    let is_cheap = matches!(op, Op::Iota(_)) || (is_pointwise(op) && !is_costly(op));
    !is_cheap || operands.iter().any(is_table) || computed.iter().all(|it| it.data.len() == 1)
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

/// One number where all are the same.
fn as_constant(tensor: &Tensor) -> Constant {
    let mut values: Vec<Real> = tensor.data.iter().copied().map(Real).collect();
    if values.iter().all(|it| *it == values[0]) {
        values.truncate(1);
    }
    Constant { dtype: tensor.ty.dtype, axes: tensor.ty.axes.clone(), values }
}
