//! Numbers rounded to 16 bits: `cpu/src/narrow.rs`.

use ir::{DType, Function, Op, Scope};

use crate::{Kernel, Site, Word, half, stored_word};

/// Claims casts of `f32` to `f16` or `bf16`.
pub(crate) struct Narrow;

impl Kernel for Narrow {
    fn name(&self) -> &'static str {
        "narrow"
    }

    fn claim(&self, site: &Site<'_>, root: usize) -> Option<Vec<usize>> {
        let node = &site.function.nodes()[root];
        let is_cast = matches!(node.op, Op::Cast(_)) && !site.is_stored(node.operands[0]);
        let from = site.function.ty(*node.operands.first()?).dtype;
        let to = site.function.ty(node.results().next()?).dtype;
        (is_cast && from == DType::F32 && half(to)).then(|| vec![root])
    }

    fn words(&self, _: Scope<'_>, function: &Function) -> Vec<Word> {
        let node = function.nodes().first().expect("the cast");
        let ty = function.ty(node.result());
        vec![
            Word::Output,
            Word::Operand(node.operands[0].index()),
            Word::Size(ty.axes.clone()),
            stored_word(ty.dtype),
        ]
    }

    fn takes_half(&self) -> bool {
        true
    }
}
