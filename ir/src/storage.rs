//! What the bytes of a storage format stand for.
//!
//! All numbers are little endian. A block begins where the one before it ends. `d`, `m` are `f16`;
//! `lo(b)`, `hi(b)` are the lower and upper four bits of a byte. The arithmetic is done in `f32`
//! in the order written, so the values equal those of the `gguf` Python package bit for bit.
//!
//! | format | fields of a block, in order | value of element `i` |
//! |---|---|---|
//! | Q4_0 | `d`, `q[16]` | `d * (u - 8)`, `u = lo(q[i])`, or `hi(q[i - 16])` from 16 on |
//! | Q4_1 | `d`, `m`, `q[16]` | `d * u + m` |
//! | Q5_0 | `d`, `h: u32`, `q[16]` | `d * (u + 16 * bit i of h - 16)` |
//! | Q5_1 | `d`, `m`, `h: u32`, `q[16]` | `d * (u + 16 * bit i of h) + m` |
//! | Q8_0 | `d`, `q[32]: i8` | `q[i] * d` |
//! | Q4_K | `d`, `m`, `s[12]`, `q[128]` | `(d * scale(i / 32)) * u - m * min(i / 32)` |
//! | Q5_K | `d`, `m`, `s[12]`, `h[32]`, `q[128]` | the same with `u + 16 * bit (i / 32) of h[i % 32]` |
//! | Q6_K | `q[128]`, `h[64]`, `s[16]: i8`, `d` | `(d * s[i / 16]) * (u + 16 * v - 32)` |
//! | F8_E4M3, F8_E5M2 | `q` | `float(q) * scale` |
//! | F8_BLOCK | `scale: f32`, `q[128]` of E4M3 | `float(q[i]) * scale` |
//! | MXFP8 | `e` of E8M0, `q[32]` of E4M3 | `float(q[i]) * float(e)` |
//! | MXFP4 | `e` of E8M0, `q[16]` of E2M1 | `float(u) * float(e)`, `u` as in Q4_0 |
//! | NVFP4 | `s` of E4M3, `q[8]` of E2M1 | `float(u) * float(s) * scale` |
//!
//! In Q4_K and Q5_K, `u` is the lower half of `q[i / 64 * 32 + i % 32]` for even `i / 32`, else the
//! upper half; [`scale_and_min`] unpacks `s`. In Q6_K every 128 elements use 64 bytes of `q` and 32
//! of `h`: with `j = i % 128`, `u` is the lower half of `q[j]` for `j < 64`, else the upper half of
//! `q[j - 64]`, and `v` is two bits of `h[j % 32]`, from bit `2 * (j / 32)`.
//!
//! A row of F8_E4M3, F8_E5M2 or NVFP4 begins with `scale: f32`; rows of a matrix that has one scale
//! repeat it, so that each row can be read by itself. In NVFP4, `u` is the lower half of `q[i / 2]`
//! for even `i`, else the upper half. [`small`] tells of the floats of four and eight bits.

mod blocks;
mod codes;
mod eight;
mod encoding;
mod fit;
mod four;
mod k;
pub mod small;

pub use codes::put;
pub use encoding::{Beside, Encoding, Scales, encode, encode_beside};
pub use k::scale_and_min;

use crate::DType;

/// Why bytes could not be decoded, or numbers not be written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mismatch {
    /// These bytes are not that many elements of that type.
    Size {
        /// The storage format asked for.
        dtype: DType,
        /// Bytes given.
        bytes: usize,
        /// Elements wanted.
        elements: usize,
    },
    /// The format has no code for a number that is infinite or none.
    NotFinite {
        /// The storage format asked for.
        dtype: DType,
        /// The number.
        value: f32,
        /// Which of all it is.
        at: usize,
    },
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Mismatch::Size { dtype, bytes, elements } => {
                write!(f, "{bytes} bytes are not {elements} elements of {dtype}")
            }
            Mismatch::NotFinite { dtype, value, at } => {
                write!(f, "number {at} is {value}, for which {dtype} has no code")
            }
        }
    }
}

impl std::error::Error for Mismatch {}

/// Writes the value of every element of `bytes`, one row of `dtype`, to `out`.
///
/// `Bool`, `F64` and `Mixed` are not storage formats of weights and are refused.
pub fn decode(dtype: DType, bytes: &[u8], out: &mut [f32]) -> Result<(), Mismatch> {
    let mismatch = Mismatch::Size { dtype, bytes: bytes.len(), elements: out.len() };
    if dtype.bytes(1, out.len()) != Some(bytes.len()) {
        return Err(mismatch);
    }
    if let Some((scale, codes)) = bytes.split_first_chunk().filter(|_| dtype.head_bytes() == 4) {
        decode_row(dtype, f32::from_le_bytes(*scale), codes, out);
        return Ok(());
    }
    let decode_block = decoder(dtype).ok_or(mismatch)?;
    let blocks = bytes.chunks_exact(dtype.block_bytes());
    for (block, out) in blocks.zip(out.chunks_exact_mut(dtype.block_len())) {
        decode_block(block, out);
    }
    Ok(())
}

/// The same for rows of `columns` elements that follow each other.
pub fn decode_rows(
    dtype: DType,
    columns: usize,
    bytes: &[u8],
    out: &mut [f32],
) -> Result<(), Mismatch> {
    if dtype.head_bytes() == 0 {
        return decode(dtype, bytes, out);
    }
    let rows = out.len() / columns.max(1);
    if dtype.bytes(rows, columns) != Some(bytes.len()) || rows * columns != out.len() {
        return Err(Mismatch::Size { dtype, bytes: bytes.len(), elements: out.len() });
    }
    let rows = bytes.chunks_exact(bytes.len().checked_div(rows).unwrap_or(0).max(1));
    rows.zip(out.chunks_exact_mut(columns.max(1)))
        .try_for_each(|(row, out)| decode(dtype, row, out))
}

