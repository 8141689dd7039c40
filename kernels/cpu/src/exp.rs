//! `e^x` in every lane.

use crate::simd::Simd;

/// `e^x` for `x <= 88`, to 2 units in the last place; 0 where it is below the smallest normal
/// number.
///
/// With `n` the nearest integer to `x / ln 2` and `r = x - n ln 2`: `2^n e^r`, where `e^r` is the
/// minimax polynomial of degree 6 of the Cephes library.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::F) -> S::F {
    // Adding 1.5 * 2^23 rounds to an integer, and leaves it in the lower bits.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 355.0 / 512.0;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    const POLYNOMIAL: [f32; 6] =
        [1.987_569_2e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.500_000_1];
    const SMALLEST: f32 = -87.336_54;

    let rounded = s.fma(x, s.splat(std::f32::consts::LOG2_E), s.splat(ROUND));
    let n = s.sub(rounded, s.splat(ROUND));
    let r = s.fma(n, s.splat(-LN2_HIGH), x);
    let r = s.fma(n, s.splat(-LN2_LOW), r);
    let mut p = s.splat(POLYNOMIAL[0]);
    for c in &POLYNOMIAL[1..] {
        p = s.fma(p, r, s.splat(*c));
    }
    let e = s.fma(s.mul(p, r), r, s.add(r, s.splat(1.0)));
    let scaled = s.float_of_bits(s.wrapping_add(s.bits(e), s.shl(s.bits(rounded), 23)));
    s.if_less(x, s.splat(SMALLEST), s.splat(0.0), scaled)
}
