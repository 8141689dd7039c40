//! Axes: the names by which every dimension is known.
//!
//! An axis is written over *atoms*. `K*G*P` is a product (the last atom varies fastest) and
//! `A | B` a concatenation. Only the [`Axes`] table knows how long an atom is; no op stores a
//! number where it could store a name.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

/// How many axes in a row may each be as long as the next.
const MAX_DEPTH: usize = 16;

/// The most atoms that stand behind one axis.
const MAX_ATOMS: usize = 256;

/// The name of an axis atom, a function or a value.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

impl Name {
    /// The text of the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `text` can be a name: a letter or `_`, then letters, digits, `_`, `.` and `'`.
    pub fn is_valid(text: &str) -> bool {
        let mut chars = text.chars();
        chars.next().is_some_and(|it| it.is_ascii_alphabetic() || it == '_')
            && chars.all(|it| it.is_ascii_alphanumeric() || matches!(it, '_' | '.' | '\''))
    }
}

impl Default for Name {
    fn default() -> Name {
        Name("_".into())
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Name {
        Name(text.into())
    }
}

impl From<String> for Name {
    fn from(text: String) -> Name {
        Name(text.into())
    }
}

impl From<&Name> for Name {
    fn from(name: &Name) -> Name {
        name.clone()
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        &*self.0 == other
    }
}

impl PartialEq<&str> for Name {
    fn eq(&self, other: &&str) -> bool {
        &*self.0 == *other
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One dimension of a type: segments laid end to end, each a product of atoms.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Axis {
    segments: Vec<Vec<Name>>,
}

impl Axis {
    /// The axis that is one atom.
    pub fn atom(name: impl Into<Name>) -> Axis {
        Axis { segments: vec![vec![name.into()]] }
    }

    /// The product of `parts`, the last of which varies fastest; `None` when a part is a
    /// concatenation or there is no part.
    pub fn product<'a>(parts: impl IntoIterator<Item = &'a Axis>) -> Option<Axis> {
        let mut atoms = Vec::new();
        for part in parts {
            let [segment] = part.segments.as_slice() else { return None };
            atoms.extend(segment.iter().cloned());
        }
        (!atoms.is_empty()).then_some(Axis { segments: vec![atoms] })
    }

    /// `parts` laid end to end.
    pub fn concat<'a>(parts: impl IntoIterator<Item = &'a Axis>) -> Axis {
        Axis { segments: parts.into_iter().flat_map(|it| it.segments.iter().cloned()).collect() }
    }

    /// The segments, each a product of atoms.
    pub fn segments(&self) -> &[Vec<Name>] {
        &self.segments
    }

    /// The atom, when the axis is just one.
    pub fn as_atom(&self) -> Option<&Name> {
        match self.segments.as_slice() {
            [segment] if segment.len() == 1 => segment.first(),
            _ => None,
        }
    }

    /// Every atom in it.
    pub fn atoms(&self) -> impl Iterator<Item = &Name> {
        self.segments.iter().flatten()
    }

    /// Whether the axis begins with `parts` laid end to end, by name.
    pub(crate) fn begins_with<'a>(&self, parts: impl IntoIterator<Item = &'a Axis>) -> bool {
        self.segments.starts_with(&Axis::concat(parts).segments)
    }

    /// Reads what `Display` writes.
    pub fn parse(text: &str) -> Result<Axis, String> {
        let atom = |it: &str| {
            let it = it.trim();
            Name::is_valid(it).then(|| Name::from(it)).ok_or(format!("`{it}` is not an axis"))
        };
        let segment = |it: &str| it.split('*').map(atom).collect::<Result<Vec<_>, _>>();
        Ok(Axis { segments: text.split('|').map(segment).collect::<Result<_, _>>()? })
    }
}

impl From<&Name> for Axis {
    fn from(name: &Name) -> Axis {
        Axis::atom(name)
    }
}

