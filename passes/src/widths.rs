//! Choices of extents for axes that may be cut.

use std::collections::BTreeMap;

use ir::{Extent, Module, Name};

use crate::{Fault, Links};

/// How far combinations of choices are all tried; of more, all pairs are.
const MOST_COMBINATIONS: usize = 64;

/// The extent to keep of each atom that is cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Widths(BTreeMap<Name, usize>);

impl Widths {
    /// Reads `F=8960 J=14`, with spaces or commas between.
    ///
    /// # Errors
    ///
    /// What is not `AXIS=NUMBER`.
    pub fn parse(text: &str) -> Result<Widths, Fault> {
        let mut widths = Widths::default();
        for part in text.split([' ', ',']).filter(|it| !it.is_empty()) {
            let read = part.split_once('=').and_then(|(name, size)| {
                let size = size.parse().ok().filter(|it| 0 < *it)?;
                Name::is_valid(name).then(|| (Name::from(name), size))
            });
            let Some((name, size)) = read else {
                return Err(Fault::new(format!(
                    "`{part}` is not an axis with its extent: `F=8960`"
                )));
            };
            widths.set(name, size);
        }
        Ok(widths)
    }

    /// The least choice of every elastic axis.
    pub fn least(module: &Module) -> Widths {
        let least = |(name, choices): (&Name, &[usize])| Some((name.clone(), *choices.last()?));
        Widths(elastic(module).filter_map(least).collect())
    }

    /// Keeps so many of an atom.
    pub fn set(&mut self, name: impl Into<Name>, size: usize) {
        self.0.insert(name.into(), size);
    }

    /// How many are kept of an atom that is cut.
    pub fn get(&self, name: &str) -> Option<usize> {
        self.0.get(name).copied()
    }

    /// The atoms with what is kept of them.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, usize)> {
        self.0.iter().map(|(name, size)| (name, *size))
    }

    /// The widths that are less than what `module` has.
    ///
    /// # Errors
    ///
    /// An atom that is not there, whose extent is known only when running, or that can not be cut.
    pub fn within(&self, module: &Module) -> Result<Widths, Fault> {
        let mut cut = Widths::default();
        for (name, kept) in self.iter() {
            let size = match module.axes.get(name.as_str()).map(|it| &it.extent) {
                Some(Extent::Fixed { size, .. }) => *size,
                Some(_) => return Err(Fault::new(format!("`{name}` has no extent to cut"))),
                None => return Err(Fault::new(format!("there is no axis `{name}`"))),
            };
            if kept < size {
                cut.set(name, kept);
            }
        }
        if cut.0.is_empty() {
            return Ok(cut);
        }
        let links = Links::of(module);
        let rigid = |(name, _): (&Name, usize)| {
            let why = links.rigid(name.as_str())?;
            Some(Fault::new(format!("`{name}` can not be cut: {why}")))
        };
        cut.iter().find_map(rigid).map_or(Ok(()), Err)?;
        Ok(cut)
    }

    /// Every combination of what may be kept of the elastic axes of `module` and of those named
    /// here; when there are too many, enough that each two choices of two axes meet.
    pub fn combinations(&self, module: &Module) -> Vec<Widths> {
        let mut axes: BTreeMap<Name, Vec<usize>> = BTreeMap::new();
        for (name, choices) in elastic(module) {
            axes.insert(name.clone(), choices.to_vec());
        }
        for name in self.0.keys() {
            let Some(size) = module.axes.fixed(&name.into()) else { continue };
            axes.entry(name.clone())
                .or_insert_with(|| vec![size.div_ceil(2).max(1)])
                .insert(0, size);
        }
        for (name, choices) in &mut axes {
            let size = module.axes.fixed(&name.into()).unwrap_or(1);
            choices.push(size);
            choices.sort_unstable();
            choices.dedup();
        }
        let n = axes.values().try_fold(1usize, |n, it| n.checked_mul(it.len()));
        match n.is_some_and(|it| it <= MOST_COMBINATIONS) {
            true => all(&axes),
            false => pairs(&axes),
        }
    }
}

impl std::fmt::Display for Widths {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts: Vec<String> = self.iter().map(|(name, size)| format!("{name}={size}")).collect();
        f.write_str(&parts.join(" "))
    }
}

/// The axes that have choices, with them.
pub(crate) fn elastic(module: &Module) -> impl Iterator<Item = (&Name, &[usize])> {
    module.axes.iter().filter_map(|(name, decl)| match &decl.extent {
        Extent::Fixed { choices, .. } if !choices.is_empty() => Some((name, choices.as_slice())),
        _ => None,
    })
}

fn all(axes: &BTreeMap<Name, Vec<usize>>) -> Vec<Widths> {
    let mut found = vec![Widths::default()];
    for (name, choices) in axes {
        let with = |it: &Widths| {
            let it = it.clone();
            choices.iter().map(move |size| {
                let mut it = it.clone();
                it.set(name, *size);
                it
            })
        };
        found = found.iter().flat_map(with).collect();
    }
    found
}

/// Each two choices of two axes, with all others as long as they can be.
fn pairs(axes: &BTreeMap<Name, Vec<usize>>) -> Vec<Widths> {
    let longest = |it: &Vec<usize>| it.last().copied().unwrap_or(1);
    let whole = Widths(axes.iter().map(|(name, it)| (name.clone(), longest(it))).collect());
    let mut found = Vec::new();
    for (i, (a, of_a)) in axes.iter().enumerate() {
        for (b, of_b) in axes.iter().skip(i + 1) {
            for (x, y) in of_a.iter().flat_map(|x| of_b.iter().map(move |y| (*x, *y))) {
                let mut it = whole.clone();
                it.set(a, x);
                it.set(b, y);
                found.push(it);
            }
        }
    }
    found
}