/// A row after the scale that it begins with.
fn decode_row(dtype: DType, scale: f32, codes: &[u8], out: &mut [f32]) {
    match dtype {
        DType::NvFp4 => four::decode_nvfp4(scale, codes, out),
        DType::F8E5M2 => eight::decode_scaled(small::E5M2, scale, codes, out),
        _ => eight::decode_scaled(small::E4M3, scale, codes, out),
    }
}

/// Decodes one block: the arguments have exactly a block's bytes and elements.
type BlockDecoder = fn(&[u8], &mut [f32]);

fn decoder(dtype: DType) -> Option<BlockDecoder> {
    Some(match dtype {
        DType::F32 => |block, out| out[0] = f32::from_bits(word(block, 0)),
        DType::F16 => |block, out| out[0] = half(block, 0),
        DType::BF16 => |block, out| out[0] = brain(block),
        DType::I32 => |block, out| out[0] = word(block, 0) as i32 as f32,
        DType::Q4_0 => blocks::q4_0,
        DType::Q4_1 => blocks::q4_1,
        DType::Q5_0 => blocks::q5_0,
        DType::Q5_1 => blocks::q5_1,
        DType::Q8_0 => blocks::q8_0,
        DType::Q4K => k::q4_k,
        DType::Q5K => k::q5_k,
        DType::Q6K => k::q6_k,
        DType::F8Block => eight::f8_block,
        DType::MxFp8 => eight::mxfp8,
        DType::MxFp4 => four::mxfp4,
        DType::F64 | DType::Bool | DType::Mixed => return None,
        DType::F8E4M3 | DType::F8E5M2 | DType::NvFp4 => return None,
    })
}

/// The largest magnitude of each block of a matrix.
#[derive(Clone)]
struct Amax {
    columns: usize,
    /// Columns of a block.
    wide: usize,
    /// Rows of a block.
    tall: usize,
    found: Vec<f32>,
}

impl Amax {
    /// Of blocks of `tall` rows and `wide` columns, which divide the columns.
    fn new(values: &[f32], columns: usize, wide: usize, tall: usize) -> Amax {
        let bands = values.chunks(columns * tall);
        let mut found = Vec::new();
        for band in bands {
            let at = found.len();
            found.resize(at + columns / wide, 0.0f32);
            for row in band.chunks_exact(columns) {
                for (most, block) in found[at..].iter_mut().zip(row.chunks_exact(wide)) {
                    *most = block.iter().fold(*most, |most, it| most.max(it.abs()));
                }
            }
        }
        Amax { columns, wide, tall, found }
    }

    fn at(&self, row: usize, block: usize) -> f32 {
        self.found[self.place(row, block)]
    }

    /// Where the magnitude of a block of `wide` elements of a row stands.
    fn place(&self, row: usize, block: usize) -> usize {
        row / self.tall * (self.columns / self.wide) + block
    }

    /// Of the whole matrix.
    fn whole(&self) -> f32 {
        self.found.iter().copied().fold(0.0, f32::max)
    }
}

fn half(bytes: &[u8], at: usize) -> f32 {
    half::f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

fn brain(bytes: &[u8]) -> f32 {
    half::bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Four bits of element `i` of a run of `2 * n`, whose lower halves hold the first `n` elements.
fn nibble(bytes: &[u8], n: usize, i: usize) -> i32 {
    i32::from(if i < n { bytes[i] & 15 } else { bytes[i - n] >> 4 })
}

fn bit(word: u32, i: usize) -> i32 {
    (word >> i & 1) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `tests/fixtures/storage.py`: for each format its length in bytes and in elements
    /// (`u32`), random blocks, and the values that the `gguf` package decodes from them.
    const GOLDEN: &[u8] = include_bytes!("../tests/fixtures/storage.bin");

    #[test]
    fn values_equal_the_gguf_package_bit_for_bit() {
        let formats = [
            DType::F32,
            DType::F16,
            DType::BF16,
            DType::Q4_0,
            DType::Q4_1,
            DType::Q5_0,
            DType::Q5_1,
            DType::Q8_0,
            DType::Q4K,
            DType::Q5K,
            DType::Q6K,
        ];
        let mut rest = GOLDEN;
        for dtype in formats {
            let (bytes, elements) = (word(rest, 0) as usize, word(rest, 4) as usize);
            let (block, after) = rest[8..].split_at(bytes);
            let (want, after) = after.split_at(4 * elements);
            let mut got = vec![f32::NAN; elements];
            decode(dtype, block, &mut got).unwrap();
            let want: Vec<u32> = want.chunks_exact(4).map(|it| word(it, 0)).collect();
            let got: Vec<u32> = got.iter().map(|it| it.to_bits()).collect();
            assert_eq!(got, want, "{dtype}");
            rest = after;
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn integers_read_as_floats() {
        let mut out = [0.0; 2];
        decode(DType::I32, &[3, 0, 0, 0, 255, 255, 255, 255], &mut out).unwrap();
        assert_eq!(out, [3.0, -1.0]);
    }

    #[test]
    fn wrong_lengths_are_refused() {
        let mut out = [0.0; 32];
        assert!(decode(DType::Q4_0, &[0; 17], &mut out).is_err());
        assert!(decode(DType::Q4_0, &[0; 18], &mut out[..31]).is_err());
        assert!(decode(DType::Q4K, &[0; 144], &mut out).is_err());
        assert!(decode(DType::Mixed, &[0; 128], &mut out).is_err());
        assert!(decode(DType::Q4_0, &[], &mut []).is_ok());
    }
}
