//! Weights that are numbers of their own: F32, BF16, F16.
#![expect(unsafe_code, reason = "panels are raw pointers given by the caller of a kernel")]

use super::{Format, LANES, Rows, Sums, prefetch};
use crate::simd::Simd;

/// One element of sixteen rows.
pub(crate) trait Element {
    const BYTES: usize;
    const IS_F32: bool = false;
    /// # Safety
    /// An element can be read at `p`, of any alignment.
    unsafe fn one(p: *const u8) -> f32;
    /// # Safety
    /// Sixteen elements can be read at `p`.
    unsafe fn load<S: Simd>(s: S, p: *const u8) -> S::F;
}

/// [`ir::DType::F32`].
pub(crate) struct F32;
/// [`ir::DType::BF16`].
pub(crate) struct Bf16;
/// [`ir::DType::F16`].
pub(crate) struct F16;

impl Element for F32 {
    const BYTES: usize = 4;
    const IS_F32: bool = true;
    #[inline(always)]
    unsafe fn one(p: *const u8) -> f32 {
        unsafe { p.cast::<f32>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const u8) -> S::F {
        unsafe { s.load(p.cast()) }
    }
}

impl Element for Bf16 {
    const BYTES: usize = 2;
    #[inline(always)]
    unsafe fn one(p: *const u8) -> f32 {
        half::bf16::from_bits(unsafe { p.cast::<u16>().read_unaligned() }).to_f32_const()
    }
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const u8) -> S::F {
        unsafe { s.load_bf16(p) }
    }
}

impl Element for F16 {
    const BYTES: usize = 2;
    #[inline(always)]
    unsafe fn one(p: *const u8) -> f32 {
        half::f16::from_bits(unsafe { p.cast::<u16>().read_unaligned() }).to_f32_const()
    }
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const u8) -> S::F {
        unsafe { s.load_f16(p) }
    }
}

impl<E: Element> Format for E {
    const LEN: usize = 1;
    const BYTES: usize = E::BYTES;
    const IS_F32: bool = E::IS_F32;

    #[inline(always)]
    unsafe fn dot<S: Simd, const M: usize>(s: S, panel: *const u8, k: usize, x: Rows) -> [S::F; M] {
        let row = E::BYTES * LANES;
        let mut sums = Sums::<S, M>::new(s);
        let whole = k / 8 * 8;
        for i in (0..whole).step_by(8) {
            let p = unsafe { panel.add(i * row) };
            prefetch(s, p, 8 * row);
            for j in 0..8 {
                unsafe { sums.add(s, j, E::load(s, p.add(j * row)), x, i + j) };
            }
        }
        for i in whole..k {
            unsafe { sums.add(s, 0, E::load(s, panel.add(i * row)), x, i) };
        }
        sums.totals(s)
    }

    #[inline(always)]
    unsafe fn decode<S: Simd>(s: S, panel: *const u8, from: usize, count: usize, out: *mut f32) {
        for i in 0..count {
            unsafe {
                let w = E::load(s, panel.add((from + i) * E::BYTES * LANES));
                s.store(out.add(i * LANES), w);
            }
        }
    }
}
