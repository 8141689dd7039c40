//! Weights of four to six bits, whose lower four lie two in a byte.
//!
//! With `q` the bits of a weight, it is worth `scale * q + min`, where scale and minimum belong to
//! a *group* of neighbours. So a row's product with `x` is, over groups, `scale * sum(q x) +
//! min * sum(x)`, and the sums of `x` are shared by all rows.
//!
//! Bits are not shifted into place: a field at bit `p` of its word, masked and converted, is `q`
//! times `2^p`, and the element of `x` that it meets has been multiplied by `2^-p` beforehand
//! ([`Format::prepare`]). Both are exact. Only a field that ends with the sign bit is shifted down.
//! So two instructions decode sixteen weights, and one multiplies them. Higher bits are multiplied
//! as a field of their own, unless they lie a byte apart as nibbles do: then both are joined, four
//! weights at once.
//!
//! A block is read in *steps*. A step takes a run of words; the lower halves of their bytes are
//! consecutive elements, and so are the upper halves, [`Block::SPAN`] further on.
#![expect(unsafe_code, reason = "panels are raw pointers given by the caller of a kernel")]

use super::{Format, LANES, Rows, Sums, prefetch};
use crate::simd::Simd;
use std::marker::PhantomData;

/// Where the bits above the fourth of a weight lie in the word that [`Block::high`] gives: for
/// each byte of the nibbles' word, for its lower and its upper half.
pub(crate) struct High {
    width: u32,
    positions: [[u32; 4]; 2],
}

/// What tells one format of this family from another. Offsets are in bytes of a packed block.
pub(crate) trait Block {
    const LEN: usize;
    const BYTES: usize;
    /// Elements that share scale and minimum.
    const GROUP: usize = 32;
    /// Offset of the words of nibbles.
    const LOW: usize;
    /// Words of a step.
    const WORDS: usize;
    /// Elements from a lower half to the upper half of its byte.
    const SPAN: usize;
    const HIGH: Option<High> = None;

    /// The element in the first lower half of a step.
    fn first(step: usize) -> usize;

    /// The word with the higher bits of word `word` of a step.
    ///
    /// # Safety
    /// `block` is a packed block.
    #[inline(always)]
    unsafe fn high<S: Simd>(s: S, block: *const u8, _step: usize, _word: usize) -> S::I {
        unsafe { s.load_words(block) }
    }

    /// Scale and minimum of a group.
    ///
    /// # Safety
    /// `block` is a packed block.
    unsafe fn scale_min<S: Simd>(s: S, block: *const u8, group: usize) -> (S::F, S::F);
}

/// A format of this family.
pub(crate) struct Nibbles<B>(PhantomData<B>);

/// Width and position of the nibble in half `half` of byte `i`.
const fn nibble(half: usize, i: usize) -> u32 {
    8 * i as u32 + 4 * half as u32
}

/// The field of `width` bits at `position` of every word, times [`factor`]'s inverse.
#[inline(always)]
fn field<S: Simd>(s: S, words: S::I, position: u32, width: u32) -> S::F {
    let masked = if position + width == 32 {
        s.shr(words, position)
    } else {
        s.and(words, ((1 << width) - 1) << position)
    };
    s.to_f32(masked)
}

/// What `x` is multiplied by to meet a [`field`].
const fn factor(position: u32, width: u32) -> f32 {
    if position + width == 32 { 1.0 } else { f32::from_bits((127 - position) << 23) }
}

impl<B: Block> Nibbles<B> {
    const STEPS: usize = B::LEN / (8 * B::WORDS);
    /// Whether both halves of a step belong to one group.
    const ONE_GROUP: bool = B::SPAN < B::GROUP;
    /// In a prepared block, where `x` for the high bits and where the sums begin.
    const HIGH_AT: usize = B::LEN;
    const SUMS_AT: usize = if Self::HIGH_APART.is_some() { 2 * B::LEN } else { B::LEN };

    /// Higher bits that lie a byte apart.
    const HIGH_JOINED: Option<High> = match B::HIGH {
        Some(high) if high.positions[0][0] + 8 == high.positions[0][1] => Some(high),
        _ => None,
    };
    /// Higher bits that do not.
    const HIGH_APART: Option<High> = if Self::HIGH_JOINED.is_some() { None } else { B::HIGH };

