//! Weights that are floats of four bits (E2M1), with a scale for a block and, perhaps, for a row.
//!
//! Sixteen codes are looked up at once in a vector that holds the sixteen numbers. Sums over a
//! block are scaled by its scale, sums over a row by the row's.
#![expect(unsafe_code, reason = "panels are raw pointers given by the caller of a kernel")]

use super::{Format, LANES, Rows, Sums, prefetch};
use crate::simd::Simd;
use std::marker::PhantomData;

/// The number of each code.
const NUMBERS: [f32; LANES] =
    [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

/// What tells such formats apart.
pub(crate) trait Block {
    /// Elements of a block.
    const LEN: usize;
    /// Bytes of a row before its blocks: none, or an `f32`.
    const HEAD: usize;
    /// The element that half-byte `i` of word `word` stands for.
    fn element(word: usize, i: usize) -> usize;
    /// What scales of blocks have to be multiplied by.
    const FACTOR: f32;
    /// # Safety
    /// Sixteen bytes, the scales of a block, can be read at `p`.
    unsafe fn scale<S: Simd>(s: S, p: *const u8) -> S::F;
}

/// NVFP4: a scale in E4M3 for 16 elements, and one for the row.
pub(crate) struct Nv;
/// MXFP4: a scale in E8M0 for 32 elements.
pub(crate) struct Mx;

/// [`ir::DType::NvFp4`].
pub(crate) type NvFp4 = Codes<Nv>;
/// [`ir::DType::MxFp4`].
pub(crate) type MxFp4 = Codes<Mx>;

impl Block for Nv {
    const LEN: usize = 16;
    const HEAD: usize = 4;
    #[inline(always)]
    fn element(word: usize, i: usize) -> usize {
        8 * word + i
    }
    const FACTOR: f32 = 256.0;
    #[inline(always)]
    unsafe fn scale<S: Simd>(s: S, p: *const u8) -> S::F {
        unsafe { s.load_e4m3(p) }
    }
}

impl Block for Mx {
    const LEN: usize = 32;
    const HEAD: usize = 0;
    #[inline(always)]
    fn element(word: usize, i: usize) -> usize {
        4 * word + i / 2 + 16 * (i % 2)
    }
    const FACTOR: f32 = 1.0;
    #[inline(always)]
    unsafe fn scale<S: Simd>(s: S, p: *const u8) -> S::F {
        unsafe { s.load_e8m0(p) }
    }
}

/// A format of this family.
pub(crate) struct Codes<B>(PhantomData<B>);

impl<B: Block> Codes<B> {
    /// Words of a block of one row.
    const WORDS: usize = B::LEN / 8;

    /// What the sums over blocks of a panel are multiplied by.
    ///
    /// # Safety
    /// `panel` is a packed panel.
    #[inline(always)]
    unsafe fn row_scale<S: Simd>(s: S, panel: *const u8) -> S::F {
        let factor = s.splat(B::FACTOR);
        if B::HEAD == 0 {
            return factor;
        }
        s.mul(unsafe { s.load(panel.cast()) }, factor)
    }

    /// The codes of sixteen rows: word `word` of a block.
    ///
    /// # Safety
    /// `block` is a packed block.
    #[inline(always)]
    unsafe fn word<S: Simd>(s: S, block: *const u8, word: usize) -> S::I {
        unsafe { s.load_words(block.add(LANES + 4 * LANES * word)) }
    }
}

impl<B: Block> Format for Codes<B> {
    const LEN: usize = B::LEN;
    const BYTES: usize = 1 + B::LEN / 2;
    const HEAD: usize = B::HEAD;

    #[inline(always)]
    unsafe fn dot<S: Simd, const M: usize>(s: S, panel: *const u8, k: usize, x: Rows) -> [S::F; M] {
        let numbers = unsafe { s.load(NUMBERS.as_ptr()) };
        let blocks = unsafe { panel.add(B::HEAD * LANES) };
        let mut acc = [s.splat(0.0); M];
        for b in 0..k / B::LEN {
            let block = unsafe { blocks.add(b * Self::BYTES * LANES) };
            prefetch(s, block, Self::BYTES * LANES);
            let mut sums = Sums::<S, M>::new(s);
            for word in 0..Self::WORDS {
                let codes = unsafe { Self::word(s, block, word) };
                for i in 0..8 {
                    let w = s.lookup(numbers, s.shr(codes, 4 * i as u32));
                    unsafe { sums.add(s, i, w, x, b * B::LEN + B::element(word, i)) };
                }
            }
            let scale = unsafe { B::scale(s, block) };
            sums.add_scaled(s, scale, &mut acc);
        }
        let scale = unsafe { Self::row_scale(s, panel) };
        acc.map(|it| s.mul(it, scale))
    }

    #[inline(always)]
    unsafe fn decode<S: Simd>(s: S, panel: *const u8, from: usize, count: usize, out: *mut f32) {
        let numbers = unsafe { s.load(NUMBERS.as_ptr()) };
        let row_scale = unsafe { Self::row_scale(s, panel) };
        for b in 0..count / B::LEN {
            let at = B::HEAD + (from / B::LEN + b) * Self::BYTES;
            let block = unsafe { panel.add(at * LANES) };
            let scale = s.mul(unsafe { B::scale(s, block) }, row_scale);
            for word in 0..Self::WORDS {
                let codes = unsafe { Self::word(s, block, word) };
                for i in 0..8 {
                    let w = s.lookup(numbers, s.shr(codes, 4 * i as u32));
                    let at = (b * B::LEN + B::element(word, i)) * LANES;
                    unsafe { s.store(out.add(at), s.mul(w, scale)) };
                }
            }
        }
    }
}
