//! The one layout of weights that every kernel reads, whatever the instruction set.
//!
//! Weights `W[n, k]` come as rows of blocks, as in GGUF and safetensors files. Sixteen rows make a
//! *panel*; the last panel is padded with zero bytes. In a panel the blocks follow each other along
//! `k`; in a block each field of 1, 2 or 4 bytes is stored for the sixteen rows side by side, so
//! that a vector load has one row a lane. The order of the fields is that of the file
//! ([`ir::storage`] lists them), bytes inside a field do not move, and nothing grows: packing is a
//! transposition.
//!
//! | format | a packed block |
//! |---|---|
//! | F32 | `[16]` words |
//! | F16, BF16 | `[16]` halves |
//! | Q4_0, Q4_1 | `d[16]`, (`m[16]`), 4 x `q[16]`: word `w` of a row: bytes `4w..4w + 4` of `q` |
//! | Q5_0, Q5_1 | `d[16]`, (`m[16]`), `h[16]`, 4 x `q[16]` |
//! | Q8_0 | `d[16]`, 8 x `q[16]` |
//! | Q4_K | `d[16]`, `m[16]`, 3 x `s[16]`, 32 x `q[16]` |
//! | Q5_K | `d[16]`, `m[16]`, 3 x `s[16]`, 8 x `h[16]`, 32 x `q[16]` |
//! | Q6_K | 32 x `q[16]`, 16 x `h[16]`, 4 x `s[16]`, `d[16]` |
//! | F8_E4M3, F8_E5M2 | `[16]` bytes |
//! | F8_BLOCK | `scale[16]`, 128 x `[16]` bytes |
//! | MXFP8 | `e[16]`, 32 x `[16]` bytes |
//! | MXFP4, NVFP4 | `e[16]` or `s[16]` of a byte, then 4 or 2 x `q[16]` |
//!
//! Where rows begin with a scale, a panel begins with those of its rows.

use crate::LANES;
use ir::DType;
use std::ops::Range;

/// Why weights could not be packed or a packed row not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackError {
    /// Not a storage format of weights, or `k` is not a whole number of its blocks.
    Format(DType),
    /// A slice has another length than the format and the extents give.
    Length {
        /// Bytes or elements that it should have.
        want: usize,
        /// What it has.
        got: usize,
    },
    /// A row or panel beyond the last.
    Range,
}

impl std::fmt::Display for PackError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PackError::Format(dtype) => {
                write!(f, "rows of this length cannot be packed as {dtype}")
            }
            PackError::Length { want, got } => write!(f, "expected a length of {want}, got {got}"),
            PackError::Range => f.write_str("no such row"),
        }
    }
}

impl std::error::Error for PackError {}

/// A run of equal fields of a block.
#[derive(Clone, Copy)]
struct Fields {
    bytes: usize,
    count: usize,
}

/// The fields of a block, in the order of the file.
fn fields(dtype: DType) -> Option<[Fields; 3]> {
    let none = Fields { bytes: 1, count: 0 };
    let bytes = |count| Fields { bytes: 1, count };
    let words = |count| Fields { bytes: 4, count };
    let (lead, n_words, trail) = match dtype {
        DType::F32 => (0, 1, 0),
        DType::F16 | DType::BF16 => (1, 0, 0),
        DType::Q4_0 => (1, 4, 0),
        DType::Q4_1 => (2, 4, 0),
        DType::Q5_0 => (1, 5, 0),
        DType::Q5_1 => (2, 5, 0),
        DType::Q8_0 => (1, 8, 0),
        DType::Q4K => (2, 35, 0),
        DType::Q5K => (2, 43, 0),
        DType::Q6K => (0, 52, 1),
        DType::F8E4M3 | DType::F8E5M2 => return Some([bytes(1), none, none]),
        DType::F8Block => return Some([words(1), bytes(128), none]),
        DType::MxFp8 => return Some([bytes(33), none, none]),
        DType::MxFp4 => return Some([bytes(1), words(4), none]),
        DType::NvFp4 => return Some([bytes(1), words(2), none]),
        DType::F64 | DType::I32 | DType::Bool | DType::Mixed => return None,
    };
    let halves = |count| Fields { bytes: 2, count };
    Some([halves(lead), words(n_words), halves(trail)])
}

