//! Lanes in plain Rust, which the compiler vectorises for whatever machine it is built for.
#![expect(unsafe_code, reason = "lanes are read from and written to raw pointers")]

use super::{LANES, Simd, Work};

/// No instruction set beyond the target's own.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

fn zip<T: Copy>(a: [T; LANES], b: [T; LANES], f: impl Fn(T, T) -> T) -> [T; LANES] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

/// Adds neighbouring halves, as the vector instruction sets do.
fn fold(a: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> f32 {
    let eight: [f32; 8] = std::array::from_fn(|i| f(a[i], a[i + 8]));
    let four: [f32; 4] = std::array::from_fn(|i| f(eight[i], eight[i + 4]));
    f(f(four[0], four[2]), f(four[1], four[3]))
}

impl Simd for Portable {
    type F = [f32; LANES];
    type I = [u32; LANES];
    const ROWS: usize = 2;
    const PANELS: usize = 1;

    unsafe fn assume() -> Self {
        Portable
    }
    unsafe fn run(self, work: impl Work) {
        unsafe { work.run(self) }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        [x; LANES]
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn if_less(self, a: Self::F, b: Self::F, then: Self::F, otherwise: Self::F) -> Self::F {
        std::array::from_fn(|i| if a[i] < b[i] { then[i] } else { otherwise[i] })
    }
    #[inline(always)]
    fn sum(self, a: Self::F) -> f32 {
        fold(a, |a, b| a + b)
    }
    #[inline(always)]
    fn maximum(self, a: Self::F) -> f32 {
        fold(a, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn and(self, a: Self::I, mask: u32) -> Self::I {
        a.map(|a| a & mask)
    }
    #[inline(always)]
    fn or(self, a: Self::I, b: Self::I) -> Self::I {
        zip(a, b, |a, b| a | b)
    }
    #[inline(always)]
    fn wrapping_add(self, a: Self::I, b: Self::I) -> Self::I {
        zip(a, b, u32::wrapping_add)
    }
    #[inline(always)]
    fn shl(self, a: Self::I, bits: u32) -> Self::I {
        a.map(|a| a << bits)
    }
    #[inline(always)]
    fn shr(self, a: Self::I, bits: u32) -> Self::I {
        a.map(|a| a >> bits)
    }
    #[inline(always)]
    fn sar(self, a: Self::I, bits: u32) -> Self::I {
        a.map(|a| (a as i32 >> bits) as u32)
    }
    #[inline(always)]
    fn to_f32(self, a: Self::I) -> Self::F {
        a.map(|a| a as i32 as f32)
    }
    #[inline(always)]
    fn bits(self, a: Self::F) -> Self::I {
        a.map(f32::to_bits)
    }
    #[inline(always)]
    fn float_of_bits(self, a: Self::I) -> Self::F {
        a.map(f32::from_bits)
    }
    #[inline(always)]
    fn lookup(self, table: Self::F, index: Self::I) -> Self::F {
        index.map(|it| table[(it & 15) as usize])
    }

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Self::F {
        unsafe { p.cast::<Self::F>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, a: Self::F) {
        unsafe { p.cast::<Self::F>().write_unaligned(a) }
    }
    #[inline(always)]
    unsafe fn load_words(self, p: *const u8) -> Self::I {
        unsafe { p.cast::<Self::I>().read_unaligned() }.map(u32::from_le)
    }
    #[inline(always)]
    unsafe fn load_f16(self, p: *const u8) -> Self::F {
        let bits = unsafe { p.cast::<[u16; LANES]>().read_unaligned() };
        bits.map(|it| half::f16::from_bits(u16::from_le(it)).to_f32_const())
    }
    #[inline(always)]
    unsafe fn load_bf16(self, p: *const u8) -> Self::F {
        let bits = unsafe { p.cast::<[u16; LANES]>().read_unaligned() };
        bits.map(|it| f32::from_bits(u32::from(u16::from_le(it)) << 16))
    }
    #[inline(always)]
    unsafe fn load_e4m3(self, p: *const u8) -> Self::F {
        let codes = unsafe { p.cast::<[i8; LANES]>().read_unaligned() };
        // The copy of the sign that lands in the exponent is cleared.
        codes.map(|it| half::f16::from_bits((i16::from(it) as u16) << 7 & !0x4000).to_f32_const())
    }
    #[inline(always)]
    unsafe fn load_e5m2(self, p: *const u8) -> Self::F {
        let codes = unsafe { p.cast::<[u8; LANES]>().read_unaligned() };
        codes.map(|it| half::f16::from_bits(u16::from(it) << 8).to_f32_const())
    }
    #[inline(always)]
    unsafe fn load_e8m0(self, p: *const u8) -> Self::F {
        let codes = unsafe { p.cast::<[u8; LANES]>().read_unaligned() };
        codes.map(|it| f32::from_bits(u32::from(it) << 23))
    }
    #[inline(always)]
    fn prefetch(self, _: *const u8) {}
}
