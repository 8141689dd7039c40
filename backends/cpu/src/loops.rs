//! Machine code for loop functions: whatever no kernel claims.
//!
//! A loop function has one output. Its code is a nest of loops over the axes of that output, and in
//! the middle the expression for one element, found by walking from the output towards the
//! parameters ([`element`]): a view changes the index, arithmetic is emitted, a reduction opens
//! loops of its own. The innermost axis runs in vectors of four where the expression allows it.
//! Threads divide the outermost axis.
//!
//! The tail of a kernel is such a function too, but for a tile of rows and columns of its output:
//! the kernel calls it with products that wait in a cache ([`tile`]).

mod element;
mod half;
mod index;
mod math;
mod nest;
mod tile;

pub(crate) use nest::{LoopCode, generate};
