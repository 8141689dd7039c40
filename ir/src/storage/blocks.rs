//! GGUF's blocks of 32: Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0.

use super::{bit, half, nibble, word};

pub(super) fn q4_0(block: &[u8], out: &mut [f32]) {
    let d = half(block, 0);
    for (i, out) in out.iter_mut().enumerate() {
        *out = d * (nibble(&block[2..], 16, i) - 8) as f32;
    }
}

pub(super) fn q4_1(block: &[u8], out: &mut [f32]) {
    let (d, m) = (half(block, 0), half(block, 2));
    for (i, out) in out.iter_mut().enumerate() {
        *out = d * nibble(&block[4..], 16, i) as f32 + m;
    }
}

pub(super) fn q5_0(block: &[u8], out: &mut [f32]) {
    let (d, h) = (half(block, 0), word(block, 2));
    for (i, out) in out.iter_mut().enumerate() {
        *out = d * (nibble(&block[6..], 16, i) + 16 * bit(h, i) - 16) as f32;
    }
}

pub(super) fn q5_1(block: &[u8], out: &mut [f32]) {
    let (d, m, h) = (half(block, 0), half(block, 2), word(block, 4));
    for (i, out) in out.iter_mut().enumerate() {
        *out = d * (nibble(&block[8..], 16, i) + 16 * bit(h, i)) as f32 + m;
    }
}

pub(super) fn q8_0(block: &[u8], out: &mut [f32]) {
    let d = half(block, 0);
    for (q, out) in block[2..].iter().zip(out) {
        *out = f32::from(*q as i8) * d;
    }
}

/// One over a number, and zero over zero.
fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

/// The magnitude `amax` becomes 127. Ties are rounded away from zero.
pub(super) fn encode_q8_0(values: &[f32], amax: f32, out: &mut Vec<u8>) {
    let d = amax / 127.0;
    out.extend(half::f16::from_f32(d).to_le_bytes());
    out.extend(values.iter().map(|it| (it * inverse(d)).round() as i8 as u8));
}

/// The magnitude `amax` becomes -8, if it is that of the first of the largest numbers.
pub(super) fn encode_q4_0(values: &[f32], amax: f32, out: &mut Vec<u8>) {
    let larger = |most: f32, it: &f32| if most.abs() < it.abs() { *it } else { most };
    let d = amax.copysign(values.iter().fold(0.0, larger)) / -8.0;
    out.extend(half::f16::from_f32(d).to_le_bytes());
    let code = |it: &f32| (it * inverse(d) + 8.5).clamp(0.0, 15.0) as u8;
    let (low, high) = values.split_at(16);
    out.extend(low.iter().zip(high).map(|(low, high)| code(low) | code(high) << 4));
}
