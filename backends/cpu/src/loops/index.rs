//! Where an element is, while code for it is being emitted.

use cranelift_codegen::ir::Value;

/// A place along one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Index {
    /// The place of the first lane, an `i64`.
    pub(crate) first: Value,
    /// How many places each further lane lies ahead: 0 when all lanes share the place.
    pub(crate) step: i64,
}

impl Index {
    /// The same place for every lane.
    pub(crate) fn uniform(first: Value) -> Index {
        Index { first, step: 0 }
    }
}
