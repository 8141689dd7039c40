//! Root-mean-square normalisation of rows: `cpu/src/norm.rs`.

use ir::{Function, Node, Op, Real, Scope, Value};

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
        let (x, [weight, rows, row, eps]) = norm_words(scope, function);
        let x = Word::Operand(x.index());
        vec![Word::Output(0), row.clone(), x, row.clone(), weight, rows, row, eps]
    }
}

/// What the last node of `function` normalises, and the words that say how: the weight or 0, rows,
/// their numbers, epsilon.
pub(crate) fn norm_words(scope: Scope<'_>, function: &Function) -> (Value, [Word; 4]) {
    let operands = &function.nodes().last().expect("the call").operands;
    let (x, weight) = (operands[0], operands[1]);
    let is_given = weight.index() < function.params.len();
    let row = function.ty(weight).axes.clone();
    let words = [
        if is_given { Word::Operand(weight.index()) } else { Word::Bits(0) },
        Word::Size(rows(&function.ty(x).axes, row.len())),
        Word::Size(row),
        Word::real(number(callee(scope, function), "eps")),
    ];
    (x, words)
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
