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

    /// For each of `changes`, what led to its new term.
    pub(crate) fn explain(
        &self,
        saturated: &mut Saturated<'_>,
        changes: &[Vec<Id>],
    ) -> Vec<Change> {
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
        let mut of_class = |it: &Id| {
            let &(old, new) = steps.get(it)?;
            Some(Change::new(saturated, old, new))
        };
        let of_classes = |it: &Vec<Id>| it.iter().filter_map(&mut of_class).reduce(Change::and);
        changes.iter().map(of_classes).map(Option::unwrap_or_default).collect()
    }
}

/// One change of a body.
#[derive(Clone, Default)]
pub(crate) struct Change {
    /// The rules that led to it, in order.
    rules: Vec<String>,
    /// The value that is made in another way.
    value: Option<Value>,
    /// The weights that it takes now.
    weights: Vec<Value>,
}

impl Change {
    /// From one term to another of its class.
    fn new(saturated: &mut Saturated<'_>, old: Id, new: Id) -> Change {
        let explanation = saturated.classes.explain_id_equivalence(old, new);
        let mut rules = Rules::default();
        rules.of_proof(&explanation.explanation_trees);
        let facts = &saturated.classes.analysis;
        let values = || facts.function.values();
        let weight = |id: &Id| match facts.heads.of(saturated.classes.id_to_node(*id)) {
            Head::Given(i) => values().nth(*i).filter(|it| facts.weights.has(*it)),
            _ => None,
        };
        let operands = &saturated.classes.id_to_node(new).operands;
        let at = saturated.values.iter().position(|it| *it == Some(old));
        Change {
            rules: rules.names,
            value: at.and_then(|it| values().nth(it)),
            weights: operands.iter().filter_map(weight).collect(),
        }
    }

    /// Both, of which neither would be made alone.
    fn and(mut self, other: Change) -> Change {
        self.rules.extend(other.rules);
        self.rules.dedup();
        self.weights.extend(other.weights);
        self
    }

    /// In words, where the values of the body are `values` of `function`.
    pub(crate) fn told(&self, function: &Function, values: &[Value]) -> String {
        let rules = self.rules.join(", ");
        let Some(value) = self.value else { return rules };
        let weights = self.weights.iter().filter_map(|it| weight(function, values[it.index()]));
        let weights: Vec<String> = weights.collect();
        let of =
            if weights.is_empty() { String::new() } else { format!(" ({})", weights.join(", ")) };
        format!("{rules} at {}{of}", made_by(function, values[value.index()]))
    }
}

/// The parameter that a weight is, or is a layer of.
fn weight(function: &Function, value: Value) -> Option<String> {
    let bank = function.maker(value).map_or(value, |it| it.operands[0]);
    function.as_param(bank).map(|it| it.name.to_string())
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

/// `value` with the op that makes it.
pub(crate) fn made_by(function: &Function, value: Value) -> String {
    let op = function.maker(value).map_or("parameter", |it| it.op.rules().name());
    format!("{value} = {op}")
}
