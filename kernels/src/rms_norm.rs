//! Root-mean-square normalisation of rows: `cpu/src/norm.rs`.

use ir::{Function, Node, Scope};

use crate::{Kernel, Site, Word, callee, number, rows};

/// Claims calls of `prelude::rms_norm` whose last axis is the normalised one.
pub(crate) struct RmsNorm;

impl Kernel for RmsNorm {
    fn name(&self) -> &'static str {
        "rms_norm"
    }

    fn claim(&self, site: &Site<'_>, root: usize) -> Option<Vec<usize>> {
        is_dense_norm(site, &site.function.nodes()[root]).then(|| vec![root])
    }

    fn words(&self, scope: Scope<'_>, function: &Function) -> Vec<Word> {
        let operands = &function.nodes().first().expect("the call").operands;
        let (x, weight) = (operands[0], operands[1]);
        let row = function.ty(weight).axes.clone();
        vec![
            Word::Output(0),
            Word::Size(row.clone()),
            Word::Operand(x.index()),
            Word::Size(row.clone()),
            Word::Operand(weight.index()),
            Word::Size(rows(&function.ty(x).axes, row.len())),
            Word::Size(row),
            Word::real(number(callee(scope, function), "eps")),
        ]
    }
}

/// Whether `node` normalises rows of the last axes.
pub(crate) fn is_dense_norm(site: &Site<'_>, node: &Node) -> bool {
    let origin = site.origin_of_call(node);
    let [x, weight] = node.operands[..] else { return false };
    let dense = site.function.ty(x).axes.ends_with(&site.function.ty(weight).axes);
    origin.is_some_and(|it| it.function == "prelude::rms_norm") && dense
}
