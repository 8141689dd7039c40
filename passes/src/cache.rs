//! Stores states that grow with positions in 16 bits a number: a cache of keys and values takes
//! half the memory.
//!
//! What is laid behind such a state is rounded; what reads the whole widens it again, but for
//! calls, which take narrower storage as it is.
//!
//! ```ir
//! axis E = 4
//! axis Past <= 8
//! axis S <= 8 from Past
//! axis T = Past | S
//!
//! fn @model (input %x : f32[S, E], state %model.0 : f32[Past, E]) {
//!   %0 = concat %model.0 %x {parts = [Past, S]} : f32[Past | S, E]
//!   %1 = rename %0 {axis = Past | S, into = T} : f32[T, E]
//!   %2 = contract %x %1 {over = [E]} : f32[S, T]
//!   return y = %2, model.0 = %0
//! }
//! ```
//! becomes
//! ```ir
//! axis E = 4
//! axis Past <= 8
//! axis S <= 8 from Past
//! axis T = Past | S
//!
//! fn @model (input %x : f32[S, E], state %model.0 : f16[Past, E]) {
//!   %0 = cast %x {dtype = f16} : f16[S, E]
//!   %1 = concat %model.0 %0 {parts = [Past, S]} : f16[Past | S, E]
//!   %2 = rename %1 {axis = Past | S, into = T} : f16[T, E]
//!   %3 = cast %2 {dtype = f32} : f32[T, E]
//!   %4 = contract %x %3 {over = [E]} : f32[S, T]
//!   return y = %4, model.0 = %1
//! }
//! ```

use std::collections::BTreeMap;

use ir::{DType, Function, Module, Name, Node, Op, Param, Role, Tensor, Value, ops::Cast};

use crate::{
    Contract, Cx, Fault, Noise, Pass, PassOption,
    check::{run, same_numbers},
    rebuild::{Rebuild, live_nodes},
};

/// See the module.
pub struct Cache;

impl Pass for Cache {
    fn name(&self) -> &'static str {
        "cache"
    }

    fn about(&self) -> &'static str {
        "stores states that grow with positions in 16 bits a number"
    }

    fn options(&self) -> &'static [PassOption] {
        &[PassOption { name: "dtype", default: "f16", doc: "the type: `f16`, `bf16` or `f32`" }]
    }

    fn contract(&self) -> Contract {
        Contract::Lowers(changes_roundings_alone)
    }

    fn run(&self, module: &Module, cx: &mut Cx) -> Result<Module, Fault> {
        let dtype = DType::from_name(cx.option("dtype"));
        let is_known = |it: &DType| matches!(it, DType::F16 | DType::BF16 | DType::F32);
        let dtype = dtype.filter(is_known).ok_or_else(|| {
            Fault::new(format!("`{}` is not f16, bf16 or f32", cx.option("dtype")))
        })?;
        let mut done = Module { axes: module.axes.clone(), functions: Vec::new() };
        let growing = growing(module)?;
        for function in &module.functions {
            let states = growing.get(&function.name).map_or(&[][..], Vec::as_slice);
            let narrowed = narrow(&done, function, states, dtype);
            done.functions.push(narrowed);
        }
        Ok(done)
    }
}

/// For each function, which of its parameters are states that grow, or their parts.
fn growing(module: &Module) -> Result<BTreeMap<Name, Vec<bool>>, Fault> {
    let mut growing: BTreeMap<Name, Vec<bool>> = BTreeMap::new();
    let grows = |it: &Param| {
        let grows = it.ty.axes.iter().any(|it| module.axes.fixed(it).is_none());
        it.role == Role::State && it.ty.dtype == DType::F32 && grows
    };
    let entry = module.entry();
    growing.insert(entry.name.clone(), entry.params.iter().map(grows).collect());
    for function in module.functions.iter().rev() {
        let Some(known) = growing.get(&function.name).cloned() else { continue };
        for node in live_nodes(function) {
            let Some(callee) = node.op.callee() else { continue };
            let is_state = |it: &Value| known.get(it.index()).is_some_and(|it| *it);
            let here: Vec<bool> = node.operands.iter().map(is_state).collect();
            if growing.entry(callee.clone()).or_insert_with(|| here.clone()) != &here {
                let why = format!("@{callee} takes a state here and another value there");
                return Err(Fault::new(why));
            }
        }
    }
    Ok(growing)
}

