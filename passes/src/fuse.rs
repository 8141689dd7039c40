//! Rewrites each function by rules, and makes functions of what one kernel may compute at once.
//!
//! A function is put into an e-graph, which holds all that the rules make of it; then the cheapest
//! form is taken. Limits are counts, so a build gives the same each time. Every application of a
//! rule is matched again by a checker that does not know the e-graph, and run on noise.
//!
//! ```ir
//! axis E = 4
//! axis F = 6
//! axis S <= 8
//!
//! fn @model (input %x : f32[S, E], weight %w : f32[F, E], weight %b : f32[F]) {
//!   %0 = contract %x %w {over = [E]} : f32[S, F]
//!   %1 = add %0 %b : f32[S, F]
//!   %2 = constant {dtype = f32, axes = [], values = [0.0]} : f32[]
//!   %3 = max %1 %2 : f32[S, F]
//!   %4 = mul %3 %3 : f32[S, F]
//!   return y = %4
//! }
//! ```
//! becomes
//! ```ir
//! axis E = 4
//! axis F = 6
//! axis S <= 8
//!
//! fn @product of "fused::product" (%x0 : f32[S, E], %x1 : f32[F, E], %x2 : f32[F]) {
//!   %0 = contract %x0 %x1 {over = [E]} : f32[S, F]
//!   %1 = add %0 %x2 : f32[S, F]
//!   %2 = constant {dtype = f32, axes = [], values = [0.0]} : f32[]
//!   %3 = max %1 %2 : f32[S, F]
//!   %4 = mul %3 %3 : f32[S, F]
//!   return y = %4
//! }
//!
//! fn @model (input %x : f32[S, E], weight %w : f32[F, E], weight %b : f32[F]) {
//!   %0 = call %x %w %b {function = @product} : f32[S, F]
//!   return y = %0
//! }
//! ```

mod application;
mod cost;
mod emit;
mod extract;
mod graph;
mod growth;
mod log;
mod matching;
mod parts;
mod premises;
mod replay;
mod saturate;
mod terms;
mod trial;
mod weights;
mod why_not;

use std::sync::Arc;

use egg::Id;
use ir::{Function, Module, Name, Scope, Stored, Value};

use crate::{
    Contract, Cx, Fault, Pass, PassOption,
    rebuild::Rebuild,
    rules::{Action, Class, Rule, Rules},
};

use self::{
    extract::Chosen,
    log::Change,
    parts::{Body, Parts, Run},
    replay::Bank,
    saturate::{Saturated, saturate},
    weights::Weights,
};

pub use growth::{Growth, growth};
pub use why_not::{NearMiss, why_not};

/// See the module.
pub struct Fuse {
    rules: Arc<Rules>,
}

impl Fuse {
    /// The pass with the exact ones of these rules.
    pub fn new(rules: Arc<Rules>) -> Fuse {
        Fuse { rules }
    }
}

impl Default for Fuse {
    fn default() -> Fuse {
        Fuse::new(Arc::new(Rules::standard()))
    }
}

impl Pass for Fuse {
    fn name(&self) -> &'static str {
        "fuse"
    }

    fn about(&self) -> &'static str {
        "makes functions of what one kernel may compute at once, by rules"
    }

    fn options(&self) -> &'static [PassOption] {
        &[PassOption {
            name: "rules",
            default: "",
            doc: "the identity of the rules besides the usual ones, which their file has to have",
        }]
    }

    fn contract(&self) -> Contract {
        Contract::Exact
    }

    fn run(&self, module: &Module, cx: &mut Cx) -> Result<Module, Fault> {
        let wanted = cx.option("rules");
        if !wanted.is_empty() && wanted != self.rules.identity {
            return Err(Fault::new(format!("the rules `{wanted}` are not here")));
        }
        rewritten(module, &self.rules.of(Class::Exact), &|_| false, cx)
    }
}

/// `module` with every function but those of libraries rewritten by `rules`, where parameters for
/// which `may_change` is true may be stored in another form.
pub(crate) fn rewritten(
    module: &Module,
    rules: &[&Rule],
    may_change: &dyn Fn(&str) -> bool,
    cx: &mut Cx,
) -> Result<Module, Fault> {
    let stored = Stored::new(module);
    let mut result = Module { axes: module.axes.clone(), functions: Vec::new() };
    for function in &module.functions {
        let rebuilt = match is_rewritten(function) {
            true => {
                let weights = Weights::of(module, &stored, function, may_change);
                rewrite(&mut result, module, function, &weights, rules, cx)?
            }
            false => function.clone(),
        };
        result.functions.push(rebuilt);
    }
    result.prune();
    Ok(result)
}

