//! Which rules made a function what it is, read from the e-graph's own explanation.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use egg::{Id, TreeTerm};
use ir::{Function, Value};

use super::{
    saturate::Saturated,
    terms::{Head, Term},
};

/// The form that was chosen: each class with its term, operands first.
pub(crate) struct Form {
    /// The classes and terms; operands are classes.
    pub(crate) terms: Vec<(Id, Term)>,
}

impl Form {
    /// Adds the very terms of this form to the e-graph; what all gives.
    pub(crate) fn add(&self, saturated: &mut Saturated<'_>) -> Id {
        let mut made: BTreeMap<Id, Id> = BTreeMap::new();
        let mut last = saturated.root;
        for (class, term) in &self.terms {
            let operands = term.operands.iter().map(|it| made[it]).collect();
            last = saturated.classes.add_uncanonical(Term { operands, ..term.clone() });
            made.insert(*class, last);
        }
        last
    }

    /// For each of `changes`, the rules that led to its new term and where, in words.
    pub(crate) fn explain(&self, saturated: &mut Saturated<'_>, changes: &[Id]) -> Vec<String> {
        let mut known: BTreeMap<Id, Id> = BTreeMap::new();
        for id in saturated.values.iter().flatten() {
            known.entry(saturated.classes.find(*id)).or_insert(*id);
        }
        // One step from what was there, so that no change tells of another one.
        let mut steps: BTreeMap<Id, (Id, Id)> = BTreeMap::new();
        for (class, term) in &self.terms {
            let operands = term.operands.iter().map(|it| known[it]).collect();
            let new = saturated.classes.add_uncanonical(Term { operands, ..term.clone() });
            let old = *known.entry(*class).or_insert(new);
            steps.insert(*class, (old, new));
        }
        let step = |it: &Id| steps.get(it).map(|&(old, new)| told(saturated, old, new));
        changes.iter().map(step).map(Option::unwrap_or_default).collect()
    }
}

/// The rules between two terms, and where they were applied.
fn told(saturated: &mut Saturated<'_>, old: Id, new: Id) -> String {
    let explanation = saturated.classes.explain_id_equivalence(old, new);
    let mut rules = Rules::default();
    rules.of_proof(&explanation.explanation_trees);
    let at = saturated.values.iter().position(|it| *it == Some(old));
    let value = at.and_then(|it| saturated.classes.analysis.function.values().nth(it));
    let place = value.map_or_else(String::new, |it| place(saturated, it, new));
    format!("{}{place}", rules.names.join(", "))
}

/// The rules of a proof, in the order that they are first used.
#[derive(Default)]
struct Rules {
    names: Vec<String>,
    seen: BTreeSet<*const TreeTerm<Term>>,
}

impl Rules {
    fn of_proof(&mut self, proof: &[Rc<TreeTerm<Term>>]) {
        for step in proof.iter() {
            if !self.seen.insert(Rc::as_ptr(step)) {
                continue;
            }
            step.child_proofs.iter().for_each(|it| self.of_proof(it));
            for rule in step.forward_rule.iter().chain(&step.backward_rule) {
                let rule = rule.to_string();
                if !self.names.contains(&rule) {
                    self.names.push(rule);
                }
            }
        }
    }
}

/// Where `value` stands, with the names of the weights that `term` takes.
fn place(saturated: &Saturated<'_>, value: Value, term: Id) -> String {
    let facts = &saturated.classes.analysis;
    let weight = |id: &Id| match facts.heads.of(saturated.classes.id_to_node(*id)) {
        Head::Given(i) if facts.stored.get(*i) == Some(&true) => {
            facts.function.params.get(*i).map(|it| it.name.to_string())
        }
        _ => None,
    };
    let operands = &saturated.classes.id_to_node(term).operands;
    let weights: Vec<String> = operands.iter().filter_map(weight).collect();
    let of = if weights.is_empty() { String::new() } else { format!(" ({})", weights.join(", ")) };
    format!(" at {}{of}", made_by(facts.function, value))
}

/// `value` with the op that makes it.
pub(crate) fn made_by(function: &Function, value: Value) -> String {
    let op = function.maker(value).map_or("parameter", |it| it.op.rules().name());
    format!("{value} = {op}")
}
