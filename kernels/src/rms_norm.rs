//! Root-mean-square normalisation of rows: `cpu/src/norm.rs`.

use ir::{Function, Node, Op, Real, Scope};

use crate::{Kernel, Site, Word, callee, number, rows};

/// Claims calls of `prelude::rms_norm` whose last axes are the normalised ones, with their weight
/// where that is 1 throughout.
pub(crate) struct RmsNorm;

impl Kernel for RmsNorm {
    fn name(&self) -> &'static str {
        "rms_norm"
    }

    fn claim(&self, site: &Site<'_>, root: usize) -> Option<Vec<usize>> {
        let nodes = site.function.nodes();
        let weight = nodes[root].operands.get(1);
        let ones = nodes.iter().position(|it| is_one(it) && weight == it.results().next().as_ref());
        is_dense_norm(site, &nodes[root]).then(|| ones.into_iter().chain([root]).collect())
    }

    fn words(&self, scope: Scope<'_>, function: &Function) -> Vec<Word> {
        let operands = &function.nodes().last().expect("the call").operands;
        let (x, weight) = (operands[0], operands[1]);
        let is_given = weight.index() < function.params.len();
        let row = function.ty(weight).axes.clone();
        vec![
            Word::Output(0),
            Word::Size(row.clone()),
            Word::Operand(x.index()),
            Word::Size(row.clone()),
            if is_given { Word::Operand(weight.index()) } else { Word::Bits(0) },
            Word::Size(rows(&function.ty(x).axes, row.len())),
            Word::Size(row),
            Word::real(number(callee(scope, function), "eps")),
        ]
    }
}

/// Whether `node` is the number 1, wherever it stands.
fn is_one(node: &Node) -> bool {
    matches!(&node.op, Op::Constant(it) if it.values == [Real(1.0)])
}

/// Whether `node` normalises rows of the last axes.
pub(crate) fn is_dense_norm(site: &Site<'_>, node: &Node) -> bool {
    let origin = site.origin_of_call(node);
    let [x, weight] = node.operands[..] else { return false };
    let dense = site.function.ty(x).axes.ends_with(&site.function.ty(weight).axes);
    origin.is_some_and(|it| it.function == "prelude::rms_norm") && dense
}
