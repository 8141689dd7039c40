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

use ir::{Function, Op};

pub(crate) use nest::{LoopCode, LoopWord, generate};

/// The operands that the code of `function` may overwrite with its output: it reads each element of
/// them for the same element of the output alone.
pub(crate) fn overwritable(function: &Function) -> Vec<usize> {
    let by_element = |op: &Op| {
        matches!(
            op,
            Op::Unary(_)
                | Op::Binary(_)
                | Op::Select(_)
                | Op::Cast(_)
                | Op::Constant(_)
                | Op::ExtentOf(_)
                | Op::Iota(_)
        )
    };
    if !function.nodes().iter().all(|it| by_element(&it.op)) {
        return Vec::new();
    }
    let output = function.ty(function.outputs[0].value);
    let same = |i: &usize| function.params[*i].ty == *output;
    (0..function.params.len()).filter(same).collect()
}
