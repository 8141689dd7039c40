//! Expressions over the tensors of a checkpoint.

use std::sync::Arc;

/// Where the numbers of a parameter, or of a layer of it, come from.
#[derive(Clone, Debug, PartialEq)]
pub enum TensorSource {
    /// A tensor by name. `{}` stands for the number of the layer.
    Tensor(String),
    /// The same number everywhere: for what a checkpoint may lack.
    Fill(f64),
    /// The first of these whose tensors the checkpoint has.
    FirstOf(Vec<TensorSource>),
    /// A matrix with rows and columns swapped.
    Transpose(Box<TensorSource>),
    /// The rows from one to before another: a part along the first axis.
    Rows(Box<TensorSource>, usize, usize),
    /// Rows in runs of `width`, each with its even rows before its odd ones: what undoes the
    /// interleaved layout of rotated queries and keys.
    Unrotate(Box<TensorSource>, usize),
    /// Without its axes of extent 1.
    Squeeze(Box<TensorSource>),
    /// With all its axes as one.
    Flat(Box<TensorSource>),
    /// With each element changed.
    Each(Box<TensorSource>, Change),
    /// Each row times the numbers of the other: what two parameters are together.
    Scaled(Box<TensorSource>, Box<TensorSource>),
    /// The places of one axis that are told, in that order: what a cut keeps.
    Take(Box<TensorSource>, usize, Arc<[usize]>),
    /// All layers, one after the other.
    Stack(Vec<TensorSource>),
    /// Another source for each layer, by its number.
    ByLayer(Vec<(usize, TensorSource)>),
}

/// A change of every element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// A number added: norms that are stored as the distance from 1.
    Plus(f64),
    /// Times a number.
    Times(f64),
    /// The natural logarithm.
    Log,
}

impl Change {
    /// An element after the change.
    pub fn apply(self, x: f32) -> f32 {
        match self {
            Change::Plus(number) => x + number as f32,
            Change::Times(number) => x * number as f32,
            Change::Log => x.ln(),
        }
    }
}

impl TensorSource {
    /// The source for one layer, with its number in the names.
    pub fn of_layer(&self, layer: usize) -> TensorSource {
        let of_layer = match self {
            TensorSource::ByLayer(all) => all.iter().find(|it| it.0 == layer),
            _ => None,
        };
        of_layer.map_or(self, |it| &it.1).map(&|it| match it {
            TensorSource::Tensor(name) => {
                TensorSource::Tensor(name.replace("{}", &layer.to_string()))
            }
            other => other,
        })
    }

    /// Every tensor that may be read.
    pub fn names(&self) -> Vec<&str> {
        match self {
            TensorSource::Tensor(name) => vec![name],
            TensorSource::Fill(_) => Vec::new(),
            TensorSource::FirstOf(all) | TensorSource::Stack(all) => {
                all.iter().flat_map(TensorSource::names).collect()
            }
            TensorSource::ByLayer(all) => all.iter().flat_map(|it| it.1.names()).collect(),
            TensorSource::Scaled(of, by) => [of.names(), by.names()].concat(),
            TensorSource::Transpose(of)
            | TensorSource::Rows(of, ..)
            | TensorSource::Unrotate(of, _)
            | TensorSource::Squeeze(of)
            | TensorSource::Flat(of)
            | TensorSource::Each(of, _)
            | TensorSource::Take(of, ..) => of.names(),
        }
    }

    /// The expression with each part, innermost first, as `rule` makes it.
    pub fn map(&self, rule: &dyn Fn(TensorSource) -> TensorSource) -> TensorSource {
        let inner = |it: &TensorSource| Box::new(it.map(rule));
        rule(match self {
            TensorSource::Tensor(_) | TensorSource::Fill(_) => self.clone(),
            TensorSource::FirstOf(all) => {
                TensorSource::FirstOf(all.iter().map(|it| it.map(rule)).collect())
            }
            TensorSource::Stack(all) => {
                TensorSource::Stack(all.iter().map(|it| it.map(rule)).collect())
            }
            TensorSource::ByLayer(all) => {
                let part = |(layer, it): &(usize, TensorSource)| (*layer, it.map(rule));
                TensorSource::ByLayer(all.iter().map(part).collect())
            }
            TensorSource::Take(of, axis, kept) => {
                TensorSource::Take(inner(of), *axis, kept.clone())
            }
            TensorSource::Scaled(of, by) => TensorSource::Scaled(inner(of), inner(by)),
            TensorSource::Transpose(of) => TensorSource::Transpose(inner(of)),
            TensorSource::Rows(of, from, to) => TensorSource::Rows(inner(of), *from, *to),
            TensorSource::Unrotate(of, width) => TensorSource::Unrotate(inner(of), *width),
            TensorSource::Squeeze(of) => TensorSource::Squeeze(inner(of)),
            TensorSource::Flat(of) => TensorSource::Flat(inner(of)),
            TensorSource::Each(of, change) => TensorSource::Each(inner(of), *change),
        })
    }
}
