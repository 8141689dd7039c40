//! Formats of eight bits an element: F8_E4M3, F8_E5M2, F8_BLOCK and MXFP8.

use super::small::{self, E4M3, Small};
use super::{Amax, word};

/// The number that elements are multiplied by before they are rounded, for the largest magnitude of
/// those that share it: exact division, as in Transformer Engine. `powers` keeps its power of two
/// alone.
fn quantising_scale(amax: f32, kind: Small, powers: bool) -> f32 {
    if amax == 0.0 || !amax.is_finite() {
        return 1.0;
    }
    let scale = (kind.max() / amax).min(f32::MAX);
    if powers { f32::from_bits(scale.to_bits() & 0xff80_0000) } else { scale }
}

/// Rows that begin with a scale, which `amax` tells.
pub(super) fn encode_rows(
    values: &[f32],
    amax: &Amax,
    kind: Small,
    powers: bool,
    out: &mut Vec<u8>,
) {
    for (row, values) in values.chunks_exact(amax.columns).enumerate() {
        let scale = quantising_scale(amax.at(row, 0), kind, powers);
        out.extend((1.0 / scale).to_le_bytes());
        out.extend(values.iter().map(|it| kind.encode(it * scale)));
    }
}

/// Blocks of 128 that begin with a scale, which `amax` tells.
pub(super) fn encode_blocks(values: &[f32], amax: &Amax, powers: bool, out: &mut Vec<u8>) {
    for (row, values) in values.chunks_exact(amax.columns).enumerate() {
        for (block, values) in values.chunks_exact(amax.wide).enumerate() {
            let scale = quantising_scale(amax.at(row, block), E4M3, powers);
            out.extend((1.0 / scale).to_le_bytes());
            out.extend(values.iter().map(|it| E4M3.encode(it * scale)));
        }
    }
}

/// The elements of a row after its scale, or of a block with its scale.
pub(super) fn decode_scaled(kind: Small, scale: f32, codes: &[u8], out: &mut [f32]) {
    for (code, out) in codes.iter().zip(out) {
        *out = kind.decode(*code) * scale;
    }
}

pub(super) fn f8_block(block: &[u8], out: &mut [f32]) {
    decode_scaled(E4M3, f32::from_bits(word(block, 0)), &block[4..], out);
}

/// A scale in E8M0, rounded up so that the magnitude `amax` fits.
pub(super) fn encode_mxfp8(values: &[f32], amax: f32, out: &mut Vec<u8>) {
    let code = shared_exponent(amax, E4M3);
    out.push(code);
    let scale = 1.0 / small::decode_e8m0(code);
    out.extend(values.iter().map(|it| E4M3.encode(it * scale)));
}

/// The scale of a block of which the magnitude `amax` shall be at most the largest of `kind`.
pub(super) fn shared_exponent(amax: f32, kind: Small) -> u8 {
    small::encode_e8m0_up(amax * (1.0 / kind.max()))
}

pub(super) fn mxfp8(block: &[u8], out: &mut [f32]) {
    decode_scaled(E4M3, small::decode_e8m0(block[0]), &block[1..], out);
}
