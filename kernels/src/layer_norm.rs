//! Normalisation of rows by mean and variance: `cpu/src/norm.rs`.

use ir::{Function, Scope};

use crate::{Kernel, Site, Word, callee, number, rows};

/// Claims calls of `prelude::layer_norm` whose last axis is the normalised one.
pub(crate) struct LayerNorm;

impl Kernel for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn claim(&self, site: &Site<'_>, root: usize) -> Option<Vec<usize>> {
        let node = &site.function.nodes()[root];
        let is_norm = site.origin_of_call(node)?.function == "prelude::layer_norm";
        let [x, weight, _] = node.operands[..] else { return None };
        let dense = site.function.ty(x).axes.ends_with(&site.function.ty(weight).axes);
        (is_norm && dense).then(|| vec![root])
    }

    fn words(&self, scope: Scope<'_>, function: &Function) -> Vec<Word> {
        let operands = &function.nodes().first().expect("the call").operands;
        let (x, weight, bias) = (operands[0], operands[1], operands[2]);
        let row = function.ty(weight).axes.clone();
        vec![
            Word::Output(0),
            Word::Size(row.clone()),
            Word::Operand(x.index()),
            Word::Size(row.clone()),
            Word::Operand(weight.index()),
            Word::Operand(bias.index()),
            Word::Size(rows(&function.ty(x).axes, row.len())),
            Word::Size(row),
            Word::real(number(callee(scope, function), "eps")),
        ]
    }
}
