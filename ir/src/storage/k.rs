//! GGUF's blocks of 256: Q4_K, Q5_K and Q6_K.

use super::{bit, half, nibble};

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

pub(super) fn q4_k(block: &[u8], out: &mut [f32]) {
    k_block(block, &block[16..], |_| 0, out);
}

pub(super) fn q5_k(block: &[u8], out: &mut [f32]) {
    let h = &block[16..48];
    k_block(block, &block[48..], |i| bit(u32::from(h[i % 32]), i / 32), out);
}

pub(super) fn q6_k(block: &[u8], out: &mut [f32]) {
    let (q, h, s, d) = (&block[..128], &block[128..192], &block[192..208], half(block, 208));
    for (i, out) in out.iter_mut().enumerate() {
        let (run, j) = (i / 128, i % 128);
        let u = nibble(&q[run * 64..][..64], 64, j);
        let v = i32::from(h[run * 32 + j % 32] >> (2 * (j / 32)) & 3);
        *out = (d * f32::from(s[i / 16] as i8)) * (u + 16 * v - 32) as f32;
    }
}

/// Sixteenths of a group's range at which a scale is looked for, besides the range itself: this
/// many, a tenth of a step apart, from one step less.
const TRIALS: usize = 20;

/// Q4_K as `quantize_row_q4_K_ref` of llama.cpp makes it: for each group of 32 the scale and
/// minimum of the least squares, weighted by magnitude; then both in six bits, and the elements
/// again with what these stand for.
pub(super) fn encode_q4_k(values: &[f32], out: &mut Vec<u8>) {
    let mut groups = [(0.0f32, 0.0f32); 8];
    for (group, values) in groups.iter_mut().zip(values.chunks_exact(32)) {
        *group = fit(values);
    }
    let most = groups.iter().fold((0.0f32, 0.0f32), |a, b| (a.0.max(b.0), a.1.max(b.1)));
    let six_bits = |it: f32, most: f32| {
        let inverse = if 0.0 < most { 63.0 / most } else { 0.0 };
        (inverse * it).round_ties_even().clamp(0.0, 63.0) as u8
    };
    let codes = groups.map(|(scale, min)| (six_bits(scale, most.0), six_bits(min, most.1)));
    let (d, m) = (half::f16::from_f32(most.0 / 63.0), half::f16::from_f32(most.1 / 63.0));
    out.extend(d.to_le_bytes());
    out.extend(m.to_le_bytes());
    out.extend(packed_scales(&codes));
    let element = |i: usize| {
        let (scale, min) = codes[i / 32];
        let (d, m) = (d.to_f32() * f32::from(scale), m.to_f32() * f32::from(min));
        if d == 0.0 { 0 } else { ((values[i] + m) / d).round_ties_even().clamp(0.0, 15.0) as u8 }
    };
    out.extend((0..128).map(|i| i / 32 * 64 + i % 32).map(|i| element(i) | element(i + 32) << 4));
}

/// What [`scale_and_min`] unpacks.
fn packed_scales(codes: &[(u8, u8); 8]) -> [u8; 12] {
    let mut s = [0; 12];
    for j in 0..4 {
        let ((scale, min), (scale4, min4)) = (codes[j], codes[j + 4]);
        s[j] = scale | scale4 >> 4 << 6;
        s[j + 4] = min | min4 >> 4 << 6;
        s[j + 8] = scale4 & 15 | (min4 & 15) << 4;
    }
    s
}

/// Scale and, with its sign turned, minimum of a group: the pair with the least weighted error
/// among the range of the group and what least squares make of codes for slightly other ranges.
fn fit(values: &[f32]) -> (f32, f32) {
    let mean_square = values.iter().map(|it| it * it).sum::<f32>() / values.len() as f32;
    let weights: Vec<f32> = values.iter().map(|it| mean_square.sqrt() + it.abs()).collect();
    let min = values.iter().copied().fold(0.0, f32::min);
    let max = values.iter().copied().fold(values[0], f32::max);
    if max == min {
        return (0.0, -min);
    }
    let codes = |steps: f32| {
        let scale = steps / (max - min);
        values.iter().map(move |it| (scale * (it - min)).round_ties_even().clamp(0.0, 15.0))
    };
    let error = |codes: &[f32], scale: f32, min: f32| -> f32 {
        let terms = codes.iter().zip(values).zip(&weights);
        terms.map(|((code, value), weight)| weight * (scale * code + min - value).powi(2)).sum()
    };
    let scale = (max - min) / 15.0;
    let mut best = (error(&codes(15.0).collect::<Vec<_>>(), scale, min), scale, min);
    for trial in 0..=TRIALS {
        let codes: Vec<f32> = codes(14.0 + 0.1 * trial as f32).collect();
        let Some((scale, min)) = least_squares(&codes, values, &weights) else { continue };
        let error = error(&codes, scale, min);
        if error < best.0 {
            best = (error, scale, min);
        }
    }
    (best.1, -best.2)
}

/// The line through the weighted values, which is not above 0 at code 0.
fn least_squares(codes: &[f32], values: &[f32], weights: &[f32]) -> Option<(f32, f32)> {
    let (mut w, mut x, mut l, mut ll, mut xl) = (0.0f32, 0.0f32, 0.0f32, 0.0f32, 0.0f32);
    for ((code, value), weight) in codes.iter().zip(values).zip(weights) {
        w += weight;
        x += weight * value;
        l += weight * code;
        ll += weight * code * code;
        xl += weight * code * value;
    }
    let determinant = w * ll - l * l;
    if determinant <= 0.0 {
        return None;
    }
    let min = (ll * x - l * xl) / determinant;
    let scale = (w * xl - x * l) / determinant;
    Some(if 0.0 < min { (xl / ll, 0.0) } else { (scale, min) })
}
