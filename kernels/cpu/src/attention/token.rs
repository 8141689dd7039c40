//! Attention of one query a head: keys and values are streamed once.
//!
//! Lanes are elements of a head. Up to four query heads of a group share what is read.
#![expect(unsafe_code, reason = "operands are raw pointers given by the caller of a kernel")]
#![expect(
    clippy::needless_range_loop,
    reason = "iterators are closures, which might stay outside the function with the instructions"
)]

use super::{Args, KEYS, LEAST};
use crate::exp::exp;
use crate::format::Element;
use crate::share;
use crate::simd::{LANES, Simd, Work};
use std::marker::PhantomData;

/// Query heads that are taken together.
const TOGETHER: usize = 4;

/// Floats of scratch of a thread.
pub(super) fn scratch(pv: usize) -> usize {
    TOGETHER * (KEYS + pv)
}

/// # Safety
/// As for [`super::run`]; scratch is this thread's own.
pub(super) unsafe fn run<S: Simd, E: Element>(s: S, a: &Args, thread: u64, threads: u64) {
    let mine = share(a.heads * a.group, thread, threads);
    let mut at = mine.start;
    while at < mine.end {
        let (head, member) = (at / a.group, at % a.group);
        let count = TOGETHER.min(a.group - member).min(mine.end - at);
        unsafe {
            match count {
                1 => s.run(Token::<E, 1>::new(a, head, member)),
                2 => s.run(Token::<E, 2>::new(a, head, member)),
                3 => s.run(Token::<E, 3>::new(a, head, member)),
                _ => s.run(Token::<E, TOGETHER>::new(a, head, member)),
            }
        }
        at += count;
    }
}

/// `G` query heads from `member` on of the group of one key/value head.
struct Token<'a, E, const G: usize> {
    a: &'a Args,
    head: usize,
    member: usize,
    stored: PhantomData<E>,
}

impl<'a, E, const G: usize> Token<'a, E, G> {
    fn new(a: &'a Args, head: usize, member: usize) -> Self {
        Token { a, head, member, stored: PhantomData }
    }
}

/// The largest score and the sum of exponentials so far.
#[derive(Clone, Copy)]
struct Running {
    most: f32,
    total: f32,
}

impl<E: Element, const G: usize> Work for Token<'_, E, G> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let mut running = [Running { most: LEAST, total: 0.0 }; G];
        unsafe {
            self.result(0).write_bytes(0, G * self.a.pv);
            let keys = self.a.keys(0);
            for from in keys.clone().step_by(KEYS) {
                let count = KEYS.min(keys.end - from);
                self.scores(s, from, count);
                for (row, running) in running.iter_mut().enumerate() {
                    self.weigh(s, row, count, running);
                }
                self.add_values(s, from, count);
            }
            for (row, running) in running.iter().enumerate() {
                let scale = if running.total == 0.0 { 0.0 } else { 1.0 / running.total };
                let out = self.a.output(0, self.head, self.member + row);
                for c in 0..self.a.pv {
                    *out.add(c) = *self.result(row).add(c) * scale;
                }
            }
        }
    }
}

impl<E: Element, const G: usize> Token<'_, E, G> {
    unsafe fn score(&self, row: usize) -> *mut f32 {
        unsafe { self.a.scratch.add(row * KEYS) }
    }

    unsafe fn result(&self, row: usize) -> *mut f32 {
        unsafe { self.a.scratch.add(TOGETHER * KEYS + row * self.a.pv) }
    }

    #[inline(always)]
    unsafe fn scores<S: Simd>(&self, s: S, from: usize, count: usize) {
        let (p, scale) = (self.a.p, self.a.scale as f32);
        let whole = p / LANES * LANES;
        let mut rows = [self.a.q; G];
        for row in 0..G {
            rows[row] = unsafe { self.a.query(0, self.head, self.member + row) };
        }
        for j in 0..count {
            unsafe {
                let key = self.a.key::<E>(from + j, self.head);
                let mut sums = [s.splat(0.0); G];
                for c in (0..whole).step_by(LANES) {
                    let key = E::load(s, key.add(c * E::BYTES));
                    for row in 0..G {
                        sums[row] = s.fma(key, s.load(rows[row].add(c)), sums[row]);
                    }
                }
                for row in 0..G {
                    let rest: f32 =
                        (whole..p).map(|c| E::one(key.add(c * E::BYTES)) * *rows[row].add(c)).sum();
                    *self.score(row).add(j) = (s.sum(sums[row]) + rest) * scale;
                }
            }
        }
        for row in 0..G {
            for j in count..count.next_multiple_of(LANES) {
                unsafe { *self.score(row).add(j) = f32::NEG_INFINITY };
            }
        }
    }

    /// Turns scores into weights relative to the new maximum, and rescales what was summed before.
    #[inline(always)]
    unsafe fn weigh<S: Simd>(&self, s: S, row: usize, count: usize, running: &mut Running) {
        unsafe {
            let scores = self.score(row);
            let mut most = s.splat(running.most);
            for j in (0..count).step_by(LANES) {
                most = s.max(most, s.load(scores.add(j)));
            }
            let most = s.maximum(most);
            let mut total = s.splat(0.0);
            for j in (0..count).step_by(LANES) {
                let weight = exp(s, s.sub(s.load(scores.add(j)), s.splat(most)));
                total = s.add(total, weight);
                s.store(scores.add(j), weight);
            }
            let rescale = s.maximum(exp(s, s.splat(running.most - most)));
            *running = Running { most, total: running.total * rescale + s.sum(total) };
            for c in 0..self.a.pv {
                *self.result(row).add(c) *= rescale;
            }
        }
    }

    #[inline(always)]
    unsafe fn add_values<S: Simd>(&self, s: S, from: usize, count: usize) {
        let pv = self.a.pv;
        let whole = pv / LANES * LANES;
        unsafe {
            for c in (0..whole).step_by(LANES) {
                // One chain a row, so that sums do not depend on how many rows go together.
                let mut sums = [s.splat(0.0); G];
                let mut value = self.a.value::<E>(from, self.head).add(c * E::BYTES);
                for j in 0..count {
                    let lanes = E::load(s, value);
                    for row in 0..G {
                        sums[row] = s.fma(s.splat(*self.score(row).add(j)), lanes, sums[row]);
                    }
                    value = value.wrapping_add(self.a.v_stride * E::BYTES);
                }
                for row in 0..G {
                    let p = self.result(row).add(c);
                    s.store(p, s.add(s.load(p), sums[row]));
                }
            }
            for c in whole..pv {
                for row in 0..G {
                    let products = (0..count).map(|j| {
                        let value = self.a.value::<E>(from + j, self.head).add(c * E::BYTES);
                        *self.score(row).add(j) * E::one(value)
                    });
                    *self.result(row).add(c) += products.sum::<f32>();
                }
            }
        }
    }
}
