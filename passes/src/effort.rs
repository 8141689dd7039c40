//! Whether running a module in the reference would take too long or too much memory. No text may
//! make the compiler hang: calls of calls of calls multiply.

use std::collections::BTreeMap;

use ir::{Axes, Axis, Function, Module, Name, Node, Op};

/// The most elements that a run may read and write: some seconds.
const MAX_ELEMENTS: u128 = 1 << 31;
/// The deepest that functions may call each other: the reference calls itself.
const MAX_DEPTH: usize = 100;

/// What one run of a function takes.
#[derive(Clone, Copy, Default)]
struct Effort {
    elements: u128,
    depth: usize,
}

/// Whether one run of the entry exceeds the limits.
pub(crate) fn is_too_much(module: &Module) -> bool {
    let entry = of_entry(module);
    MAX_ELEMENTS < entry.elements || MAX_DEPTH < entry.depth
}

/// How many elements one run of the entry reads and writes.
pub(crate) fn effort(module: &Module) -> u128 {
    of_entry(module).elements
}

fn of_entry(module: &Module) -> Effort {
    let mut known: BTreeMap<&Name, Effort> = BTreeMap::new();
    let mut last = Effort::default();
    for function in &module.functions {
        last = of_function(&module.axes, function, &known);
        known.insert(&function.name, last);
    }
    last
}

fn of_function(axes: &Axes, function: &Function, known: &BTreeMap<&Name, Effort>) -> Effort {
    let mut total = Effort::default();
    for node in function.nodes() {
        let callee = node.op.callee().and_then(|it| known.get(it)).copied().unwrap_or_default();
        let turns = if let Op::Scan(scan) = &node.op { size(axes, &scan.axis) } else { 1 };
        let inner = callee.elements.saturating_mul(turns);
        let own = of_node(axes, function, node);
        total.elements = total.elements.saturating_add(inner).saturating_add(own);
        total.depth = total.depth.max(callee.depth + 1);
    }
    total
}

/// The elements that the node alone reads and writes.
fn of_node(axes: &Axes, function: &Function, node: &Node) -> u128 {
    let elements = |it| {
        let sizes = function.ty(it).axes.iter().map(|it| size(axes, it));
        sizes.fold(1, u128::saturating_mul)
    };
    let values = node.operands.iter().copied().chain(node.results());
    let moved = values.map(elements).fold(1, u128::saturating_add);
    match &node.op {
        Op::Contract(it) => {
            let over = it.over.iter().map(|it| size(axes, it)).fold(1, u128::saturating_mul);
            moved.saturating_add(elements(node.result()).saturating_mul(over))
        }
        _ => moved,
    }
}

fn size(axes: &Axes, axis: &Axis) -> u128 {
    axes.bound(axis).unwrap_or(usize::MAX) as u128
}
