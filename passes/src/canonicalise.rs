//! Drops what does nothing: ops that give back an operand, parameters that nothing reads, functions
//! that nothing calls.
//!
//! Each rule holds for every bit: `x + 0` stays, because it turns -0 into 0. Functions with an
//! origin keep their parameters, by which kernels know them.
//!
//! ```ir
//! axis E = 4
//! axis K = 2
//! axis P = 2
//!
//! fn @twice (%x : f32[K, P], %unused : f32[E]) {
//!   %0 = add %x %x : f32[K, P]
//!   return y = %0
//! }
//!
//! fn @model (input %x : f32[E, K*P]) {
//!   %0 = constant {dtype = f32, axes = [], values = [1.0]} : f32[]
//!   %1 = mul %x %0 : f32[E, K*P]
//!   %2 = split %1 {axis = K*P, into = [K, P]} : f32[E, K, P]
//!   %3 = reduce %2 {over = [E], kind = sum} : f32[K, P]
//!   %4 = reduce %1 {over = [K*P], kind = max} : f32[E]
//!   %5 = call %3 %4 {function = @twice} : f32[K, P]
//!   %6 = merge %5 {axes = [K, P], into = K*P} : f32[K*P]
//!   %7 = split %6 {axis = K*P, into = [K, P]} : f32[K, P]
//!   return y = %7
//! }
//! ```
//! becomes
//! ```ir
//! axis E = 4
//! axis K = 2
//! axis P = 2
//!
//! fn @twice (%x : f32[K, P]) {
//!   %0 = add %x %x : f32[K, P]
//!   return y = %0
//! }
//!
//! fn @model (input %x : f32[E, K*P]) {
//!   %0 = split %x {axis = K*P, into = [K, P]} : f32[E, K, P]
//!   %1 = reduce %0 {over = [E], kind = sum} : f32[K, P]
//!   %2 = call %1 {function = @twice} : f32[K, P]
//!   return y = %2
//! }
//! ```

mod identity;
pub(crate) mod unused;

use ir::{Function, Module, Op, Scope, Value};

use crate::{Contract, Cx, Fault, Pass};

/// See the module.
pub struct Canonicalise;

impl Pass for Canonicalise {
    fn name(&self) -> &'static str {
        "canonicalise"
    }

    fn about(&self) -> &'static str {
        "drops ops, parameters and functions that do nothing"
    }

    fn contract(&self) -> Contract {
        Contract::Exact
    }

    fn run(&self, module: &Module, cx: &mut Cx) -> Result<Module, Fault> {
        let simple = module.map(|done, function| {
            let scope = done.scope();
            let simple = cx.rewrite(scope, function, |f, op, it| simplify(f, scope, op, it));
            simple.rewrite(scope, |_, _, _| None)
        });
        let mut result = unused::without_unused_parameters(&simple, cx);
        result.prune();
        Ok(result)
    }
}

/// Another value, of the same type, for an op.
fn simplify(f: &mut Function, scope: Scope<'_>, op: &Op, operands: &[Value]) -> Option<Vec<Value>> {
    let results = op.rules().infer(&f.operand_types(operands), scope).ok()?;
    let shorter = identity::shorter(f, op, operands).filter(|(op, operands)| {
        op.rules().infer(&f.operand_types(operands), scope).is_ok_and(|it| it == results)
    });
    let (op, operands) = shorter.as_ref().map_or((op, operands), |(op, it)| (op, it.as_slice()));
    let given_back = identity::operand_given_back(f, op, operands);
    match given_back.filter(|&it| [f.ty(it).clone()] == *results) {
        Some(value) => Some(vec![value]),
        None => shorter.map(|(op, operands)| f.add_all(scope, op, &operands)),
    }
}
