//! Softmax of rows: `cpu/src/softmax.rs`.

use ir::{Axis, Function, Node, Op, Scope};

use crate::{Kernel, Site, Update, Word};

/// Claims calls of `prelude::softmax` over the last axis.
pub(crate) struct Softmax;

impl Kernel for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn claim(&self, site: &Site<'_>, root: usize) -> Option<Vec<usize>> {
        let node = &site.function.nodes()[root];
        let is_softmax = site.origin_of_call(node)?.function == "prelude::softmax";
        let over = reduced_axis(site.scope, node)?;
        let [x] = node.operands[..] else { return None };
        (is_softmax && site.function.ty(x).axes.last() == Some(&over)).then(|| vec![root])
    }

    fn words(&self, scope: Scope<'_>, function: &Function) -> Vec<Word> {
        let node = function.nodes().first().expect("the call");
        let over = reduced_axis(scope, node).expect("a softmax reduces");
        let axes = &function.ty(node.operands[0]).axes;
        vec![
            Word::Output(0),
            Word::Size(vec![over.clone()]),
            Word::Operand(node.operands[0].index()),
            Word::Size(vec![over.clone()]),
            Word::Size(crate::rows(axes, 1)),
            Word::Size(vec![over]),
        ]
    }

    fn updates(&self, _: &Function) -> Vec<Update> {
        vec![Update { operand: 0, result: 0 }]
    }
}

/// The axis that the called function takes its maximum over.
fn reduced_axis(scope: Scope<'_>, node: &Node) -> Option<Axis> {
    let callee = scope.function(node.op.callee()?.as_str())?;
    callee.nodes().iter().find_map(|it| match &it.op {
        Op::Reduce(reduce) => reduce.over.first().cloned(),
        _ => None,
    })
}
