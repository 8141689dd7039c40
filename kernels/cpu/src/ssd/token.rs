//! The recurrence as it stands, for a few positions: the state is read and written once.
//!
//! Lanes are elements of a row of the state. Rows are independent of each other.
#![expect(unsafe_code, reason = "operands are raw pointers given by the caller of a kernel")]
#![expect(
    clippy::needless_range_loop,
    reason = "iterators are closures, which might stay outside the function with the instructions"
)]

use super::Args;
use crate::exp::exp;
use crate::share;
use crate::simd::{LANES, Simd, Work};
use std::ops::Range;

/// Rows that share what is read of `b` and `c`.
const TOGETHER: usize = 4;

/// # Safety
/// As for [`super::run`].
pub(super) unsafe fn run<S: Simd>(s: S, a: &Args, thread: u64, threads: u64) {
    let mine = share(a.groups * a.heads * a.d, thread, threads);
    let mut at = mine.start;
    while at < mine.end {
        let head = at / a.d;
        let end = mine.end.min((head + 1) * a.d);
        for from in (0..a.s).step_by(LANES) {
            let positions = from..(from + LANES).min(a.s);
            unsafe { s.run(Rows { a, head, rows: at..end, positions }) };
        }
        at = end;
    }
}

/// Rows of the state of one head, for at most [`LANES`] positions. They are counted through all
/// heads.
struct Rows<'a> {
    a: &'a Args,
    head: usize,
    rows: Range<usize>,
    positions: Range<usize>,
}

impl Work for Rows<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let mut dt = [0.0; LANES];
        for (dt, position) in dt.iter_mut().zip(self.positions.clone()) {
            *dt = unsafe { self.a.dt(position, self.head) };
        }
        let mut decay = [0.0; LANES];
        unsafe {
            let a = s.splat(*self.a.a.add(self.head));
            s.store(decay.as_mut_ptr(), exp(s, s.mul(s.load(dt.as_ptr()), a)));
        }
        let mut row = self.rows.start;
        while row < self.rows.end {
            let together = row + TOGETHER <= self.rows.end;
            for (at, position) in self.positions.clone().enumerate() {
                unsafe {
                    if together {
                        self.step::<S, TOGETHER>(s, row, position, dt[at], decay[at]);
                    } else {
                        self.step::<S, 1>(s, row, position, dt[at], decay[at]);
                    }
                }
            }
            row += if together { TOGETHER } else { 1 };
        }
    }
}

impl Rows<'_> {
    /// One position of `G` rows.
    #[inline(always)]
    unsafe fn step<S: Simd, const G: usize>(
        &self,
        s: S,
        row: usize,
        position: usize,
        dt: f32,
        decay: f32,
    ) {
        let (a, shared) = (self.a, self.a.shared(position, self.head / self.a.heads));
        let whole = a.n / LANES * LANES;
        unsafe {
            let (b, c, state) = (a.b.add(shared), a.c.add(shared), a.state.add(row * a.n));
            let own = a.own(position, 0) + row;
            let (mut x, mut sums) = ([0.0; G], [s.splat(0.0); G]);
            for i in 0..G {
                x[i] = *a.x.add(own + i) * dt;
            }
            for at in (0..whole).step_by(LANES) {
                let (b, c) = (s.load(b.add(at)), s.load(c.add(at)));
                for i in 0..G {
                    let p = state.add(i * a.n + at);
                    let new = s.fma(s.splat(x[i]), b, s.mul(s.load(p), s.splat(decay)));
                    s.store(p, new);
                    sums[i] = s.fma(new, c, sums[i]);
                }
            }
            for i in 0..G {
                let mut sum = s.sum(sums[i]);
                for at in whole..a.n {
                    let p = state.add(i * a.n + at);
                    *p = *p * decay + x[i] * *b.add(at);
                    sum += *p * *c.add(at);
                }
                *a.y.add(own + i) = sum;
            }
        }
    }
}
