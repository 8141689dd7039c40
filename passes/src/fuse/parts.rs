//! Cuts a function where a layer ends, so that each distinct layer is rewritten once, however many
//! there are: the e-graph of a whole hybrid model would grow with its depth.
//!
//! A layer ends at a value that all later work takes as its only input, and that is still needed
//! after a product: the residual stream. No rule can match across such a place without computing
//! the value twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use ir::{Function, Node, Op, Role, Scope, Value};

use crate::rebuild::live_nodes;

use super::weights::Weights;

/// A function as runs of nodes, one after the other.
pub(crate) struct Parts {
    /// Each distinct one.
    pub(crate) bodies: Vec<Body>,
    /// All, in order.
    pub(crate) runs: Vec<Run>,
}

/// Nodes of a function as one of their own: it takes what they take, and gives what is needed of
/// them elsewhere.
#[derive(PartialEq)]
pub(crate) struct Body {
    pub(crate) function: Function,
    /// Which of its values are weights.
    pub(crate) weights: Weights,
}

/// One place where a body stands.
pub(crate) struct Run {
    /// Which.
    pub(crate) body: usize,
    /// For each value of the body, the value of the whole.
    pub(crate) values: Vec<Value>,
}

impl Parts {
    /// The parts of `function`, which has these weights.
    pub(crate) fn of(scope: Scope<'_>, function: &Function, weights: &Weights) -> Parts {
        let whole = Whole::new(function, weights);
        let mut parts = Parts { bodies: Vec::new(), runs: Vec::new() };
        let mut start = 0;
        for end in whole.ends() {
            let (body, values) = whole.body(scope, start..end);
            let known = parts.bodies.iter().position(|it| *it == body);
            parts.runs.push(Run { body: known.unwrap_or(parts.bodies.len()), values });
            parts.bodies.extend(known.is_none().then_some(body));
            start = end;
        }
        parts
    }
}

/// The function that is cut.
struct Whole<'a> {
    function: &'a Function,
    weights: &'a Weights,
    /// Its nodes, but for numbers and layers of weights, which each part has for itself.
    work: Vec<&'a Node>,
    /// For each value the last of these that takes it.
    last: BTreeMap<Value, usize>,
}

impl<'a> Whole<'a> {
    fn new(function: &'a Function, weights: &'a Weights) -> Whole<'a> {
        let is_stored = |it: Value| weights.has(it);
        let is_work = |it: &&Node| !it.operands.is_empty() && !it.results().any(is_stored);
        let work: Vec<&Node> = live_nodes(function).filter(is_work).collect();
        let mut last = BTreeMap::new();
        for (i, node) in work.iter().enumerate() {
            last.extend(node.operands.iter().map(|it| (*it, i)));
        }
        Whole { function, weights, work, last }
    }

    /// The last node that takes `value`.
    fn last(&self, value: Value) -> usize {
        self.last.get(&value).copied().unwrap_or(0)
    }

    /// Behind which nodes a layer ends, and the end of all.
    fn ends(&self) -> Vec<usize> {
        let mut streams = self.given();
        let mut alive = streams.clone();
        let mut ends = Vec::new();
        for (i, node) in self.work.iter().enumerate() {
            alive.retain(|it| i < self.last(*it));
            if node.operands.iter().any(|it| streams.contains(it)) {
                streams.extend(node.results());
                alive.extend(node.results().filter(|it| i < self.last(*it)));
            }
            let mut only = alive.iter().filter(|_| alive.len() == 1);
            let ended = only.next().is_some_and(|it| {
                let later = &self.work[i + 1..self.last(*it)];
                node.results().any(|made| made == *it) && later.iter().any(is_product)
            });
            ends.extend(ended.then_some(i + 1));
        }
        let open = ends.last().copied().unwrap_or(0) < self.work.len();
        ends.extend(open.then_some(self.work.len()));
        ends
    }

    /// The parameters that a model reads, or a body: neither weights nor states.
    fn given(&self) -> BTreeSet<Value> {
        let is_given = |it: &Value| {
            let role = self.function.params[it.index()].role;
            !self.weights.has(*it) && matches!(role, Role::Input | Role::Value)
        };
        self.function.param_values().filter(is_given).collect()
    }

    /// Nodes as a function, and for each of its values the one of the whole.
    fn body(&self, scope: Scope<'_>, run: Range<usize>) -> (Body, Vec<Value>) {
        let nodes = &self.work[run.clone()];
        let made: BTreeSet<Value> = nodes.iter().flat_map(|it| it.results()).collect();
        let number = |it: &Value| self.function.maker(*it).filter(|it| it.operands.is_empty());
        let mut function = Function::new("part");
        let mut known: BTreeMap<Value, Value> = BTreeMap::new();
        for value in nodes.iter().flat_map(|it| &it.operands) {
            if !made.contains(value) && !known.contains_key(value) && number(value).is_none() {
                let ty = self.function.ty(*value).clone();
                let param = function.param(format!("x{}", known.len()), Role::Value, ty);
                known.insert(*value, param);
            }
        }
        for node in nodes {
            for value in &node.operands {
                if let Some(maker) = number(value).filter(|_| !known.contains_key(value)) {
                    known.insert(*value, function.add(scope, maker.op.clone(), &[]));
                }
            }
            let operands: Vec<Value> = node.operands.iter().map(|it| known[it]).collect();
            let results = function.copy(scope, self.function, node, &operands);
            known.extend(node.results().zip(results));
        }
        let given = |it: &Value| self.function.outputs.iter().any(|output| output.value == *it);
        let needed = made.iter().filter(|it| run.end <= self.last(**it) || given(it));
        needed.enumerate().for_each(|(i, it)| function.output(format!("y{i}"), known[it]));
        let mut values: Vec<Value> = known.keys().copied().collect();
        values.sort_unstable_by_key(|it| known[it]);
        let weights = self.weights.of_values(&values);
        (Body { function, weights }, values)
    }
}

fn is_product(node: &&Node) -> bool {
    matches!(node.op, Op::Contract(_))
}