    /// The factors of `x` for the nibbles of a half, and for the higher bits.
    const FACTORS: [[[f32; LANES]; 2]; 2] = {
        let mut factors = [[[0.0; LANES]; 2]; 2];
        let mut lane = 0;
        while lane < LANES {
            let mut half = 0;
            while half < 2 {
                factors[0][half][lane] = match Self::HIGH_JOINED {
                    Some(high) => factor(nibble(0, lane % 4), 4 + high.width),
                    None => factor(nibble(half, lane % 4), 4),
                };
                if let Some(high) = Self::HIGH_APART {
                    let position = high.positions[half][lane % 4];
                    factors[1][half][lane] = 16.0 * factor(position, high.width);
                }
                half += 1;
            }
            lane += 1;
        }
        factors
    };

    #[inline(always)]
    fn element(step: usize, half: usize) -> usize {
        B::first(step) + half * B::SPAN
    }

    /// Adds the products of one half of a step; `x` is prepared, from this block on.
    #[inline(always)]
    unsafe fn add_half<S: Simd, const M: usize, const HALF: usize>(
        s: S,
        sums: &mut Sums<S, M>,
        block: *const u8,
        step: usize,
        x: Rows,
    ) {
        if let Some(high) = Self::HIGH_JOINED {
            return unsafe { Self::add_joined::<S, M, HALF>(s, sums, block, step, x, &high) };
        }
        for word in 0..B::WORDS {
            let at = Self::element(step, HALF) + 4 * word;
            let words = unsafe { s.load_words(block.add(B::LOW + 64 * (step * B::WORDS + word))) };
            for i in 0..4 {
                let q = field(s, words, nibble(HALF, i), 4);
                unsafe { sums.add(s, i, q, x, at + i) };
            }
            if let Some(high) = Self::HIGH_APART {
                let words = unsafe { B::high(s, block, step, word) };
                for i in 0..4 {
                    let q = field(s, words, high.positions[HALF][i], high.width);
                    unsafe { sums.add(s, i, q, x, Self::HIGH_AT + at + i) };
                }
            }
        }
    }

    /// The same, where nibbles and higher bits can be joined, one weight in each byte.
    #[inline(always)]
    unsafe fn add_joined<S: Simd, const M: usize, const HALF: usize>(
        s: S,
        sums: &mut Sums<S, M>,
        block: *const u8,
        step: usize,
        x: Rows,
        high: &High,
    ) {
        let position = high.positions[HALF][0];
        let mask = 0x0101_0101 * (((1 << high.width) - 1) << position);
        for word in 0..B::WORDS {
            let at = Self::element(step, HALF) + 4 * word;
            let words = unsafe { s.load_words(block.add(B::LOW + 64 * (step * B::WORDS + word))) };
            let low = s.and(if HALF == 0 { words } else { s.shr(words, 4) }, 0x0F0F_0F0F);
            let bits = s.and(unsafe { B::high(s, block, step, word) }, mask);
            let joined = s.or(low, s.shl(bits, 4 - position));
            for i in 0..4 {
                let q = field(s, joined, nibble(0, i), 4 + high.width);
                unsafe { sums.add(s, i, q, x, at + i) };
            }
        }
    }

    /// Adds the products of a group, of which half `half` of `step` is the last.
    #[inline(always)]
    unsafe fn fold<S: Simd, const M: usize>(
        s: S,
        sums: &Sums<S, M>,
        block: *const u8,
        (step, half): (usize, usize),
        x: Rows,
        acc: &mut [S::F; M],
    ) {
        let group = Self::element(step, half) / B::GROUP;
        let (scale, min) = unsafe { B::scale_min(s, block, group) };
        let totals = sums.totals(s);
        for row in 0..M {
            let sum = s.splat(unsafe { *x.at(row, Self::SUMS_AT + 2 * step + half) });
            acc[row] = s.fma(scale, totals[row], s.fma(min, sum, acc[row]));
        }
    }

