//! `out[n]`, of `f16` or `bf16`, is `in[n]` rounded to the nearest, ties to even: for caches that
//! are kept in half the space.
#![expect(unsafe_code, reason = "operands are raw pointers given by the caller of a kernel")]

use crate::share;
use crate::simd::{LANES, Simd, Work};
use std::ops::Range;

pub(crate) const ARGS: &[&str] = &["out", "in", "n", "half"];

/// The argument words: see [`crate::Kernel`]. `half` is 1 for `f16` and 2 for `bf16`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Args {
    out: *mut u16,
    from: *const f32,
    n: usize,
    half: u64,
}

/// # Safety
/// `args` points to the words that [`ARGS`] names; see [`crate::Kernel::run`].
pub(crate) unsafe extern "C" fn run<S: Simd>(args: *const u64, thread: u64, threads: u64) {
    unsafe {
        let (s, a) = (S::assume(), *args.cast::<Args>());
        s.run(Vectors { a, vectors: share(a.n.div_ceil(LANES), thread, threads) });
    }
}

/// A thread's vectors, of which the last may be ragged.
struct Vectors {
    a: Args,
    vectors: Range<usize>,
}

impl Work for Vectors {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        for at in self.vectors.map(|it| it * LANES) {
            let count = LANES.min(self.a.n - at);
            unsafe {
                let (from, out) = (self.a.from.add(at), self.a.out.add(at));
                if count == LANES {
                    self.a.narrow(s, from, out);
                } else {
                    let (mut lanes, mut halves) = ([0.0; LANES], [0; LANES]);
                    lanes.as_mut_ptr().copy_from_nonoverlapping(from, count);
                    self.a.narrow(s, lanes.as_ptr(), halves.as_mut_ptr());
                    out.copy_from_nonoverlapping(halves.as_ptr(), count);
                }
            }
        }
    }
}

impl Args {
    /// # Safety
    /// Sixteen elements can be read and written.
    #[inline(always)]
    unsafe fn narrow<S: Simd>(&self, s: S, from: *const f32, out: *mut u16) {
        unsafe {
            let x = s.load(from);
            if self.half == 1 {
                s.store_f16(out.cast(), x);
            } else {
                s.store_upper(out.cast(), s.bits(rounded(s, x)));
            }
        }
    }
}

/// The nearest numbers whose lower halves are zero, apart from the bits there.
#[inline(always)]
fn rounded<S: Simd>(s: S, x: S::F) -> S::F {
    let word = |bits: u32| s.bits(s.splat(f32::from_bits(bits)));
    let bits = s.bits(x);
    let odd = s.and(s.shr(bits, 16), 1);
    let finite = s.float_of_bits(s.wrapping_add(bits, s.wrapping_add(odd, word(0x7FFF))));
    // What is no number stays none when its lower half is gone.
    let quiet = s.float_of_bits(s.or(bits, word(0x0040_0000)));
    let infinity = s.splat(f32::INFINITY);
    s.if_less(x, infinity, finite, s.if_less(s.splat(0.0), x, infinity, quiet))
}
