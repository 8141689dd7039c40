//! Every atom of every value, and which of them are one index by what ops say of their axes.

use std::collections::BTreeMap;

use ir::{Axis, Function, Module, Node, Op, Type, Value, ops::Scan};
use petgraph::unionfind::UnionFind;

/// A number for every atom of every value.
pub(super) struct Places {
    /// By function and value, the number of the first.
    pub(super) first: Vec<Vec<usize>>,
    /// How many there are.
    n: usize,
}

impl Places {
    /// Numbers the atoms of `module`.
    pub(super) fn of(module: &Module) -> Places {
        let mut n = 0;
        let mut number = |ty: &Type| {
            let first = n;
            n += ty.axes.iter().map(|it| it.atoms().count()).sum::<usize>();
            first
        };
        let of = |it: &Function| it.values().map(|value| it.ty(value).clone()).collect::<Vec<_>>();
        let first = module.functions.iter().map(|it| of(it).iter().map(&mut number).collect());
        let first = first.collect();
        Places { first, n }
    }

    /// For each atom a label, the same for those that are one index.
    pub(super) fn joined(&self, module: &Module) -> Vec<usize> {
        let mut joined = UnionFind::new(self.n);
        for (i, function) in module.functions.iter().enumerate() {
            for node in function.nodes() {
                Joiner { module, places: self, joined: &mut joined }.node(i, function, node);
            }
        }
        joined.into_labeling()
    }

    /// The first atom of the axis at `at`.
    pub(super) fn axis(&self, function: usize, value: Value, ty: &Type, at: usize) -> usize {
        let before: usize = ty.axes[..at].iter().map(|it| it.atoms().count()).sum();
        self.first[function][value.index()] + before
    }
}

struct Joiner<'a> {
    module: &'a Module,
    places: &'a Places,
    joined: &'a mut UnionFind<usize>,
}

impl Joiner<'_> {
    fn node(&mut self, at: usize, function: &Function, node: &Node) {
        let callee = node
            .op
            .callee()
            .and_then(|it| self.module.functions.iter().position(|function| function.name == *it));
        match (&node.op, callee) {
            (Op::Scan(scan), Some(body)) => self.scan(at, node, scan, body),
            (_, Some(callee)) => self.call(at, node, callee),
            (op, None) => self.op(at, function, node, op),
        }
    }

    /// Axes of equal name, and what the op says beyond them.
    fn op(&mut self, at: usize, function: &Function, node: &Node, op: &Op) {
        let values: Vec<Value> = node.operands.iter().copied().chain(node.results()).collect();
        let mut seen: BTreeMap<&Axis, usize> = BTreeMap::new();
        for &value in &values {
            let ty = function.ty(value);
            for (i, axis) in ty.axes.iter().enumerate() {
                let place = self.places.axis(at, value, ty, i);
                let first = *seen.entry(axis).or_insert(place);
                self.join(first, place, axis.atoms().count());
            }
        }
        for link in op.rules().links() {
            let find = |value: Value, axis: &Axis| {
                let ty = function.ty(value);
                Some(self.places.axis(at, value, ty, ty.position(axis)?))
            };
            let result = node.results().next();
            let from = find(node.operands[link.operand], &link.from);
            let to = result.and_then(|it| find(it, &link.to));
            if let (Some(from), Some(to)) = (from, to) {
                self.join(from + link.from_skipped, to + link.to_skipped, link.n_atoms);
            }
        }
    }

    fn call(&mut self, at: usize, node: &Node, callee: usize) {
        let function = &self.module.functions[callee];
        let params = function.param_values().zip(node.operands.iter().copied());
        let outputs = function.outputs.iter().map(|it| it.value).zip(node.results());
        for (inner, outer) in params.chain(outputs) {
            self.join_values((callee, inner), (at, outer), 0);
        }
    }

    fn scan(&mut self, at: usize, node: &Node, scan: &Scan, callee: usize) {
        let body = &self.module.functions[callee];
        let is_bank = |i| (scan.carries..scan.carries + scan.banked).contains(&i);
        for (i, (inner, outer)) in
            body.param_values().zip(node.operands.iter().copied()).enumerate()
        {
            self.join_values((callee, inner), (at, outer), usize::from(is_bank(i)));
        }
        let outputs = body.outputs.iter().map(|it| it.value).zip(node.results());
        for (i, (inner, outer)) in outputs.enumerate() {
            let is_bank = scan.carries <= i;
            self.join_values((callee, inner), (at, outer), usize::from(is_bank));
            if !is_bank {
                let next = body.param_values().nth(i).unwrap_or(inner);
                self.join_values((callee, inner), (callee, next), 0);
            }
        }
    }

    /// All axes of a value inside with those of one outside, which has `skipped` more in front.
    fn join_values(&mut self, inside: (usize, Value), outside: (usize, Value), skipped: usize) {
        let inner = self.module.functions[inside.0].ty(inside.1);
        let outer = self.module.functions[outside.0].ty(outside.1);
        let n_atoms = inner.axes.iter().map(|it| it.atoms().count()).sum();
        let from = self.places.first[inside.0][inside.1.index()];
        let skipped: usize = outer.axes[..skipped].iter().map(|it| it.atoms().count()).sum();
        self.join(from, self.places.first[outside.0][outside.1.index()] + skipped, n_atoms);
    }

    fn join(&mut self, from: usize, to: usize, n_atoms: usize) {
        for i in 0..n_atoms {
            self.joined.union(from + i, to + i);
        }
    }
}
