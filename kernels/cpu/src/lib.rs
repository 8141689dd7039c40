//! The kernels with which compiled models run on a CPU.
//!
//! Each kernel is one file, written once over sixteen lanes ([`simd`]) and compiled for three
//! instruction sets ([`Isa`]); which one runs is decided at run time. Activations are `f32`;
//! weights stay in their storage format, in the layout of [`pack`], and are decoded in registers
//! or in the first cache.
//!
//! # Calling a kernel
//!
//! [`Kernel::run`] takes its arguments as 64-bit words, in the order of [`Kernel::args`]: a
//! pointer, an extent or stride (strides count elements, not bytes), a flag (0 or 1), a [`DType`]
//! as its discriminant, or the bits of an `f64`. All threads of a step call it with the same words;
//! each does its share of the output elements. No sum is ever divided, so results are the same bits
//! for any number of threads.
//!
//! A kernel that names a `scratch` word wants there an area of [`Kernel::scratch_bytes`], aligned
//! to 64 bytes, that no other thread uses: the one word that differs from thread to thread. Kernels
//! allocate nothing.

mod attention;
mod conv1d;
mod exp;
mod format;
mod gather;
mod matmul;
mod norm;
pub mod pack;
mod simd;
mod softmax;
mod ssd;
mod tile;

pub use simd::LANES;

use ir::DType;
use simd::{Portable, Simd};
use std::ops::Range;
use std::sync::LazyLock;

const _: () = assert!(size_of::<usize>() == size_of::<u64>(), "argument words hold pointers");

/// An instruction set that kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// AVX-512 F; 512-bit vectors.
    Avx512,
    /// AVX2, FMA and F16C; 256-bit vectors.
    Avx2,
    /// Whatever the target has; plain Rust.
    Portable,
}

impl Isa {
    /// All, best first.
    pub const ALL: [Isa; 3] = [Isa::Avx512, Isa::Avx2, Isa::Portable];

    /// Whether this CPU has it.
    pub fn is_supported(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => is_x86_feature_detected!("avx512f") && Isa::Avx2.is_supported(),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Isa::Avx512 | Isa::Avx2 => false,
            Isa::Portable => true,
        }
    }
}

/// A compiled kernel: `args` points to its argument words.
pub type KernelFn = unsafe extern "C" fn(args: *const u64, thread: u64, threads: u64);

/// What generated code makes of the products of `matmul`, called with its own words.
pub type Tail = unsafe extern "C" fn(words: *const u64, tile: *const Tile);

/// The products that a [`Tail`] is called for: one of each part for each row and column. That of
/// part `i` is at `products + i * apart + row * stride + column`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Tile {
    /// The first row.
    pub row: usize,
    /// The row after the last.
    pub row_end: usize,
    /// The first column.
    pub column: usize,
    /// The column after the last.
    pub column_end: usize,
    /// Where row 0 and column 0 of part 0 would be.
    pub products: *const f32,
    /// Elements from a row to the next.
    pub stride: usize,
    /// Elements from a part to the next.
    pub apart: usize,
}

/// A kernel as generated code sees it.
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    /// What to call it by.
    pub name: &'static str,
    /// What each argument word is, in order; `matmul` takes more behind these.
    pub args: &'static [&'static str],
    scratch: fn(&[u64]) -> usize,
    /// Does the share of `thread` among `threads`.
    ///
    /// # Safety
    /// `args` points to as many words as [`Kernel::args`] names. Pointers are valid for the extents
    /// and strides given, aligned to their elements, and outputs and scratch overlap nothing else.
    /// Extents fit the format of packed weights. `thread < threads`, and no two calls run at once
    /// with the same `thread` and the same scratch.
    pub run: KernelFn,
}

impl Kernel {
    /// Bytes of scratch that each thread needs, a multiple of 64; pointers among `args` may be
    /// anything. `args` has a word for each of [`Kernel::args`].
    pub fn scratch_bytes(&self, args: &[u64]) -> usize {
        (self.scratch)(args)
    }
}

/// The kernels for the best instruction set of this CPU.
pub fn kernels() -> &'static [Kernel] {
    static BEST: LazyLock<Isa> = LazyLock::new(|| {
        Isa::ALL.into_iter().find(|it| it.is_supported()).unwrap_or(Isa::Portable)
    });
    table(*BEST)
}

/// The kernels for one instruction set; `None` if this CPU does not have it.
pub fn kernels_for(isa: Isa) -> Option<&'static [Kernel]> {
    isa.is_supported().then(|| table(isa))
}

fn table(isa: Isa) -> &'static [Kernel] {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => &const { all::<simd::Avx512>() },
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => &const { all::<simd::Avx2>() },
        #[cfg(not(target_arch = "x86_64"))]
        Isa::Avx512 | Isa::Avx2 => &const { all::<Portable>() },
        Isa::Portable => &const { all::<Portable>() },
    }
}

/// The list of kernels.
const fn all<S: Simd>() -> [Kernel; 9] {
    const fn kernel(
        name: &'static str,
        args: &'static [&'static str],
        scratch: fn(&[u64]) -> usize,
        run: KernelFn,
    ) -> Kernel {
        Kernel { name, args, scratch, run }
    }
    const NONE: fn(&[u64]) -> usize = |_| 0;
    [
        kernel("matmul", matmul::ARGS, matmul::scratch, matmul::run::<S>),
        kernel("gather", gather::ARGS, NONE, gather::run),
        kernel("rms_norm", norm::RMS_ARGS, NONE, norm::rms::<S>),
        kernel("add_norm", norm::ADD_ARGS, NONE, norm::add::<S>),
        kernel("layer_norm", norm::LAYER_ARGS, NONE, norm::layer::<S>),
        kernel("softmax", softmax::ARGS, NONE, softmax::run::<S>),
        kernel("attention", attention::ARGS, attention::scratch, attention::run::<S>),
        kernel("conv1d", conv1d::ARGS, NONE, conv1d::run::<S>),
        kernel("ssd", ssd::ARGS, ssd::scratch, ssd::run::<S>),
    ]
}

/// A thread's share of `items`: consecutive, and as even as can be.
fn share(items: usize, thread: u64, threads: u64) -> Range<usize> {
    let at = |thread: u64| (items as u128 * u128::from(thread) / u128::from(threads)) as usize;
    at(thread)..at(thread + 1)
}

/// The type that an argument word names.
fn dtype_of_word(word: u64) -> DType {
    DType::ALL[word as usize].0
}
