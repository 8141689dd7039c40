//! Products with weights of what is normalised first: `cuda/src/matmul.rs`.
//!
//! Where a product has few rows, each block can normalise them on the way in, and a launch is
//! saved. That pays where launches are dear.

use ir::{Function, Node, Op, Scope};

use crate::{Kernel, Site, Tail, Word, callee, matmul::MatMul, number, rms_norm::is_dense_norm};

/// Claims what [`MatMul`] does with the call of `prelude::rms_norm` before it, if nothing else uses
/// that.
pub(crate) struct NormMatMul;

impl Kernel for NormMatMul {
    fn name(&self) -> &'static str {
        "norm_matmul"
    }

    fn claim(&self, site: &Site<'_>, root: usize) -> Option<Vec<usize>> {
        let mut nodes = MatMul.claim(site, root)?;
        let all = site.function.nodes();
        let contracts = nodes.iter().map(|it| &all[*it]).filter(|it| is_contract(it));
        let x = contracts.clone().next()?.operands[0];
        let norm = site.function.maker_at(x)?;
        let inside = nodes.iter().flat_map(|&it| &all[it].operands).filter(|it| **it == x).count();
        let is_private = site.uses[x.index()] == inside;
        (is_private && is_dense_norm(site, &all[norm])).then(|| {
            nodes.push(norm);
            nodes.sort_unstable();
            nodes
        })
    }

    /// Those of `MatMul`, then the weights of the norm and its epsilon.
    fn words(&self, scope: Scope<'_>, function: &Function) -> Vec<Word> {
        let norm = function.nodes().iter().find(|it| it.op.callee().is_some());
        let [x, weight] = norm.expect("a norm").operands[..] else { unreachable!("x and weight") };
        let mut words = MatMul.words(scope, function);
        words[0] = Word::Operand(x.index());
        words.push(Word::Operand(weight.index()));
        words.push(Word::real(number(callee(scope, function), "eps")));
        words
    }

    fn tail(&self, scope: Scope<'_>, function: &Function, result: usize) -> Option<Tail> {
        MatMul.tail(scope, function, result)
    }

    fn takes_half(&self) -> bool {
        MatMul.takes_half()
    }
}

fn is_contract(node: &Node) -> bool {
    matches!(node.op, Op::Contract(_))
}
