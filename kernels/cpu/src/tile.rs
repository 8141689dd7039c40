//! The register tile: the inner loop of every large matrix product.
#![expect(unsafe_code, reason = "operands are raw pointers given by the caller of a kernel")]
#![expect(
    clippy::needless_range_loop,
    reason = "iterators are closures, which might stay outside the function with the instructions"
)]

use crate::simd::{LANES, Simd, Work};

/// A matrix whose element `(row, i)` is at `first + row * row_stride + i * step`.
#[derive(Clone, Copy)]
pub(crate) struct Left {
    pub(crate) first: *const f32,
    pub(crate) row_stride: usize,
    pub(crate) step: usize,
}

/// Panels `[k][16]`, one at every `panel_stride` elements.
#[derive(Clone, Copy)]
pub(crate) struct Right {
    pub(crate) first: *const f32,
    pub(crate) panel_stride: usize,
}

/// Where products go: row-major; `add` says whether to add to what is there.
#[derive(Clone, Copy)]
pub(crate) struct Out {
    pub(crate) first: *mut f32,
    pub(crate) stride: usize,
    pub(crate) add: bool,
}

/// Elements along `k` between two looks at the end: what the loop itself takes is then little
/// beside the products, for which another thread of the core may leave only half of the slots.
const UNROLL: usize = 8;

/// `out[R, 16 P] = left[R, k] * right`, where `right` has `P` panels. With `NEXT` the elements of a
/// row of `left` are next to each other.
///
/// Each product is summed along `k` in one chain, so it does not depend on the size of the tile.
///
/// # Safety
/// The operands can be read and `out` written at these extents.
#[inline(always)]
unsafe fn tile<S: Simd, const R: usize, const P: usize, const NEXT: bool>(
    s: S,
    left: Left,
    right: Right,
    k: usize,
    out: Out,
) {
    let mut acc = [[s.splat(0.0); P]; R];
    let (mut rows, mut panels) = ([left.first; R], [right.first; P]);
    for row in 0..R {
        rows[row] = unsafe { left.first.add(row * left.row_stride) };
        // The results' lines come from far away, and are wanted when the loop has ended.
        for panel in 0..P {
            s.prefetch(out.first.wrapping_add(row * out.stride + panel * LANES).cast());
        }
    }
    for panel in 0..P {
        panels[panel] = unsafe { right.first.add(panel * right.panel_stride) };
    }
    let step = if NEXT { 1 } else { left.step };
    // Offsets wrap, here and in the other inner loops, only so that they are not checked.
    let mut i = 0_usize;
    while i.wrapping_add(UNROLL) <= k {
        for ahead in 0..UNROLL {
            unsafe { add_products(s, &mut acc, &rows, &panels, i.wrapping_add(ahead), step) };
        }
        i = i.wrapping_add(UNROLL);
    }
    while i < k {
        unsafe { add_products(s, &mut acc, &rows, &panels, i, step) };
        i = i.wrapping_add(1);
    }
    for row in 0..R {
        for panel in 0..P {
            unsafe {
                let (p, sum) = (out.first.add(row * out.stride + panel * LANES), acc[row][panel]);
                s.store(p, if out.add { s.add(s.load(p), sum) } else { sum });
            }
        }
    }
}

/// Adds the products of element `i` along `k` to `acc`.
///
/// # Safety
/// The element exists.
#[inline(always)]
unsafe fn add_products<S: Simd, const R: usize, const P: usize>(
    s: S,
    acc: &mut [[S::F; P]; R],
    rows: &[*const f32; R],
    panels: &[*const f32; P],
    i: usize,
    step: usize,
) {
    let mut w = [s.splat(0.0); P];
    for panel in 0..P {
        w[panel] = unsafe { s.load(panels[panel].add(i.wrapping_mul(LANES))) };
    }
    for row in 0..R {
        let x = s.splat(unsafe { *rows[row].add(i.wrapping_mul(step)) });
        for panel in 0..P {
            acc[row][panel] = s.fma(x, w[panel], acc[row][panel]);
        }
    }
}

/// The tile with `rows` of at most [`Simd::ROWS`] rows.
///
/// # Safety
/// As for [`tile`].
#[inline(always)]
unsafe fn short_tile<S: Simd, const P: usize, const NEXT: bool>(
    s: S,
    rows: usize,
    left: Left,
    right: Right,
    k: usize,
    out: Out,
) {
    unsafe {
        match rows {
            1 => tile::<S, 1, P, NEXT>(s, left, right, k, out),
            2 => tile::<S, 2, P, NEXT>(s, left, right, k, out),
            3 if 3 <= S::ROWS => tile::<S, 3, P, NEXT>(s, left, right, k, out),
            4 if 4 <= S::ROWS => tile::<S, 4, P, NEXT>(s, left, right, k, out),
            5 if 5 <= S::ROWS => tile::<S, 5, P, NEXT>(s, left, right, k, out),
            6 if 6 <= S::ROWS => tile::<S, 6, P, NEXT>(s, left, right, k, out),
            7 if 7 <= S::ROWS => tile::<S, 7, P, NEXT>(s, left, right, k, out),
            8 if 8 <= S::ROWS => tile::<S, 8, P, NEXT>(s, left, right, k, out),
            _ => unreachable!("a tile of {rows} rows"),
        }
    }
}

/// `out[rows, 16 P] = left[rows, k] * right`, for any number of rows. Everything can be read or
/// written at these extents.
pub(crate) struct Product<const P: usize> {
    pub(crate) rows: usize,
    pub(crate) left: Left,
    pub(crate) right: Right,
    pub(crate) k: usize,
    pub(crate) out: Out,
}

impl<const P: usize> Work for Product<P> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        // Tiles of about equal height: a last tile of one row would run at a fraction of the speed.
        let tiles = self.rows.div_ceil(S::ROWS);
        for index in 0..tiles {
            let (from, to) = (self.rows * index / tiles, self.rows * (index + 1) / tiles);
            let (mut left, mut out) = (self.left, self.out);
            unsafe {
                left.first = left.first.add(from * left.row_stride);
                out.first = out.first.add(from * out.stride);
                if left.step == 1 {
                    short_tile::<S, P, true>(s, to - from, left, self.right, self.k, out);
                } else {
                    short_tile::<S, P, false>(s, to - from, left, self.right, self.k, out);
                }
            }
        }
    }
}
