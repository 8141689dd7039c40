//! Grows the e-graph of a function by rules until nothing new is found, or a count is reached.

use std::collections::{BTreeMap, BTreeSet};

use egg::{EGraph, Id};
use ir::{Node, Scope};

use crate::rules::Rule;

use super::{
    application::apply,
    graph::{Classes, Facts, Graph},
    matching::{Instance, Strictness, find},
    parts::Body,
    terms::{Head, Heads, Term},
};

/// The most terms that an e-graph grows to.
const MAX_TERMS: usize = 20_000;
/// The most rounds of matching.
const MAX_ROUNDS: usize = 12;
/// The most matches of one rule in one round.
const MAX_MATCHES: usize = 2_000;

/// A body as an e-graph, and what rules have added.
pub(crate) struct Saturated<'a> {
    pub(crate) classes: Classes<'a>,
    /// For each value of the body, its term.
    pub(crate) values: Vec<Option<Id>>,
    /// What the body gives.
    pub(crate) root: Id,
    /// The limit that was reached, if one was.
    pub(crate) limit: Option<String>,
}

/// The e-graph of `body` with all that `rules` make of it.
pub(crate) fn saturate<'a>(scope: Scope<'a>, body: &'a Body, rules: &[&Rule]) -> Saturated<'a> {
    let mut it = read(scope, body);
    if MAX_TERMS < it.classes.total_size() {
        it.limit = Some(format!("{} terms from the start", it.classes.total_size()));
        return it;
    }
    let mut done = BTreeSet::new();
    let mut changed: BTreeSet<Id> = it.classes.classes().map(|it| it.id).collect();
    for _ in 0..MAX_ROUNDS {
        changed = it.round(rules, &changed, &mut done);
        if changed.is_empty() {
            return it;
        }
        it.classes.rebuild();
        if MAX_TERMS < it.classes.total_size() {
            it.limit = Some(format!("more than {MAX_TERMS} terms"));
            return it;
        }
    }
    it.limit = Some(format!("more than {MAX_ROUNDS} rounds"));
    it
}

impl Saturated<'_> {
    /// Applies each rule wherever it matches something `changed`; what that changed.
    fn round(
        &mut self,
        rules: &[&Rule],
        changed: &BTreeSet<Id>,
        done: &mut BTreeSet<(usize, Id, Id)>,
    ) -> BTreeSet<Id> {
        let mut found = Vec::new();
        let places = self.places();
        let deepest = rules.iter().map(|it| it.pattern.depth()).max().unwrap_or(0);
        let near = self.near(changed, deepest);
        for (i, rule) in rules.iter().enumerate() {
            let before = found.len();
            let here = rule.pattern.op().and_then(|it| places.get(it));
            let near = &near[rule.pattern.depth()];
            for &class in here.into_iter().flatten().filter(|it| near.contains(it)) {
                let matches = find(&self.classes, &rule.pattern, class, Strictness::Strict);
                found.extend(matches.into_iter().filter_map(|mut it| {
                    let made = apply(&self.classes, rule, &mut it).ok()?;
                    Some((i, it.instance, made))
                }));
                if MAX_MATCHES < found.len() - before {
                    self.limit = Some(format!("more than {MAX_MATCHES} matches of {}", rule.name));
                    break;
                }
            }
        }
        let before = self.classes.nodes().len();
        let mut changed = BTreeSet::new();
        for (i, old, new) in found {
            let (old, new) = (self.add(&old), self.add(&new));
            if done.insert((i, old, new)) {
                self.classes.union_trusted(old, new, rules[i].name.as_str());
                changed.insert(old);
            }
        }
        if !changed.is_empty() {
            changed.extend((before..self.classes.nodes().len()).map(Id::from));
        }
        changed
    }

    /// For each number of steps up to `deepest`, the classes from which `changed` is so near.
    fn near(&self, changed: &BTreeSet<Id>, deepest: usize) -> Vec<BTreeSet<Id>> {
        let first: BTreeSet<Id> = changed.iter().map(|it| self.classes.find(*it)).collect();
        let mut near = vec![first];
        for step in 0..deepest {
            let parents = near[step].iter().flat_map(|it| self.classes[*it].parents());
            let wider = parents.map(|it| self.classes.find(it)).chain(near[step].iter().copied());
            let wider = wider.collect();
            near.push(wider);
        }
        near
    }

    /// The classes that have an op of each name.
    fn places(&self) -> BTreeMap<&'static str, BTreeSet<Id>> {
        let mut places: BTreeMap<&'static str, BTreeSet<Id>> = BTreeMap::new();
        for class in self.classes.classes() {
            for term in &class.nodes {
                if let Head::Apply(op) = Graph::heads(&self.classes).of(term) {
                    places.entry(op.rules().name()).or_default().insert(class.id);
                }
            }
        }
        places
    }

    /// The very term that `instance` is.
    fn add(&mut self, instance: &Instance) -> Id {
        match instance {
            Instance::Leaf(class) => self.grounded(*class),
            Instance::Node(head, operands) => {
                let operands = operands.iter().map(|it| self.add(it)).collect();
                let head = self.classes.analysis.heads.number(head.clone());
                self.classes.add_uncanonical(Term { head, operands })
            }
        }
    }

    /// A term of a class by which one sees what premises ask: a given value or a number, if it has
    /// one.
    fn grounded(&mut self, class: Id) -> Id {
        let class = self.classes.find(class);
        let heads = Graph::heads(&self.classes);
        let plain = |it: &&Term| {
            let head = heads.of(it);
            matches!(head, Head::Given(_)) || head.number().is_some()
        };
        match Graph::terms(&self.classes, class).iter().filter(plain).min().cloned() {
            Some(term) => self.classes.add_uncanonical(term),
            None => class,
        }
    }
}

/// The e-graph of `body` as it is.
fn read<'a>(scope: Scope<'a>, body: &'a Body) -> Saturated<'a> {
    let (function, weights) = (&body.function, body.weights.clone());
    let facts = Facts { scope, function, weights, heads: Heads::default(), fault: None };
    let classes = EGraph::new(facts).with_explanations_enabled();
    let classes = classes.without_explanation_length_optimization();
    let values = vec![None; function.n_values()];
    let mut it = Saturated { classes, values, root: Id::from(0), limit: None };
    for value in function.param_values() {
        it.values[value.index()] = Some(it.term(Head::Given(value.index()), Vec::new()));
    }
    for (node, live) in function.nodes().iter().zip(function.live()) {
        if live {
            it.read_node(node);
        }
    }
    let outputs = function.outputs.iter().filter_map(|out| it.values[out.value.index()]).collect();
    it.root = it.term(Head::Outputs, outputs);
    it.classes.rebuild();
    it
}

impl Saturated<'_> {
    fn term(&mut self, head: Head, operands: Vec<Id>) -> Id {
        let head = self.classes.analysis.heads.number(head);
        self.classes.add_uncanonical(Term { head, operands })
    }

    fn read_node(&mut self, node: &Node) {
        let results: Vec<usize> = node.results().map(ir::Value::index).collect();
        if let [result] = results[..]
            && self.classes.analysis.weights.has(node.result())
        {
            self.values[result] = Some(self.term(Head::Given(result), Vec::new()));
            return;
        }
        let operands = node.operands.iter().filter_map(|it| self.values[it.index()]).collect();
        let made = self.term(Head::Apply(node.op.clone()), operands);
        match results[..] {
            [result] => self.values[result] = Some(made),
            _ => results.iter().enumerate().for_each(|(i, &result)| {
                self.values[result] = Some(self.term(Head::Part(i), vec![made]));
            }),
        }
    }
}
