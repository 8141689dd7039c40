//! How a kernel reads packed weights: one implementation of [`Format`] for each storage format.
//!
//! A format can do two things with a panel. [`Format::dot`] multiplies it with a few rows of `x`
//! without ever writing a decoded weight: the way for few rows, where memory is the limit.
//! [`Format::decode`] writes a stretch of it as `f32`, `[k][16]`: the way for many rows.
#![expect(unsafe_code, reason = "panels are raw pointers given by the caller of a kernel")]
#![expect(
    clippy::needless_range_loop,
    reason = "iterators are closures, which might stay outside the function with the instructions"
)]

mod eight;
mod four;
mod nibbles;
mod plain;
mod q8_0;

pub(crate) use eight::{E4M3, E5M2, F8Block, MxFp8, ScaledRows};
pub(crate) use four::{MxFp4, NvFp4};
pub(crate) use nibbles::{Nibbles, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K};
pub(crate) use plain::{Bf16, Element, F16, F32};
pub(crate) use q8_0::Q8_0;

use crate::simd::{LANES, Simd};

/// Rows of `x` as [`Format::dot`] wants them: row `i` begins at `first + i * stride`.
#[derive(Clone, Copy)]
pub(crate) struct Rows {
    pub(crate) first: *const f32,
    pub(crate) stride: usize,
}

impl Rows {
    /// # Safety
    /// Row `i` and its element `at` lie in the buffer.
    #[inline(always)]
    pub(crate) unsafe fn at(self, row: usize, at: usize) -> *const f32 {
        unsafe { self.first.add(row.wrapping_mul(self.stride).wrapping_add(at)) }
    }
}

/// A storage format of weights.
pub(crate) trait Format {
    /// Elements of a block.
    const LEN: usize;
    /// Bytes of a block of one row.
    const BYTES: usize;
    /// Bytes of a row before its blocks.
    const HEAD: usize = 0;
    /// Whether a panel is `f32` already and needs no decoding.
    const IS_F32: bool = false;
    /// Floats that [`Format::prepare`] writes for each block; 0 if `dot` takes `x` as it is.
    const PREPARED: usize = 0;

    /// Rewrites one block of a row of `x` for `dot`.
    ///
    /// # Safety
    /// `x` has [`Format::LEN`] elements, `out` room for [`Format::PREPARED`].
    unsafe fn prepare<S: Simd>(_: S, _x: *const f32, _out: *mut f32) {}

    /// The products of `M` rows of `x` with the sixteen rows of a panel of `k` elements.
    ///
    /// # Safety
    /// `panel` holds `k` elements a row; the rows of `x` are long enough.
    unsafe fn dot<S: Simd, const M: usize>(s: S, panel: *const u8, k: usize, x: Rows) -> [S::F; M];

    /// Writes elements `from..from + count` of every row of a panel as `[count][16]`.
    ///
    /// # Safety
    /// `panel` holds these elements, which begin and end with a block; `out` has room for them.
    unsafe fn decode<S: Simd>(s: S, panel: *const u8, from: usize, count: usize, out: *mut f32);
}

/// Bytes of a panel of rows with `k` elements.
pub(crate) const fn panel_bytes<F: Format>(k: usize) -> usize {
    (F::HEAD + k / F::LEN * F::BYTES) * LANES
}

/// How far ahead of use weights are asked for, in bytes: some 100 ns at 30 GB/s.
const AHEAD: usize = 4096;

/// Asks for the lines of a block that will be needed soon.
#[inline(always)]
fn prefetch<S: Simd>(s: S, block: *const u8, bytes: usize) {
    for line in 0..bytes.div_ceil(64) {
        s.prefetch(block.wrapping_add(AHEAD + 64 * line));
    }
}

/// Independent sums that keep the multiply-add units busy with `m` rows of `x`.
const fn chains(m: usize) -> usize {
    if m == 1 {
        4
    } else if m == 2 {
        2
    } else {
        1
    }
}

/// Sums of `M` rows, each in [`chains`] parts.
pub(crate) struct Sums<S: Simd, const M: usize>([[S::F; 4]; M]);

impl<S: Simd, const M: usize> Sums<S, M> {
    #[inline(always)]
    pub(crate) fn new(s: S) -> Self {
        Sums([[s.splat(0.0); 4]; M])
    }

    /// Adds `w * x[row][at]` for every row to the part that `turn` names.
    ///
    /// # Safety
    /// Element `at` of the `M` rows can be read.
    #[inline(always)]
    pub(crate) unsafe fn add(&mut self, s: S, turn: usize, w: S::F, x: Rows, at: usize) {
        for row in 0..M {
            let part = &mut self.0[row][turn % chains(M)];
            *part = s.fma(s.splat(unsafe { *x.at(row, at) }), w, *part);
        }
    }

    #[inline(always)]
    pub(crate) fn totals(&self, s: S) -> [S::F; M] {
        let mut totals = [s.splat(0.0); M];
        for row in 0..M {
            let parts = &self.0[row];
            totals[row] = match chains(M) {
                1 => parts[0],
                2 => s.add(parts[0], parts[1]),
                _ => s.add(s.add(parts[0], parts[1]), s.add(parts[2], parts[3])),
            };
        }
        totals
    }

    /// Adds the totals times `scale`, that of a block, to `acc`.
    #[inline(always)]
    pub(crate) fn add_scaled(&self, s: S, scale: S::F, acc: &mut [S::F; M]) {
        let totals = self.totals(s);
        for row in 0..M {
            acc[row] = s.fma(scale, totals[row], acc[row]);
        }
    }
}
