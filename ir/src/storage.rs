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
//!
//! In Q4_K and Q5_K, `u` is the lower half of `q[i / 64 * 32 + i % 32]` for even `i / 32`, else the
//! upper half; [`scale_and_min`] unpacks `s`. In Q6_K every 128 elements use 64 bytes of `q` and 32
//! of `h`: with `j = i % 128`, `u` is the lower half of `q[j]` for `j < 64`, else the upper half of
//! `q[j - 64]`, and `v` is two bits of `h[j % 32]`, from bit `2 * (j / 32)`.

use crate::DType;

/// Why bytes could not be decoded: these bytes are not that many elements of that type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The storage format asked for.
    pub dtype: DType,
    /// Bytes given.
    pub bytes: usize,
    /// Elements wanted.
    pub elements: usize,
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Mismatch { dtype, bytes, elements } = self;
        write!(f, "{bytes} bytes are not {elements} elements of {dtype}")
    }
}

impl std::error::Error for Mismatch {}

/// Writes the value of every element of `bytes`, whole blocks of `dtype`, to `out`.
///
/// `Bool`, `F64` and `Mixed` are not storage formats of weights and are refused.
pub fn decode(dtype: DType, bytes: &[u8], out: &mut [f32]) -> Result<(), Mismatch> {
    let mismatch = Mismatch { dtype, bytes: bytes.len(), elements: out.len() };
    let decode_block = decoder(dtype).ok_or(mismatch)?;
    if dtype.bytes(1, out.len()) != Some(bytes.len()) {
        return Err(mismatch);
    }
    let blocks = bytes.chunks_exact(dtype.block_bytes());
    for (block, out) in blocks.zip(out.chunks_exact_mut(dtype.block_len())) {
        decode_block(block, out);
    }
    Ok(())
}

/// Decodes one block: the arguments have exactly a block's bytes and elements.
type BlockDecoder = fn(&[u8], &mut [f32]);

fn decoder(dtype: DType) -> Option<BlockDecoder> {
    Some(match dtype {
        DType::F32 => |block, out| out[0] = f32::from_bits(word(block, 0)),
        DType::F16 => |block, out| out[0] = half(block, 0),
        DType::BF16 => |block, out| out[0] = brain(block),
        DType::I32 => |block, out| out[0] = word(block, 0) as i32 as f32,
        DType::Q4_0 => q4_0,
        DType::Q4_1 => q4_1,
        DType::Q5_0 => q5_0,
        DType::Q5_1 => q5_1,
        DType::Q8_0 => q8_0,
        DType::Q4K => q4_k,
        DType::Q5K => q5_k,
        DType::Q6K => q6_k,
        DType::F64 | DType::Bool | DType::Mixed => return None,
    })
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

fn q4_0(block: &[u8], out: &mut [f32]) {
    let d = half(block, 0);
    for (i, out) in out.iter_mut().enumerate() {
        *out = d * (nibble(&block[2..], 16, i) - 8) as f32;
    }
}

fn q4_1(block: &[u8], out: &mut [f32]) {
    let (d, m) = (half(block, 0), half(block, 2));
    for (i, out) in out.iter_mut().enumerate() {
        *out = d * nibble(&block[4..], 16, i) as f32 + m;
    }
}

fn q5_0(block: &[u8], out: &mut [f32]) {
    let (d, h) = (half(block, 0), word(block, 2));
    for (i, out) in out.iter_mut().enumerate() {
        *out = d * (nibble(&block[6..], 16, i) + 16 * bit(h, i) - 16) as f32;
    }
}

fn q5_1(block: &[u8], out: &mut [f32]) {
    let (d, m, h) = (half(block, 0), half(block, 2), word(block, 4));
    for (i, out) in out.iter_mut().enumerate() {
        *out = d * (nibble(&block[8..], 16, i) + 16 * bit(h, i)) as f32 + m;
    }
}

fn q8_0(block: &[u8], out: &mut [f32]) {
    let d = half(block, 0);
    for (q, out) in block[2..].iter().zip(out) {
        *out = f32::from(*q as i8) * d;
    }
}

/// Scale and minimum, six bits each, of group `j < 8` in the twelve bytes of Q4_K and Q5_K.
///
/// Bytes 0..4 and 4..8 hold the scales and minima of groups 0..4 in their lower six bits; bytes
/// 8..12 the lower four bits of scale and of minimum of groups 4..8, whose upper two bits fill the
/// upper bits of the first eight bytes.
pub fn scale_and_min(s: &[u8; 12], j: usize) -> (u8, u8) {
    if j < 4 {
        return (s[j] & 63, s[j + 4] & 63);
    }
    (s[j + 4] & 15 | s[j - 4] >> 6 << 4, s[j + 4] >> 4 | s[j] >> 6 << 4)
}

/// Q4_K and Q5_K from their head, their nibbles, and the fifth bit of element `i`.
fn k_block(head: &[u8], q: &[u8], fifth: impl Fn(usize) -> i32, out: &mut [f32]) {
    let (d, m) = (half(head, 0), half(head, 2));
    let s: &[u8; 12] = head[4..16].try_into().expect("twelve bytes");
    for (j, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, min) = scale_and_min(s, j);
        let (d, m) = (d * f32::from(scale), m * f32::from(min));
        for (i, out) in out.iter_mut().enumerate() {
            let u = nibble(&q[j / 2 * 32..][..32], 32, j % 2 * 32 + i);
            *out = d * (u + 16 * fifth(j * 32 + i)) as f32 - m;
        }
    }
}

fn q4_k(block: &[u8], out: &mut [f32]) {
    k_block(block, &block[16..], |_| 0, out);
}

fn q5_k(block: &[u8], out: &mut [f32]) {
    let h = &block[16..48];
    k_block(block, &block[48..], |i| bit(u32::from(h[i % 32]), i / 32), out);
}

fn q6_k(block: &[u8], out: &mut [f32]) {
    let (q, h, s, d) = (&block[..128], &block[128..192], &block[192..208], half(block, 208));
    for (i, out) in out.iter_mut().enumerate() {
        let (run, j) = (i / 128, i % 128);
        let u = nibble(&q[run * 64..][..64], 64, j);
        let v = i32::from(h[run * 32 + j % 32] >> (2 * (j / 32)) & 3);
        *out = (d * f32::from(s[i / 16] as i8)) * (u + 16 * v - 32) as f32;
    }
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