impl fmt::Display for Axis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, segment) in self.segments.iter().enumerate() {
            f.write_str(if i == 0 { "" } else { " | " })?;
            for (j, atom) in segment.iter().enumerate() {
                write!(f, "{}{atom}", if j == 0 { "" } else { "*" })?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Axis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How long an atom is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Known when compiling. `choices` are the smaller extents that slicing may choose, nested: a
    /// choice keeps the first elements.
    Fixed {
        /// Elements.
        size: usize,
        /// Smaller legal extents, largest first; empty for a rigid axis.
        choices: Vec<usize>,
    },
    /// Known when running, and at most `max`.
    Runtime {
        /// The bound.
        max: usize,
    },
    /// As long as another axis, but another index: positions to attend from and to.
    Like(Axis),
}

/// What the table says of one atom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AxisDecl {
    /// How long it is.
    pub extent: Extent,
    /// The axis that comes before the first element, for an axis that is a window of a longer one:
    /// `iota` counts from its extent instead of from 0.
    pub origin: Option<Name>,
}

/// Every atom of a module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Axes {
    decls: BTreeMap<Name, AxisDecl>,
}

impl Axes {
    /// Declares an atom of a fixed extent.
    pub fn fix(&mut self, name: impl Into<Name>, size: usize) {
        self.declare(name, Extent::Fixed { size, choices: Vec::new() });
    }

    /// Declares an atom, or replaces what was said of it.
    pub fn declare(&mut self, name: impl Into<Name>, extent: Extent) {
        self.decls.insert(name.into(), AxisDecl { extent, origin: None });
    }

    /// Makes `name` a window that begins where `origin` ends.
    ///
    /// # Panics
    ///
    /// When `name` is not declared.
    pub fn set_origin(&mut self, name: &Name, origin: Name) {
        self.decls.get_mut(name).expect("a declared axis").origin = Some(origin);
    }

    /// What is said of `name`.
    pub fn get(&self, name: &str) -> Option<&AxisDecl> {
        self.decls.get(name)
    }