    #[inline(always)]
    unsafe fn dot_block<S: Simd, const M: usize>(
        s: S,
        block: *const u8,
        x: Rows,
        acc: &mut [S::F; M],
    ) {
        for step in 0..Self::STEPS {
            let mut sums = Sums::new(s);
            unsafe { Self::add_half::<S, M, 0>(s, &mut sums, block, step, x) };
            if !Self::ONE_GROUP {
                unsafe { Self::fold(s, &sums, block, (step, 0), x, acc) };
                sums = Sums::new(s);
            }
            unsafe {
                Self::add_half::<S, M, 1>(s, &mut sums, block, step, x);
                Self::fold(s, &sums, block, (step, 1), x, acc);
            }
        }
    }

    /// Decodes word `word` of one half of a step to `out`, four rows of sixteen.
    #[inline(always)]
    unsafe fn decode_word<S: Simd>(
        s: S,
        block: *const u8,
        (step, half, word): (usize, usize, usize),
        (scale, min): (S::F, S::F),
        out: *mut f32,
    ) {
        let words = unsafe { s.load_words(block.add(B::LOW + 64 * (step * B::WORDS + word))) };
        for i in 0..4 {
            let mut q = s.and(s.shr(words, nibble(half, i)), 15);
            if let Some(high) = B::HIGH {
                let words = unsafe { B::high(s, block, step, word) };
                let bits = s.and(s.shr(words, high.positions[half][i]), (1 << high.width) - 1);
                q = s.or(q, s.shl(bits, 4));
            }
            unsafe { s.store(out.add(i * LANES), s.fma(s.to_f32(q), scale, min)) };
        }
    }
}

impl<B: Block> Format for Nibbles<B> {
    const LEN: usize = B::LEN;
    const BYTES: usize = B::BYTES;
    const PREPARED: usize = Self::SUMS_AT + 2 * Self::STEPS;

