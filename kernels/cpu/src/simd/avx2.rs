//! Lanes as two 256-bit registers, with fused multiply-add and half-precision loads.
#![expect(unsafe_code, reason = "intrinsics, allowed by the proof that a value of `Avx2` is")]

use super::{Simd, Work};
use std::arch::x86_64::*;

/// The CPU has AVX2, FMA and F16C.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

/// Both halves through one intrinsic.
macro_rules! both {
    ($f:ident, $($a:expr),+) => { unsafe { [$f($($a[0]),+), $f($($a[1]),+)] } };
}

/// The numbers of sixteen `f16`.
#[inline(always)]
unsafe fn floats(halves: __m256i) -> [__m256; 2] {
    let parts = unsafe { [_mm256_castsi256_si128(halves), _mm256_extracti128_si256::<1>(halves)] };
    both!(_mm256_cvtph_ps, parts)
}

#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn compiled<W: Work>(s: Avx2, work: W) {
    unsafe { work.run(s) }
}

impl Simd for Avx2 {
    type F = [__m256; 2];
    type I = [__m256i; 2];
    const ROWS: usize = 6;
    const PANELS: usize = 1;

    unsafe fn assume() -> Self {
        Avx2(())
    }
    #[inline(always)]
    unsafe fn run(self, work: impl Work) {
        unsafe { compiled(self, work) }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        unsafe { [_mm256_set1_ps(x); 2] }
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_add_ps, a, b)
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_sub_ps, a, b)
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_mul_ps, a, b)
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        both!(_mm256_fmadd_ps, a, b, c)
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_max_ps, a, b)
    }
    #[inline(always)]
    fn if_less(self, a: Self::F, b: Self::F, then: Self::F, otherwise: Self::F) -> Self::F {
        let less = unsafe {
            [_mm256_cmp_ps::<_CMP_LT_OQ>(a[0], b[0]), _mm256_cmp_ps::<_CMP_LT_OQ>(a[1], b[1])]
        };
        both!(_mm256_blendv_ps, otherwise, then, less)
    }
    #[inline(always)]
    fn sum(self, a: Self::F) -> f32 {
        unsafe {
            let a = _mm256_add_ps(a[0], a[1]);
            let a = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let a = _mm_add_ps(a, _mm_movehl_ps(a, a));
            _mm_cvtss_f32(_mm_add_ss(a, _mm_movehdup_ps(a)))
        }
    }
    #[inline(always)]
    fn maximum(self, a: Self::F) -> f32 {
        unsafe {
            let a = _mm256_max_ps(a[0], a[1]);
            let a = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let a = _mm_max_ps(a, _mm_movehl_ps(a, a));
            _mm_cvtss_f32(_mm_max_ss(a, _mm_movehdup_ps(a)))
        }
    }

    #[inline(always)]
    fn and(self, a: Self::I, mask: u32) -> Self::I {
        let mask = unsafe { [_mm256_set1_epi32(mask as i32); 2] };
        both!(_mm256_and_si256, a, mask)
    }
    #[inline(always)]
    fn or(self, a: Self::I, b: Self::I) -> Self::I {
        both!(_mm256_or_si256, a, b)
    }
    #[inline(always)]
    fn wrapping_add(self, a: Self::I, b: Self::I) -> Self::I {
        both!(_mm256_add_epi32, a, b)
    }
    #[inline(always)]
    fn shl(self, a: Self::I, bits: u32) -> Self::I {
        let count = unsafe { [_mm_cvtsi32_si128(bits as i32); 2] };
        both!(_mm256_sll_epi32, a, count)
    }
    #[inline(always)]
    fn shr(self, a: Self::I, bits: u32) -> Self::I {
        let count = unsafe { [_mm_cvtsi32_si128(bits as i32); 2] };
        both!(_mm256_srl_epi32, a, count)
    }
    #[inline(always)]
    fn sar(self, a: Self::I, bits: u32) -> Self::I {
        let count = unsafe { [_mm_cvtsi32_si128(bits as i32); 2] };
        both!(_mm256_sra_epi32, a, count)
    }
    #[inline(always)]
    fn to_f32(self, a: Self::I) -> Self::F {
        both!(_mm256_cvtepi32_ps, a)
    }
    #[inline(always)]
    fn bits(self, a: Self::F) -> Self::I {
        both!(_mm256_castps_si256, a)
    }
    #[inline(always)]
    fn float_of_bits(self, a: Self::I) -> Self::F {
        both!(_mm256_castsi256_ps, a)
    }
    #[inline(always)]
    fn lookup(self, table: Self::F, index: Self::I) -> Self::F {
        let [first, second] = [[table[0]; 2], [table[1]; 2]];
        let fourth_bit = self.float_of_bits(self.shl(index, 28));
        let low = both!(_mm256_permutevar8x32_ps, first, index);
        let high = both!(_mm256_permutevar8x32_ps, second, index);
        both!(_mm256_blendv_ps, low, high, fourth_bit)
    }

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Self::F {
        unsafe { [_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))] }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, a: Self::F) {
        unsafe {
            _mm256_storeu_ps(p, a[0]);
            _mm256_storeu_ps(p.add(8), a[1]);
        }
    }
    #[inline(always)]
    unsafe fn load_words(self, p: *const u8) -> Self::I {
        unsafe { [_mm256_loadu_si256(p.cast()), _mm256_loadu_si256(p.add(32).cast())] }
    }
    #[inline(always)]
    unsafe fn load_f16(self, p: *const u8) -> Self::F {
        let bits = unsafe { [_mm_loadu_si128(p.cast()), _mm_loadu_si128(p.add(16).cast())] };
        both!(_mm256_cvtph_ps, bits)
    }
    #[inline(always)]
    unsafe fn load_bf16(self, p: *const u8) -> Self::F {
        let bits = unsafe { [_mm_loadu_si128(p.cast()), _mm_loadu_si128(p.add(16).cast())] };
        self.float_of_bits(self.shl(both!(_mm256_cvtepu16_epi32, bits), 16))
    }
    #[inline(always)]
    unsafe fn load_e4m3(self, p: *const u8) -> Self::F {
        unsafe {
            // The copy of the sign that lands in the exponent is cleared.
            let codes = _mm256_cvtepi8_epi16(_mm_loadu_si128(p.cast()));
            let halves = _mm256_slli_epi16::<7>(codes);
            floats(_mm256_and_si256(halves, _mm256_set1_epi16(!0x4000)))
        }
    }
    #[inline(always)]
    unsafe fn load_e5m2(self, p: *const u8) -> Self::F {
        unsafe {
            let codes = _mm256_cvtepu8_epi16(_mm_loadu_si128(p.cast()));
            floats(_mm256_slli_epi16::<8>(codes))
        }
    }
    #[inline(always)]
    unsafe fn load_e8m0(self, p: *const u8) -> Self::F {
        let codes = unsafe { _mm_loadu_si128(p.cast()) };
        let codes = unsafe { [codes, _mm_unpackhi_epi64(codes, codes)] };
        self.float_of_bits(self.shl(both!(_mm256_cvtepu8_epi32, codes), 23))
    }
    #[inline(always)]
    fn prefetch(self, p: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
}