/// Panels of a table with `n` rows.
pub fn panels(n: usize) -> usize {
    n.div_ceil(LANES)
}

/// Bytes of one panel of rows with `k` elements; `None` if they cannot be packed.
pub fn panel_bytes(dtype: DType, k: usize) -> Option<usize> {
    fields(dtype)?;
    dtype.bytes(LANES, k)
}

/// Bytes of packed `W[n, k]`; `None` if it cannot be packed.
pub fn packed_bytes(dtype: DType, n: usize, k: usize) -> Option<usize> {
    panel_bytes(dtype, k)?.checked_mul(panels(n))
}

/// Packs `W[n, k]` from the bytes of its rows.
pub fn pack(dtype: DType, n: usize, k: usize, src: &[u8], dst: &mut [u8]) -> Result<(), PackError> {
    pack_panels(dtype, n, k, src, 0..panels(n), dst)
}

/// Packs some panels of `W[n, k]`, so that threads can share the work.
///
/// `src` is all rows, `dst` the bytes of these panels alone.
pub fn pack_panels(
    dtype: DType,
    n: usize,
    k: usize,
    src: &[u8],
    range: Range<usize>,
    dst: &mut [u8],
) -> Result<(), PackError> {
    let panel = panel_bytes(dtype, k).ok_or(PackError::Format(dtype))?;
    let row = panel / LANES;
    check_length(row.checked_mul(n), src.len())?;
    check_length(range.len().checked_mul(panel), dst.len())?;
    if panels(n) < range.end {
        return Err(PackError::Range);
    }
    if panel == 0 {
        return Ok(());
    }
    let zeros = vec![0; row];
    for (index, dst) in range.zip(dst.chunks_exact_mut(panel)) {
        let rows: [&[u8]; LANES] = std::array::from_fn(|lane| {
            let at = (index * LANES + lane) * row;
            src.get(at..at + row).unwrap_or(&zeros)
        });
        pack_panel(dtype, rows, dst);
    }
    Ok(())
}

fn check_length(want: Option<usize>, got: usize) -> Result<(), PackError> {
    let want = want.ok_or(PackError::Range)?;
    if want == got { Ok(()) } else { Err(PackError::Length { want, got }) }
}

fn pack_panel(dtype: DType, rows: [&[u8]; LANES], dst: &mut [u8]) {
    let head = dtype.head_bytes();
    let (heads, dst) = dst.split_at_mut(head * LANES);
    for (head, to) in rows.iter().zip(heads.chunks_exact_mut(head.max(1))) {
        to.copy_from_slice(&head[..to.len()]);
    }
    let rows = rows.map(|row| &row[head..]);
    match dtype {
        DType::F8E4M3 | DType::F8E5M2 => interleave::<1, LANES>(rows, dst),
        DType::F8Block | DType::MxFp8 | DType::MxFp4 | DType::NvFp4 => {
            interleave_fields(dtype, rows, dst);
        }
        DType::F32 => interleave::<4, { 4 * LANES }>(rows, dst),
        DType::F16 | DType::BF16 => interleave::<2, { 2 * LANES }>(rows, dst),
        DType::Q4_0 => interleave_blocks::<18, { 18 * LANES }, 1, 4>(rows, dst),
        DType::Q4_1 => interleave_blocks::<20, { 20 * LANES }, 2, 4>(rows, dst),
        DType::Q5_0 => interleave_blocks::<22, { 22 * LANES }, 1, 5>(rows, dst),
        DType::Q5_1 => interleave_blocks::<24, { 24 * LANES }, 2, 5>(rows, dst),
        DType::Q8_0 => interleave_blocks::<34, { 34 * LANES }, 1, 8>(rows, dst),
        DType::Q4K => interleave_blocks::<144, { 144 * LANES }, 2, 35>(rows, dst),
        DType::Q5K => interleave_blocks::<176, { 176 * LANES }, 2, 43>(rows, dst),
        DType::Q6K => interleave_blocks::<210, { 210 * LANES }, 0, 52>(rows, dst),
        DType::F64 | DType::I32 | DType::Bool | DType::Mixed => {
            unreachable!("refused by panel_bytes")
        }
    }
}

