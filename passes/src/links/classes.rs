//! What is known of atoms that are one index: the weights they stand in, what stands around them.

use std::collections::{BTreeMap, BTreeSet};

use ir::{Axis, Extent, Function, Module, Name, Op, Role, Type, Value, ops::Gather};

use super::{Class, Holder, places::Places};

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
pub(super) fn classes(module: &Module, places: &Places, labels: &[usize]) -> Vec<(usize, Class)> {
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
pub(super) fn bank_axes(module: &Module, entry: &Function) -> BTreeMap<Value, Name> {
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
