//! What a name can stand for while a body is lowered.

use std::rc::Rc;

use ir::{Axis, Type, Value};

/// The meaning of a name or an expression.
#[derive(Clone, Debug)]
pub(crate) enum Bound {
    /// A value of the function being built.
    Tensor(Value),
    /// A number that the compiler knows.
    Number(f64),
    /// A truth that the compiler knows.
    Truth(bool),
    /// One of a few words, such as `causal`.
    Word(Word),
    /// A text, such as a pattern of layers.
    Text(String),
    /// An axis that a parameter was given.
    Axis(Axis),
    /// Several values.
    Tuple(Vec<Bound>),
    /// What a faulty statement should have bound; the fault is reported.
    Unknown,
}

/// A word with those that it was chosen from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) text: String,
    pub(crate) of: Rc<[String]>,
}

impl Bound {
    /// What a message calls it.
    pub(crate) fn describe(&self) -> &'static str {
        match self {
            Bound::Tensor(_) => "a tensor",
            Bound::Number(_) => "a number",
            Bound::Truth(_) => "a truth value",
            Bound::Word(_) => "a word",
            Bound::Text(_) => "a text",
            Bound::Axis(_) => "an axis",
            Bound::Tuple(_) => "several values",
            Bound::Unknown => "unknown",
        }
    }
}

/// Something that a function takes besides its arguments: a weight, or a value from around it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Extra {
    pub(crate) kind: ExtraKind,
    /// The path of a weight within its function; the name of a value from around it.
    pub(crate) name: String,
    pub(crate) ty: Type,
    /// For a bank: the number of the layer that each of its parts belongs to.
    pub(crate) layers: Option<Vec<usize>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ExtraKind {
    Weight,
    /// A value around a recurrence, of which each step gets its own part.
    Part,
    /// A value that all layers or steps share.
    Capture,
}
