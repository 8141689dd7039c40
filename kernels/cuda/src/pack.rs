//! How weights lie in the memory of a GPU.

use std::borrow::Cow;

use ir::DType;

/// The format in which weights that are given in `dtype` are laid out: those that no kernel reads
/// are widened.
pub fn laid_out(dtype: DType) -> DType {
    match dtype {
        DType::F32 | DType::F16 | DType::BF16 => dtype,
        _ => DType::BF16,
    }
}

/// Bytes of `rows` times `columns` weights; `None` when that overflows or is no such format.
pub fn packed_bytes(dtype: DType, rows: usize, columns: usize) -> Option<usize> {
    (laid_out(dtype) == dtype).then(|| dtype.bytes(rows, columns)).flatten()
}

/// `bytes` in the format `dtype`, row by row, as kernels want them.
pub fn pack(_: DType, _: [usize; 2], bytes: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    bytes
}
