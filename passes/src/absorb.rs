//! Computes on weights, once, what would be done to values in each step: by the rules that
//! reassociate.
//!
//! The weight of a norm goes into all products with what is normalised. The product of two weights
//! stands in the graph; it is computed when weights are bound.
//!
//! ```ir
//! axis E = 4
//! axis F = 6
//! axis L = 2
//! axis S <= 8
//!
//! fn @rms_norm of "prelude::rms_norm" (%x : f32[S, E], %w : f32[E]) {
//!   %0 = mul %x %x : f32[S, E]
//!   %1 = reduce %0 {over = [E], kind = sum} : f32[S]
//!   %2 = rsqrt %1 : f32[S]
//!   %3 = mul %x %2 : f32[S, E]
//!   %4 = mul %3 %w : f32[S, E]
//!   return y = %4
//! }
//!
//! fn @model (input %x : f32[S, E], weight %n : f32[L, E], weight %w : f32[L, F, E]) {
//!   %0 = constant {dtype = i32, axes = [], values = [1.0]} : i32[]
//!   %1 = gather %n %0 {axis = L} : f32[E]
//!   %2 = gather %w %0 {axis = L} : f32[F, E]
//!   %3 = call %x %1 {function = @rms_norm} : f32[S, E]
//!   %4 = contract %3 %2 {over = [E]} : f32[S, F]
//!   return y = %4
//! }
//! ```
//! becomes
//! ```ir
//! axis E = 4
//! axis F = 6
//! axis L = 2
//! axis S <= 8
//!
//! fn @rms_norm of "prelude::rms_norm" (%x : f32[S, E], %w : f32[E]) {
//!   %0 = mul %x %x : f32[S, E]
//!   %1 = reduce %0 {over = [E], kind = sum} : f32[S]
//!   %2 = rsqrt %1 : f32[S]
//!   %3 = mul %x %2 : f32[S, E]
//!   %4 = mul %3 %w : f32[S, E]
//!   return y = %4
//! }
//!
//! fn @model (input %x : f32[S, E], weight %n : f32[L, E], weight %w : f32[L, F, E]) {
//!   %0 = constant {dtype = i32, axes = [], values = [1.0]} : i32[]
//!   %1 = gather %n %0 {axis = L} : f32[E]
//!   %2 = gather %w %0 {axis = L} : f32[F, E]
//!   %3 = constant {dtype = f32, axes = [E], values = [1.0]} : f32[E]
//!   %4 = call %x %3 {function = @rms_norm} : f32[S, E]
//!   %5 = mul %2 %1 : f32[F, E]
//!   %6 = contract %4 %5 {over = [E]} : f32[S, F]
//!   return y = %6
//! }
//! ```

use std::sync::Arc;

use ir::Module;

use crate::{
    Contract, Cx, Fault, Pass, PassOption,
    fuse::rewritten,
    rules::{Class, Rules},
};

/// See the module.
pub struct Absorb {
    rules: Arc<Rules>,
}

impl Absorb {
    /// The pass with those of these rules that reassociate.
    pub fn new(rules: Arc<Rules>) -> Absorb {
        Absorb { rules }
    }
}

impl Default for Absorb {
    fn default() -> Absorb {
        Absorb::new(Arc::new(Rules::standard()))
    }
}

impl Pass for Absorb {
    fn name(&self) -> &'static str {
        "absorb"
    }

    fn about(&self) -> &'static str {
        "computes on weights, once, what would be done to values in each step"
    }

    fn options(&self) -> &'static [PassOption] {
        &[PassOption {
            name: "into",
            default: "*",
            doc: "the parameters of which other numbers may be stored, or all with `*`",
        }]
    }

    fn contract(&self) -> Contract {
        Contract::Reassociates
    }

    fn run(&self, module: &Module, cx: &mut Cx) -> Result<Module, Fault> {
        let into = cx.option("into").to_owned();
        let may_change = |param: &str| into.split_whitespace().any(|it| it == "*" || it == param);
        rewritten(module, &self.rules.of(Class::Reassociates), &may_change, cx)
    }
}
