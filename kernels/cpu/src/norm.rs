//! Normalisation of rows: `rms_norm`, `add_norm` (of a sum, which is a result too) and
//! `layer_norm`.
//!
//! `rms_norm(x) = x / sqrt(mean(x^2) + eps) * weight`, where no weight is 1;
//! `layer_norm(x) = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias`, with `var` the mean square
//! of `x - mean(x)`.
#![expect(unsafe_code, reason = "operands are raw pointers given by the caller of a kernel")]

use crate::share;
use crate::simd::{LANES, Simd, Work};
use std::ops::Range;

pub(crate) const RMS_ARGS: &[&str] = &["y", "y_stride", "x", "x_stride", "weight", "m", "k", "eps"];
pub(crate) const ADD_ARGS: &[&str] = &["y", "sum", "a", "b", "weight", "m", "k", "eps"];
pub(crate) const LAYER_ARGS: &[&str] =
    &["y", "y_stride", "x", "x_stride", "weight", "bias", "m", "k", "eps"];

/// The argument words of `rms_norm`: see [`crate::Kernel`].
#[repr(C)]
#[derive(Clone, Copy)]
struct RmsArgs {
    y: *mut f32,
    y_stride: usize,
    x: *const f32,
    x_stride: usize,
    weight: *const f32,
    m: usize,
    k: usize,
    eps: f64,
}

/// The argument words of `add_norm`, all of dense rows: see [`crate::Kernel`]. A `sum` of null is
/// not asked for, and may else be `a` or `b`.
#[repr(C)]
#[derive(Clone, Copy)]
struct AddArgs {
    y: *mut f32,
    sum: *mut f32,
    a: *const f32,
    b: *const f32,
    weight: *const f32,
    m: usize,
    k: usize,
    eps: f64,
}

/// The argument words of `layer_norm`: see [`crate::Kernel`].
#[repr(C)]
#[derive(Clone, Copy)]
struct LayerArgs {
    y: *mut f32,
    y_stride: usize,
    x: *const f32,
    x_stride: usize,
    weight: *const f32,
    bias: *const f32,
    m: usize,
    k: usize,
    eps: f64,
}

/// # Safety
/// `args` points to the words that [`RMS_ARGS`] names; see [`crate::Kernel::run`].
pub(crate) unsafe extern "C" fn rms<S: Simd>(args: *const u64, thread: u64, threads: u64) {
    unsafe {
        let (s, a) = (S::assume(), *args.cast::<RmsArgs>());
        s.run(RmsRows { a, rows: share(a.m, thread, threads) });
    }
}

/// A thread's rows.
struct RmsRows {
    a: RmsArgs,
    rows: Range<usize>,
}

impl Work for RmsRows {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        for row in self.rows {
            unsafe { rms_row(s, &self.a, row) };
        }
    }
}

#[inline(always)]
unsafe fn rms_row<S: Simd>(s: S, a: &RmsArgs, row: usize) {
    let (x, y) = unsafe { (a.x.add(row * a.x_stride), a.y.add(row * a.y_stride)) };
    let square = unsafe { sum_of(s, a.k, |i| s.load(x.add(i)), |x| s.mul(x, x)) }
        + unsafe { tail(a.k).map(|i| *x.add(i) * *x.add(i)).sum::<f32>() };
    let scale = 1.0 / (square / a.k as f32 + a.eps as f32).sqrt();
    let is_weighted = !a.weight.is_null();
    unsafe {
        for i in whole(a.k) {
            let value = s.mul(s.load(x.add(i)), s.splat(scale));
            let weight = |value| s.mul(value, s.load(a.weight.add(i)));
            s.store(y.add(i), if is_weighted { weight(value) } else { value });
        }
        for i in tail(a.k) {
            let weight = if is_weighted { *a.weight.add(i) } else { 1.0 };
            *y.add(i) = *x.add(i) * scale * weight;
        }
    }
}

