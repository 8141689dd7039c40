//! The recurrence over many positions as matrix products, a chunk of positions at a time (the
//! "state space duality" of Dao and Gu 2024).
//!
//! In a chunk, with `D[i, j]` the product of the decays `exp(dt a)` of positions `j + 1..=i`,
//!
//! ```text
//! y[i]  = D[i, before] * (state c[i]) + sum over j <= i of D[i, j] * (b[j] . c[i]) * (x[j] dt[j])
//! state = D[last, before] * state     + sum over j of D[last, j] * (x[j] dt[j]) b[j]^T
//! ```
//!
//! No decay is above 1, so neither are their products: nothing is divided, and nothing overflows
//! that does not in the recurrence. Lanes are positions, and elements of a row of the state where
//! that is updated, so the state stays where it is. What is of `b` and `c` alone is done once for
//! all heads of a group.
#![expect(unsafe_code, reason = "operands are raw pointers given by the caller of a kernel")]

use super::Args;
use crate::exp::exp;
use crate::share;
use crate::simd::{LANES, Simd, Work};
use crate::tile::{Left, Out, Product, Right};
use std::ops::Range;

/// Positions of a chunk: the work inside it grows with its length, the passes over the state with
/// the number of chunks.
const CHUNK: usize = 64;

/// Positions from which this is faster than the recurrence. With rows of 128 and heads of 80, and
/// AVX2 at 3.2 GHz, a position of a head takes 0.65 us here with one group and 0.79 us with eight
/// (70 and 59 % of the multiply-adds that there can be), and 1.15 us there with one, whatever the
/// number of positions; this needs multiples of sixteen.
const LEAST: usize = 8;

/// Whether this is faster than the recurrence, and can be done: rows of the state are vectors.
pub(super) fn is_faster(s: usize, n: usize) -> bool {
    LEAST <= s && n.is_multiple_of(LANES)
}

/// Floats of scratch of a thread.
pub(super) fn scratch(d: usize, n: usize) -> usize {
    CHUNK * (2 * n + CHUNK + d + LANES + 2) + d * LANES
}

/// # Safety
/// As for [`super::run`]; scratch is this thread's own.
pub(super) unsafe fn run<S: Simd>(s: S, a: &Args, thread: u64, threads: u64) {
    let mine = share(a.groups * a.heads, thread, threads);
    let mut at = mine.start;
    while at < mine.end {
        let group = at / a.heads;
        let heads = at..mine.end.min((group + 1) * a.heads);
        at = heads.end;
        for from in (0..a.s).step_by(CHUNK) {
            let (heads, count) = (heads.clone(), CHUNK.min(a.s - from));
            unsafe { s.run(Chunk { a, group, heads, from, count, room: Room::new(a) }) };
        }
    }
}

/// What a thread keeps in scratch.
#[derive(Clone, Copy)]
struct Room {
    /// `c` of the chunk, `[CHUNK / 16][n][16]`.
    c: *mut f32,
    /// `b` of the chunk, `[n / 16][CHUNK][16]`.
    b: *mut f32,
    /// `b[j] . c[i]` as `[panel of i][j][16]`.
    products: *mut f32,
    /// `x dt` of a head, `[d][CHUNK]`.
    x: *mut f32,
    /// Outputs of a head for a panel of positions, `[d][16]`.
    y: *mut f32,
    /// `products` times decays, for one panel.
    weights: *mut f32,
    /// The decay of each position, `[CHUNK]`.
    decay: *mut f32,
    /// The decay from each position to the last, `[CHUNK]`.
    rest: *mut f32,
}

impl Room {
    unsafe fn new(a: &Args) -> Room {
        unsafe {
            let c = a.scratch;
            let b = c.add(CHUNK * a.n);
            let products = b.add(CHUNK * a.n);
            let x = products.add(CHUNK * CHUNK);
            let y = x.add(CHUNK * a.d);
            let weights = y.add(LANES * a.d);
            let decay = weights.add(CHUNK * LANES);
            Room { c, b, products, x, y, weights, decay, rest: decay.add(CHUNK) }
        }
    }

    /// `c` of a panel of positions.
    unsafe fn c(&self, a: &Args, panel: usize) -> Right {
        Right { first: unsafe { self.c.add(panel * a.n * LANES) }, panel_stride: 0 }
    }
}

/// `count` positions from `from` on, for some heads of a group. Heads are counted through all
/// groups.
struct Chunk<'a> {
    a: &'a Args,
    group: usize,
    heads: Range<usize>,
    from: usize,
    count: usize,
    room: Room,
}

impl Work for Chunk<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        unsafe {
            self.arrange(s);
            for panel in 0..self.count.div_ceil(LANES) {
                self.multiply(s, panel);
            }
            for head in self.heads.clone() {
                self.decays(s, head);
                self.inputs(head);
                for panel in 0..self.count.div_ceil(LANES) {
                    self.outputs(s, head, panel);
                }
                self.update(s, head);
            }
        }
    }
}

