//! Which axes of a module are one index: every atom of every value, joined through every op.
//!
//! Two atoms of one name need not be one index: the width of queries and keys may be cut apart from
//! that of values. A [`Class`] holds all that have to be ordered alike, and says which weights they
//! stand in, and what an order of them may depend on: the layer, and the atoms around them in each
//! product. Nothing here knows a model: all follows from what ops say of their axes.

use std::collections::{BTreeMap, BTreeSet};

use ir::{
    Axis, Extent, Function, Module, Name, Node, Op, Role, Type, Value, ops::Gather, ops::Scan,
};
use petgraph::unionfind::UnionFind;

/// Where an atom stands in a weight.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holder {
    /// The parameter of the entry.
    pub param: Name,
    /// Which of its axes.
    pub axis: usize,
    /// Which of the atoms of that axis.
    pub place: usize,
}

/// Atoms that are one index, wherever they stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// What it is called in its first weight.
    pub atom: Name,
    /// The weights that it stands in.
    pub holders: Vec<Holder>,
    /// The axis of the layers, when each layer has an index of its own; else all share one.
    pub layers: Option<Name>,
    /// The atoms outside of it in every product: within each place of these there may be another
    /// order.
    pub within: Vec<Name>,
}

/// What is one index in a module.
pub struct Links {
    classes: Vec<Class>,
    rigid: BTreeMap<Name, &'static str>,
    /// The weights that lie along layers.
    banks: BTreeSet<Name>,
    places: Places,
    /// For each place, the class it is of.
    class_of: Vec<Option<usize>>,
}

impl Links {
    /// Joins the axes of `module`, which has no faults.
    pub fn of(module: &Module) -> Links {
        let places = Places::of(module);
        let mut joined = UnionFind::new(places.n);
        for (i, function) in module.functions.iter().enumerate() {
            for node in function.nodes() {
                Joiner { module, places: &places, joined: &mut joined }.node(i, function, node);
            }
        }
        let labels = joined.into_labeling();
        let entry = module.entry();
        let banks = bank_axes(module, entry);
        let banks = banks.keys().filter_map(|it| Some(entry.as_param(*it)?.name.clone()));
        let banks = banks.collect();
        let found = classes(module, &places, &labels);
        let numbers = found.iter().enumerate().map(|(i, (label, _))| (*label, i));
        let numbers: BTreeMap<usize, usize> = numbers.collect();
        let class_of = labels.iter().map(|it| numbers.get(it).copied()).collect();
        let classes = found.into_iter().map(|it| it.1).collect();
        Links { classes, rigid: rigid(module), banks, places, class_of }
    }

    /// The classes of the atoms of `axis` of a value of the function at a place, by their numbers.
    pub(crate) fn along(
        &self,
        function: (usize, &Function),
        value: Value,
        axis: &Axis,
    ) -> impl Iterator<Item = usize> {
        let ty = function.1.ty(value);
        let first = ty.position(axis).map(|at| self.places.axis(function.0, value, ty, at));
        let places = first.map_or(0..0, |it| it..it + axis.atoms().count());
        places.filter_map(|it| self.class_of[it])
    }

    /// Every class that a weight has, by the first weight that it stands in.
    pub fn classes(&self) -> &[Class] {
        &self.classes
    }

    /// The classes of the atoms of that name.
    pub fn of_atom<'a>(&'a self, atom: &'a str) -> impl Iterator<Item = &'a Class> {
        self.classes.iter().filter(move |it| it.atom == *atom)
    }

    /// The axes of layers.
    pub fn layer_axes(&self) -> BTreeSet<&Name> {
        self.classes.iter().filter_map(|it| it.layers.as_ref()).collect()
    }

    /// Whether the first axis of a weight is that of the layers which it belongs to.
    pub fn is_bank(&self, param: &Name) -> bool {
        self.banks.contains(param)
    }

    /// Why places along an atom can be neither exchanged nor left out, if so.
    pub fn rigid(&self, atom: &str) -> Option<&'static str> {
        self.rigid.get(atom).copied()
    }
}

/// A number for every atom of every value.
struct Places {
    /// By function and value, the number of the first.
    first: Vec<Vec<usize>>,
    /// How many there are.
    n: usize,
}

