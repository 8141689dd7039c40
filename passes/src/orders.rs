//! Orders of importance: which places of an axis a cut keeps, in each weight that has it.
//!
//! Cutting an atom to `k` keeps the first `k` of its order. An order belongs to a [`Class`]: each
//! layer may have its own, where the class says so, and each place of the one atom that stands
//! around it in every product. A weight is then cut atom by atom, so that what is kept of `H*J*D`
//! is, within each place of `H`, the first heads of that group, and of these the first channels.

use std::collections::BTreeMap;

use ir::{Axis, Module, Name, Param, Tensor};

use crate::{Class, Fault, Holder, Links, Noise, Widths};

/// An order for each class that has one; what has none is kept from the first place on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Orders(BTreeMap<String, Vec<usize>>);

/// What is kept of each weight.
pub struct Cut<'a> {
    module: &'a Module,
    widths: &'a Widths,
    /// For each atom of a weight that is cut, its extent, what is kept, and its order.
    atoms: BTreeMap<Holder, Kept<'a>>,
}

/// What is kept of one atom.
#[derive(Clone, Copy)]
struct Kept<'a> {
    size: usize,
    kept: usize,
    order: Option<Order<'a>>,
}

/// An order as it is looked up.
#[derive(Clone, Copy)]
struct Order<'a> {
    table: &'a [usize],
    by_layer: bool,
    /// The atom within whose places it may differ, and how many those are.
    group: Option<(&'a Name, usize)>,
}

/// What an order is kept under: `F`, or with the first weight where several classes have the name.
pub fn key(links: &Links, class: &Class) -> String {
    let atom = &class.atom;
    match links.of_atom(atom.as_str()).count() {
        0 | 1 => atom.to_string(),
        _ => format!("{atom}.{}", class.holders.first().map_or("", |it| it.param.as_str())),
    }
}

/// The atom within whose places an order may differ, if there is just one.
pub fn group(class: &Class) -> Option<&Name> {
    match class.within.as_slice() {
        [one] => Some(one),
        _ => None,
    }
}

/// The extents of an order: the layers, where each has its own, the places of the atom around it,
/// and the places that it puts in order.
pub fn order_shape(module: &Module, class: &Class) -> Vec<usize> {
    let atoms = class.layers.iter().chain(group(class)).chain([&class.atom]);
    atoms.map(|it| module.axes.fixed(&it.into()).unwrap_or(1)).collect()
}

impl Orders {
    /// Sets the order kept under `key`, row by row as [`order_shape`] says.
    ///
    /// # Errors
    ///
    /// When a row is no order: it lacks a place.
    pub fn set(&mut self, key: &str, shape: &[usize], order: Vec<usize>) -> Result<(), Fault> {
        let size = shape.last().copied().unwrap_or(1).max(1);
        let is_order = |row: &[usize]| {
            let mut row = row.to_vec();
            row.sort_unstable();
            row.into_iter().eq(0..size)
        };
        let sized = shape.iter().try_fold(1usize, |n, it| n.checked_mul(*it)) == Some(order.len());
        if !sized || !order.chunks(size).all(is_order) {
            return Err(Fault::new(format!("the order of `{key}` does not name each place once")));
        }
        self.0.insert(key.to_owned(), order);
        Ok(())
    }

    /// The order kept under `key`.
    pub fn get(&self, key: &str) -> Option<&[usize]> {
        self.0.get(key).map(Vec::as_slice)
    }

    /// Every order, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.0.iter().map(|(key, order)| (key.as_str(), order.as_slice()))
    }

    /// Random orders of the classes whose atom `widths` names.
    pub fn random(module: &Module, widths: &Widths, noise: &mut Noise) -> Orders {
        let links = Links::of(module);
        let mut orders = Orders::default();
        for class in links.classes().iter().filter(|it| widths.get(it.atom.as_str()).is_some()) {
            let shape = order_shape(module, class);
            let size = shape.last().copied().unwrap_or(1);
            let rows = shape[..shape.len() - 1].iter().product();
            let row = |noise: &mut Noise| {
                let mut row: Vec<usize> = (0..size).collect();
                (1..size).rev().for_each(|i| row.swap(i, noise.below(i + 1)));
                row
            };
            let order = (0..rows).flat_map(|_| row(noise)).collect();
            orders.0.insert(key(&links, class), order);
        }
        orders
    }
}

