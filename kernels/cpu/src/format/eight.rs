//! Weights that are floats of eight bits, with a scale for a row or for a block.
//!
//! A code becomes an `f16` of the same fields, which the CPU can read: E5M2 is its upper half. The
//! exponent of E4M3 is biased by 8 less, so what is read is 2^-8 of its number; the scale makes up
//! for that.
#![expect(unsafe_code, reason = "panels are raw pointers given by the caller of a kernel")]

use super::{Format, LANES, Rows, Sums, prefetch};
use crate::simd::Simd;
use std::marker::PhantomData;

/// A float of eight bits.
pub(crate) trait Byte {
    /// What a loaded number has to be multiplied by.
    const FACTOR: f32;
    /// # Safety
    /// Sixteen bytes can be read at `p`.
    unsafe fn load<S: Simd>(s: S, p: *const u8) -> S::F;
}

/// Four bits of exponent.
pub(crate) struct E4M3;
/// Five bits of exponent.
pub(crate) struct E5M2;

impl Byte for E4M3 {
    const FACTOR: f32 = 256.0;
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const u8) -> S::F {
        unsafe { s.load_e4m3(p) }
    }
}

impl Byte for E5M2 {
    const FACTOR: f32 = 1.0;
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const u8) -> S::F {
        unsafe { s.load_e5m2(p) }
    }
}

/// [`ir::DType::F8E4M3`] and [`ir::DType::F8E5M2`]: rows that begin with a scale.
pub(crate) struct ScaledRows<B>(PhantomData<B>);

/// The scales at the beginning of a panel, for what `B` loads.
///
/// # Safety
/// Sixteen `f32` can be read at `panel`.
#[inline(always)]
unsafe fn scales<S: Simd, B: Byte>(s: S, panel: *const u8) -> S::F {
    s.mul(unsafe { s.load(panel.cast()) }, s.splat(B::FACTOR))
}

impl<B: Byte> Format for ScaledRows<B> {
    const LEN: usize = 1;
    const BYTES: usize = 1;
    const HEAD: usize = 4;

    #[inline(always)]
    unsafe fn dot<S: Simd, const M: usize>(s: S, panel: *const u8, k: usize, x: Rows) -> [S::F; M] {
        let scale = unsafe { scales::<S, B>(s, panel) };
        let codes = unsafe { panel.add(Self::HEAD * LANES) };
        let mut sums = Sums::<S, M>::new(s);
        let whole = k / 8 * 8;
        for i in (0..whole).step_by(8) {
            let p = unsafe { codes.add(i * LANES) };
            prefetch(s, p, 8 * LANES);
            for j in 0..8 {
                unsafe { sums.add(s, j, B::load(s, p.add(j * LANES)), x, i + j) };
            }
        }
        for i in whole..k {
            unsafe { sums.add(s, 0, B::load(s, codes.add(i * LANES)), x, i) };
        }
        sums.totals(s).map(|it| s.mul(it, scale))
    }

    #[inline(always)]
    unsafe fn decode<S: Simd>(s: S, panel: *const u8, from: usize, count: usize, out: *mut f32) {
        let scale = unsafe { scales::<S, B>(s, panel) };
        let codes = unsafe { panel.add((Self::HEAD + from) * LANES) };
        for i in 0..count {
            unsafe {
                let w = s.mul(B::load(s, codes.add(i * LANES)), scale);
                s.store(out.add(i * LANES), w);
            }
        }
    }
}

/// How blocks of E4M3 say what they are scaled by.
pub(crate) trait BlockScale {
    /// Elements of a block.
    const LEN: usize;
    /// Bytes of a scale.
    const BYTES: usize;
    /// # Safety
    /// The scales of sixteen rows can be read at `block`.
    unsafe fn scale<S: Simd>(s: S, block: *const u8) -> S::F;
}

/// A scale in `f32` for 128 elements.
pub(crate) struct Wide;
/// A scale in E8M0 for 32 elements.
pub(crate) struct Narrow;

/// [`ir::DType::F8Block`].
pub(crate) type F8Block = ScaledBlocks<Wide>;
/// [`ir::DType::MxFp8`].
pub(crate) type MxFp8 = ScaledBlocks<Narrow>;

impl BlockScale for Wide {
    const LEN: usize = 128;
    const BYTES: usize = 4;
    #[inline(always)]
    unsafe fn scale<S: Simd>(s: S, block: *const u8) -> S::F {
        unsafe { s.load(block.cast()) }
    }
}

impl BlockScale for Narrow {
    const LEN: usize = 32;
    const BYTES: usize = 1;
    #[inline(always)]
    unsafe fn scale<S: Simd>(s: S, block: *const u8) -> S::F {
        unsafe { s.load_e8m0(block) }
    }
}

/// Blocks of E4M3 that begin with a scale.
pub(crate) struct ScaledBlocks<K>(PhantomData<K>);

impl<K: BlockScale> Format for ScaledBlocks<K> {
    const LEN: usize = K::LEN;
    const BYTES: usize = K::LEN + K::BYTES;

    #[inline(always)]
    unsafe fn dot<S: Simd, const M: usize>(s: S, panel: *const u8, k: usize, x: Rows) -> [S::F; M] {
        let mut acc = [s.splat(0.0); M];
        for b in 0..k / K::LEN {
            let block = unsafe { panel.add(b * Self::BYTES * LANES) };
            let mut sums = Sums::<S, M>::new(s);
            for i in (0..K::LEN).step_by(8) {
                let p = unsafe { block.add((K::BYTES + i) * LANES) };
                prefetch(s, p, 8 * LANES);
                for j in 0..8 {
                    let w = unsafe { s.load_e4m3(p.add(j * LANES)) };
                    unsafe { sums.add(s, j, w, x, b * K::LEN + i + j) };
                }
            }
            let scale = s.mul(unsafe { K::scale(s, block) }, s.splat(E4M3::FACTOR));
            sums.add_scaled(s, scale, &mut acc);
        }
        acc
    }

    #[inline(always)]
    unsafe fn decode<S: Simd>(s: S, panel: *const u8, from: usize, count: usize, out: *mut f32) {
        for b in 0..count / K::LEN {
            let block = unsafe { panel.add((from / K::LEN + b) * Self::BYTES * LANES) };
            let scale = s.mul(unsafe { K::scale(s, block) }, s.splat(E4M3::FACTOR));
            for i in 0..K::LEN {
                unsafe {
                    let w = s.mul(s.load_e4m3(block.add((K::BYTES + i) * LANES)), scale);
                    s.store(out.add((b * K::LEN + i) * LANES), w);
                }
            }
        }
    }
}
