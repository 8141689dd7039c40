//! Runs both sides of a rewrite where it was applied, on noise: a rule that lies is named.

use std::collections::{BTreeMap, BTreeSet};

use egg::Id;
use ir::{Function, Module, Role, Value};

use crate::{Contract, Fault, check, rules::Class};

use super::{
    emit,
    graph::Graph,
    matching::Instance,
    replay::{Applied, Bank},
    terms::Head,
};

/// Checks each distinct application of a rewrite, in a function called `place`.
///
/// # Errors
///
/// The rule that does not keep what it promises, where it was applied, and the smallest graph that
/// shows it.
pub(crate) fn check_all(
    module: &Module,
    place: &str,
    bank: &Bank<'_>,
    applied: &[Applied<'_>],
) -> Result<(), Fault> {
    let mut seen = BTreeSet::new();
    for it in applied {
        let Some(trial) = both_sides(module, bank, it) else { continue };
        if !seen.insert(trial.to_string()) {
            continue;
        }
        let contract = match it.rule.class {
            Class::Exact => Contract::Exact,
            Class::Reassociates => Contract::Reassociates,
        };
        check::two_outputs_agree(contract, &trial).map_err(|why| {
            let (name, promise) = (&it.rule.name, contract.name());
            Fault::of(
                why.kind(),
                format!(
                    "the rule `{name}` ({promise}) does not hold in @{place}: {why}\n\n{trial}"
                ),
            )
        })?;
    }
    Ok(())
}

/// A module that gives what the rule found and what it makes of it.
fn both_sides(module: &Module, bank: &Bank<'_>, applied: &Applied<'_>) -> Option<Module> {
    let mut trial = Module { axes: module.axes.clone(), functions: module.functions.clone() };
    let mut entry = Function::new(trial.fresh("rule"));
    let made = instance(bank, applied, applied.to);
    let mut values: BTreeMap<Id, Value> = BTreeMap::new();
    for id in leaves(&applied.found.instance).into_iter().chain(leaves(&made)) {
        if values.contains_key(&id) {
            continue;
        }
        let fact = bank.fact(id);
        let role = if fact.weight { Role::Weight } else { Role::Input };
        let ty = fact.types.first()?.clone();
        values.insert(id, entry.param(format!("x{}", values.len()), role, ty));
    }
    let before = add(&mut trial, &mut entry, &values, &applied.found.instance)?;
    let after = add(&mut trial, &mut entry, &values, &made)?;
    entry.output("before", before);
    entry.output("after", after);
    trial.functions.push(entry);
    trial.prune();
    Some(trial)
}

/// The term `id` down to what the rule's variables stand for.
fn instance(bank: &Bank<'_>, applied: &Applied<'_>, id: Id) -> Instance {
    let term = &bank.terms(id)[0];
    let is_leaf = leaves(&applied.found.instance).contains(&id);
    let head = bank.heads().of(term);
    if is_leaf || matches!(head, Head::Given(_) | Head::Part(_)) {
        return Instance::Leaf(id);
    }
    let operands = term.operands.iter().map(|it| instance(bank, applied, *it)).collect();
    Instance::Node(head.clone(), operands)
}

/// The variables of an instance, each once.
fn leaves(instance: &Instance) -> Vec<Id> {
    match instance {
        Instance::Leaf(id) => vec![*id],
        Instance::Node(_, operands) => {
            let mut ids: Vec<Id> = Vec::new();
            for id in operands.iter().flat_map(leaves) {
                if !ids.contains(&id) {
                    ids.push(id);
                }
            }
            ids
        }
    }
}

/// Adds the nodes of `instance` to `entry`.
fn add(
    module: &mut Module,
    entry: &mut Function,
    values: &BTreeMap<Id, Value>,
    instance: &Instance,
) -> Option<Value> {
    let (head, operands) = match instance {
        Instance::Leaf(id) => return values.get(id).copied(),
        Instance::Node(head, operands) => (head, operands),
    };
    let operands = operands.iter().map(|it| add(module, entry, values, it));
    let operands: Vec<Value> = operands.collect::<Option<_>>()?;
    match head {
        Head::Apply(op) => entry.try_add(module.scope(), op.clone(), &operands).ok()?.pop(),
        Head::Fused(fused) => {
            let body = emit::function(module, fused, &entry.operand_types(&operands));
            Some(entry.inline(None, module.scope(), &body, &operands)[0])
        }
        Head::Given(_) | Head::Part(_) | Head::Outputs => None,
    }
}
