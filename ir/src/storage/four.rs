//! Formats of four bits an element: NVFP4 and MXFP4.

use super::small::{self, E2M1, E4M3};
use super::{Amax, eight, nibble};

/// The largest number that scales of both levels give: 448 * 6.
const REACH: f32 = 2688.0;

/// NVFP4, in the order of operations of Transformer Engine's reference: the scale that elements are
/// divided by comes from the rounded scale of the block. `amax` is of blocks, `whole` of the whole
/// matrix.
pub(super) fn encode_nvfp4(values: &[f32], amax: &Amax, whole: f32, out: &mut Vec<u8>) {
    let encoding = if whole == 0.0 { 1.0 } else { (REACH / whole).min(f32::MAX) };
    let encoding = if encoding == 0.0 { 1.0 } else { encoding };
    let decoding = 1.0 / encoding;
    for (row, values) in values.chunks_exact(amax.columns).enumerate() {
        out.extend(decoding.to_le_bytes());
        for (block, values) in values.chunks_exact(amax.wide).enumerate() {
            let scale = amax.at(row, block) * (encoding * (1.0 / 6.0));
            let scale = E4M3.encode(scale.clamp(-448.0, 448.0));
            let factor = (1.0 / (E4M3.decode(scale) * decoding)).min(f32::MAX);
            let code = |it: &f32| E2M1.encode((it * factor).clamp(-6.0, 6.0));
            out.push(scale);
            out.extend(values.chunks_exact(2).map(|it| code(&it[0]) | code(&it[1]) << 4));
        }
    }
}

/// The blocks of a row after its scale.
pub(super) fn decode_nvfp4(scale: f32, blocks: &[u8], out: &mut [f32]) {
    for (block, out) in blocks.chunks_exact(9).zip(out.chunks_exact_mut(16)) {
        let own = E4M3.decode(block[0]);
        for (i, out) in out.iter_mut().enumerate() {
            *out = E2M1.decode(block[1 + i / 2] >> (4 * (i % 2)) & 15) * own * scale;
        }
    }
}

/// A scale in E8M0, rounded up, and the halves of 32 elements in the lower and the upper bits.
pub(super) fn encode_mxfp4(values: &[f32], amax: f32, out: &mut Vec<u8>) {
    let code = eight::shared_exponent(amax, E2M1);
    out.push(code);
    let scale = 1.0 / small::decode_e8m0(code);
    let (low, high) = values.split_at(16);
    let codes = low.iter().zip(high);
    out.extend(codes.map(|(l, h)| E2M1.encode(l * scale) | E2M1.encode(h * scale) << 4));
}

pub(super) fn mxfp4(block: &[u8], out: &mut [f32]) {
    let scale = small::decode_e8m0(block[0]);
    for (i, out) in out.iter_mut().enumerate() {
        *out = E2M1.decode(nibble(&block[1..], 16, i) as u8) * scale;
    }
}