    #[inline(always)]
    unsafe fn prepare<S: Simd>(s: S, x: *const f32, out: *mut f32) {
        for step in 0..Self::STEPS {
            let mut sum = s.splat(0.0);
            for half in 0..2 {
                for at in (0..4 * B::WORDS).step_by(LANES) {
                    let at = Self::element(step, half) + at;
                    let x = unsafe { s.load(x.add(at)) };
                    sum = s.add(sum, x);
                    unsafe {
                        let factor = s.load(Self::FACTORS[0][half].as_ptr());
                        s.store(out.add(at), s.mul(x, factor));
                        if Self::HIGH_APART.is_some() {
                            let factor = s.load(Self::FACTORS[1][half].as_ptr());
                            s.store(out.add(Self::HIGH_AT + at), s.mul(x, factor));
                        }
                    }
                }
                unsafe { *out.add(Self::SUMS_AT + 2 * step + half) = s.sum(sum) };
                if !Self::ONE_GROUP {
                    sum = s.splat(0.0);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn dot<S: Simd, const M: usize>(s: S, panel: *const u8, k: usize, x: Rows) -> [S::F; M] {
        let mut acc = [s.splat(0.0); M];
        for b in 0..k / B::LEN {
            unsafe {
                let block = panel.add(b * B::BYTES * LANES);
                prefetch(s, block, B::BYTES * LANES);
                let x = Rows { first: x.first.add(b * Self::PREPARED), ..x };
                Self::dot_block(s, block, x, &mut acc);
            }
        }
        acc
    }

    #[inline(always)]
    unsafe fn decode<S: Simd>(s: S, panel: *const u8, from: usize, count: usize, out: *mut f32) {
        for b in 0..count / B::LEN {
            let block = unsafe { panel.add((from / B::LEN + b) * B::BYTES * LANES) };
            for step in 0..Self::STEPS {
                for half in 0..2 {
                    let at = Self::element(step, half);
                    let group = unsafe { B::scale_min(s, block, at / B::GROUP) };
                    for word in 0..B::WORDS {
                        unsafe {
                            let out = out.add((b * B::LEN + at + 4 * word) * LANES);
                            Self::decode_word(s, block, (step, half, word), group, out);
                        }
                    }
                }
            }
        }
    }
}

/// [`ir::DType::Q4_0`].
pub(crate) struct Q4_0;
/// [`ir::DType::Q4_1`].
pub(crate) struct Q4_1;
/// [`ir::DType::Q5_0`].
pub(crate) struct Q5_0;
/// [`ir::DType::Q5_1`].
pub(crate) struct Q5_1;
/// [`ir::DType::Q4K`].
pub(crate) struct Q4K;
/// [`ir::DType::Q5K`].
pub(crate) struct Q5K;
/// [`ir::DType::Q6K`].
pub(crate) struct Q6K;

/// The fifth bits of 32 elements in one word.
const FIFTH_IN_WORD: High = High { width: 1, positions: [[0, 1, 2, 3], [16, 17, 18, 19]] };

/// Scale `d`, minimum `-center * d`.
///
/// # Safety
/// `d` points to sixteen halves.
#[inline(always)]
unsafe fn centered<S: Simd>(s: S, d: *const u8, center: f32) -> (S::F, S::F) {
    let d = unsafe { s.load_f16(d) };
    (d, s.mul(d, s.splat(-center)))
}

/// Scale and minimum side by side.
///
/// # Safety
/// `d` points to twice sixteen halves.
#[inline(always)]
unsafe fn paired<S: Simd>(s: S, d: *const u8) -> (S::F, S::F) {
    unsafe { (s.load_f16(d), s.load_f16(d.add(32))) }
}

impl Block for Q4_0 {
    const LEN: usize = 32;
    const BYTES: usize = 18;
    const LOW: usize = 32;
    const WORDS: usize = 4;
    const SPAN: usize = 16;
    #[inline(always)]
    fn first(_: usize) -> usize {
        0
    }
    #[inline(always)]
    unsafe fn scale_min<S: Simd>(s: S, block: *const u8, _: usize) -> (S::F, S::F) {
        unsafe { centered(s, block, 8.0) }
    }
}

impl Block for Q4_1 {
    const LEN: usize = 32;
    const BYTES: usize = 20;
    const LOW: usize = 64;
    const WORDS: usize = 4;
    const SPAN: usize = 16;
    #[inline(always)]
    fn first(_: usize) -> usize {
        0
    }
    #[inline(always)]
    unsafe fn scale_min<S: Simd>(s: S, block: *const u8, _: usize) -> (S::F, S::F) {
        unsafe { paired(s, block) }
    }
}

impl Block for Q5_0 {
    const LEN: usize = 32;
    const BYTES: usize = 22;
    const LOW: usize = 96;
    const WORDS: usize = 4;
    const SPAN: usize = 16;
    const HIGH: Option<High> = Some(FIFTH_IN_WORD);
    #[inline(always)]
    fn first(_: usize) -> usize {
        0
    }
    #[inline(always)]
    unsafe fn high<S: Simd>(s: S, block: *const u8, _: usize, word: usize) -> S::I {
        s.shr(unsafe { s.load_words(block.add(32)) }, 4 * word as u32)
    }
    #[inline(always)]
    unsafe fn scale_min<S: Simd>(s: S, block: *const u8, _: usize) -> (S::F, S::F) {
        unsafe { centered(s, block, 16.0) }
    }
}

impl Block for Q5_1 {
    const LEN: usize = 32;
    const BYTES: usize = 24;
    const LOW: usize = 128;
    const WORDS: usize = 4;
    const SPAN: usize = 16;
    const HIGH: Option<High> = Some(FIFTH_IN_WORD);
    #[inline(always)]
    fn first(_: usize) -> usize {
        0
    }
    #[inline(always)]
    unsafe fn high<S: Simd>(s: S, block: *const u8, _: usize, word: usize) -> S::I {
        s.shr(unsafe { s.load_words(block.add(64)) }, 4 * word as u32)
    }
    #[inline(always)]
    unsafe fn scale_min<S: Simd>(s: S, block: *const u8, _: usize) -> (S::F, S::F) {
        unsafe { paired(s, block) }
    }
}

/// The six-bit scales (`own = 0`, `low = 0`) or minima (`own = 1`, `low = 4`) of Q4_K and Q5_K. The
/// bits are laid out as [`ir::storage::scale_and_min`] says, here for sixteen rows at once.
///
/// # Safety
/// `s12` points to three times sixteen words.
#[inline(always)]
unsafe fn six_bits<S: Simd>(s: S, s12: *const u8, group: usize, own: usize, low: u32) -> S::F {
    let byte = 8 * (group % 4) as u32;
    let first = unsafe { s.load_words(s12.add(64 * own)) };
    if group < 4 {
        return s.to_f32(s.and(s.shr(first, byte), 63));
    }
    let last = unsafe { s.load_words(s12.add(128)) };
    let upper = s.and(s.shr(first, byte + 6), 3);
    s.to_f32(s.or(s.and(s.shr(last, byte + low), 15), s.shl(upper, 4)))
}

/// Scale and minimum of a group of Q4_K and Q5_K.
///
/// # Safety
/// `block` is a packed block of one of the two.
#[inline(always)]
unsafe fn k_scale_min<S: Simd>(s: S, block: *const u8, group: usize) -> (S::F, S::F) {
    unsafe {
        let (d, m) = paired(s, block);
        let (scale, min) =
            (six_bits(s, block.add(64), group, 0, 0), six_bits(s, block.add(64), group, 1, 4));
        (s.mul(d, scale), s.mul(s.mul(m, s.splat(-1.0)), min))
    }
}

impl Block for Q4K {
    const LEN: usize = 256;
    const BYTES: usize = 144;
    const LOW: usize = 256;
    const WORDS: usize = 8;
    const SPAN: usize = 32;
    #[inline(always)]
    fn first(step: usize) -> usize {
        64 * step
    }
    #[inline(always)]
    unsafe fn scale_min<S: Simd>(s: S, block: *const u8, group: usize) -> (S::F, S::F) {
        unsafe { k_scale_min(s, block, group) }
    }
}

impl Block for Q5K {
    const LEN: usize = 256;
    const BYTES: usize = 176;
    const LOW: usize = 768;
    const WORDS: usize = 8;
    const SPAN: usize = 32;
    const HIGH: Option<High> = Some(High { width: 1, positions: [[0, 8, 16, 24], [1, 9, 17, 25]] });
    #[inline(always)]
    fn first(step: usize) -> usize {
        64 * step
    }
    #[inline(always)]
    unsafe fn high<S: Simd>(s: S, block: *const u8, step: usize, word: usize) -> S::I {
        s.shr(unsafe { s.load_words(block.add(256 + 64 * word)) }, 2 * step as u32)
    }
    #[inline(always)]
    unsafe fn scale_min<S: Simd>(s: S, block: *const u8, group: usize) -> (S::F, S::F) {
        unsafe { k_scale_min(s, block, group) }
    }
}

impl Block for Q6K {
    const LEN: usize = 256;
    const BYTES: usize = 210;
    const GROUP: usize = 16;
    const LOW: usize = 0;
    const WORDS: usize = 4;
    const SPAN: usize = 64;
    const HIGH: Option<High> =
        Some(High { width: 2, positions: [[0, 8, 16, 24], [4, 12, 20, 28]] });
    /// Of each 128 elements, steps take the first two runs of 32 by halves of 16.
    #[inline(always)]
    fn first(step: usize) -> usize {
        step / 4 * 128 + step % 4 * 16
    }
    #[inline(always)]
    unsafe fn high<S: Simd>(s: S, block: *const u8, step: usize, word: usize) -> S::I {
        let at = step / 4 * 8 + step % 2 * 4 + word;
        let words = unsafe { s.load_words(block.add(2048 + 64 * at)) };
        s.shr(words, (step % 4 / 2 * 2) as u32)
    }
    #[inline(always)]
    unsafe fn scale_min<S: Simd>(s: S, block: *const u8, group: usize) -> (S::F, S::F) {
        let words = unsafe { s.load_words(block.add(3072 + 64 * (group / 4))) };
        let scale = s.sar(s.shl(words, 24 - 8 * (group % 4) as u32), 24);
        let d = s.mul(unsafe { s.load_f16(block.add(3328)) }, s.to_f32(scale));
        (d, s.mul(d, s.splat(-32.0)))
    }
}