impl<'a> Cut<'a> {
    /// The cut of the weights of `module` to `widths`, each of which is within it.
    pub fn new(
        module: &'a Module,
        links: &'a Links,
        widths: &'a Widths,
        orders: &'a Orders,
    ) -> Cut<'a> {
        let mut atoms = BTreeMap::new();
        for class in links.classes() {
            let size = module.axes.fixed(&Axis::from(&class.atom)).unwrap_or(1);
            let Some(kept) = widths.get(class.atom.as_str()) else { continue };
            let known = orders.get(&key(links, class));
            let table = known.filter(|it| it.len() == order_shape(module, class).iter().product());
            let group = group(class).and_then(|it| Some((it, module.axes.fixed(&it.into())?)));
            let by_layer = class.layers.is_some();
            let order = table.map(|table| Order { table, by_layer, group });
            let of = Kept { size, kept: kept.min(size), order };
            atoms.extend(class.holders.iter().map(|it| (it.clone(), of)));
        }
        Cut { module, widths, atoms }
    }

    /// The places kept along an axis of a weight, in order, for one layer of its bank; `None` when
    /// nothing along it is cut.
    pub fn kept(&self, param: &Param, axis_at: usize, layer: usize) -> Option<Vec<usize>> {
        let axis = param.ty.axes.get(axis_at)?;
        if !axis.atoms().any(|it| self.widths.get(it.as_str()).is_some()) {
            return None;
        }
        let (mut places, mut start, mut place) = (Vec::new(), 0, 0);
        for segment in axis.segments() {
            let of = |(i, atom): (usize, &Name)| {
                let holder = Holder { param: param.name.clone(), axis: axis_at, place: place + i };
                let size = self.module.axes.fixed(&atom.into()).unwrap_or(1);
                let whole = Kept { size, kept: size, order: None };
                (atom.clone(), self.atoms.get(&holder).copied().unwrap_or(whole))
            };
            let atoms: Vec<(Name, Kept<'_>)> = segment.iter().enumerate().map(of).collect();
            places.extend(product(&atoms, layer).into_iter().map(|it| start + it));
            start += atoms.iter().map(|it| it.1.size).product::<usize>();
            place += segment.len();
        }
        Some(places)
    }

    /// What is kept of a weight of the reference. Its first axis is that of its layers if `banked`.
    pub fn tensor(&self, param: &Param, whole: &Tensor, banked: bool) -> Tensor {
        let (first, n_layers) = if banked { (1, whole.shape[0]) } else { (0, 1) };
        let n = whole.shape[first..].iter().product::<usize>();
        let (mut data, mut shape) = (Vec::new(), Vec::new());
        for layer in 0..n_layers {
            let mut part = whole.data[layer * n..][..n].to_vec();
            shape = whole.shape[first..].to_vec();
            for axis in 0..shape.len() {
                let Some(kept) = self.kept(param, first + axis, layer) else { continue };
                part = taken(&part, &shape, axis, &kept);
                shape[axis] = kept.len();
            }
            data.extend(part);
        }
        let shape = whole.shape[..first].iter().copied().chain(shape).collect();
        Tensor { ty: whole.ty.clone(), shape, data }
    }
}

/// The elements of a dense value at the places `kept` along one axis.
pub fn taken<T: Copy>(data: &[T], shape: &[usize], axis: usize, kept: &[usize]) -> Vec<T> {
    let inner: usize = shape[axis + 1..].iter().product();
    let outer: usize = shape[..axis].iter().product();
    let row = |i: usize, place: usize| &data[(i * shape[axis] + place) * inner..][..inner];
    (0..outer).flat_map(|i| kept.iter().flat_map(move |it| row(i, *it))).copied().collect()
}

/// The places of a product of atoms that are kept.
fn product(atoms: &[(Name, Kept<'_>)], layer: usize) -> Vec<usize> {
    // For each place so far, the places of the atoms that lead to it.
    let mut found: Vec<Vec<usize>> = vec![Vec::new()];
    for (i, (_, it)) in atoms.iter().enumerate() {
        let with = |before: &Vec<usize>| {
            let row = it.order.map_or(0, |order| order.row(layer, &atoms[..i], before));
            let before = before.clone();
            (0..it.kept).map(move |k| {
                let place = it.order.map_or(k, |order| order.table[row * it.size + k]);
                [before.as_slice(), &[place]].concat()
            })
        };
        found = found.iter().flat_map(with).collect();
    }
    let number = |places: Vec<usize>| {
        places.iter().zip(atoms).fold(0, |n, (place, (_, it))| n * it.size + place)
    };
    found.into_iter().map(number).collect()
}

impl Order<'_> {
    /// Which row of the table holds behind `places` of the atoms `outside`.
    fn row(&self, layer: usize, outside: &[(Name, Kept<'_>)], places: &[usize]) -> usize {
        let layer = if self.by_layer { layer } else { 0 };
        let Some((group, size)) = self.group else { return layer };
        let at = outside.iter().position(|it| it.0 == *group);
        layer * size + at.map_or(0, |it| places[it])
    }
}
