//! Tensors that a checkpoint keeps in several parts: codes, and the scales that belong to them.
//!
//! The conventions are ModelOpt's and compressed-tensors'. Each such group becomes one tensor
//! `X.weight` of a storage format, so that specs need not know of them.
//!
//! | codes | scales | becomes |
//! |---|---|---|
//! | `X.weight` U8 `[n, k/2]` | `weight_scale` E4M3 `[n, k/16]`, `weight_scale_2` | NVFP4 |
//! | `X.weight_packed` U8 `[n, k/2]` | the same, `weight_global_scale`, which divides | NVFP4 |
//! | `X.weight_packed` U8 `[n, k/2]` | `weight_scale` U8 (E8M0) `[n, k/32]` | MXFP4 |
//! | `X.weight` E4M3 or E5M2 `[n, k]` | `weight_scale` of one number or of a row each | F8 |
//! | `X.weight` E4M3 `[n, k]` | `weight_scale` or `weight_scale_inv` of each 128 x 128 | F8_BLOCK |
//!
//! Scales of activations and of keys and values belong to arithmetic in eight bits, which is not
//! done here: they are left out.

use crate::entry::{Entry, Stored};
use ir::DType;
use std::collections::BTreeMap;

/// Elements of a block of F8 in both directions.
const SQUARE: usize = 128;

/// What a group's tensor is made of: indices of entries.
struct Parts {
    codes: usize,
    scale: usize,
    /// The scale of the whole matrix.
    second: Option<usize>,
}

/// Endings of names that nothing is read from once groups are found.
const LEFT_OUT: [&str; 4] = [".input_scale", ".input_global_scale", ".k_scale", ".v_scale"];

/// The groups among `entries`, which are in the order of their names, with the tensor that each
/// becomes. And the entries that are no tensors of their
/// own, in order.
fn groups(entries: &[Entry]) -> (Vec<(Entry, Parts)>, Vec<usize>) {
    let find = |name: String| entries.binary_search_by(|it| it.name.cmp(&name)).ok();
    let (mut found, mut spent) = (Vec::new(), Vec::new());
    for (codes, entry) in entries.iter().enumerate() {
        let base = entry.name.strip_suffix(".weight");
        let Some(base) = base.or(entry.name.strip_suffix(".weight_packed")) else { continue };
        let scale = find(format!("{base}.weight_scale"));
        let Some(scale) = scale.or(find(format!("{base}.weight_scale_inv"))) else { continue };
        let second = find(format!("{base}.weight_scale_2"));
        let second = second.or(find(format!("{base}.weight_global_scale")));
        let parts = Parts { codes, scale, second };
        let Some((dtype, shape)) = whole(entries, &parts) else { continue };
        let (name, range) = (format!("{base}.weight"), entry.range.clone());
        found.push((Entry { name, stored: Stored::Known(dtype), shape, range }, parts));
        spent.extend([codes, scale]);
        spent.extend(second);
    }
    if !found.is_empty() {
        let is_left = |it: &str| LEFT_OUT.iter().any(|end| it.ends_with(end));
        spent.extend((0..entries.len()).filter(|it| is_left(&entries[*it].name)));
    }
    spent.sort_unstable();
    (found, spent)
}

/// The format and the shape of what `parts` make up, if they fit each other.
fn whole(entries: &[Entry], parts: &Parts) -> Option<(DType, Vec<usize>)> {
    let (codes, scale) = (&entries[parts.codes], &entries[parts.scale]);
    let &[rows, width] = codes.shape.as_slice() else { return None };
    let is = |entry: &Entry, name: &str| entry.stored == Stored::Foreign(name.into());
    let scales: usize = scale.shape.iter().product();
    if is(codes, "U8") {
        let (dtype, block) = match parts.second {
            Some(_) if is(scale, "F8_E4M3") => (DType::NvFp4, 16),
            None if is(scale, "U8") => (DType::MxFp4, 32),
            _ => return None,
        };
        let columns = width.checked_mul(2)?;
        let fits = scale.shape == [rows, columns / block] && columns.is_multiple_of(block);
        return fits.then(|| (dtype, vec![rows, columns]));
    }
    if !matches!(scale.stored, Stored::Known(DType::F32 | DType::BF16 | DType::F16)) {
        return None;
    }
    let of_rows = if is(codes, "F8_E4M3") { DType::F8E4M3 } else { DType::F8E5M2 };
    if !is(codes, "F8_E4M3") && !is(codes, "F8_E5M2") {
        return None;
    }
    if scales == 1 || scales == rows {
        return Some((of_rows, vec![rows, width]));
    }
    let grid = [rows.div_ceil(SQUARE), width.div_ceil(SQUARE)];
    let whole = width.is_multiple_of(SQUARE);
    let fits = scale.shape == grid && of_rows == DType::F8E4M3;
    // Where the last block is cut off, numbers are all that can be said.
    fits.then(|| (if whole { DType::F8Block } else { DType::F32 }, vec![rows, width]))
}

