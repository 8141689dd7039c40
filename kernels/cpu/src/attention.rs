//! Softmax attention over a cache: `out = softmax(q k^T * scale) v`, query heads in groups that
//! share a key/value head.
//!
//! `q[s, heads, group, p]`, `k[t, heads, p]`, `v[t, heads, pv]`, `out[s, heads, group, pv]`, where
//! a row of `q` and of `out` is contiguous, and so is a head of a row of `k` and `v`. Query `i`
//! stands at position `t - s + i`, key `j` at `j`. Causal: keys after the query are not seen.
//! Window `w` (0: none): keys at `w` or more positions before it are not seen. A query that sees no
//! key gives zeros.
//!
//! Keys are taken in tiles, with a running maximum and sum for each query (Milakov and Gimelshein
//! 2018, Dao et al. 2022), so that scratch does not grow with `t`. They may be stored as `f16` or
//! `bf16`; all arithmetic is in `f32`.
#![expect(unsafe_code, reason = "operands are raw pointers given by the caller of a kernel")]

mod prompt;
mod token;

use crate::format::{Bf16, Element, F16, F32};
use crate::simd::Simd;
use std::ops::Range;

pub(crate) const ARGS: &[&str] = &[
    "out",
    "out_stride",
    "q",
    "q_stride",
    "k",
    "k_stride",
    "k_head_stride",
    "v",
    "v_stride",
    "v_head_stride",
    "s",
    "t",
    "heads",
    "group",
    "p",
    "pv",
    "scale",
    "causal",
    "window",
    "stored",
    "scratch",
];

/// The argument words: see [`crate::Kernel`]. Strides count elements; `scale` is an `f64`; `stored`
/// is the type of `k` and `v`: 0 for `f32`, 1 for `f16`, 2 for `bf16`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Args {
    out: *mut f32,
    out_stride: usize,
    q: *const f32,
    q_stride: usize,
    k: *const u8,
    k_stride: usize,
    k_head_stride: usize,
    v: *const u8,
    v_stride: usize,
    v_head_stride: usize,
    s: usize,
    t: usize,
    heads: usize,
    group: usize,
    p: usize,
    pv: usize,
    scale: f64,
    causal: u64,
    window: usize,
    stored: u64,
    scratch: *mut f32,
}

/// Keys of a tile: these of one head, and their values, fit the second cache.
const KEYS: usize = 128;

/// What the running maximum begins with: below every score, and finite so that differences are.
const LEAST: f32 = -1e30;

impl Args {
    /// The keys that query `i` sees.
    fn keys(&self, i: usize) -> Range<usize> {
        let past = (self.t + i + 1).saturating_sub(self.s);
        let end = match (self.causal, self.window) {
            (0, 0) => self.t,
            (0, window) => (past + window).saturating_sub(1).min(self.t),
            (_, _) => past,
        };
        let start = if self.window == 0 { 0 } else { past.saturating_sub(self.window) };
        start.min(end)..end
    }

    /// # Safety
    /// The query exists.
    unsafe fn query(&self, i: usize, head: usize, member: usize) -> *const f32 {
        unsafe { self.q.add(i * self.q_stride + (head * self.group + member) * self.p) }
    }

    /// # Safety
    /// The query exists.
    unsafe fn output(&self, i: usize, head: usize, member: usize) -> *mut f32 {
        unsafe { self.out.add(i * self.out_stride + (head * self.group + member) * self.pv) }
    }

    /// # Safety
    /// The key exists, and is an `E`.
    unsafe fn key<E: Element>(&self, j: usize, head: usize) -> *const u8 {
        unsafe { self.k.add((j * self.k_stride + head * self.k_head_stride) * E::BYTES) }
    }

    /// # Safety
    /// The value exists, and is an `E`.
    unsafe fn value<E: Element>(&self, j: usize, head: usize) -> *const u8 {
        unsafe { self.v.add((j * self.v_stride + head * self.v_head_stride) * E::BYTES) }
    }
}

/// Bytes of scratch of a thread.
pub(crate) fn scratch(args: &[u64]) -> usize {
    let [group, p, pv] = [13, 14, 15].map(|at| args[at] as usize);
    let floats = prompt::scratch(group, p, pv).max(token::scratch(pv));
    (floats * size_of::<f32>()).next_multiple_of(64)
}

/// # Safety
/// `args` points to the words that [`ARGS`] names; see [`crate::Kernel::run`].
pub(crate) unsafe extern "C" fn run<S: Simd>(args: *const u64, thread: u64, threads: u64) {
    let (s, a) = unsafe { (S::assume(), *args.cast::<Args>()) };
    unsafe {
        match a.stored {
            0 => run_stored::<S, F32>(s, &a, thread, threads),
            1 => run_stored::<S, F16>(s, &a, thread, threads),
            _ => run_stored::<S, Bf16>(s, &a, thread, threads),
        }
    }
}

unsafe fn run_stored<S: Simd, E: Element>(s: S, a: &Args, thread: u64, threads: u64) {
    unsafe {
        if a.s == 1 {
            token::run::<S, E>(s, a, thread, threads);
        } else {
            prompt::run::<S, E>(s, a, thread, threads);
        }
    }
}
