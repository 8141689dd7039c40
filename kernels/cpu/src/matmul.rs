//! `y[m, n] (+)= x[m, k] * W[n, k]^T`: `x` and `y` in `f32`, `W` packed in any storage format.
//!
//! Few rows of `x` are multiplied with weights as they are stored, each read from memory once.
//! For many rows a stretch of a panel is decoded to `f32`, small enough for the first cache, and
//! all rows of a block that stays in the second cache pass over it.
#![expect(unsafe_code, reason = "operands are raw pointers given by the caller of a kernel")]
#![expect(
    clippy::needless_range_loop,
    reason = "iterators are closures, which might stay outside the function with the instructions"
)]

use crate::format::{
    Bf16, F16, F32, Format, Nibbles, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0, Rows,
};
use crate::pack;
use crate::simd::{LANES, Simd, Work};
use crate::tile::{Left, Out, Product, Right};
use crate::{dtype_of_word, share};
use ir::DType;
use std::marker::PhantomData;
use std::ops::Range;

pub(crate) const ARGS: &[&str] =
    &["y", "y_stride", "x", "x_stride", "w", "dtype", "m", "n", "k", "accumulate", "scratch"];

/// The argument words: see [`crate::Kernel`]. Strides count elements.
#[repr(C)]
#[derive(Clone, Copy)]
struct Args {
    y: *mut f32,
    y_stride: usize,
    x: *const f32,
    x_stride: usize,
    w: *const u8,
    dtype: u64,
    m: usize,
    n: usize,
    k: usize,
    accumulate: u64,
    scratch: *mut u8,
}

/// This many rows are multiplied at a time with weights as they are stored; more than twice as many
/// are worth decoding them.
const FEW: usize = 4;
/// Elements along `k` decoded at a time: a panel of them takes 20 KiB.
const STRETCH: usize = 320;
/// Rows of `x` that pass over a decoded stretch: these and the stretch fit the second cache.
const ROWS: usize = 96;
/// [`Simd::PANELS`] of any instruction set is at most this, so that scratch does not depend on it.
const MAX_PANELS: usize = 3;

/// Bytes of scratch of a thread.
pub(crate) fn scratch(args: &[u64]) -> usize {
    area(args[8] as usize)
}

/// Bytes of prepared rows or decoded panels.
fn area(k: usize) -> usize {
    let prepared = FEW * (2 * k + k / 16) * size_of::<f32>();
    let decoded = MAX_PANELS * STRETCH * LANES * size_of::<f32>();
    prepared.max(decoded).next_multiple_of(64)
}

/// Evaluates an expression with a type alias for the [`Format`] of a run-time [`DType`].
macro_rules! with_format {
    ($dtype:expr, $F:ident => $value:expr) => {
        match $dtype {
            DType::F32 => with_format!(@ $F = F32, $value),
            DType::F16 => with_format!(@ $F = F16, $value),
            DType::BF16 => with_format!(@ $F = Bf16, $value),
            DType::Q4_0 => with_format!(@ $F = Nibbles<Q4_0>, $value),
            DType::Q4_1 => with_format!(@ $F = Nibbles<Q4_1>, $value),
            DType::Q5_0 => with_format!(@ $F = Nibbles<Q5_0>, $value),
            DType::Q5_1 => with_format!(@ $F = Nibbles<Q5_1>, $value),
            DType::Q8_0 => with_format!(@ $F = Q8_0, $value),
            DType::Q4K => with_format!(@ $F = Nibbles<Q4K>, $value),
            DType::Q5K => with_format!(@ $F = Nibbles<Q5K>, $value),
            DType::Q6K => with_format!(@ $F = Nibbles<Q6K>, $value),
            DType::F64 | DType::I32 | DType::Bool | DType::Mixed => {
                unreachable!("not a format of weights")
            }
        }
    };
    (@ $F:ident = $format:ty, $value:expr) => {{
        type $F = $format;
        $value
    }};
}

/// # Safety
/// `args` points to the words that [`ARGS`] names; see [`crate::Kernel::run`].
pub(crate) unsafe extern "C" fn run<S: Simd>(args: *const u64, thread: u64, threads: u64) {
    let (s, mut a) = unsafe { (S::assume(), *args.cast::<Args>()) };
    a.scratch = unsafe { a.scratch.add(area(a.k) * thread as usize) };
    with_format!(dtype_of_word(a.dtype), F => unsafe {
        run_format::<S, F>(s, &a, thread, threads)
    });
}

