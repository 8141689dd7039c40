//! `y[m, n] = x[m, k] * W[n, k]^T`, for several `y` at once, and what generated code makes of them.
//!
//! `x` is `f32`. The `W` of a result may have several parts, each packed in a storage format of its
//! own; their products are columns of `y`, one part after the other. With a tail, products go to
//! scratch, a tile that stays in a cache, and the tail writes `y` from it: bias, activation,
//! residual, a narrower type. Parts may then also lie beside each other: the tail takes a product
//! of each.
//!
//! Few rows of `x` are multiplied with weights as they are stored, each read from memory once
//! ([`few`]). For many rows weights are decoded to `f32`, a stretch at a time ([`many`]).
#![expect(unsafe_code, reason = "operands are raw pointers given by the caller of a kernel")]

mod few;
mod many;

use crate::format::{Format, panel_bytes};
use crate::pack;
use crate::simd::{LANES, Simd};
use crate::{Tail, Tile, dtype_of_word, share};
use few::FEW;
use ir::DType;
use std::ops::Range;

/// The words before those of the results, for each of which there are the six of [`Group`], and
/// those of the parts of all, three of [`Part`] each; behind them are the tails' own.
pub(crate) const ARGS: &[&str] = &["x", "x_stride", "m", "k", "results", "scratch"];

/// The argument words: see [`crate::Kernel`]. Strides count elements.
#[repr(C)]
#[derive(Clone, Copy)]
struct Args {
    x: *const f32,
    x_stride: usize,
    m: usize,
    k: usize,
    results: usize,
    scratch: *mut f32,
}

/// A result. With a tail `y` and its stride are not looked at.
#[repr(C)]
#[derive(Clone, Copy)]
struct Group {
    y: *mut f32,
    y_stride: usize,
    tail: Option<Tail>,
    /// Which of the argument words is the tail's first.
    tail_words: usize,
    parts: usize,
    /// Whether the tail takes the products of all parts at once.
    beside: u64,
}

/// A packed matrix `[n, k]`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Part {
    w: *const u8,
    dtype: u64,
    n: usize,
}

impl Part {
    fn dtype(&self) -> DType {
        dtype_of_word(self.dtype)
    }

    /// A panel of it, of elements in the format `F`, `k` in a row.
    ///
    /// # Safety
    /// The panel exists.
    unsafe fn panel<F: Format>(&self, panel: usize, k: usize) -> *const u8 {
        unsafe { self.w.add(panel * panel_bytes::<F>(k)) }
    }
}

/// Floats of a tile of products that waits for the tail.
const TILE: usize = 96 * 96;

/// Bytes of scratch.
pub(crate) fn scratch(args: &[u64]) -> usize {
    let (k, results) = (args[3] as usize, args[4] as usize);
    let groups = args[ARGS.len()..].chunks_exact(words_of::<Group>()).take(results);
    let tiles = groups.map(|it| if it[5] == 0 { 1 } else { it[4] as usize }).max().unwrap_or(0);
    let room = tiles * TILE + few::scratch(k).max(many::SCRATCH);
    (room * size_of::<f32>()).next_multiple_of(64)
}

const fn words_of<T>() -> usize {
    size_of::<T>() / size_of::<u64>()
}

/// Evaluates an expression with a type alias for the [`Format`] of a run-time [`DType`].
macro_rules! with_format {
    ($dtype:expr, $F:ident => $value:expr) => {
        match $dtype {
            ir::DType::F32 => with_format!(@ $F = format::F32, $value),
            ir::DType::F16 => with_format!(@ $F = format::F16, $value),
            ir::DType::BF16 => with_format!(@ $F = format::Bf16, $value),
            ir::DType::Q4_0 => with_format!(@ $F = format::Nibbles<format::Q4_0>, $value),
            ir::DType::Q4_1 => with_format!(@ $F = format::Nibbles<format::Q4_1>, $value),
            ir::DType::Q5_0 => with_format!(@ $F = format::Nibbles<format::Q5_0>, $value),
            ir::DType::Q5_1 => with_format!(@ $F = format::Nibbles<format::Q5_1>, $value),
            ir::DType::Q8_0 => with_format!(@ $F = format::Q8_0, $value),
            ir::DType::Q4K => with_format!(@ $F = format::Nibbles<format::Q4K>, $value),
            ir::DType::Q5K => with_format!(@ $F = format::Nibbles<format::Q5K>, $value),
            ir::DType::Q6K => with_format!(@ $F = format::Nibbles<format::Q6K>, $value),
            ir::DType::F8E4M3 => with_format!(@ $F = format::ScaledRows<format::E4M3>, $value),
            ir::DType::F8E5M2 => with_format!(@ $F = format::ScaledRows<format::E5M2>, $value),
            ir::DType::F8Block => with_format!(@ $F = format::F8Block, $value),
            ir::DType::MxFp8 => with_format!(@ $F = format::MxFp8, $value),
            ir::DType::MxFp4 => with_format!(@ $F = format::MxFp4, $value),
            ir::DType::NvFp4 => with_format!(@ $F = format::NvFp4, $value),
            ir::DType::F64 | ir::DType::I32 | ir::DType::Bool | ir::DType::Mixed => {
                unreachable!("not a format of weights")
            }
        }
    };
    (@ $F:ident = $format:ty, $value:expr) => {{
        type $F = $format;
        $value
    }};
}

use with_format;

