//! Attention of many queries: two matrix products a tile of keys.
//!
//! Lanes are queries: sixteen (query, member of the group) pairs of one key/value head. Scores lie
//! as `[key][16]` and results as `[pv][16]`, so keys and values are read where they are, the
//! softmax needs no sums across lanes, and only queries and results are transposed.
#![expect(unsafe_code, reason = "operands are raw pointers given by the caller of a kernel")]

use super::{Args, KEYS, LEAST};
use crate::exp::exp;
use crate::format::Element;
use crate::simd::{LANES, Simd, Work};
use crate::tile::{Left, Out, Product, Right};
use std::marker::PhantomData;
use std::ops::Range;

/// Lanes of a block of queries that share the reading of a tile of keys.
const BLOCK: usize = 6 * LANES;

/// Queries of a block.
fn queries(group: usize) -> usize {
    (BLOCK / group.max(1)).max(1)
}

/// Vectors of lanes of a block.
fn panels(group: usize) -> usize {
    (queries(group) * group).div_ceil(LANES)
}

/// Floats of scratch of a thread.
pub(super) fn scratch(group: usize, p: usize, pv: usize) -> usize {
    KEYS * (LANES + p + pv) + LANES * panels(group) * (p + pv + 4)
}

/// Consecutive queries of one head.
struct Block<'a, E> {
    a: &'a Args,
    head: usize,
    queries: Range<usize>,
    stored: PhantomData<E>,
}

/// A tile of keys, as the left sides of both products.
struct Tile {
    range: Range<usize>,
    keys: Left,
    values: Left,
}

/// What a block keeps of sixteen lanes.
#[derive(Clone, Copy)]
struct Panel {
    /// Queries times the scale, `[p][16]`.
    query: *mut f32,
    /// Results so far, `[pv][16]`.
    result: *mut f32,
    /// The largest score so far, `[16]`.
    most: *mut f32,
    /// The sum of exponentials so far, `[16]`.
    total: *mut f32,
    /// The first key seen and the last, as numbers, `[16]` each.
    seen: [*mut f32; 2],
}

/// # Safety
/// As for [`super::run`]; scratch is this thread's own.
pub(super) unsafe fn run<S: Simd, E: Element>(s: S, a: &Args, thread: u64, threads: u64) {
    // Blocks are about equal, and whole vectors of lanes.
    let (most, whole) = (queries(a.group), (LANES / a.group.max(1)).max(1));
    let size = a.s.div_ceil(a.s.div_ceil(most).max(1)).next_multiple_of(whole).clamp(1, most);
    let blocks = a.s.div_ceil(size);
    // Later blocks see more keys: dealing them out in turn is fairer than long runs.
    for unit in (thread as usize..blocks * a.heads).step_by(threads as usize) {
        let from = unit % blocks * size;
        let queries = from..(from + size).min(a.s);
        let block = Block::<E> { a, head: unit / blocks, queries, stored: PhantomData };
        unsafe { s.run(block) };
    }
}

impl<E: Element> Work for Block<'_, E> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let panels = (self.queries.len() * self.a.group).div_ceil(LANES);
        for index in 0..panels {
            unsafe { self.start(s, index) };
        }
        let keys = self.a.keys(self.queries.start).start..self.a.keys(self.queries.end - 1).end;
        for from in keys.clone().step_by(KEYS) {
            let tile = unsafe { self.read(s, from..(from + KEYS).min(keys.end)) };
            for index in 0..panels {
                unsafe { self.tile(s, self.panel(index), &tile) };
            }
        }
        for index in 0..panels {
            unsafe { self.finish(index) };
        }
    }
}