impl Chunk<'_> {
    /// Positions up to the end of a panel.
    fn past(&self, panel: usize) -> usize {
        self.count.min((panel + 1) * LANES)
    }

    /// Puts `b` and `c` of the group into panels; lanes after the last position are zeros.
    #[inline(always)]
    unsafe fn arrange<S: Simd>(&self, s: S) {
        let (a, room) = (self.a, self.room);
        unsafe {
            for i in 0..self.count {
                let b = a.b.add(a.shared(self.from + i, self.group));
                for at in 0..a.n / LANES {
                    s.store(room.b.add((at * CHUNK + i) * LANES), s.load(b.add(at * LANES)));
                }
            }
            for i in 0..self.count.next_multiple_of(LANES) {
                let out = room.c.add(i / LANES * a.n * LANES + i % LANES);
                let c = a.c.wrapping_add(a.shared(self.from + i, self.group));
                for at in 0..a.n {
                    *out.add(at * LANES) = if i < self.count { *c.add(at) } else { 0.0 };
                }
            }
        }
    }

    /// The products of `b` of all positions up to a panel's end with `c` of the panel.
    #[inline(always)]
    unsafe fn multiply<S: Simd>(&self, s: S, panel: usize) {
        let (a, room) = (self.a, self.room);
        unsafe {
            let first = a.b.add(a.shared(self.from, self.group));
            let left = Left { first, row_stride: a.groups * a.n, step: 1 };
            let first = room.products.add(panel * CHUNK * LANES);
            let (right, out) = (room.c(a, panel), Out { first, stride: LANES, add: false });
            s.run(Product::<1> { rows: self.past(panel), left, right, k: a.n, out });
        }
    }

    /// The decays of a head, of each position and from it to the last.
    #[inline(always)]
    unsafe fn decays<S: Simd>(&self, s: S, head: usize) {
        let (a, room) = (self.a, self.room);
        unsafe {
            for i in 0..self.count {
                *room.decay.add(i) = a.dt(self.from + i, head) * *a.a.add(head);
            }
            for i in (0..self.count).step_by(LANES) {
                s.store(room.decay.add(i), exp(s, s.load(room.decay.add(i))));
            }
            let mut rest = 1.0;
            for i in (0..self.count).rev() {
                *room.rest.add(i) = rest;
                rest *= *room.decay.add(i);
            }
        }
    }

    /// `x dt` of a head, transposed.
    #[inline(always)]
    unsafe fn inputs(&self, head: usize) {
        let (a, room) = (self.a, self.room);
        for i in 0..self.count {
            unsafe {
                let (x, dt) = (a.x.add(a.own(self.from + i, head)), a.dt(self.from + i, head));
                for at in 0..a.d {
                    *room.x.add(at * CHUNK + i) = *x.add(at) * dt;
                }
            }
        }
    }

    /// The outputs of a head for a panel of positions.
    #[inline(always)]
    unsafe fn outputs<S: Simd>(&self, s: S, head: usize, panel: usize) {
        let (a, room) = (self.a, self.room);
        unsafe {
            let left = Left { first: a.state.add(head * a.d * a.n), row_stride: a.n, step: 1 };
            let out = Out { first: room.y, stride: LANES, add: false };
            s.run(Product::<1> { rows: a.d, left, right: room.c(a, panel), k: a.n, out });

            let before = self.weigh(s, panel);
            for at in 0..a.d {
                let p = room.y.add(at * LANES);
                s.store(p, s.mul(s.load(p), before));
            }

            let left = Left { first: room.x, row_stride: CHUNK, step: 1 };
            let right = Right { first: room.weights, panel_stride: 0 };
            let out = Out { add: true, ..out };
            s.run(Product::<1> { rows: a.d, left, right, k: self.past(panel), out });

            for i in panel * LANES..self.past(panel) {
                let y = a.y.add(a.own(self.from + i, head));
                for at in 0..a.d {
                    *y.add(at) = *room.y.add(at * LANES + i % LANES);
                }
            }
        }
    }

    /// Multiplies the products of a panel with the decays from each position to those of the panel,
    /// and gives the decay from before the chunk to those.
    #[inline(always)]
    unsafe fn weigh<S: Simd>(&self, s: S, panel: usize) -> S::F {
        /// A one in the lane that is as far from the end of a window as its beginning from here.
        const ONE: [f32; 2 * LANES - 1] = {
            let mut ones = [0.0; 2 * LANES - 1];
            ones[LANES - 1] = 1.0;
            ones
        };
        let room = self.room;
        let mut decays = s.splat(0.0);
        for j in (0..self.past(panel)).rev() {
            unsafe {
                if panel * LANES <= j {
                    decays = s.add(decays, s.load(ONE.as_ptr().add(LANES - 1 - j % LANES)));
                }
                let products = s.load(room.products.add((panel * CHUNK + j) * LANES));
                s.store(room.weights.add(j * LANES), s.mul(decays, products));
                decays = s.mul(decays, s.splat(*room.decay.add(j)));
            }
            // Numbers below the normal ones are slow on some CPUs, and add nothing.
            let least = s.splat(f32::MIN_POSITIVE);
            decays = s.if_less(decays, least, s.splat(0.0), decays);
        }
        decays
    }

    /// The state of a head after the chunk.
    #[inline(always)]
    unsafe fn update<S: Simd>(&self, s: S, head: usize) {
        let (a, room) = (self.a, self.room);
        unsafe {
            for i in (0..self.count).step_by(LANES) {
                let rest = s.load(room.rest.add(i));
                for at in 0..a.d {
                    let p = room.x.add(at * CHUNK + i);
                    s.store(p, s.mul(s.load(p), rest));
                }
            }
            let state = a.state.add(head * a.d * a.n);
            let decay = s.splat(*room.rest * *room.decay);
            for at in (0..a.d * a.n).step_by(LANES) {
                s.store(state.add(at), s.mul(s.load(state.add(at)), decay));
            }
            for at in 0..a.n / LANES {
                let left = Left { first: room.x, row_stride: CHUNK, step: 1 };
                let first = room.b.add(at * CHUNK * LANES);
                let right = Right { first, panel_stride: 0 };
                let out = Out { first: state.add(at * LANES), stride: a.n, add: true };
                s.run(Product::<1> { rows: a.d, left, right, k: self.count, out });
            }
        }
    }
}