/// Interleaves blocks of `B` bytes a row, `ALL` of all rows: so many halves, so many words, and
/// halves again.
fn interleave_blocks<const B: usize, const ALL: usize, const LEAD: usize, const WORDS: usize>(
    rows: [&[u8]; LANES],
    dst: &mut [u8],
) {
    let rows = rows.map(|row| row.as_chunks::<B>().0);
    for (index, dst) in dst.as_chunks_mut::<ALL>().0.iter_mut().enumerate() {
        for (lane, row) in rows.iter().enumerate() {
            let block = &row[index];
            let mut field = |at: usize, bytes: usize| {
                dst[at * LANES + lane * bytes..][..bytes].copy_from_slice(&block[at..at + bytes]);
            };
            for i in 0..LEAD {
                field(2 * i, 2);
            }
            for i in 0..WORDS {
                field(2 * LEAD + 4 * i, 4);
            }
            for at in (2 * LEAD + 4 * WORDS..B).step_by(2) {
                field(at, 2);
            }
        }
    }
}

/// Interleaves blocks field by field, as [`fields`] says.
fn interleave_fields(dtype: DType, rows: [&[u8]; LANES], dst: &mut [u8]) {
    let Some(fields) = fields(dtype) else { return };
    let bytes = dtype.block_bytes();
    for (index, dst) in dst.chunks_exact_mut(bytes * LANES).enumerate() {
        let mut at = 0;
        for Fields { bytes: width, count } in fields {
            for _ in 0..count {
                let all = dst[at * LANES..][..width * LANES].chunks_exact_mut(width);
                for (row, to) in rows.iter().zip(all) {
                    to.copy_from_slice(&row[index * bytes + at..][..width]);
                }
                at += width;
            }
        }
    }
}

/// Writes `B` bytes of each row in turn: `ALL` bytes of all rows together.
fn interleave<const B: usize, const ALL: usize>(rows: [&[u8]; LANES], dst: &mut [u8]) {
    // A stretch of rows long enough to stream and short enough to stay in the first cache.
    const STRETCH: usize = 64;
    for (part, dst) in dst.chunks_mut(STRETCH * ALL).enumerate() {
        for (lane, row) in rows.iter().enumerate() {
            let fields = row[part * STRETCH * B..].as_chunks::<B>().0;
            for (all, field) in dst.as_chunks_mut::<ALL>().0.iter_mut().zip(fields) {
                all[lane * B..][..B].copy_from_slice(field);
            }
        }
    }
}

/// The values of row `row` of packed `W[n, k]`, where `out` has `k` elements.
pub fn decode_row(
    dtype: DType,
    packed: &[u8],
    row: usize,
    out: &mut [f32],
) -> Result<(), PackError> {
    let k = out.len();
    let panel = panel_bytes(dtype, k).ok_or(PackError::Format(dtype))?;
    let at = (row / LANES).checked_mul(panel).ok_or(PackError::Range)?;
    let panel = packed.get(at..).and_then(|it| it.get(..panel)).ok_or(PackError::Range)?;
    decode_lane(dtype, panel, row % LANES, out);
    Ok(())
}

/// Bytes of the largest block with the head of its row.
const MAX_BLOCK: usize = 210;

/// The values of one row of a panel: puts each block together again and decodes it.
fn decode_lane(dtype: DType, panel: &[u8], lane: usize, out: &mut [f32]) {
    let (length, bytes) = (dtype.block_len(), dtype.block_bytes());
    let Some(fields) = fields(dtype) else { return };
    let head = dtype.head_bytes();
    let mut block = [0; MAX_BLOCK];
    let (heads, panel) = panel.split_at(head * LANES);
    block[..head].copy_from_slice(&heads[lane * head..][..head]);
    for (packed, out) in panel.chunks_exact(bytes * LANES).zip(out.chunks_exact_mut(length)) {
        let (mut from, mut to) = (0, head);
        for Fields { bytes, count } in fields {
            for _ in 0..count {
                block[to..to + bytes].copy_from_slice(&packed[from + lane * bytes..][..bytes]);
                (from, to) = (from + LANES * bytes, to + bytes);
            }
        }
        ir::storage::decode(dtype, &block[..head + bytes], out).expect("one block");
    }
}
