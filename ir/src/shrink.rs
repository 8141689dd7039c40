//! The same module over small axes, so that its meaning can be computed in milliseconds.

use std::collections::BTreeSet;

use crate::{Axes, Axis, Extent, Module, Name, Op, Scope, verify};

/// Run-time axes are at most this long in a shrunk module.
const RUNTIME_MAX: usize = 8;

/// Replaces the extents that no number in the graph depends on by small ones. Different axes get
/// different extents as far as possible, so that confusing two of them shows.
///
/// # Errors
///
/// The faults of the shrunk module, which tell of a dependency that was overlooked.
pub fn shrink(module: &Module) -> Result<Module, Vec<String>> {
    let rigid = rigid_atoms(module);
    let mut axes = Axes::default();
    let mut next = 0;
    for (name, decl) in module.axes.iter() {
        let extent = match &decl.extent {
            it if rigid.contains(name) => it.clone(),
            Extent::Fixed { size, choices } => {
                next += 1;
                shrink_fixed(*size, choices.len(), next)
            }
            Extent::Runtime { max } => Extent::Runtime { max: (*max).min(RUNTIME_MAX) },
            Extent::Like(axis) => Extent::Like(axis.clone()),
        };
        axes.declare(name, extent);
        if let Some(origin) = &decl.origin {
            axes.set_origin(name, origin.clone());
        }
    }
    let small = Module { axes, functions: module.functions.clone() };
    let faults = verify(&small);
    if faults.is_empty() { Ok(small) } else { Err(faults) }
}

/// Extents go through 2, 3, 4 and 5, but no axis grows.
fn shrink_fixed(size: usize, n_choices: usize, turn: usize) -> Extent {
    let size = size.min((2 + turn % 4).max(n_choices + 1));
    Extent::Fixed { size, choices: (1..size).rev().take(n_choices).collect() }
}

/// The atoms whose extent is a number somewhere: in a table of constants, or because two axes are
/// equally long, or one fits into another, by number and not by name.
pub fn rigid_atoms(module: &Module) -> BTreeSet<Name> {
    let mut rigid = BTreeSet::new();
    for function in &module.functions {
        for node in function.nodes() {
            let mut freeze = |axis: &Axis| rigid.extend(module.axes.resolve(axis).atoms().cloned());
            if let Op::Constant(constant) = &node.op
                && constant.values.len() == 1
            {
                continue;
            }
            if matches!(node.op, Op::Constant(_)) || depends_on_numbers(module.scope(), &node.op) {
                node.op.clone().visit_axes(&mut |it| freeze(it));
            }
        }
    }
    rigid
}

fn depends_on_numbers(scope: Scope<'_>, op: &Op) -> bool {
    let differ = |a: &Axis, b: Option<Axis>| {
        b.is_some_and(|b| scope.axes.resolve(a) != scope.axes.resolve(&b))
    };
    let inside =
        |whole: &Axis, after: &[Axis], part: &Axis| !whole.begins_with(after.iter().chain([part]));
    // What is counted from the end of a run-time axis is checked when running.
    let fixed = |axes: [&Axis; 2]| axes.iter().all(|it| scope.axes.fixed(it).is_some());
    match op {
        Op::Slice(it) if it.last && !fixed([&it.axis, &it.into]) => false,
        Op::Pad(it) if it.last && !fixed([&it.axis, &it.into]) => false,
        Op::Split(it) => differ(&it.axis, Axis::product(&it.into)),
        Op::Merge(it) => differ(&it.into, Axis::product(&it.axes)),
        Op::Rename(it) => differ(&it.axis, Some(it.into.clone())),
        Op::Slice(it) => inside(&it.axis, &it.after, &it.into),
        Op::Pad(it) => inside(&it.into, &it.after, &it.axis),
        _ => false,
    }
}