/// # Safety
/// `args` points to the words that [`ADD_ARGS`] names; see [`crate::Kernel::run`].
pub(crate) unsafe extern "C" fn add<S: Simd>(args: *const u64, thread: u64, threads: u64) {
    unsafe {
        let (s, a) = (S::assume(), *args.cast::<AddArgs>());
        s.run(AddRows { a, rows: share(a.m, thread, threads) });
    }
}

/// A thread's rows.
struct AddRows {
    a: AddArgs,
    rows: Range<usize>,
}

impl Work for AddRows {
    /// Adds a row, which then is in the nearest cache, and normalises it.
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let AddArgs { y, sum, a, b, weight, m, k, eps } = self.a;
        let x = if sum.is_null() { y } else { sum };
        let norm = RmsArgs { y, y_stride: k, x, x_stride: k, weight, m, k, eps };
        for row in self.rows {
            let at = row * k;
            unsafe {
                for i in whole(k).map(|i| at + i) {
                    s.store(x.add(i), s.add(s.load(a.add(i)), s.load(b.add(i))));
                }
                for i in tail(k).map(|i| at + i) {
                    *x.add(i) = *a.add(i) + *b.add(i);
                }
                rms_row(s, &norm, row);
            }
        }
    }
}

/// # Safety
/// `args` points to the words that [`LAYER_ARGS`] names; see [`crate::Kernel::run`].
pub(crate) unsafe extern "C" fn layer<S: Simd>(args: *const u64, thread: u64, threads: u64) {
    unsafe {
        let (s, a) = (S::assume(), *args.cast::<LayerArgs>());
        s.run(LayerRows { a, rows: share(a.m, thread, threads) });
    }
}

/// A thread's rows.
struct LayerRows {
    a: LayerArgs,
    rows: Range<usize>,
}

impl Work for LayerRows {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        for row in self.rows {
            unsafe { layer_row(s, &self.a, row) };
        }
    }
}

#[inline(always)]
unsafe fn layer_row<S: Simd>(s: S, a: &LayerArgs, row: usize) {
    let (x, y) = unsafe { (a.x.add(row * a.x_stride), a.y.add(row * a.y_stride)) };
    let load = |i| unsafe { s.load(x.add(i)) };
    let sum = sum_of(s, a.k, load, |x| x) + tail(a.k).map(|i| unsafe { *x.add(i) }).sum::<f32>();
    let mean = sum / a.k as f32;
    let centre = |x| s.sub(x, s.splat(mean));
    let off = |i| unsafe { *x.add(i) - mean };
    let square = sum_of(s, a.k, load, |x| s.mul(centre(x), centre(x)))
        + tail(a.k).map(|i| off(i) * off(i)).sum::<f32>();
    let scale = 1.0 / (square / a.k as f32 + a.eps as f32).sqrt();
    unsafe {
        for i in whole(a.k) {
            let value = s.mul(centre(load(i)), s.splat(scale));
            s.store(y.add(i), s.fma(value, s.load(a.weight.add(i)), s.load(a.bias.add(i))));
        }
        for i in tail(a.k) {
            *y.add(i) = off(i) * scale * *a.weight.add(i) + *a.bias.add(i);
        }
    }
}

/// The elements at which whole vectors begin.
fn whole(k: usize) -> impl Iterator<Item = usize> {
    (0..k / LANES).map(|i| i * LANES)
}

/// The elements after the last whole vector.
fn tail(k: usize) -> impl Iterator<Item = usize> {
    k / LANES * LANES..k
}

/// The sum of `f` over whole vectors.
#[inline(always)]
fn sum_of<S: Simd>(s: S, k: usize, load: impl Fn(usize) -> S::F, f: impl Fn(S::F) -> S::F) -> f32 {
    let mut sums = [s.splat(0.0); 4];
    for i in whole(k) {
        let sum = &mut sums[i / LANES % 4];
        *sum = s.add(*sum, f(load(i)));
    }
    s.sum(s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3])))
}
