//! Sixteen `f32` lanes, the unit in which every kernel is written, on three instruction sets.
//!
//! A kernel is one function generic over [`Simd`]. The value of a `Simd` type is a proof that this
//! CPU has the instructions, so arithmetic on lanes is safe; only touching memory is not.
//! All methods are inlined into the function that [`Simd::run`] compiles for the instruction set.
#![expect(unsafe_code, reason = "lanes are read from and written to raw pointers")]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
pub(crate) use portable::Portable;

/// Lanes of a vector, and rows of a panel of packed weights.
pub const LANES: usize = 16;

/// What is compiled for an instruction set as one function.
///
/// It is a trait and not a closure because a closure cannot be forced into that function, and
/// what stays outside does not have the instructions. Implementations are `#[inline(always)]`, and
/// so is what they call.
pub(crate) trait Work {
    /// # Safety
    /// The pointers it holds are valid for its extents.
    unsafe fn run<S: Simd>(self, s: S);
}

/// Operations on sixteen lanes.
pub(crate) trait Simd: Copy {
    /// Sixteen `f32`.
    type F: Copy;
    /// Sixteen 32-bit words.
    type I: Copy;
    /// Rows of the register tile of matrix products, at most 8.
    const ROWS: usize;
    /// Panels that the register tile spans, at most 3.
    const PANELS: usize;

    /// # Safety
    /// The CPU has the instruction set.
    unsafe fn assume() -> Self;
    /// Runs `work` in a function of its own that is compiled for the instruction set.
    ///
    /// # Safety
    /// As [`Work::run`] says.
    unsafe fn run(self, work: impl Work);

    fn splat(self, x: f32) -> Self::F;
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`; rounded once where the CPU can.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// `then` in the lanes where `a < b`, elsewhere `otherwise`.
    fn if_less(self, a: Self::F, b: Self::F, then: Self::F, otherwise: Self::F) -> Self::F;
    fn sum(self, a: Self::F) -> f32;
    fn maximum(self, a: Self::F) -> f32;

    fn and(self, a: Self::I, mask: u32) -> Self::I;
    fn or(self, a: Self::I, b: Self::I) -> Self::I;
    fn wrapping_add(self, a: Self::I, b: Self::I) -> Self::I;
    fn shl(self, a: Self::I, bits: u32) -> Self::I;
    /// Logical shift.
    fn shr(self, a: Self::I, bits: u32) -> Self::I;
    /// Arithmetic shift.
    fn sar(self, a: Self::I, bits: u32) -> Self::I;
    /// The values of signed words.
    fn to_f32(self, a: Self::I) -> Self::F;
    fn bits(self, a: Self::F) -> Self::I;
    fn float_of_bits(self, a: Self::I) -> Self::F;
    /// For each lane, the lane of `table` that the lower four bits of `index` name.
    fn lookup(self, table: Self::F, index: Self::I) -> Self::F;

    /// # Safety
    /// 64 bytes can be read at `p`, of any alignment.
    unsafe fn load(self, p: *const f32) -> Self::F;
    /// # Safety
    /// 64 bytes can be written at `p`, of any alignment.
    unsafe fn store(self, p: *mut f32, a: Self::F);
    /// # Safety
    /// 64 bytes can be read at `p`, of any alignment.
    unsafe fn load_words(self, p: *const u8) -> Self::I;
    /// # Safety
    /// 32 bytes can be read at `p`, of any alignment.
    unsafe fn load_f16(self, p: *const u8) -> Self::F;
    /// # Safety
    /// 32 bytes can be read at `p`, of any alignment.
    unsafe fn load_bf16(self, p: *const u8) -> Self::F;
    /// 2^-8 of the numbers of sixteen E4M3 codes that stand for numbers.
    ///
    /// # Safety
    /// 16 bytes can be read at `p`, of any alignment.
    unsafe fn load_e4m3(self, p: *const u8) -> Self::F;
    /// # Safety
    /// 16 bytes can be read at `p`, of any alignment.
    unsafe fn load_e5m2(self, p: *const u8) -> Self::F;
    /// Powers of two; code 0 gives 0.
    ///
    /// # Safety
    /// 16 bytes can be read at `p`, of any alignment.
    unsafe fn load_e8m0(self, p: *const u8) -> Self::F;
    /// Asks for the cache line at `p`, which need not be readable.
    fn prefetch(self, p: *const u8);
}