/// `function` with its `states` stored as `dtype`; its callees are done.
fn narrow(done: &Module, function: &Function, states: &[bool], dtype: DType) -> Function {
    let mut new = Rebuild::new(function, &function.name);
    for (i, (value, param)) in function.param_values().zip(&function.params).enumerate() {
        if states.get(i) == Some(&true) {
            let given = new.new.param(&param.name, param.role, param.ty.with_dtype(dtype));
            new.set(value, given);
        } else {
            new.param(value);
        }
    }
    for node in live_nodes(function) {
        let operands = operands(done, &mut new, node, dtype);
        let values = new.new.copy(done.scope(), function, node, &operands);
        new.set_results(node, &values);
    }
    for output in &function.outputs {
        let state = function.params.iter().zip(states).find(|(it, _)| it.name == output.name);
        let (wide, value) = (function.ty(output.value).dtype, new.get(output.value));
        let is_state = state.is_some_and(|(_, is_state)| *is_state);
        let value = if is_state { value } else { cast(done, &mut new.new, value, wide) };
        new.new.output(&output.name, value);
    }
    new.new
}

/// The operands of `node` as it takes them: appended values narrow, others wide where it matters.
fn operands(done: &Module, new: &mut Rebuild<'_>, node: &Node, dtype: DType) -> Vec<Value> {
    let narrow = |new: &Rebuild<'_>, it: Value| new.new.ty(new.get(it)) != new.old.ty(it);
    let appends =
        matches!(node.op, Op::Concat(_)) && node.operands.iter().any(|it| narrow(new, *it));
    let mut operands = Vec::new();
    for (i, &old) in node.operands.iter().enumerate() {
        let wanted = match &node.op {
            _ if appends => dtype,
            Op::Rename(_) | Op::Split(_) | Op::Merge(_) | Op::Transpose(_) | Op::Call(_) => {
                new.new.ty(new.get(old)).dtype
            }
            Op::Scan(scan) => {
                // A weight may be stored in another type than the body reads it in.
                let body = done.function(scan.body.as_str()).expect("a verified body");
                let taken = body.params[i].ty.dtype;
                if taken == dtype { taken } else { new.old.ty(old).dtype }
            }
            _ => new.old.ty(old).dtype,
        };
        let value = new.get(old);
        operands.push(cast(done, &mut new.new, value, wanted));
    }
    operands
}

/// `value` as `dtype`. What a view is of is narrowed rather than the view: there it belongs to what
/// computes it.
fn cast(done: &Module, f: &mut Function, value: Value, dtype: DType) -> Value {
    if f.ty(value).dtype == dtype {
        return value;
    }
    let maker = f.maker(value).map(|it| (it.op.clone(), it.operands.clone()));
    match maker.filter(|_| dtype != DType::F32) {
        Some((op @ (Op::Rename(_) | Op::Split(_) | Op::Merge(_)), operands)) => {
            let whole = cast(done, f, operands[0], dtype);
            f.add(done.scope(), op, &[whole])
        }
        _ => f.add(done.scope(), Cast { dtype }, &[value]),
    }
}

/// Where nothing is rounded the numbers are the same.
fn changes_roundings_alone(
    before: &Module,
    after: &Module,
    _: &Cx,
    noise: &mut Noise,
) -> Result<(), Fault> {
    let sizes = after.axes.sizes(&noise.extents(after)).map_err(Fault::new)?;
    let narrow = noise.arguments(after, &sizes);
    let wide: Vec<Tensor> = before
        .entry()
        .params
        .iter()
        .zip(&narrow)
        .map(|(param, it)| Tensor { ty: param.ty.clone(), ..it.clone() })
        .collect();
    let old = run(before, &wide, &sizes, false)?;
    let new = run(after, &narrow, &sizes, false)?;
    let outputs = before.entry().outputs.iter().zip(old.iter().zip(&new));
    let mut same = outputs.map(|(it, (old, new))| same_numbers(it.name.as_str(), old, new, 1e-12));
    same.try_for_each(|it| it)
}
