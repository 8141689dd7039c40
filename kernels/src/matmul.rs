//! Products with a weight: `cpu/src/matmul.rs`.

use ir::{
    Axis, Function, Node, Op, Scope, Value,
    ops::{BinaryFn, Contract},
};

use crate::{Kernel, Site, Update, Word, rows};

/// Claims `contract x w`, where `w` is a weight whose innermost axes are summed over and so are
/// those of `x`, in the same order; and with it the addition of a value of the same type.
pub(crate) struct MatMul;

impl Kernel for MatMul {
    fn name(&self) -> &'static str {
        "matmul"
    }

    fn claim(&self, site: &Site<'_>, root: usize) -> Option<Vec<usize>> {
        let node = &site.function.nodes()[root];
        if is_product(site, node) {
            return Some(vec![root]);
        }
        if node.op.as_binary() != Some(BinaryFn::Add) {
            return None;
        }
        let same_type = |it: Value| site.function.ty(it) == site.function.ty(node.result());
        let [a, b] = node.operands[..] else { return None };
        let product = [a, b].into_iter().find_map(|it| {
            let at = site.function.nodes().iter().position(|n| n.results().any(|r| r == it))?;
            is_product(site, &site.function.nodes()[at]).then_some(at)
        })?;
        let fits = a != b && same_type(a) && same_type(b);
        // A bias is no place to add to.
        (fits && !site.is_stored(a) && !site.is_stored(b)).then(|| vec![product, root])
    }

    fn words(&self, _: Scope<'_>, function: &Function) -> Vec<Word> {
        let (node, contract) = product(function);
        let (x, w) = (node.operands[0], node.operands[1]);
        let n_over = contract.over.len();
        let m = rows(&function.ty(x).axes, n_over);
        let n = rows(&function.ty(w).axes, n_over);
        let k = contract.over.clone();
        vec![
            Word::Output,
            Word::Size(n.clone()),
            Word::Operand(x.index()),
            Word::Size(k.clone()),
            Word::Operand(w.index()),
            Word::Format { operand: w.index(), rows: n.clone(), columns: k.clone() },
            Word::Size(m),
            Word::Size(n),
            Word::Size(k),
            Word::flag(!self.updates(function).is_empty()),
            Word::Scratch,
        ]
    }

    fn updates(&self, function: &Function) -> Vec<Update> {
        let sum = function.nodes().iter().find(|it| it.op.as_binary().is_some());
        let operands = sum.map_or(&[][..], |it| it.operands.as_slice());
        let added = operands.iter().find(|it| function.as_param(**it).is_some());
        added.map(|it| Update { operand: it.index(), result: 0 }).into_iter().collect()
    }
}

fn is_product(site: &Site<'_>, node: &Node) -> bool {
    let Op::Contract(contract) = &node.op else { return false };
    let [x, w] = node.operands[..] else { return false };
    let ends_with = |value: Value| site.function.ty(value).axes.ends_with(&contract.over);
    let disjoint = |axes: &[Axis]| {
        rows(axes, contract.over.len()).iter().all(|it| site.function.ty(x).position(it).is_none())
    };
    !contract.over.is_empty()
        && site.is_stored(w)
        && !site.is_stored(x)
        && ends_with(x)
        && ends_with(w)
        && disjoint(&site.function.ty(w).axes)
}

fn product(function: &Function) -> (&Node, &Contract) {
    let find = |it: &'_ Node| matches!(it.op, Op::Contract(_));
    let node = function.nodes().iter().find(|it| find(it)).expect("a product");
    let Op::Contract(contract) = &node.op else { unreachable!("just matched") };
    (node, contract)
}
