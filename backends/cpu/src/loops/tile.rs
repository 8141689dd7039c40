//! The tile that the tail of a kernel works on: what `kernels_cpu::Tile` holds, in code.

use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Value, types::I64};
use cranelift_frontend::FunctionBuilder;

/// A tile of products, which are the first parameters of the tail.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    /// How many parameters are products.
    pub(super) products: usize,
    /// The first row, and the row after the last.
    pub(super) rows: [Value; 2],
    /// The first column, and the column after the last.
    pub(super) columns: [Value; 2],
    /// Where row 0 and column 0 of the first product would be.
    pub(super) first: Value,
    /// Bytes from a row to the next.
    pub(super) stride: Value,
    /// Bytes from a product to the next.
    pub(super) apart: Value,
}

impl Tile {
    /// Reads the words at `tile`.
    pub(super) fn load(b: &mut FunctionBuilder<'_>, tile: Value, products: usize) -> Tile {
        let mut word = |at: i32| b.ins().load(I64, MemFlagsData::trusted(), tile, 8 * at);
        let (rows, columns) = ([word(0), word(1)], [word(2), word(3)]);
        let [first, stride, apart] = [word(4), word(5), word(6)];
        let [stride, apart] = [stride, apart].map(|it| b.ins().imul_imm_s(it, 4));
        Tile { products, rows, columns, first, stride, apart }
    }
}
