//! `y = exp(x - max x) / sum(exp(x - max x))` along rows.
#![expect(unsafe_code, reason = "operands are raw pointers given by the caller of a kernel")]

use crate::exp::exp;
use crate::share;
use crate::simd::{LANES, Simd, Work};
use std::ops::Range;

pub(crate) const ARGS: &[&str] = &["y", "y_stride", "x", "x_stride", "m", "k"];

/// The argument words: see [`crate::Kernel`]. `y` may be `x`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Args {
    y: *mut f32,
    y_stride: usize,
    x: *const f32,
    x_stride: usize,
    m: usize,
    k: usize,
}

/// # Safety
/// `args` points to the words that [`ARGS`] names; see [`crate::Kernel::run`].
pub(crate) unsafe extern "C" fn run<S: Simd>(args: *const u64, thread: u64, threads: u64) {
    unsafe {
        let (s, a) = (S::assume(), *args.cast::<Args>());
        s.run(Rows { a, rows: share(a.m, thread, threads) });
    }
}

/// A thread's rows.
struct Rows {
    a: Args,
    rows: Range<usize>,
}

impl Work for Rows {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let a = self.a;
        for row in self.rows {
            unsafe { softmax_row(s, a.x.add(row * a.x_stride), a.y.add(row * a.y_stride), a.k) };
        }
    }
}

#[inline(always)]
unsafe fn softmax_row<S: Simd>(s: S, x: *const f32, y: *mut f32, k: usize) {
    let mut most = s.splat(f32::NEG_INFINITY);
    for i in (0..k).step_by(LANES) {
        most = s.max(most, unsafe { load(s, x, i, k) });
    }
    let most = s.splat(s.maximum(most));
    let mut total = s.splat(0.0);
    for i in (0..k).step_by(LANES) {
        unsafe {
            let e = exp(s, s.sub(load(s, x, i, k), most));
            total = s.add(total, e);
            store(s, y, i, k, e);
        }
    }
    let scale = s.splat(1.0 / s.sum(total));
    for i in (0..k).step_by(LANES) {
        unsafe { store(s, y, i, k, s.mul(load(s, y, i, k), scale)) };
    }
}

/// Elements `i..` of a row of `k`; beyond its end the lanes are `-inf`.
#[inline(always)]
unsafe fn load<S: Simd>(s: S, row: *const f32, i: usize, k: usize) -> S::F {
    if i + LANES <= k {
        return unsafe { s.load(row.add(i)) };
    }
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for (lane, at) in lanes.iter_mut().zip(i..k) {
        *lane = unsafe { *row.add(at) };
    }
    unsafe { s.load(lanes.as_ptr()) }
}

/// Writes those lanes of elements `i..` that a row of `k` has.
#[inline(always)]
unsafe fn store<S: Simd>(s: S, row: *mut f32, i: usize, k: usize, value: S::F) {
    if i + LANES <= k {
        return unsafe { s.store(row.add(i), value) };
    }
    let mut lanes = [0.0; LANES];
    unsafe { s.store(lanes.as_mut_ptr(), value) };
    for (lane, at) in lanes.iter().zip(i..k) {
        unsafe { *row.add(at) = *lane };
    }
}
