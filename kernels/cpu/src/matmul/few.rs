//! Products of few rows with weights as they are stored, each read from memory once.
#![expect(unsafe_code, reason = "operands are raw pointers given by the caller of a kernel")]
#![expect(
    clippy::needless_range_loop,
    reason = "iterators are closures, which might stay outside the function with the instructions"
)]

use super::{Call, Part, Target, with_format};
use crate::format::{self, Format, Rows};
use crate::simd::{LANES, Simd, Work};
use std::marker::PhantomData;
use std::ops::Range;

/// This many rows are multiplied at a time with weights as they are stored; more than twice as many
/// are worth decoding them.
pub(super) const FEW: usize = 4;
/// Panels that all rows pass over before the next ones.
const WIDTH: usize = 16;

/// Floats of prepared rows.
pub(super) fn scratch(k: usize) -> usize {
    2 * FEW * (2 * k + k / 16)
}

/// All rows times some panels.
///
/// # Safety
/// As for [`super::run`].
pub(super) unsafe fn run<S: Simd>(s: S, call: &Call<'_>, panels: Range<usize>) {
    let mut prepared = None;
    for piece in call.pieces(panels, WIDTH) {
        for (part, target) in call.products(0, &piece) {
            let dtype = part.dtype();
            with_format!(dtype, F => unsafe {
                if prepared != Some(dtype) {
                    s.run(Prepare::<F> { call, format: PhantomData });
                    prepared = Some(dtype);
                }
                all_rows::<S, F>(s, call, part, target, piece.panels.clone());
            });
        }
        unsafe { call.finish(0..call.a.m, &piece) };
    }
}

/// Rows in passes of at most [`FEW`].
unsafe fn all_rows<S: Simd, F: Format>(
    s: S,
    call: &Call<'_>,
    part: &Part,
    target: Target,
    panels: Range<usize>,
) {
    let x = rows_of::<F>(call);
    let passes = call.a.m.div_ceil(FEW);
    for pass in 0..passes {
        let [from, to] = [pass, pass + 1].map(|it| call.a.m * it / passes);
        let first = x.first.wrapping_add(from * x.stride);
        let (x, target) = (Rows { first, ..x }, Target { first: target.at(from, 0), ..target });
        let work = (part, call.a.k, x, target, panels.clone());
        unsafe {
            match to - from {
                1 => s.run(Few::<F, 1>::new(work)),
                2 => s.run(Few::<F, 2>::new(work)),
                3 => s.run(Few::<F, 3>::new(work)),
                _ => s.run(Few::<F, FEW>::new(work)),
            }
        }
    }
}

/// The rows of `x` in the form that the format wants.
fn rows_of<F: Format>(call: &Call<'_>) -> Rows {
    match F::PREPARED {
        0 => Rows { first: call.a.x, stride: call.a.x_stride },
        size => Rows { first: call.room, stride: call.a.k / F::LEN * size },
    }
}

/// Brings the rows of `x` into the form that the format wants, in scratch unless they are so
/// already.
struct Prepare<'a, F> {
    call: &'a Call<'a>,
    format: PhantomData<F>,
}

impl<F: Format> Work for Prepare<'_, F> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let (a, rows) = (self.call.a, rows_of::<F>(self.call));
        if F::PREPARED == 0 {
            return;
        }
        for row in 0..a.m {
            for b in 0..a.k / F::LEN {
                unsafe {
                    let out = self.call.room.add(row * rows.stride + b * F::PREPARED);
                    F::prepare(s, a.x.add(row * a.x_stride + b * F::LEN), out);
                }
            }
        }
    }
}

/// `M` rows times some panels.
struct Few<'a, F, const M: usize> {
    part: &'a Part,
    k: usize,
    x: Rows,
    target: Target,
    panels: Range<usize>,
    format: PhantomData<F>,
}

impl<'a, F, const M: usize> Few<'a, F, M> {
    fn new((part, k, x, target, panels): (&'a Part, usize, Rows, Target, Range<usize>)) -> Self {
        Few { part, k, x, target, panels, format: PhantomData }
    }
}

impl<F: Format, const M: usize> Work for Few<'_, F, M> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        for panel in self.panels {
            let columns = LANES.min(self.part.n - panel * LANES);
            unsafe {
                let weights = self.part.panel::<F>(panel, self.k);
                let sums = F::dot::<S, M>(s, weights, self.k, self.x);
                for row in 0..M {
                    put(s, self.target.at(row, panel * LANES), columns, sums[row]);
                }
            }
        }
    }
}

/// Writes the first `columns` of sixteen products.
#[inline(always)]
unsafe fn put<S: Simd>(s: S, y: *mut f32, columns: usize, sum: S::F) {
    unsafe {
        if columns == LANES {
            return s.store(y, sum);
        }
        let mut lanes = [0.0; LANES];
        s.store(lanes.as_mut_ptr(), sum);
        y.copy_from_nonoverlapping(lanes.as_ptr(), columns);
    }
}
