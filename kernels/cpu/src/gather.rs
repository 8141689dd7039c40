//! `out[m, k] = W[index[m]]`: rows of a packed table as `f32`, for embeddings.
//!
//! An index that is no row of the table gives zeros.
#![expect(unsafe_code, reason = "operands are raw pointers given by the caller of a kernel")]

use crate::{dtype_of_word, pack, share};

pub(crate) const ARGS: &[&str] = &["out", "out_stride", "w", "dtype", "n", "k", "index", "m"];

/// The argument words: see [`crate::Kernel`]. `index` points to `i32`; the table has `n` rows.
#[repr(C)]
#[derive(Clone, Copy)]
struct Args {
    out: *mut f32,
    out_stride: usize,
    w: *const u8,
    dtype: u64,
    n: usize,
    k: usize,
    index: *const i32,
    m: usize,
}

/// # Safety
/// `args` points to the words that [`ARGS`] names; see [`crate::Kernel::run`].
pub(crate) unsafe extern "C" fn run(args: *const u64, thread: u64, threads: u64) {
    let a = unsafe { *args.cast::<Args>() };
    let dtype = dtype_of_word(a.dtype);
    let bytes = pack::packed_bytes(dtype, a.n, a.k).expect("a packed table");
    let table = unsafe { std::slice::from_raw_parts(a.w, bytes) };
    for row in share(a.m, thread, threads) {
        let (index, out) = unsafe {
            let out = a.out.add(row * a.out_stride);
            (*a.index.add(row), std::slice::from_raw_parts_mut(out, a.k))
        };
        if usize::try_from(index).is_ok_and(|it| it < a.n) {
            pack::decode_row(dtype, table, index as usize, out).expect("a row of the table");
        } else {
            out.fill(0.0);
        }
    }
}
