//! A module: an axis table and functions.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Axes, Axis, Cost, Function, Name, Op, Scope};

/// A whole program. Functions call only functions that stand before them; the last is the entry.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Module {
    /// Every axis atom.
    pub axes: Axes,
    /// The functions, callees first.
    pub functions: Vec<Function>,
}

impl Module {
    /// What type rules may look up.
    pub fn scope(&self) -> Scope<'_> {
        Scope { axes: &self.axes, functions: &self.functions }
    }

    /// The function that a run calls.
    ///
    /// # Panics
    ///
    /// When the module is empty.
    pub fn entry(&self) -> &Function {
        self.functions.last().expect("a module has an entry")
    }

    /// The function of that name.
    pub fn function(&self, name: &str) -> Option<&Function> {
        self.functions.iter().find(|it| it.name == *name)
    }

    /// A function name that is not taken, made from `stem`.
    pub fn fresh(&self, stem: &str) -> Name {
        let numbered = (1..).map(|i| format!("{stem}.{i}"));
        let mut names = std::iter::once(stem.to_owned()).chain(numbered);
        names.find(|it| self.function(it).is_none()).unwrap_or_default().into()
    }

    /// The same axes, with each function as `rule` rebuilds it. `rule` is given the functions
    /// rebuilt so far, so that it sees its callees as they are now.
    pub fn map(&self, mut rule: impl FnMut(&Module, &Function) -> Function) -> Module {
        let mut result = Module { axes: self.axes.clone(), functions: Vec::new() };
        for function in &self.functions {
            let rebuilt = rule(&result, function);
            result.functions.push(rebuilt);
        }
        result
    }

    /// Drops functions that the entry does not reach, and axes that nothing names.
    pub fn prune(&mut self) {
        let mut called: BTreeSet<Name> =
            self.functions.last().map(|it| it.name.clone()).into_iter().collect();
        for function in self.functions.iter().rev() {
            if called.contains(&function.name) {
                called.extend(function.nodes().iter().filter_map(|it| it.op.callee().cloned()));
            }
        }
        self.functions.retain(|it| called.contains(&it.name));
        let mut named = BTreeSet::new();
        for function in &self.functions {
            for value in function.values() {
                named.extend(function.ty(value).axes.iter().flat_map(Axis::atoms).cloned());
            }
            for node in function.nodes() {
                named.extend(node.op.named_axes());
            }
        }
        self.axes.retain(&named);
    }

    /// Arithmetic and memory traffic of one run of `function`, where `size` measures axes. A scan
    /// counts its body as often as it runs.
    pub fn cost(&self, function: &Function, size: &dyn Fn(&Axis) -> u64) -> Cost {
        // Callees stand first, so each function is counted once, however often it is called.
        let mut known: BTreeMap<&Name, Cost> = BTreeMap::new();
        for callee in self.functions.iter().take_while(|it| it.name != function.name) {
            known.insert(&callee.name, own_cost(callee, &known, size));
        }
        own_cost(function, &known, size)
    }
}

/// The cost of one run, where `known` tells what callees cost.
fn own_cost(
    function: &Function,
    known: &BTreeMap<&Name, Cost>,
    size: &dyn Fn(&Axis) -> u64,
) -> Cost {
    let mut total = Cost::default();
    for node in function.nodes() {
        let (cost, times) = match (node.op.callee(), &node.op) {
            (Some(callee), op) => {
                let times = if let Op::Scan(scan) = op { size(&scan.axis) } else { 1 };
                (known.get(callee).copied().unwrap_or_default(), times)
            }
            (None, op) => {
                let results: Vec<_> = node.results().map(|it| function.ty(it).clone()).collect();
                (op.rules().cost(&function.operand_types(&node.operands), &results, size), 1)
            }
        };
        total.flops = total.flops.saturating_add(cost.flops.saturating_mul(times));
        total.bytes = total.bytes.saturating_add(cost.bytes.saturating_mul(times));
    }
    total
}