unsafe fn run_format<S: Simd, F: Format>(s: S, a: &Args, thread: u64, threads: u64) {
    let panels = pack::panels(a.n);
    if 2 * FEW < a.m {
        let (rows, panels) = split(a.m, panels, thread, threads);
        return unsafe { many::<S, F>(s, a, rows, panels) };
    }
    let (panels, passes) = (share(panels, thread, threads), a.m.div_ceil(FEW));
    for pass in 0..passes {
        let rows = a.m * pass / passes..a.m * (pass + 1) / passes;
        let x = unsafe { a.x.add(rows.start * a.x_stride) };
        let y = unsafe { a.y.add(rows.start * a.y_stride) };
        unsafe { few::<S, F>(s, &Args { x, y, m: rows.len(), ..*a }, panels.clone()) };
    }
}

/// At most [`FEW`] rows times some panels.
unsafe fn few<S: Simd, F: Format>(s: S, a: &Args, panels: Range<usize>) {
    unsafe {
        match a.m {
            1 => s.run(Few::<F, 1>::new(a, panels)),
            2 => s.run(Few::<F, 2>::new(a, panels)),
            3 => s.run(Few::<F, 3>::new(a, panels)),
            _ => s.run(Few::<F, FEW>::new(a, panels)),
        }
    }
}

/// A thread's rows and panels: rows are divided only where there are too few panels to go round,
/// since each part of them decodes the weights anew.
fn split(m: usize, panels: usize, thread: u64, threads: u64) -> (Range<usize>, Range<usize>) {
    let enough = |parts: &u64| 4 * threads / parts <= panels as u64;
    let divisors = (1..=threads).filter(|it| threads.is_multiple_of(*it));
    let parts = divisors.clone().find(enough).unwrap_or(threads);
    let across = threads / parts;
    (share(m, thread / across, parts), share(panels, thread % across, across))
}

/// `M` rows times some panels.
struct Few<'a, F, const M: usize> {
    a: &'a Args,
    panels: Range<usize>,
    format: PhantomData<F>,
}

impl<'a, F, const M: usize> Few<'a, F, M> {
    fn new(a: &'a Args, panels: Range<usize>) -> Self {
        Few { a, panels, format: PhantomData }
    }
}

impl<F: Format, const M: usize> Work for Few<'_, F, M> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let a = self.a;
        let x = unsafe { prepare::<S, F, M>(s, a) };
        let panel_bytes = a.k / F::LEN * F::BYTES * LANES;
        for panel in self.panels {
            unsafe {
                let sums = F::dot::<S, M>(s, a.w.add(panel * panel_bytes), a.k, x);
                for row in 0..M {
                    put(s, a, row, panel, sums[row]);
                }
            }
        }
    }
}

/// The rows of `x` in the form that the format wants, in scratch unless they are so already.
#[inline(always)]
unsafe fn prepare<S: Simd, F: Format, const M: usize>(s: S, a: &Args) -> Rows {
    if F::PREPARED == 0 {
        return Rows { first: a.x, stride: a.x_stride };
    }
    let (out, blocks) = (a.scratch.cast::<f32>(), a.k / F::LEN);
    let stride = blocks * F::PREPARED;
    for row in 0..M {
        for b in 0..blocks {
            unsafe {
                let x = a.x.add(row * a.x_stride + b * F::LEN);
                F::prepare(s, x, out.add(row * stride + b * F::PREPARED));
            }
        }
    }
    Rows { first: out, stride }
}

/// Writes or adds the sixteen products of a row and a panel, or as many as `n` leaves of them.
#[inline(always)]
unsafe fn put<S: Simd>(s: S, a: &Args, row: usize, panel: usize, sum: S::F) {
    let columns = (a.n - panel * LANES).min(LANES);
    let y = unsafe { a.y.add(row * a.y_stride + panel * LANES) };
    if columns == LANES {
        unsafe { s.store(y, if a.accumulate == 0 { sum } else { s.add(s.load(y), sum) }) };
        return;
    }
    let mut lanes = [0.0; LANES];
    unsafe { s.store(lanes.as_mut_ptr(), sum) };
    for (i, sum) in lanes.into_iter().enumerate().take(columns) {
        unsafe { *y.add(i) = if a.accumulate == 0 { sum } else { *y.add(i) + sum } };
    }
}

