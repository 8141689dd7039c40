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
/// `w[c, width]`, `b[c]`, `state[width, c]`, which is read and written. `width` is not 0.
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
const CHANNELS: usize = 32 * LANES;
/// Weights of a channel that are taken in one pass over the rows, while there are as many.
const TAPS: usize = 4;
/// Rows from the one that is read to the one that is asked for.
const AHEAD: usize = 2;

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
        let several = self.a.width / TAPS * TAPS;
        unsafe {
            for first in (0..several).step_by(TAPS) {
                self.pass::<S, TAPS>(s, first);
            }
            for first in several..self.a.width {
                self.pass::<S, 1>(s, first);
            }
            self.keep();
        }
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

    /// Adds the products with weights `first..first + T` to all rows.
    #[inline(always)]
    unsafe fn pass<S: Simd, const T: usize>(&self, s: S, first: usize) {
        let mut taps = [[0.0; CHANNELS]; T];
        for at in 0..self.channels.len() {
            let w = unsafe { self.a.w.add((self.channels.start + at) * self.a.width + first) };
            for tap in 0..T {
                taps[tap][at] = unsafe { *w.add(tap) };
            }
        }
        for row in 0..self.a.s {
            unsafe { self.add_row(s, row, first, &taps) };
        }
    }

    /// Adds the products with weights from `first` on to a row of outputs, which begins as the
    /// bias.
    #[inline(always)]
    unsafe fn add_row<S: Simd, const T: usize>(
        &self,
        s: S,
        row: usize,
        first: usize,
        taps: &[[f32; CHANNELS]; T],
    ) {
        let y = unsafe { self.a.y.add(row * self.a.c + self.channels.start) };
        let bias = unsafe { self.a.b.add(self.channels.start) };
        let before = if first == 0 { bias } else { y.cast_const() };
        let mut inputs = [before; T];
        for tap in 0..T {
            inputs[tap] = unsafe { self.input(row + 1 + first + tap) };
        }
        let whole = self.channels.len() / LANES * LANES;
        for at in (0..whole).step_by(LANES) {
            unsafe {
                let mut sum = s.load(before.add(at));
                for tap in 0..T {
                    let (x, w) = (inputs[tap].add(at), taps[tap].as_ptr().add(at));
                    sum = s.fma(s.load(x), s.load(w), sum);
                }
                s.store(y.add(at), sum);
                let ahead = AHEAD * self.a.c + at;
                s.prefetch(inputs[T - 1].wrapping_add(ahead).cast());
                s.prefetch(y.wrapping_add(ahead).cast());
            }
        }
        for at in whole..self.channels.len() {
            let products = (0..T).map(|tap| unsafe { *inputs[tap].add(at) * taps[tap][at] });
            unsafe { *y.add(at) = *before.add(at) + products.sum::<f32>() };
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