    /// Every declaration, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, &AxisDecl)> {
        self.decls.iter()
    }

    /// Drops every atom that `keep` does not hold and no kept atom needs.
    pub fn retain(&mut self, keep: &BTreeSet<Name>) {
        let mut needed = BTreeSet::new();
        let mut pending: Vec<Name> = keep.iter().cloned().collect();
        while let Some(name) = pending.pop() {
            if !needed.insert(name.clone()) {
                continue;
            }
            let Some(decl) = self.decls.get(&name) else { continue };
            pending.extend(decl.origin.clone());
            if let Extent::Like(axis) = &decl.extent {
                pending.extend(axis.atoms().cloned());
            }
        }
        self.decls.retain(|name, _| needed.contains(name));
    }

    /// A name that is not taken, made from `stem`.
    pub fn fresh(&self, stem: &str) -> Name {
        let taken = |it: &String| self.decls.contains_key(it.as_str());
        let numbered = (1..).map(|i| format!("{stem}.{i}"));
        std::iter::once(stem.to_owned())
            .chain(numbered)
            .find(|it| !taken(it))
            .unwrap_or_default()
            .into()
    }

    /// The extent of `axis` if it is known when compiling.
    pub fn fixed(&self, axis: &Axis) -> Option<usize> {
        self.measure(axis, &mut |_, decl| match &decl.extent {
            Extent::Fixed { size, .. } => Some(*size),
            Extent::Runtime { .. } | Extent::Like(_) => None,
        })
    }

    /// The largest extent that `axis` can have; `None` when it is not declared or overflows.
    pub fn bound(&self, axis: &Axis) -> Option<usize> {
        self.measure(axis, &mut |_, decl| match &decl.extent {
            Extent::Fixed { size, .. } => Some(*size),
            Extent::Runtime { max } => Some(*max),
            Extent::Like(_) => None,
        })
    }

    /// `axis` with every atom that is as long as another axis replaced by that one.
    pub fn resolve(&self, axis: &Axis) -> Axis {
        let mut segments = Vec::new();
        for segment in axis.segments() {
            let like = segment.iter().map(|it| match self.decls.get(it).map(|it| &it.extent) {
                Some(Extent::Like(other)) => self.resolve(other),
                _ => Axis::atom(it),
            });
            let like: Vec<Axis> = like.collect();
            match (like.as_slice(), Axis::product(&like)) {
                ([one], _) => segments.extend(one.segments.iter().cloned()),
                (_, Some(product)) => segments.extend(product.segments),
                (_, None) => segments.push(segment.clone()),
            }
        }
        Axis { segments }
    }

    /// How many atoms `axis` has once resolved; `None` when one is not declared, is as long as
    /// itself, or when there are more than any sound table has.
    pub(crate) fn resolved_len(&self, axis: &Axis) -> Option<usize> {
        self.len_to_depth(axis, &mut BTreeMap::new(), MAX_DEPTH).filter(|it| *it <= MAX_ATOMS)
    }

    fn len_to_depth(
        &self,
        axis: &Axis,
        known: &mut BTreeMap<Name, usize>,
        depth: usize,
    ) -> Option<usize> {
        let mut total = 0usize;
        for atom in axis.atoms() {
            let len = match (known.get(atom), &self.decls.get(atom)?.extent) {
                (Some(len), _) => *len,
                (None, Extent::Like(other)) => {
                    self.len_to_depth(other, known, depth.checked_sub(1)?)?
                }
                (None, Extent::Fixed { .. } | Extent::Runtime { .. }) => 1,
            };
            known.insert(atom.clone(), len);
            total = total.checked_add(len)?;
        }
        Some(total)
    }

    /// Every atom's extent, once the run-time ones are given.
    ///
    /// # Errors
    ///
    /// When a run-time extent is missing or above its bound.
    pub fn sizes(&self, given: &BTreeMap<Name, usize>) -> Result<Sizes, String> {
        let mut sizes = BTreeMap::new();
        for name in self.decls.keys() {
            let size = self.measure(&Axis::atom(name), &mut |atom, decl| match &decl.extent {
                Extent::Fixed { size, .. } => Some(*size),
                Extent::Runtime { max } => given.get(atom).copied().filter(|it| it <= max),
                Extent::Like(_) => None,
            });
            let size =
                size.ok_or_else(|| format!("axis `{name}` needs an extent within its bound"))?;
            sizes.insert(name.clone(), size);
        }
        Ok(Sizes { sizes, origins: self.origins() })
    }

    fn origins(&self) -> BTreeMap<Name, Name> {
        self.decls.iter().filter_map(|(k, v)| Some((k.clone(), v.origin.clone()?))).collect()
    }

    /// Sums products of what `leaf` says of atoms; `Like` is followed (to a depth that no sound
    /// table reaches, so that a cyclic one gives `None`).
    fn measure(
        &self,
        axis: &Axis,
        leaf: &mut dyn FnMut(&Name, &AxisDecl) -> Option<usize>,
    ) -> Option<usize> {
        self.measure_to_depth(axis, leaf, MAX_DEPTH)
    }

    fn measure_to_depth(
        &self,
        axis: &Axis,
        leaf: &mut dyn FnMut(&Name, &AxisDecl) -> Option<usize>,
        depth: usize,
    ) -> Option<usize> {
        let mut total = 0usize;
        for segment in axis.segments() {
            let mut product = 1usize;
            for atom in segment {
                let decl = self.decls.get(atom)?;
                let size = match &decl.extent {
                    Extent::Like(other) => {
                        self.measure_to_depth(other, leaf, depth.checked_sub(1)?)?
                    }
                    Extent::Fixed { .. } | Extent::Runtime { .. } => leaf(atom, decl)?,
                };
                product = product.checked_mul(size)?;
            }
            total = total.checked_add(product)?;
        }
        Some(total)
    }
}

/// The extents of one run.
#[derive(Clone, Debug, Default)]
pub struct Sizes {
    sizes: BTreeMap<Name, usize>,
    origins: BTreeMap<Name, Name>,
}

impl Sizes {
    /// Elements along `axis`.
    ///
    /// # Panics
    ///
    /// When an atom is not declared; the verifier has seen to it.
    pub fn of(&self, axis: &Axis) -> usize {
        axis.segments().iter().map(|it| it.iter().map(|a| self.sizes[a]).product::<usize>()).sum()
    }

    /// The extents of a type's axes, in order.
    pub fn shape(&self, axes: &[Axis]) -> Vec<usize> {
        axes.iter().map(|it| self.of(it)).collect()
    }

    /// The index that `iota` gives to the first element along `axis`.
    pub fn origin(&self, axis: &Axis) -> usize {
        let origin = axis.as_atom().and_then(|it| self.origins.get(it));
        origin.map_or(0, |it| self.sizes[it])
    }
}