/// A stretch along `k` of a block of rows: one round of [`many`].
#[derive(Clone, Copy)]
struct Round {
    row: usize,
    rows: usize,
    from: usize,
    count: usize,
    /// Whether to add to `y`: always after the first stretch.
    add: bool,
}

/// Many rows times some panels.
unsafe fn many<S: Simd, F: Format>(s: S, a: &Args, rows: Range<usize>, panels: Range<usize>) {
    let stretch = stretch(a.k, F::LEN);
    for from in (0..a.k.max(1)).step_by(stretch) {
        for row in rows.clone().step_by(ROWS) {
            let round = Round {
                row,
                rows: ROWS.min(rows.end - row),
                from,
                count: stretch.min(a.k - from),
                add: a.accumulate != 0 || from != 0,
            };
            let mut panel = panels.start;
            while panel < panels.end {
                // The last panel of the table may be ragged and goes alone.
                let several = S::PANELS <= panels.end - panel && (panel + S::PANELS) * LANES <= a.n;
                unsafe {
                    match (several, S::PANELS) {
                        (true, 3) => panel_round::<S, F, 3>(s, a, round, panel),
                        _ => panel_round::<S, F, 1>(s, a, round, panel),
                    }
                }
                panel += if several { S::PANELS } else { 1 };
            }
        }
    }
}

/// About equal stretches of `k`, whole blocks of `block` elements, of at most [`STRETCH`].
fn stretch(k: usize, block: usize) -> usize {
    let parts = k.div_ceil(STRETCH / block * block).max(1);
    k.div_ceil(parts).next_multiple_of(block).max(1)
}

/// Multiplies a block of rows with a stretch of `P` panels.
unsafe fn panel_round<S: Simd, F: Format, const P: usize>(
    s: S,
    a: &Args,
    round: Round,
    panel: usize,
) {
    unsafe {
        let right = decode::<S, F, P>(s, a, round, panel);
        let first = a.x.add(round.row * a.x_stride + round.from);
        let left = Left { first, row_stride: a.x_stride, step: 1 };
        let y = a.y.add(round.row * a.y_stride + panel * LANES);
        let columns = a.n - panel * LANES;
        if P * LANES <= columns {
            let out = Out { first: y, stride: a.y_stride, add: round.add };
            s.run(Product::<P> { rows: round.rows, left, right, k: round.count, out });
        } else {
            ragged(s, a, round, left, right, y, columns);
        }
    }
}

/// `P` panels of weights as `f32`, in scratch unless they are so already.
unsafe fn decode<S: Simd, F: Format, const P: usize>(
    s: S,
    a: &Args,
    round: Round,
    panel: usize,
) -> Right {
    let panel_bytes = a.k / F::LEN * F::BYTES * LANES;
    let w = unsafe { a.w.add(panel * panel_bytes) };
    if F::IS_F32 {
        let first = unsafe { w.cast::<f32>().add(round.from * LANES) };
        return Right { first, panel_stride: a.k * LANES };
    }
    let right = Right { first: a.scratch.cast(), panel_stride: round.count * LANES };
    for i in 0..P {
        unsafe {
            let out = a.scratch.cast::<f32>().add(i * right.panel_stride);
            let panel = w.add(i * panel_bytes);
            let (from, count, format) = (round.from, round.count, PhantomData::<F>);
            s.run(Decode { panel, from, count, out, format });
        }
    }
    right
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

/// Multiplies a block of rows with a panel of which only `columns` exist.
unsafe fn ragged<S: Simd>(
    s: S,
    a: &Args,
    round: Round,
    left: Left,
    right: Right,
    y: *mut f32,
    columns: usize,
) {
    for row in 0..round.rows {
        let mut lanes = [0.0; LANES];
        unsafe {
            let y = y.add(row * a.y_stride);
            let left = Left { first: left.first.add(row * left.row_stride), ..left };
            let out = Out { first: lanes.as_mut_ptr(), stride: LANES, add: false };
            s.run(Product::<1> { rows: 1, left, right, k: round.count, out });
            for (i, sum) in lanes.into_iter().enumerate().take(columns) {
                *y.add(i) = if round.add { *y.add(i) + sum } else { sum };
            }
        }
    }
}
