//! Which nodes belong to a product: from the last one back, as far as everything is used inside.

use std::collections::BTreeSet;

use ir::{Axis, DType, Function, Node, Op, Value, ops::Slice};

use super::{as_concat, as_contract, as_slice, factors};
use crate::{Site, cover::is_number, half, rows};

/// The nodes that can be computed with `root` as products with a tail: back from it if it ends one,
/// and else on from a product that is cut into its parts.
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
    if ends_tail {
        return claim.is_sound().then(|| claim.in_order());
    }
    claim.parts(root);
    Some(claim.in_order())
}

struct Claim<'a> {
    site: &'a Site<'a>,
    /// Those of the tail's result.
    axes: &'a [Axis],
    nodes: Vec<usize>,
}

impl<'a> Claim<'a> {
    /// Takes what the nodes of the claim use, if nothing else uses it.
    fn back(&mut self) {
        let function = self.site.function;
        let makers = |node: &'a Node| {
            needed(node).iter().filter_map(|it| function.maker_at(*it)).collect::<Vec<_>>()
        };
        // The last first: what uses a node comes after it.
        let mut before = BTreeSet::from_iter(makers(&function.nodes()[self.nodes[0]]));
        while let Some(i) = before.pop_last() {
            let node = &function.nodes()[i];
            let inside = node.results().map(|it| self.uses(it)).sum::<usize>();
            let all = node.results().map(|it| self.site.uses[it.index()]).sum::<usize>();
            let is_constant = is_number(node);
            let is_private = inside == all || is_constant;
            if is_private && (is_constant || self.takes(node)) {
                self.nodes.push(i);
                before.extend(makers(node));
            }
        }
    }

    /// Takes the parts into which the product `root` is cut, if it is and is not used otherwise,
    /// and what becomes of each.
    fn parts(&mut self, root: usize) {
        let function = self.site.function;
        let product = &function.nodes()[root];
        let users = self.users(product.result());
        let slices = users.iter().filter_map(|&it| {
            let node = &function.nodes()[it];
            let slice = as_slice(node).filter(|slice| is_part(function, node, slice))?;
            Some(slice.after.len())
        });
        let mut places: Vec<usize> = slices.collect();
        places.sort_unstable();
        let parts = factors(function, product.operands[1]).len();
        let is_cut = users.len() == parts && places.iter().copied().eq(0..parts);
        if 1 < parts && is_cut && self.site.uses[product.result().index()] == parts {
            for slice in users {
                self.nodes.push(slice);
                self.follow(function.nodes()[slice].result(), root);
            }
        }
    }

    /// Takes what works on `value` alone and on what is there at `root`, one after the other.
    fn follow(&mut self, mut value: Value, root: usize) {
        let function = self.site.function;
        let axes = &function.ty(value).axes;
        while let ([user], 1) = (&self.users(value)[..], self.site.uses[value.index()]) {
            let node = &function.nodes()[*user];
            let Some(ty) = node.results().next().map(|it| function.ty(it)) else { return };
            let is_there = |it: &Value| {
                let makes = |node: &Node| node.results().any(|result| result == *it);
                *it == value || !function.nodes()[root..].iter().any(makes)
            };
            let fits = ty.axes == *axes && (ty.dtype == DType::F32 || half(ty.dtype));
            if !fits || !self.is_by_element(node) || !node.operands.iter().all(is_there) {
                return;
            }
            self.nodes.push(*user);
            value = node.result();
            if half(ty.dtype) {
                return;
            }
        }
    }

    /// The nodes that use `value`.
    fn users(&self, value: Value) -> Vec<usize> {
        let nodes = self.site.function.nodes().iter().zip(self.site.function.live());
        let uses =
            nodes.enumerate().filter(|(_, (it, live))| *live && it.operands.contains(&value));
        uses.map(|(i, _)| i).collect()
    }

    /// How often nodes of the claim use `value`, but for what products multiply with weights.
    fn uses(&self, value: Value) -> usize {
        self.claimed().flat_map(needed).filter(|it| **it == value).count()
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
        self.nodes.sort_unstable();
        self.nodes
    }
}

/// What `node` uses, but for what a product multiplies with weights.
fn needed(node: &Node) -> &[Value] {
    match &node.op {
        Op::Contract(_) => &node.operands[1..],
        _ => &node.operands[..],
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