/// # Safety
/// `args` points to the words that [`ARGS`] names and those behind; see [`crate::Kernel::run`].
pub(crate) unsafe extern "C" fn run<S: Simd>(args: *const u64, thread: u64, threads: u64) {
    unsafe {
        let (s, call) = (S::assume(), Call::new(args));
        if call.a.m <= 2 * FEW {
            few::run(s, &call, share(call.panels(), thread, threads));
        } else {
            let (rows, panels) = split::<S>(call.a.m, call.panels(), thread, threads);
            many::run(s, &call, rows, panels);
        }
    }
}

/// A thread's rows and panels: rows are divided only where there are too few panels to go round,
/// since each part of them reads the weights anew.
fn split<S: Simd>(
    m: usize,
    panels: usize,
    thread: u64,
    threads: u64,
) -> (Range<usize>, Range<usize>) {
    let enough = |parts: &u64| threads / parts * S::PANELS as u64 <= panels as u64;
    let divisors = (1..=threads).filter(|it| threads.is_multiple_of(*it));
    let parts = divisors.clone().find(enough).unwrap_or(threads);
    let across = threads / parts;
    (share(m, thread / across, parts), share(panels, thread % across, across))
}

/// The words of one call.
struct Call<'a> {
    a: Args,
    groups: &'a [Group],
    parts: &'a [Part],
    args: *const u64,
    /// Scratch behind the tiles.
    room: *mut f32,
}

/// Neighbouring panels of a part; with parts beside each other, of each.
struct Piece {
    group: Group,
    parts: Range<usize>,
    panels: Range<usize>,
    /// The column of `y` where the part begins.
    column: usize,
}

/// Where products go: that of row `i` and column `j` of a part to `first + i * stride + j`.
#[derive(Clone, Copy)]
struct Target {
    first: *mut f32,
    stride: usize,
}

impl Target {
    fn at(self, row: usize, column: usize) -> *mut f32 {
        self.first.wrapping_add(row * self.stride + column)
    }
}

impl Call<'_> {
    /// # Safety
    /// As for [`run`].
    unsafe fn new<'a>(args: *const u64) -> Call<'a> {
        unsafe {
            let a = *args.cast::<Args>();
            let first = args.add(ARGS.len());
            let groups: &[Group] = std::slice::from_raw_parts(first.cast(), a.results);
            let first = first.add(a.results * words_of::<Group>());
            let parts =
                std::slice::from_raw_parts(first.cast(), groups.iter().map(|it| it.parts).sum());
            let tiles = groups.iter().map(|it| if it.beside == 0 { 1 } else { it.parts }).max();
            let room = a.scratch.add(tiles.unwrap_or(0) * TILE);
            Call { a, groups, parts, args, room }
        }
    }

    /// A piece of all panels for each part, but for parts beside each other one.
    fn all_pieces(&self) -> impl Iterator<Item = Piece> {
        let mut first = 0;
        self.groups.iter().flat_map(move |group| {
            let parts = first..first + group.parts;
            first = parts.end;
            let mut column = 0;
            let (count, each) = if group.beside == 0 { (group.parts, 1) } else { (1, group.parts) };
            (0..count).map(move |i| {
                let part = parts.start + i;
                let n = self.parts[part].n;
                let begins = column;
                column += n;
                let panels = 0..pack::panels(n);
                Piece { group: *group, parts: part..part + each, panels, column: begins }
            })
        })
    }

    /// How many panels there are to share among threads.
    fn panels(&self) -> usize {
        self.all_pieces().map(|it| it.panels.len()).sum()
    }

    /// The panels `wanted` of all, at most `width` at a time.
    fn pieces(&self, wanted: Range<usize>, width: usize) -> impl Iterator<Item = Piece> {
        let mut first = 0;
        self.all_pieces().flat_map(move |whole| {
            let count = whole.panels.len();
            let [from, to] =
                [wanted.start, wanted.end].map(|it| it.clamp(first, first + count) - first);
            first += count;
            (from..to).step_by(width).map(move |panel| {
                let panels = panel..to.min(panel + width);
                Piece { parts: whole.parts.clone(), panels, ..whole }
            })
        })
    }

    /// The parts that are multiplied for `piece`, with where their products go: to `y`, or to a
    /// tile for each whose first row is `row`.
    fn products(&self, row: usize, piece: &Piece) -> impl Iterator<Item = (&Part, Target)> {
        let (group, scratch) = (piece.group, self.a.scratch);
        let (column, before) = (piece.panels.start * LANES, piece.column);
        let stride = piece.panels.len() * LANES;
        self.parts[piece.parts.clone()].iter().enumerate().map(move |(i, part)| {
            let target = match group.tail {
                None => Target { first: group.y.wrapping_add(before), stride: group.y_stride },
                Some(_) => {
                    let tile = scratch.wrapping_add(i * TILE);
                    Target { first: tile.wrapping_sub(row * stride + column), stride }
                }
            };
            (part, target)
        })
    }

    /// Runs the tail on the tiles of `rows` and `piece`, if there is one.
    ///
    /// # Safety
    /// All products of them are there.
    unsafe fn finish(&self, rows: Range<usize>, piece: &Piece) {
        let Some(tail) = piece.group.tail else { return };
        let n = self.parts[piece.parts.start].n;
        let [from, to] = [piece.panels.start, piece.panels.end].map(|it| n.min(it * LANES));
        let (stride, column) = (piece.panels.len() * LANES, piece.column + from);
        let tile = Tile {
            row: rows.start,
            row_end: rows.end,
            column,
            column_end: piece.column + to,
            products: self.a.scratch.wrapping_sub(rows.start * stride + column),
            stride,
            apart: TILE,
        };
        unsafe { tail(self.args.add(piece.group.tail_words), &tile) };
    }
}
