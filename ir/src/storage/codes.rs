//! One element after the other, where the scales are settled.

use super::small::{self, E2M1, E4M3, E5M2, Small};
use super::{half, k, word};
use crate::DType;

/// What the code of an element stands for: `number * scale * whole - min`.
struct Step {
    scale: f32,
    whole: f32,
    min: f32,
}

/// Where the code of an element stands.
struct Place {
    byte: usize,
    /// Whether it is half a byte, and which: the upper one?
    upper: Option<bool>,
}

/// Writes for element `column` of `row`, bytes of `dtype` that were encoded before, the number
/// nearest to `value` that the scales there allow; that number. `None` where elements of the type
/// can not be written one by one.
pub fn put(dtype: DType, row: &mut [u8], column: usize, value: f32) -> Option<f32> {
    let (head, len, bytes) = (dtype.head_bytes(), dtype.block_len(), dtype.block_bytes());
    let (start, i) = (head + column / len * bytes, column % len);
    let whole = if head == 4 { f32::from_bits(word(row.get(..4)?, 0)) } else { 1.0 };
    let block = row.get_mut(start..start + bytes)?;
    let step = step(dtype, whole, block, i)?;
    let place = place(dtype, i)?;
    let (code, found) = nearest(dtype, &step, value);
    let byte = &mut block[place.byte];
    *byte = match place.upper {
        None => code,
        Some(false) => *byte & 0xf0 | code & 15,
        Some(true) => *byte & 15 | code << 4,
    };
    Some(found)
}

fn step(dtype: DType, whole: f32, block: &[u8], i: usize) -> Option<Step> {
    let scale = match dtype {
        DType::F8E4M3 | DType::F8E5M2 => 1.0,
        DType::F8Block => f32::from_bits(word(block, 0)),
        DType::MxFp8 | DType::MxFp4 => small::decode_e8m0(block[0]),
        DType::NvFp4 => E4M3.decode(block[0]),
        DType::Q8_0 | DType::Q4_0 => half(block, 0),
        DType::Q4K => {
            let (scale, min) = k::scale_and_min(block[4..16].try_into().ok()?, i / 32);
            let min = half(block, 2) * f32::from(min);
            return Some(Step { scale: half(block, 0) * f32::from(scale), whole, min });
        }
        _ => return None,
    };
    Some(Step { scale, whole, min: 0.0 })
}

fn place(dtype: DType, i: usize) -> Option<Place> {
    let halves = |start: usize, i: usize, n: usize| (start + i % n, Some(n <= i));
    let (byte, upper) = match dtype {
        DType::F8E4M3 | DType::F8E5M2 => (0, None),
        DType::F8Block => (4 + i, None),
        DType::MxFp8 => (1 + i, None),
        DType::Q8_0 => (2 + i, None),
        DType::NvFp4 => (1 + i / 2, Some(i % 2 == 1)),
        DType::MxFp4 => halves(1, i, 16),
        DType::Q4_0 => halves(2, i, 16),
        DType::Q4K => halves(16 + i / 64 * 32, i % 64, 32),
        _ => return None,
    };
    Some(Place { byte, upper })
}

/// The code of the nearest number, and that number.
fn nearest(dtype: DType, step: &Step, value: f32) -> (u8, f32) {
    let unit = step.scale * step.whole;
    let number = if unit == 0.0 { 0.0 } else { (value + step.min) / unit };
    let float = |kind: Small| {
        let code = kind.encode(number);
        (code, kind.decode(code) * step.scale * step.whole)
    };
    let integer = |least: f32, most: f32, zero: f32| {
        let rounded = number.round_ties_even().clamp(least, most);
        ((rounded + zero) as i32 as u8, step.scale * rounded - step.min)
    };
    match dtype {
        DType::F8E5M2 => float(E5M2),
        DType::MxFp4 | DType::NvFp4 => float(E2M1),
        DType::Q8_0 => integer(-127.0, 127.0, 0.0),
        DType::Q4_0 => integer(-8.0, 7.0, 8.0),
        DType::Q4K => integer(0.0, 15.0, 0.0),
        _ => float(E4M3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Encoding, decode_rows, encode};

    /// What is put is what is read, and the neighbours stay; what was read before is put again
    /// without a change.
    #[test]
    fn what_is_put_is_read() {
        let names = Encoding::names().filter(|it| !["f32", "bf16", "f16"].contains(it));
        for name in names {
            let encoding = Encoding::from_name(name).unwrap();
            let dtype = encoding.dtype;
            let wave = |i: usize| (i as f32 * 0.37).sin() * (1.0 + (i / 32) as f32);
            let values: Vec<f32> = (0..256).map(wave).collect();
            let mut row = encode(encoding, 256, &values).unwrap();
            let mut read = vec![0.0; 256];
            decode_rows(dtype, 256, &row, &mut read).unwrap();
            let before = row.clone();
            for (i, it) in read.iter().enumerate() {
                assert_eq!(put(dtype, &mut row, i, *it), Some(*it), "{name} {i}");
            }
            assert!(row == before, "{name}");
            let new = put(dtype, &mut row, 77, read[78]).unwrap();
            read[77] = new;
            let mut again = vec![0.0; 256];
            decode_rows(dtype, 256, &row, &mut again).unwrap();
            assert_eq!(again, read, "{name}");
        }
    }

    #[test]
    fn what_is_no_block_is_refused() {
        assert_eq!(put(DType::F32, &mut [0; 4], 0, 1.0), None);
        assert_eq!(put(DType::Q8_0, &mut [0; 34], 32, 1.0), None);
        assert_eq!(put(DType::NvFp4, &mut [0; 13], 3, 5.0), Some(0.0));
    }
}
