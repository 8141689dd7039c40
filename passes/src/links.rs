//! Which axes of a module are one index: every atom of every value, joined through every op.
//!
//! Two atoms of one name need not be one index: the width of queries and keys may be cut apart from
//! that of values. A [`Class`] holds all that have to be ordered alike, and says which weights they
//! stand in, and what an order of them may depend on: the layer, and the atoms around them in each
//! product. Nothing here knows a model: all follows from what ops say of their axes.

mod classes;
mod places;

use std::collections::{BTreeMap, BTreeSet};

use ir::{Axis, Function, Module, Name, Op, Role, Value};

use classes::{bank_axes, classes};
use places::Places;

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
        let labels = places.joined(module);
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
