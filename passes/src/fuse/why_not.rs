//! Where a rule almost applied, and what was missing.

use ir::{Function, Module, Name, Stored};

use crate::rules::{RESULT, Rule, Rules};

use super::{
    application::apply,
    graph::Graph,
    is_rewritten, log,
    matching::{Match, Strictness, find},
    parts::{Parts, Run},
    saturate::{Saturated, saturate},
    weights::Weights,
};

/// A place where the ops of a rule's pattern stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NearMiss {
    /// The function.
    pub function: Name,
    /// Where in it, in words.
    pub place: String,
    /// What each variable of the rule is there.
    pub names: Vec<String>,
    /// What does not hold, in words; empty where the rule applies.
    pub failures: Vec<String>,
}

/// Every place in `module` where the ops of `rule` stand, with the premises that fail there, when
/// all of `rules` of its class are at work.
pub fn why_not(module: &Module, rules: &Rules, rule: &Rule) -> Vec<NearMiss> {
    let all = rules.of(rule.class);
    let stored = Stored::new(module);
    let functions = module.functions.iter().filter(|it| is_rewritten(it));
    let found = functions.flat_map(|function| {
        let weights = Weights::of(module, &stored, function, &|_| true);
        let parts = Parts::of(module.scope(), function, &weights);
        let saturated: Vec<Saturated<'_>> =
            parts.bodies.iter().map(|it| saturate(module.scope(), it, &all)).collect();
        let misses = |run: &Run| in_run(function, run, &saturated[run.body], rule);
        parts.runs.iter().flat_map(misses).collect::<Vec<_>>()
    });
    found.collect()
}

fn in_run(function: &Function, run: &Run, saturated: &Saturated<'_>, rule: &Rule) -> Vec<NearMiss> {
    let mut found = Vec::new();
    for (&value, id) in run.values.iter().zip(&saturated.values) {
        let Some(id) = id else { continue };
        let class = saturated.classes.find(*id);
        let matches = find(&saturated.classes, &rule.pattern, class, Strictness::Lenient);
        let judged = matches.into_iter().map(|mut it| {
            let failures = apply(&saturated.classes, rule, &mut it).err().unwrap_or_default();
            (it, failures)
        });
        // Of the ways to read one place, the one that is nearest.
        let Some((best, failures)) = judged.min_by_key(|it| it.1.len()) else { continue };
        found.push(NearMiss {
            function: function.name.clone(),
            place: log::made_by(function, value),
            names: names(function, run, saturated, &best),
            failures,
        });
    }
    found
}

/// What each variable stands for, by the names of the function.
fn names(function: &Function, run: &Run, saturated: &Saturated<'_>, found: &Match) -> Vec<String> {
    let name = |class| {
        let is_it = |id: &Option<egg::Id>| id.is_some_and(|it| saturated.classes.find(it) == class);
        let value = *run.values.iter().zip(&saturated.values).find(|(_, id)| is_it(id))?.0;
        let param = function.as_param(value).map(|it| format!("%{}", it.name));
        Some(param.unwrap_or_else(|| log::made_by(function, value)))
    };
    let variables = found.values.iter().filter(|(variable, _)| *variable != RESULT);
    let told = variables.filter_map(|(variable, id)| {
        Some(format!("`{variable}` is {}", name(Graph::find(&saturated.classes, *id))?))
    });
    told.collect()
}
