//! Weights of eight bits with a scale for 32 of them.
//!
//! A byte is brought to the top of its word, where its sign is; the factor 2^24 that it has there
//! is taken out of the scale.
#![expect(unsafe_code, reason = "panels are raw pointers given by the caller of a kernel")]

use super::{Format, LANES, Rows, Sums, prefetch};
use crate::simd::Simd;

/// [`ir::DType::Q8_0`].
pub(crate) struct Q8_0;

const SCALE: f32 = 1.0 / (1 << 24) as f32;

/// Sixteen weights, each `2^24` times too large: byte `i` of the words at `p`.
///
/// # Safety
/// 64 bytes can be read at `p`.
#[inline(always)]
unsafe fn byte<S: Simd>(s: S, p: *const u8, i: usize) -> S::F {
    let words = unsafe { s.load_words(p) };
    s.to_f32(s.and(s.shl(words, 24 - 8 * i as u32), 0xFF00_0000))
}

impl Format for Q8_0 {
    const LEN: usize = 32;
    const BYTES: usize = 34;

    #[inline(always)]
    unsafe fn dot<S: Simd, const M: usize>(s: S, panel: *const u8, k: usize, x: Rows) -> [S::F; M] {
        let mut acc = [s.splat(0.0); M];
        for b in 0..k / 32 {
            let block = unsafe { panel.add(b * Self::BYTES * LANES) };
            prefetch(s, block, Self::BYTES * LANES);
            let mut sums = Sums::<S, M>::new(s);
            for word in 0..8 {
                let p = unsafe { block.add(32 + 64 * word) };
                for i in 0..4 {
                    unsafe { sums.add(s, i, byte(s, p, i), x, b * 32 + 4 * word + i) };
                }
            }
            let d = s.mul(unsafe { s.load_f16(block) }, s.splat(SCALE));
            sums.add_scaled(s, d, &mut acc);
        }
        acc
    }

    #[inline(always)]
    unsafe fn decode<S: Simd>(s: S, panel: *const u8, from: usize, count: usize, out: *mut f32) {
        for b in 0..count / 32 {
            let block = unsafe { panel.add((from / 32 + b) * Self::BYTES * LANES) };
            let d = s.mul(unsafe { s.load_f16(block) }, s.splat(SCALE));
            for word in 0..8 {
                for i in 0..4 {
                    unsafe {
                        let w = s.mul(byte(s, block.add(32 + 64 * word), i), d);
                        s.store(out.add((b * 32 + 4 * word + i) * LANES), w);
                    }
                }
            }
        }
    }
}
