//! Causal convolution of each channel along the sequence, with its window as state.
//!
//! `y[s, c] = b[c] + sum over i < W of w[c, i] * in(s - (W - 1) + i, c)`, where `in` is `x`, and
//! before it the `state[W, c]` that the previous step left: its last `W` inputs, the newest last.
//! At the beginning of a sequence the state is zeros.
#![expect(unsafe_code, reason = "operands are raw pointers given by the caller of a kernel")]
#![expect(
    clippy::needless_range_loop,
    reason = "iterators are closures, which might stay outside the function with the instructions"
)]

use crate::share;
use crate::simd::{LANES, Simd, Work};
use std::ops::Range;

pub(crate) const ARGS: &[&str] = &["y", "x", "w", "b", "state", "s", "c", "width"];

/// The argument words: see [`crate::Kernel`]. All are contiguous: `y[s, c]`, `x[s, c]`,
/// `w[c, width]`, `b[c]`, `state[width, c]`, which is read and written.
#[repr(C)]
#[derive(Clone, Copy)]
struct Args {
    y: *mut f32,
    x: *const f32,
    w: *const f32,
    b: *const f32,
    state: *mut f32,
    s: usize,
    c: usize,
    width: usize,
}

/// Channels whose weights are transposed at a time, so that lanes are channels.
const CHANNELS: usize = 8 * LANES;
/// Weights of a channel that are taken in one pass over the rows: windows are rarely wider.
const TAPS: usize = 8;

/// # Safety
/// `args` points to the words that [`ARGS`] names; see [`crate::Kernel::run`].
pub(crate) unsafe extern "C" fn run<S: Simd>(args: *const u64, thread: u64, threads: u64) {
    let (s, a) = unsafe { (S::assume(), *args.cast::<Args>()) };
    let vectors = share(a.c.div_ceil(LANES), thread, threads);
    let mine = vectors.start * LANES..(vectors.end * LANES).min(a.c);
    for from in mine.clone().step_by(CHANNELS) {
        let channels = from..(from + CHANNELS).min(mine.end);
        unsafe { s.run(Channels { a, channels }) };
    }
}

/// At most [`CHANNELS`] channels.
struct Channels {
    a: Args,
    channels: Range<usize>,
}

impl Work for Channels {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        for first in (0..self.a.width.max(1)).step_by(TAPS) {
            let count = TAPS.min(self.a.width - first);
            unsafe {
                let taps = self.transposed(first, count);
                for row in 0..self.a.s {
                    self.add_row(s, row, first, &taps[..count]);
                }
            }
        }
        unsafe { self.keep() };
    }
}

impl Channels {
    /// Row `at` of the inputs, those of the state first.
    unsafe fn input(&self, at: usize) -> *const f32 {
        let a = self.a;
        let (inputs, row) =
            if at < a.width { (a.state.cast_const(), at) } else { (a.x, at - a.width) };
        unsafe { inputs.add(row * a.c + self.channels.start) }
    }

    /// Weights `first..first + count` of all channels.
    #[inline(always)]
    unsafe fn transposed(&self, first: usize, count: usize) -> [[f32; CHANNELS]; TAPS] {
        let mut taps = [[0.0; CHANNELS]; TAPS];
        for at in 0..self.channels.len() {
            let w = unsafe { self.a.w.add((self.channels.start + at) * self.a.width + first) };
            for tap in 0..count {
                taps[tap][at] = unsafe { *w.add(tap) };
            }
        }
        taps
    }

    /// Adds the products with some weights, from `first` on, to a row of outputs, which begins as
    /// the bias.
    #[inline(always)]
    unsafe fn add_row<S: Simd>(&self, s: S, row: usize, first: usize, taps: &[[f32; CHANNELS]]) {
        let y = unsafe { self.a.y.add(row * self.a.c + self.channels.start) };
        let bias = unsafe { self.a.b.add(self.channels.start) };
        let before = if first == 0 { bias } else { y.cast_const() };
        let mut inputs = [before; TAPS];
        for tap in 0..taps.len() {
            inputs[tap] = unsafe { self.input(row + 1 + first + tap) };
        }
        let whole = self.channels.len() / LANES * LANES;
        for at in (0..whole).step_by(LANES) {
            unsafe {
                let mut sum = s.load(before.add(at));
                for tap in 0..taps.len() {
                    let w = s.load(taps[tap].as_ptr().add(at));
                    sum = s.fma(s.load(inputs[tap].add(at)), w, sum);
                }
                s.store(y.add(at), sum);
            }
        }
        for at in whole..self.channels.len() {
            unsafe {
                let products = (0..taps.len()).map(|tap| *inputs[tap].add(at) * taps[tap][at]);
                *y.add(at) = *before.add(at) + products.sum::<f32>();
            }
        }
    }

    /// Makes the last inputs the state; what stays moves towards its front.
    unsafe fn keep(&self) {
        for slot in 0..self.a.width {
            unsafe {
                let to = self.a.state.add(slot * self.a.c + self.channels.start);
                to.copy_from(self.input(self.a.s + slot), self.channels.len());
            }
        }
    }
}
