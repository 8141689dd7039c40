//! The type of a value: what its elements are, and its axes from outermost to innermost.

use std::fmt;

use crate::{Axis, DType, Name};

/// An element type and named axes. A value lies densely in memory, the last axis fastest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Type {
    /// What an element is.
    pub dtype: DType,
    /// The axes, outermost first; no atom stands twice.
    pub axes: Vec<Axis>,
}

impl Type {
    /// A type of the given axes.
    pub fn new(dtype: DType, axes: impl Into<Vec<Axis>>) -> Type {
        Type { dtype, axes: axes.into() }
    }

    /// A type without axes: one element.
    pub fn scalar(dtype: DType) -> Type {
        Type { dtype, axes: Vec::new() }
    }

    /// Where `axis` stands.
    pub fn position(&self, axis: &Axis) -> Option<usize> {
        self.axes.iter().position(|it| it == axis)
    }

    /// The same axes with other elements.
    pub fn with_dtype(&self, dtype: DType) -> Type {
        Type { dtype, axes: self.axes.clone() }
    }

    /// Whether a parameter of this type takes an argument of type `other`: the same, or stored in a
    /// narrower format that reads as `f32`.
    pub fn accepts(&self, other: &Type) -> bool {
        let stored =
            self.dtype == DType::F32 && other.dtype.is_float() && other.dtype != DType::F64;
        self.axes == other.axes && (self.dtype == other.dtype || stored)
    }

    /// The first atom that stands in two axes, or twice in one product. (The segments of a
    /// concatenation may share atoms: they are different elements.)
    pub fn repeated_atom(&self) -> Option<&Name> {
        let in_product = self.axes.iter().flat_map(Axis::segments).find_map(|it| repeated(it));
        in_product.or_else(|| {
            let earlier = |i: usize| self.axes[..i].iter().flat_map(Axis::atoms);
            let twice = |i: usize| self.axes[i].atoms().find(|it| earlier(i).any(|e| e == *it));
            (1..self.axes.len()).find_map(twice)
        })
    }

    /// Reads what `Display` writes.
    pub fn parse(text: &str) -> Result<Type, String> {
        let bad = || format!("`{text}` is not a type such as `f32[S, K*P]`");
        let (dtype, axes) =
            text.trim().strip_suffix(']').and_then(|it| it.split_once('[')).ok_or_else(bad)?;
        let dtype = DType::from_name(dtype.trim()).ok_or_else(bad)?;
        let axes = axes.split(',').filter(|it| !it.trim().is_empty());
        Ok(Type { dtype, axes: axes.map(Axis::parse).collect::<Result<_, _>>()? })
    }
}

fn repeated(atoms: &[Name]) -> Option<&Name> {
    (1..atoms.len()).find(|&i| atoms[..i].contains(&atoms[i])).map(|i| &atoms[i])
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let axes: Vec<String> = self.axes.iter().map(Axis::to_string).collect();
        write!(f, "{}[{}]", self.dtype, axes.join(", "))
    }
}