impl<E: Element> Block<'_, E> {
    /// A tile of keys as `f32`: where it is, or else in scratch, after the scores.
    #[inline(always)]
    unsafe fn read<S: Simd>(&self, s: S, range: Range<usize>) -> Tile {
        let (a, count) = (self.a, range.len());
        unsafe {
            let (key, value) =
                (a.key::<E>(range.start, self.head), a.value::<E>(range.start, self.head));
            let (mut keys, mut k_stride) = (key.cast::<f32>(), a.k_stride);
            let (mut values, mut v_stride) = (value.cast::<f32>(), a.v_stride);
            if !E::IS_F32 {
                let room = a.scratch.add(KEYS * LANES);
                widen::<S, E>(s, key, a.k_stride, (count, a.p), room);
                widen::<S, E>(s, value, a.v_stride, (count, a.pv), room.add(KEYS * a.p));
                (keys, k_stride) = (room, a.p);
                (values, v_stride) = (room.add(KEYS * a.p), a.pv);
            }
            Tile {
                range,
                keys: Left { first: keys, row_stride: k_stride, step: 1 },
                values: Left { first: values, row_stride: 1, step: v_stride },
            }
        }
    }

    /// Where a panel lies in scratch, after scores, keys and values.
    unsafe fn panel(&self, index: usize) -> Panel {
        let (p, pv) = (self.a.p, self.a.pv);
        unsafe {
            let before = KEYS * (LANES + p + pv);
            let query = self.a.scratch.add(before + LANES * index * (p + pv + 4));
            let result = query.add(LANES * p);
            let most = result.add(LANES * pv);
            let [total, first, last] = [1, 2, 3].map(|it| most.add(it * LANES));
            Panel { query, result, most, total, seen: [first, last] }
        }
    }

    /// The query and the member of the group in a lane, if it is not beyond the last.
    fn lane(&self, index: usize, lane: usize) -> Option<(usize, usize)> {
        let at = index * LANES + lane;
        let query = self.queries.start + at / self.a.group;
        (query < self.queries.end).then_some((query, at % self.a.group))
    }

    #[inline(always)]
    unsafe fn start<S: Simd>(&self, s: S, index: usize) {
        let panel = unsafe { self.panel(index) };
        let scale = self.a.scale as f32;
        for lane in 0..LANES {
            let query = self.lane(index, lane);
            // A lane without a query is a copy of the first, whose result nobody reads.
            let (i, member) = query.unwrap_or((self.queries.start, 0));
            let seen = self.a.keys(i);
            unsafe {
                let q = self.a.query(i, self.head, member);
                for c in 0..self.a.p {
                    *panel.query.add(c * LANES + lane) = *q.add(c) * scale;
                }
                *panel.seen[0].add(lane) = seen.start as f32;
                *panel.seen[1].add(lane) = seen.end as f32 - 1.0;
            }
        }
        unsafe {
            s.store(panel.most, s.splat(LEAST));
            s.store(panel.total, s.splat(0.0));
            for c in 0..self.a.pv {
                s.store(panel.result.add(c * LANES), s.splat(0.0));
            }
        }
    }

    /// Adds a tile of keys to sixteen lanes.
    #[inline(always)]
    unsafe fn tile<S: Simd>(&self, s: S, panel: Panel, tile: &Tile) {
        let (a, scores, keys) = (self.a, self.a.scratch, &tile.range);
        unsafe {
            let left = tile.keys;
            let right = Right { first: panel.query, panel_stride: 0 };
            let out = Out { first: scores, stride: LANES, add: false };
            s.run(Product::<1> { rows: keys.len(), left, right, k: a.p, out });

            let masked = self.queries.clone().any(|i| {
                let seen = a.keys(i);
                keys.start < seen.start || seen.end < keys.end
            });
            if masked {
                mask(s, panel, keys, scores);
            }
            weigh(s, panel, keys.len(), a.pv, scores);

            let left = tile.values;
            let right = Right { first: scores, panel_stride: 0 };
            let out = Out { first: panel.result, stride: LANES, add: true };
            s.run(Product::<1> { rows: a.pv, left, right, k: keys.len(), out });
        }
    }

    #[inline(always)]
    unsafe fn finish(&self, index: usize) {
        let panel = unsafe { self.panel(index) };
        for lane in 0..LANES {
            let Some((i, member)) = self.lane(index, lane) else { break };
            unsafe {
                let total = *panel.total.add(lane);
                let scale = if total == 0.0 { 0.0 } else { 1.0 / total };
                let out = self.a.output(i, self.head, member);
                for c in 0..self.a.pv {
                    *out.add(c) = *panel.result.add(c * LANES + lane) * scale;
                }
            }
        }
    }
}

/// Writes rows of stored elements as `f32`, one after another.
#[inline(always)]
unsafe fn widen<S: Simd, E: Element>(
    s: S,
    from: *const u8,
    stride: usize,
    (rows, width): (usize, usize),
    out: *mut f32,
) {
    let whole = width / LANES * LANES;
    for row in 0..rows {
        unsafe {
            let (from, out) = (from.add(row * stride * E::BYTES), out.add(row * width));
            for at in (0..whole).step_by(LANES) {
                s.store(out.add(at), E::load(s, from.add(at * E::BYTES)));
            }
            for at in whole..width {
                *out.add(at) = E::one(from.add(at * E::BYTES));
            }
        }
    }
}

/// Sets the scores of keys that a lane does not see to `-inf`.
#[inline(always)]
unsafe fn mask<S: Simd>(s: S, panel: Panel, keys: &Range<usize>, scores: *mut f32) {
    let hidden = s.splat(f32::NEG_INFINITY);
    let [first, last] = panel.seen.map(|it| unsafe { s.load(it) });
    for (at, key) in keys.clone().enumerate() {
        let key = s.splat(key as f32);
        unsafe {
            let score = s.load(scores.add(at * LANES));
            let score = s.if_less(key, first, hidden, s.if_less(last, key, hidden, score));
            s.store(scores.add(at * LANES), score);
        }
    }
}

/// Turns scores into weights relative to the new maximum, and rescales what was summed before.
#[inline(always)]
unsafe fn weigh<S: Simd>(s: S, panel: Panel, keys: usize, pv: usize, scores: *mut f32) {
    unsafe {
        let before = s.load(panel.most);
        let mut most = before;
        for at in 0..keys {
            most = s.max(most, s.load(scores.add(at * LANES)));
        }
        let rescale = exp(s, s.sub(before, most));
        let mut total = s.mul(s.load(panel.total), rescale);
        for at in 0..keys {
            let weight = exp(s, s.sub(s.load(scores.add(at * LANES)), most));
            total = s.add(total, weight);
            s.store(scores.add(at * LANES), weight);
        }
        s.store(panel.most, most);
        s.store(panel.total, total);
        for c in 0..pv {
            let p = panel.result.add(c * LANES);
            s.store(p, s.mul(s.load(p), rescale));
        }
    }
}
