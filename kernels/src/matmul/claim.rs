//! Which nodes belong to a product: from the last one back, as far as everything is used inside.

use ir::{Axis, DType, Function, Node, Op, Value, ops::Slice};

use super::{as_concat, as_contract, as_slice, factors};
use crate::{Site, half, rows};

/// The nodes that end with `root` and can be computed as products with a tail.
pub(super) fn claim(site: &Site<'_>, root: usize) -> Option<Vec<usize>> {
    let node = &site.function.nodes()[root];
    let ty = site.function.ty(node.results().next()?);
    let mut claim = Claim { site, axes: &ty.axes, nodes: vec![root] };
    let narrows = half(ty.dtype) && matches!(node.op, Op::Cast(_));
    let ends_tail = (narrows || ty.dtype == DType::F32) && claim.is_by_element(node);
    if !ends_tail && !is_product(site, node) {
        return None;
    }
    claim.back();
    (!ends_tail || claim.is_sound()).then(|| claim.in_order())
}

struct Claim<'a> {
    site: &'a Site<'a>,
    /// Those of the tail's result.
    axes: &'a [Axis],
    /// Last one first.
    nodes: Vec<usize>,
}

impl<'a> Claim<'a> {
    /// Takes what the nodes of the claim use, if nothing else uses it.
    fn back(&mut self) {
        for i in (0..self.nodes[0]).rev() {
            let node = &self.site.function.nodes()[i];
            let inside = node.results().map(|it| self.uses(it)).sum::<usize>();
            let all = node.results().map(|it| self.site.uses[it.index()]).sum::<usize>();
            let is_constant = matches!(&node.op, Op::Constant(it) if it.values.len() == 1);
            let is_private = inside == all || is_constant;
            if 0 < inside && is_private && (is_constant || self.takes(node)) {
                self.nodes.push(i);
            }
        }
    }

    /// How often nodes of the claim use `value`, but for what products multiply with weights.
    fn uses(&self, value: Value) -> usize {
        let operands = self.claimed().flat_map(|it| match &it.op {
            Op::Contract(_) => &it.operands[1..],
            _ => &it.operands[..],
        });
        operands.filter(|it| **it == value).count()
    }

    fn claimed(&self) -> impl Iterator<Item = &'a Node> {
        self.nodes.iter().map(|&it| &self.site.function.nodes()[it])
    }

    /// The products claimed so far, last one first.
    fn products(&self) -> impl Iterator<Item = &'a Node> {
        self.claimed().filter(|it| as_contract(it).is_some())
    }

    fn takes(&self, node: &Node) -> bool {
        let function = self.site.function;
        let Some(ty) = node.results().next().map(|it| function.ty(it)) else { return false };
        match &node.op {
            Op::Contract(_) => {
                let same = |it: &Node| it.op == node.op && it.operands[0] == node.operands[0];
                is_product(self.site, node) && self.products().all(same)
            }
            Op::Slice(slice) => ty.axes == self.axes && is_part(function, node, slice),
            Op::Concat(_) => self.products().any(|it| it.operands[1] == node.result()),
            _ => ty.axes == self.axes && ty.dtype == DType::F32 && self.is_by_element(node),
        }
    }

    /// Whether a tail can compute `node`. Its elements are those of the products, in one column.
    fn is_by_element(&self, node: &Node) -> bool {
        let is_real =
            |it: &Value| self.site.is_stored(*it) || self.site.function.ty(*it).dtype == DType::F32;
        matches!(node.op, Op::Unary(_) | Op::Binary(_) | Op::Select(_) | Op::Cast(_))
            && node.operands.iter().all(is_real)
    }

    /// Whether the tail takes products of its own axes, whose last counts columns: each as a whole,
    /// or all parts of one.
    fn is_sound(&self) -> bool {
        let function = self.site.function;
        let products: Vec<&Node> = self.products().collect();
        let Some(first) = products.first() else { return false };
        let parts = factors(function, first.operands[1]).len();
        let slices = self.claimed().filter(|it| as_slice(it).is_some()).count();
        let over = as_contract(first).map_or(0, |it| it.over.len());
        let m = function.ty(first.operands[0]).axes.len() - over;
        let one_column = self.axes.len() == m + 1;
        let whole = slices == 0
            && (products.len() == 1 || parts == 1)
            && products.iter().all(|it| function.ty(it.result()).axes == self.axes);
        let cut = products.len() == 1 && slices == parts && 1 < parts;
        one_column && (whole || cut)
    }

    fn in_order(mut self) -> Vec<usize> {
        self.nodes.reverse();
        self.nodes
    }
}

/// Whether `node` is a product with a weight, or with weights laid end to end.
fn is_product(site: &Site<'_>, node: &Node) -> bool {
    let (Some(contract), [x, w]) = (as_contract(node), &node.operands[..]) else { return false };
    let function = site.function;
    let ends_with = |value: Value| function.ty(value).axes.ends_with(&contract.over);
    let apart = |axes: &[Axis]| {
        rows(axes, contract.over.len()).iter().all(|it| function.ty(*x).position(it).is_none())
    };
    !contract.over.is_empty()
        && factors(function, *w).iter().all(|it| site.is_stored(*it))
        && !site.is_stored(*x)
        && function.ty(*x).dtype == DType::F32
        && ends_with(*x)
        && ends_with(*w)
        && apart(&function.ty(*w).axes)
        && is_joined_by_rows(site, *w, contract.over.len())
}

/// Whether weights laid end to end are so along the one axis that counts rows, for one product.
fn is_joined_by_rows(site: &Site<'_>, w: Value, over: usize) -> bool {
    let Some(concat) = site.function.maker(w).and_then(as_concat) else { return true };
    rows(&site.function.ty(w).axes, over) == [concat.whole()] && site.uses[w.index()] == 1
}

/// Whether `node` is what one of several weights laid end to end gives.
fn is_part(function: &Function, node: &Node, slice: &Slice) -> bool {
    let maker = |it: Value| function.maker(it);
    let concat = maker(node.operands[0])
        .filter(|it| as_contract(it).is_some())
        .and_then(|it| maker(it.operands[1]))
        .and_then(as_concat);
    concat.is_some_and(|it| {
        let n = slice.after.len();
        slice.axis == it.whole()
            && !slice.last
            && it.parts.starts_with(&slice.after)
            && it.parts.get(n) == Some(&slice.into)
    })
}
