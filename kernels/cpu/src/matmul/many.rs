//! Products of many rows: weights are decoded to `f32`, a stretch that fits the first cache, and a
//! block of rows that stays in the second cache passes over it.
#![expect(unsafe_code, reason = "operands are raw pointers given by the caller of a kernel")]

use super::{Call, Part, TILE, Target, with_format};
use crate::format::{self, Format};
use crate::share;
use crate::simd::{LANES, Simd, Work};
use crate::tile::{Left, Out, Product, Right};
use std::marker::PhantomData;
use std::ops::Range;

/// Elements along `k` decoded at a time: a panel of them takes 20 KiB.
const STRETCH: usize = 384;
/// [`Simd::PANELS`] of any instruction set is at most this, so that scratch does not depend on it.
const MAX_PANELS: usize = 3;
/// Rows of a block, at most: their products with a few panels are a tile.
const ROWS: usize = TILE / (MAX_PANELS * LANES);
/// Panels that a block of rows passes over before the tail, at most.
const WIDTH: usize = 2 * MAX_PANELS;
/// Floats of a block of rows: with a decoded stretch they fit the second cache.
const BLOCK: usize = 64 << 10;

/// Floats of decoded panels.
pub(super) const SCRATCH: usize = MAX_PANELS * STRETCH * LANES;

/// Some rows times some panels.
///
/// # Safety
/// As for [`super::run`].
pub(super) unsafe fn run<S: Simd>(s: S, call: &Call<'_>, rows: Range<usize>, panels: Range<usize>) {
    let most = (BLOCK / call.a.k.max(1)).clamp(3 * S::ROWS, ROWS);
    let blocks = rows.len().div_ceil(most);
    for block in 0..blocks {
        let part = share(rows.len(), block as u64, blocks as u64);
        let rows = rows.start + part.start..rows.start + part.end;
        let width = WIDTH.min(TILE / (rows.len() * LANES) / S::PANELS * S::PANELS);
        for piece in call.pieces(panels.clone(), width) {
            for (part, target) in call.products(rows.start, &piece) {
                let block = Block { call, part, rows: rows.clone(), target };
                with_format!(part.dtype(), F => unsafe {
                    block.multiply::<S, F>(s, piece.panels.clone());
                });
            }
            unsafe { call.finish(rows.clone(), &piece) };
        }
    }
}

/// A block of rows and a part of the weights.
struct Block<'a> {
    call: &'a Call<'a>,
    part: &'a Part,
    rows: Range<usize>,
    target: Target,
}

impl Block<'_> {
    unsafe fn multiply<S: Simd, F: Format>(&self, s: S, panels: Range<usize>) {
        let mut panel = panels.start;
        while panel < panels.end {
            // The last panel of the table may be ragged and goes alone.
            let whole = panels.end.min(self.part.n / LANES);
            let several = panel + S::PANELS <= whole;
            unsafe {
                match (several, S::PANELS) {
                    (true, 3) => self.along::<S, F, 3>(s, panel),
                    _ => self.along::<S, F, 1>(s, panel),
                }
            }
            panel += if several { S::PANELS } else { 1 };
        }
    }

    /// Multiplies with `P` panels, stretch by stretch.
    unsafe fn along<S: Simd, F: Format, const P: usize>(&self, s: S, panel: usize) {
        let a = self.call.a;
        let stretch = stretch(a.k, F::LEN);
        for from in (0..a.k.max(1)).step_by(stretch) {
            let k = stretch.min(a.k - from);
            unsafe {
                let right = self.decode::<S, F, P>(s, panel, from, k);
                let first = a.x.add(self.rows.start * a.x_stride + from);
                let left = Left { first, row_stride: a.x_stride, step: 1 };
                let (first, add) = (self.target.at(self.rows.start, panel * LANES), from != 0);
                let out = Out { first, stride: self.target.stride, add };
                let columns = self.part.n - panel * LANES;
                if P * LANES <= columns {
                    s.run(Product::<P> { rows: self.rows.len(), left, right, k, out });
                } else {
                    ragged(s, Product::<1> { rows: self.rows.len(), left, right, k, out }, columns);
                }
            }
        }
    }

    /// `P` panels of weights as `f32`, in scratch unless they are so already.
    unsafe fn decode<S: Simd, F: Format, const P: usize>(
        &self,
        s: S,
        panel: usize,
        from: usize,
        count: usize,
    ) -> Right {
        let k = self.call.a.k;
        let panel = |i| unsafe { self.part.panel::<F>(panel + i, k) };
        if F::IS_F32 {
            let first = unsafe { panel(0).cast::<f32>().add(from * LANES) };
            return Right { first, panel_stride: k * LANES };
        }
        let right = Right { first: self.call.room, panel_stride: count * LANES };
        for i in 0..P {
            let out = self.call.room.wrapping_add(i * right.panel_stride);
            unsafe {
                s.run(Decode { panel: panel(i), from, count, out, format: PhantomData::<F> })
            };
        }
        right
    }
}

/// About equal stretches of `k`, whole blocks of `block` elements, of at most [`STRETCH`].
fn stretch(k: usize, block: usize) -> usize {
    let parts = k.div_ceil(STRETCH / block * block).max(1);
    k.div_ceil(parts).next_multiple_of(block).max(1)
}

/// A stretch of a panel to decode.
struct Decode<F> {
    panel: *const u8,
    from: usize,
    count: usize,
    out: *mut f32,
    format: PhantomData<F>,
}

impl<F: Format> Work for Decode<F> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        unsafe { F::decode(s, self.panel, self.from, self.count, self.out) }
    }
}

/// Multiplies with a panel of which only `columns` exist.
unsafe fn ragged<S: Simd>(s: S, product: Product<1>, columns: usize) {
    let Product { rows, left, right, k, out } = product;
    for row in 0..rows {
        let mut lanes = [0.0; LANES];
        unsafe {
            let y = out.first.add(row * out.stride);
            let left = Left { first: left.first.add(row * left.row_stride), ..left };
            let one = Out { first: lanes.as_mut_ptr(), stride: LANES, add: false };
            s.run(Product::<1> { rows: 1, left, right, k, out: one });
            for (i, sum) in lanes.into_iter().enumerate().take(columns) {
                *y.add(i) = if out.add { *y.add(i) + sum } else { sum };
            }
        }
    }
}
