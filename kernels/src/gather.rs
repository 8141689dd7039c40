//! Rows of a stored table: `cpu/src/gather.rs`.

use ir::{Function, Op, Scope};

use crate::{Kernel, Site, Word};

/// Claims a look-up along the first axis of a weight, but for that of one layer, which takes no
/// work.
pub(crate) struct Gather;

impl Kernel for Gather {
    fn name(&self) -> &'static str {
        "gather"
    }

    fn claim(&self, site: &Site<'_>, root: usize) -> Option<Vec<usize>> {
        let node = &site.function.nodes()[root];
        let Op::Gather(gather) = &node.op else { return None };
        let [table, index] = node.operands[..] else { return None };
        let axes = &site.function.ty(table).axes;
        let disjoint = site.function.ty(index).axes.iter().all(|it| !axes.contains(it));
        let by_row = axes.first() == Some(&gather.axis) && 1 < axes.len();
        let is_look_up = site.is_stored(table) && !site.is_stored(node.result());
        (is_look_up && disjoint && by_row).then(|| vec![root])
    }

    fn words(&self, _: Scope<'_>, function: &Function) -> Vec<Word> {
        let node = function.nodes().first().expect("the look-up");
        let (table, index) = (node.operands[0], node.operands[1]);
        let axes = &function.ty(table).axes;
        let row = axes[1..].to_vec();
        vec![
            Word::Output(0),
            Word::Size(row.clone()),
            Word::Operand(table.index()),
            Word::Format { operand: table.index(), rows: axes[..1].to_vec(), columns: row.clone() },
            Word::Size(axes[..1].to_vec()),
            Word::Size(row),
            Word::Operand(index.index()),
            Word::Size(function.ty(index).axes.clone()),
        ]
    }
}