impl Places {
    fn of(module: &Module) -> Places {
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

    /// The first atom of the axis at `at`.
    fn axis(&self, function: usize, value: Value, ty: &Type, at: usize) -> usize {
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

/// What is gathered of one class.
#[derive(Default)]
struct Found {
    holders: Vec<Holder>,
    names: Vec<Name>,
    /// The axes of layers that its values in the entry come from; `None` for one that is of none.
    banks: BTreeSet<Option<Name>>,
    /// What stands outside of it in the product of every weight.
    outside: Option<BTreeSet<Name>>,
    /// What stands beside it in every value.
    beside: Option<BTreeSet<Name>>,
}

/// The classes by the labels of their places.
fn classes(module: &Module, places: &Places, labels: &[usize]) -> Vec<(usize, Class)> {
    let mut found: BTreeMap<usize, Found> = BTreeMap::new();
    for (i, function) in module.functions.iter().enumerate() {
        let is_entry = i + 1 == module.functions.len();
        let banks = if is_entry { bank_axes(module, function) } else { BTreeMap::new() };
        for value in function.values() {
            let ty = function.ty(value);
            let param = function.as_param(value).filter(|it| is_entry && it.role == Role::Weight);
            let mut place = places.first[i][value.index()];
            for (axis_at, axis) in ty.axes.iter().enumerate() {
                for (atom_at, atom) in axis.atoms().enumerate() {
                    let of = found.entry(labels[place]).or_default();
                    place += 1;
                    of.see(ty, atom);
                    if is_entry {
                        of.banks.insert(banks.get(&value).cloned());
                    }
                    if let Some(param) = param {
                        of.hold(&param.name, axis, axis_at, atom_at);
                    }
                }
            }
        }
    }
    let classes = found.into_iter().filter_map(|(label, it)| Some((label, it.class(module)?)));
    let mut classes: Vec<(usize, Class)> = classes.collect();
    classes.sort_by(|a, b| a.1.holders.cmp(&b.1.holders));
    classes
}

impl Found {
    /// Takes up a value of type `ty`, where `atom` stands for the class.
    fn see(&mut self, ty: &Type, atom: &Name) {
        let all = ty.axes.iter().flat_map(Axis::atoms);
        let others: BTreeSet<Name> = all.filter(|it| *it != atom).cloned().collect();
        self.beside = Some(both(self.beside.take(), others));
    }

    fn hold(&mut self, param: &Name, axis: &Axis, axis_at: usize, place: usize) {
        self.names.extend(axis.atoms().nth(place).cloned());
        self.holders.push(Holder { param: param.clone(), axis: axis_at, place });
        let mut at = 0;
        for segment in axis.segments() {
            if (at..at + segment.len()).contains(&place) {
                let before = segment[..place - at].iter().cloned().collect();
                self.outside = Some(both(self.outside.take(), before));
            }
            at += segment.len();
        }
    }

    /// The class, if a weight has it and its extent is known.
    fn class(self, module: &Module) -> Option<Class> {
        let atom = self.names.into_iter().next()?;
        let decl = module.axes.get(atom.as_str())?;
        if !matches!(decl.extent, Extent::Fixed { .. }) {
            return None;
        }
        let layers = match self.banks.len() {
            1 => self.banks.into_iter().next().flatten(),
            _ => None,
        };
        let beside = self.beside.unwrap_or_default();
        let is_apart = |it: &Name| beside.contains(it) && Some(it) != layers.as_ref();
        let within = self.outside.unwrap_or_default().into_iter().filter(is_apart).collect();
        Some(Class { atom, holders: self.holders, layers, within })
    }
}

/// What is among the names known so far, if there are any yet, and among others.
fn both(known: Option<BTreeSet<Name>>, others: BTreeSet<Name>) -> BTreeSet<Name> {
    known.map_or(others.clone(), |it| it.intersection(&others).cloned().collect())
}

/// The values of the entry that lie along the layers of a stack, or are the part of a layer.
fn bank_axes(module: &Module, entry: &Function) -> BTreeMap<Value, Name> {
    let mut banks = BTreeMap::new();
    let is_weight = |it: Value| entry.as_param(it).is_some_and(|it| it.role == Role::Weight);
    for node in entry.nodes() {
        match &node.op {
            Op::Scan(scan) => {
                let operands = node.operands.iter().skip(scan.carries).take(scan.banked);
                let axis = scan.axis.as_atom();
                let weights = operands.filter(|it| is_weight(**it));
                banks.extend(weights.filter_map(|it| Some((*it, axis?.clone()))));
            }
            Op::Gather(gather)
                if is_weight(node.operands[0])
                    && Gather::known_place(&module.axes, entry, node).is_some() =>
            {
                let axis = gather.axis.as_atom();
                let both = [node.operands[0], node.result()];
                banks.extend(both.into_iter().filter_map(|it| Some((it, axis?.clone()))));
            }
            _ => {}
        }
    }
    banks
}

/// Atoms whose places are numbers to some op.
fn rigid(module: &Module) -> BTreeMap<Name, &'static str> {
    let numbers = ir::rigid_atoms(module).into_iter();
    let mut rigid: BTreeMap<Name, &'static str> = numbers
        .map(|it| (it, "another axis is as long as it, or a part of it, by number"))
        .collect();
    for node in module.functions.iter().flat_map(Function::nodes) {
        let counted = match &node.op {
            Op::Gather(it) => Some((&it.axis, "places along it are looked up by number")),
            Op::ScatterAdd(it) => Some((&it.axis, "places along it are looked up by number")),
            Op::ArgMax(it) => Some((&it.axis, "places along it are told by number")),
            Op::Iota(it) => Some((&it.axis, "places along it are counted")),
            Op::Scan(it) => Some((&it.axis, "its places follow each other")),
            _ => None,
        };
        let Some((axis, why)) = counted else { continue };
        rigid.extend(axis.atoms().map(|it| (it.clone(), why)));
    }
    let entry = module.entry();
    let params = entry.params.iter().filter(|it| it.role != Role::Weight).map(|it| it.ty.clone());
    for ty in params.chain(entry.output_types()) {
        let atoms = ty.axes.iter().flat_map(Axis::atoms).cloned();
        rigid.extend(atoms.map(|it| (it, "what the model is given, or gives, has it")));
    }
    rigid
}