/// Functions with an origin are known to kernels as they are.
fn is_rewritten(function: &Function) -> bool {
    function.origin.is_none()
}

fn rewrite(
    result: &mut Module,
    module: &Module,
    function: &Function,
    weights: &Weights,
    rules: &[&Rule],
    cx: &mut Cx,
) -> Result<Function, Fault> {
    let parts = Parts::of(module.scope(), function, weights);
    let mut known: Vec<Option<Rewritten>> = parts.bodies.iter().map(|_| None).collect();
    let mut new = Rebuild::new(function, &function.name);
    function.param_values().for_each(|it| new.param(it));
    for Run { body, values } in &parts.runs {
        let (body, slot) = (&parts.bodies[*body], &mut known[*body]);
        let rewritten = match slot.take().filter(|it| it.changes.len() <= cx.left()) {
            Some(it) => it,
            None => rewritten_body(result, module, &function.name, body, rules, cx)?,
        };
        for change in &rewritten.changes {
            cx.allows(&function.name, change.told(function, values));
        }
        put(result.scope(), &mut new, body, values, &rewritten.function);
        *slot = Some(rewritten);
    }
    if known.iter().flatten().all(|it| it.changes.is_empty()) {
        return Ok(function.clone());
    }
    function.outputs.iter().for_each(|it| {
        new.fetch(result.scope(), it.value);
    });
    new.outputs();
    Ok(new.new)
}

/// Puts what became of `body` in its place, where its values are `values`.
fn put(
    scope: Scope<'_>,
    new: &mut Rebuild<'_>,
    body: &Body,
    values: &[Value],
    rewritten: &Function,
) {
    let params = &values[..body.function.params.len()];
    let given: Vec<Value> = params.iter().map(|it| new.fetch(scope, *it)).collect();
    let made = new.new.inline(None, scope, rewritten, &given);
    for (output, made) in body.function.outputs.iter().zip(made) {
        new.set(values[output.value.index()], made);
    }
}

/// What became of a body.
struct Rewritten {
    function: Function,
    changes: Vec<Change>,
}

fn rewritten_body(
    result: &mut Module,
    module: &Module,
    place: &Name,
    body: &Body,
    rules: &[&Rule],
    cx: &mut Cx,
) -> Result<Rewritten, Fault> {
    let mut saturated = saturate(module.scope(), body, rules);
    if let Some(fault) = &saturated.classes.analysis.fault {
        return Err(Fault::new(format!("in @{place}, {fault}")));
    }
    if let Some(limit) = &saturated.limit {
        cx.note(format!("in @{place}, the rules were stopped: {limit}"));
    }
    let mut chosen = Chosen::original(&saturated);
    let changes = chosen.improve(cx.left());
    if chosen.unsettled && changes.len() < cx.left() {
        cx.note(format!("in @{place}, the search for the cheapest form was stopped"));
    }
    let function = emit::emit(result, module, &saturated, &chosen);
    let form = chosen.form(saturated.root);
    let after = form.add(&mut saturated);
    justify(module, place, &saturated, after, rules)?;
    Ok(Rewritten { function, changes: form.explain(&mut saturated, &changes) })
}

/// Checks that the form `after` follows from rules that hold.
fn justify(
    module: &Module,
    place: &Name,
    saturated: &Saturated<'_>,
    after: Id,
    rules: &[&Rule],
) -> Result<(), Fault> {
    let bank = Bank::new(&saturated.classes);
    let at = |why: String| Fault::new(format!("in @{place}, {why}"));
    let applied = bank.replay(&saturated.classes.get_union_equalities(), rules).map_err(at)?;
    if !bank.follows(&applied, saturated.root, after) {
        return Err(at("what was chosen does not follow from the rules".to_owned()));
    }
    let rewrites = applied.into_iter().filter(|it| matches!(it.rule.action, Action::Rewrite(_)));
    trial::check_all(module, place.as_str(), &bank, &rewrites.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests;
