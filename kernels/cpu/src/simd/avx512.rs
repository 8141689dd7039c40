//! Lanes as one 512-bit register.
#![expect(unsafe_code, reason = "intrinsics, allowed by the proof that a value of `Avx512` is")]

use super::{Simd, Work};
use std::arch::x86_64::*;

/// The CPU has AVX-512 F.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

#[target_feature(enable = "avx512f,avx2,fma,f16c")]
unsafe fn compiled<W: Work>(s: Avx512, work: W) {
    unsafe { work.run(s) }
}

impl Simd for Avx512 {
    type F = __m512;
    type I = __m512i;
    const ROWS: usize = 8;
    const PANELS: usize = 3;

    unsafe fn assume() -> Self {
        Avx512(())
    }
    #[inline(always)]
    unsafe fn run(self, work: impl Work) {
        unsafe { compiled(self, work) }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    fn if_less(self, a: Self::F, b: Self::F, then: Self::F, otherwise: Self::F) -> Self::F {
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), otherwise, then) }
    }
    #[inline(always)]
    fn sum(self, a: Self::F) -> f32 {
        unsafe { _mm512_reduce_add_ps(a) }
    }
    #[inline(always)]
    fn maximum(self, a: Self::F) -> f32 {
        unsafe { _mm512_reduce_max_ps(a) }
    }

    #[inline(always)]
    fn and(self, a: Self::I, mask: u32) -> Self::I {
        unsafe { _mm512_and_si512(a, _mm512_set1_epi32(mask as i32)) }
    }
    #[inline(always)]
    fn or(self, a: Self::I, b: Self::I) -> Self::I {
        unsafe { _mm512_or_si512(a, b) }
    }
    #[inline(always)]
    fn wrapping_add(self, a: Self::I, b: Self::I) -> Self::I {
        unsafe { _mm512_add_epi32(a, b) }
    }
    #[inline(always)]
    fn shl(self, a: Self::I, bits: u32) -> Self::I {
        unsafe { _mm512_sll_epi32(a, _mm_cvtsi32_si128(bits as i32)) }
    }
    #[inline(always)]
    fn shr(self, a: Self::I, bits: u32) -> Self::I {
        unsafe { _mm512_srl_epi32(a, _mm_cvtsi32_si128(bits as i32)) }
    }
    #[inline(always)]
    fn sar(self, a: Self::I, bits: u32) -> Self::I {
        unsafe { _mm512_sra_epi32(a, _mm_cvtsi32_si128(bits as i32)) }
    }
    #[inline(always)]
    fn to_f32(self, a: Self::I) -> Self::F {
        unsafe { _mm512_cvtepi32_ps(a) }
    }
    #[inline(always)]
    fn bits(self, a: Self::F) -> Self::I {
        unsafe { _mm512_castps_si512(a) }
    }
    #[inline(always)]
    fn float_of_bits(self, a: Self::I) -> Self::F {
        unsafe { _mm512_castsi512_ps(a) }
    }
    #[inline(always)]
    fn lookup(self, table: Self::F, index: Self::I) -> Self::F {
        unsafe { _mm512_permutexvar_ps(index, table) }
    }

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Self::F {
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, a: Self::F) {
        unsafe { _mm512_storeu_ps(p, a) }
    }
    #[inline(always)]
    unsafe fn load_words(self, p: *const u8) -> Self::I {
        unsafe { _mm512_loadu_si512(p.cast()) }
    }
    #[inline(always)]
    unsafe fn load_f16(self, p: *const u8) -> Self::F {
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) }
    }
    #[inline(always)]
    unsafe fn load_bf16(self, p: *const u8) -> Self::F {
        let words = unsafe { _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast())) };
        self.float_of_bits(self.shl(words, 16))
    }
    #[inline(always)]
    unsafe fn load_e4m3(self, p: *const u8) -> Self::F {
        unsafe {
            // The copy of the sign that lands in the exponent is cleared.
            let codes = _mm256_cvtepi8_epi16(_mm_loadu_si128(p.cast()));
            let halves = _mm256_slli_epi16::<7>(codes);
            _mm512_cvtph_ps(_mm256_and_si256(halves, _mm256_set1_epi16(!0x4000)))
        }
    }
    #[inline(always)]
    unsafe fn load_e5m2(self, p: *const u8) -> Self::F {
        unsafe {
            let codes = _mm256_cvtepu8_epi16(_mm_loadu_si128(p.cast()));
            _mm512_cvtph_ps(_mm256_slli_epi16::<8>(codes))
        }
    }
    #[inline(always)]
    unsafe fn load_e8m0(self, p: *const u8) -> Self::F {
        let codes = unsafe { _mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast())) };
        self.float_of_bits(self.shl(codes, 23))
    }
    #[inline(always)]
    fn prefetch(self, p: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
}
