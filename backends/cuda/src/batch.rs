//! Which generated loops may run in a batch: those in which each row depends on the same row alone.

use ir::{Axis, Function, Module, Node, Op, StepAxes};

/// Refuses a loop over rows that looks at other rows, or at positions that came before. If it is
/// told what is different for each row, its result has to have rows.
///
/// # Errors
///
/// What it does, as the end of a sentence.
pub(crate) fn check(
    module: &Module,
    axes: &StepAxes,
    function: &Function,
    is_told: bool,
) -> Result<(), String> {
    let rows = Rows { module, axes };
    let result = function.ty(function.outputs[0].value);
    if is_told && !result.axes.first().is_some_and(|it| rows.holds(it)) {
        return Err("computes the same for all sequences from what is different".to_owned());
    }
    for value in function.values() {
        for (place, axis) in function.ty(value).axes.iter().enumerate() {
            if rows.past(axis) {
                return Err("looks at earlier positions".to_owned());
            }
            if rows.holds(axis) && (0 < place || !rows.is(axis)) {
                return Err("has rows inside".to_owned());
            }
        }
    }
    match function.nodes().iter().find(|it| rows.mixes(it)) {
        Some(node) => Err(format!("mixes sequences: `{}`", node.op.rules().name())),
        None => Ok(()),
    }
}

struct Rows<'a> {
    module: &'a Module,
    axes: &'a StepAxes,
}

impl Rows<'_> {
    /// Whether `axis` has the positions of a step in it.
    fn holds(&self, axis: &Axis) -> bool {
        let resolved = self.module.axes.resolve(axis);
        let is_row = |it: &ir::Name| *it == self.axes.new || Some(it) == self.axes.last.as_ref();
        resolved.atoms().any(is_row)
    }

    /// Whether it is just these.
    fn is(&self, axis: &Axis) -> bool {
        self.module.axes.resolve(axis).as_atom().is_some()
    }

    fn past(&self, axis: &Axis) -> bool {
        let resolved = self.module.axes.resolve(axis);
        resolved.atoms().any(|it| Some(it) == self.axes.past.as_ref())
    }

    /// Whether what `node` computes for a row depends on other rows, or on which row it is.
    fn mixes(&self, node: &Node) -> bool {
        match &node.op {
            Op::Reduce(it) => it.over.iter().any(|it| self.holds(it)),
            Op::Contract(it) => it.over.iter().any(|it| self.holds(it)),
            Op::ArgMax(it) => self.holds(&it.axis),
            Op::Gather(it) => self.holds(&it.axis),
            Op::Rename(it) => self.holds(&it.axis),
            Op::Concat(it) => it.parts.iter().any(|it| self.holds(it)),
            Op::Pad(it) => self.holds(&it.axis) || self.holds(&it.into),
            // All positions of a batch are the last of their sequences.
            Op::Slice(it) => self.holds(&it.axis) && !it.last,
            Op::ExtentOf(it) => self.holds(&it.axis),
            Op::Iota(it) => self.holds(&it.axis) && !self.counts_from_past(&it.axis),
            Op::ScatterAdd(_) => true,
            _ => false,
        }
    }

    fn counts_from_past(&self, axis: &Axis) -> bool {
        let decl = axis.as_atom().and_then(|it| self.module.axes.get(it.as_str()));
        decl.is_some_and(|it| it.origin == self.axes.past)
    }
}