/// The bytes of a tensor whose parts these are; `second` is what the whole matrix is scaled by.
///
/// # Errors
/// When a code or scale stands for no number.
pub(crate) fn assemble(
    (dtype, shape): (DType, &[usize]),
    codes: &[u8],
    (scale_type, scale): (&Stored, &[u8]),
    second: Option<f32>,
) -> Result<Vec<u8>, &'static str> {
    let &[rows, columns] = shape else { return Err("it is no matrix") };
    let (mut out, width) = (Vec::new(), codes.len() / rows.max(1));
    let floats = if matches!(dtype, DType::NvFp4 | DType::MxFp4) { scale } else { codes };
    let is_none = |it: &u8| match dtype {
        DType::MxFp4 => *it == 255,
        DType::F8E5M2 => 0x7c <= it & 0x7f,
        _ => it & 0x7f == 0x7f,
    };
    if floats.iter().any(is_none) {
        return Err("it holds what is no number");
    }
    let scales = numbers(scale_type, scale);
    for (row, codes) in codes.chunks_exact(width.max(1)).enumerate() {
        match dtype {
            DType::NvFp4 => {
                out.extend(second.unwrap_or(1.0).to_le_bytes());
                let own = &scale[row * (columns / 16)..][..columns / 16];
                for (scale, codes) in own.iter().zip(codes.chunks_exact(8)) {
                    out.push(*scale);
                    out.extend(codes);
                }
            }
            DType::MxFp4 => {
                let own = &scale[row * (columns / 32)..][..columns / 32];
                for (scale, codes) in own.iter().zip(codes.chunks_exact(16)) {
                    out.push(*scale);
                    let code = |i: usize| codes[i / 2] >> (4 * (i % 2)) & 15;
                    out.extend((0..16).map(|i| code(i) | code(i + 16) << 4));
                }
            }
            DType::F8Block | DType::F32 => {
                let across = columns.div_ceil(SQUARE);
                for (i, codes) in codes.chunks(SQUARE).enumerate() {
                    let scale = scales[row / SQUARE * across + i];
                    if dtype == DType::F8Block {
                        out.extend(scale.to_le_bytes());
                        out.extend(codes);
                    } else {
                        let number = |it: &u8| ir::storage::small::E4M3.decode(*it) * scale;
                        out.extend(codes.iter().flat_map(|it| number(it).to_le_bytes()));
                    }
                }
            }
            _ => {
                let scale = if scales.len() == 1 { scales[0] } else { scales[row] };
                out.extend(scale.to_le_bytes());
                out.extend(codes);
            }
        }
    }
    Ok(out)
}

/// Scales that are floats.
fn numbers(stored: &Stored, bytes: &[u8]) -> Vec<f32> {
    let Stored::Known(dtype) = stored else { return Vec::new() };
    let mut numbers = vec![0.0; bytes.len() / dtype.block_bytes()];
    match ir::storage::decode(*dtype, bytes, &mut numbers) {
        Ok(()) => numbers,
        Err(_) => Vec::new(),
    }
}

/// The tensors of a checkpoint after its groups are found: those that are no part of one, and
/// those that groups make up, in the order of their names.
pub(crate) fn merge(
    entries: Vec<(usize, Entry)>,
) -> (Vec<(usize, Entry)>, BTreeMap<String, Vec<(usize, Entry)>>) {
    let plain: Vec<Entry> = entries.iter().map(|(_, entry)| entry.clone()).collect();
    let (found, spent) = groups(&plain);
    let mut parts = BTreeMap::new();
    let mut all: Vec<(usize, Entry)> = Vec::with_capacity(entries.len());
    for (i, it) in entries.iter().enumerate() {
        if spent.binary_search(&i).is_err() {
            all.push(it.clone());
        }
    }
    for (entry, of) in found {
        let mut own = vec![entries[of.codes].clone(), entries[of.scale].clone()];
        own.extend(of.second.map(|it| entries[it].clone()));
        all.push((entries[of.codes].0, entry.clone()));
        parts.insert(entry.name, own);
    }
    all.sort_by(|(_, a), (_, b)| a.name.cmp(&b.name));
    (all, parts)
}

/// What the scale of a whole matrix, a tensor of that name, multiplies with: compressed-tensors
/// divides by it. `None` where it is no number.
pub(crate) fn factor(name: &str, stored: &Stored, bytes: &[u8]) -> Option<f32> {
    let number = numbers(stored, bytes).first().copied()?;
    let factor = if name.ends_with("_global_scale") { 1.0 / number } else { number };
    factor.is_finite().then_some(factor)
}
