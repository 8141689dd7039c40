//! Tensors that a checkpoint keeps in several parts: codes, and the scales that belong to them.
//!
//! The conventions are ModelOpt's and compressed-tensors'. Each such group is one tensor `X.weight`
//! of a storage format, so that specs need not know of them. With rows `n` and columns `k`:
//!
//! | codes | scales | stand for |
//! |---|---|---|
//! | `X.weight` U8 `[n, k/2]` | `weight_scale` E4M3 `[n, k/16]`, `weight_scale_2` | NVFP4 |
//! | `X.weight_packed` U8 `[n, k/2]` | the same, and one over `weight_global_scale` | NVFP4 |
//! | either | `weight_scale` E8M0 `[n, k/32]` | MXFP4 |
//! | `X.weight` E4M3 `[n, k]` | `weight_scale` E8M0 `[n, k/32]` | MXFP8 |
//! | `X.weight` E4M3 or E5M2 `[n, k]` | `weight_scale` of one number or of one for each row | FP8 |
//! | the same, E4M3 | `weight_scale` or `weight_scale_inv`, 128 x 128 or 1 x 128 | FP8_BLOCK |
//!
//! Scales of activations and of keys and values belong to arithmetic in few bits, which is not done
//! here: they are left out.

use crate::entry::{Entry, Stored};
use ir::{DType, storage};
use safetensors::Dtype;
use std::collections::{BTreeMap, BTreeSet};

/// Elements of a block of F8 in both directions.
const SQUARE: usize = 128;

/// Endings of names that nothing is read from where there are groups.
const LEFT_OUT: [&str; 4] = [".input_scale", ".input_global_scale", ".k_scale", ".v_scale"];

/// What configurations call the conventions.
pub(crate) const METHODS: [&str; 3] = ["modelopt", "compressed-tensors", "fp8"];

/// A tensor of a file, by the number of the file.
type Held = (usize, Entry);

/// How a checkpoint names the parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Convention {
    /// NVIDIA's Model Optimizer.
    ModelOpt,
    /// Of llm-compressor and vLLM.
    CompressedTensors,
}

/// The parts of a tensor.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    pub(crate) codes: Held,
    pub(crate) scale: Held,
    /// The scale of the whole matrix.
    pub(crate) second: Option<Held>,
}

impl Parts {
    pub(crate) fn all(&self) -> impl Iterator<Item = &Held> {
        [&self.codes, &self.scale].into_iter().chain(&self.second)
    }
}

/// The tensors of a checkpoint whose entries these are, in the order of their names, and what those
/// of them that are in parts are made of.
pub(crate) fn merge(entries: Vec<Held>) -> (Vec<Held>, BTreeMap<String, Parts>) {
    let (mut parts, mut spent) = (BTreeMap::new(), BTreeSet::new());
    let mut all = Vec::new();
    for held in &entries {
        let Some((name, of)) = parts_of(held, &entries) else { continue };
        let Some((dtype, shape)) = whole(&of) else { continue };
        let (stored, range) = (Stored::Known(dtype), held.1.range.clone());
        spent.extend(of.all().map(|it| it.1.name.clone()));
        all.push((held.0, Entry { name: name.clone(), stored, shape, range }));
        parts.insert(name, of);
    }
    let is_left = |it: &str| !parts.is_empty() && LEFT_OUT.iter().any(|end| it.ends_with(end));
    let rest = entries.into_iter();
    all.extend(rest.filter(|it| !spent.contains(&it.1.name) && !is_left(&it.1.name)));
    all.sort_by(|a, b| a.1.name.cmp(&b.1.name));
    (all, parts)
}

/// The parts of the tensor whose codes `codes` may be, and its name.
fn parts_of(codes: &Held, entries: &[Held]) -> Option<(String, Parts)> {
    let name = &codes.1.name;
    let base = name.strip_suffix(".weight").or(name.strip_suffix(".weight_packed"))?;
    let find = |end: &str| {
        let name = format!("{base}.{end}");
        let at = entries.binary_search_by(|it| it.1.name.cmp(&name)).ok()?;
        Some(entries[at].clone())
    };
    // What is there as a whole is in no parts.
    if name.ends_with("_packed") && find("weight").is_some() {
        return None;
    }
    let scale = find("weight_scale").or_else(|| find("weight_scale_inv"))?;
    let second = find("weight_scale_2").or_else(|| find("weight_global_scale"));
    Some((format!("{base}.weight"), Parts { codes: codes.clone(), scale, second }))
}

/// The format and the shape of what `parts` make up, if they fit each other.
fn whole(parts: &Parts) -> Option<(DType, Vec<usize>)> {
    let (codes, scale) = (&parts.codes.1, &parts.scale.1);
    let &[rows, width] = codes.shape.as_slice() else { return None };
    // Rows without bytes may be more than there is memory for what they begin with.
    (0 < width).then_some(())?;
    let is = |entry: &Entry, name: &str| entry.stored == Stored::Foreign(name.into());
    let is_e8m0 = is(scale, "U8") || is(scale, "F8_E8M0");
    let in_blocks = |dtype: DType, columns: usize| {
        let block = dtype.block_len();
        let fits = columns.is_multiple_of(block) && scale.shape == [rows, columns / block];
        fits.then(|| (dtype, vec![rows, columns]))
    };
    let is_float = |entry: &Entry| {
        matches!(entry.stored, Stored::Known(DType::F32 | DType::BF16 | DType::F16))
    };
    if is(codes, "U8") {
        let columns = width.checked_mul(2)?;
        let is_number = |it: &Held| is_float(&it.1) && it.1.shape.iter().product::<usize>() == 1;
        return match &parts.second {
            Some(second) if is_number(second) && is(scale, "F8_E4M3") => {
                in_blocks(DType::NvFp4, columns)
            }
            None if is_e8m0 => in_blocks(DType::MxFp4, columns),
            _ => None,
        };
    }
    let dtype = match () {
        () if is(codes, "F8_E4M3") => DType::F8E4M3,
        () if is(codes, "F8_E5M2") => DType::F8E5M2,
        () => return None,
    };
    if is_e8m0 && dtype == DType::F8E4M3 {
        return in_blocks(DType::MxFp8, width);
    }
    is_float(scale).then_some(())?;
    let scales: usize = scale.shape.iter().product();
    if scales == 1 || scales == rows {
        return Some((dtype, vec![rows, width]));
    }
    let grids = [[rows.div_ceil(SQUARE), width.div_ceil(SQUARE)], [rows, width.div_ceil(SQUARE)]];
    let fits = dtype == DType::F8E4M3 && grids.iter().any(|it| scale.shape == it);
    // Where the last block is cut off, numbers are all that can be said.
    let dtype = if width.is_multiple_of(SQUARE) { DType::F8Block } else { DType::F32 };
    fits.then(|| (dtype, vec![rows, width]))
}

/// The bytes of a tensor of `dtype` and `shape` that [`merge`] found; `bytes` are those of a part.
pub(crate) fn assemble<'a>(
    (dtype, shape): (DType, &[usize]),
    parts: &Parts,
    bytes: impl Fn(&Held) -> &'a [u8],
) -> Vec<u8> {
    let &[rows, columns] = shape else { return Vec::new() };
    let (codes, scale) = (bytes(&parts.codes), bytes(&parts.scale));
    let second = parts.second.as_ref().and_then(|it| factor(&it.1, bytes(it)));
    let numbers = numbers(&parts.scale.1.stored, scale);
    let tall = if parts.scale.1.shape.first() == Some(&rows) { 1 } else { SQUARE };
    let mut out = Vec::with_capacity(dtype.bytes(rows, columns).unwrap_or(0));
    let width = (codes.len() / rows.max(1)).max(1);
    let across = (scale.len() / rows.max(1)).max(1);
    for (row, codes) in codes.chunks_exact(width).enumerate() {
        let bytes_of_row = scale.get(row * across..(row + 1) * across).unwrap_or(&[]);
        match dtype {
            DType::F8E4M3 | DType::F8E5M2 => {
                let own = numbers.get(row).or(numbers.first());
                out.extend(own.unwrap_or(&1.0).to_le_bytes());
                out.extend(codes);
            }
            DType::F8Block | DType::F32 => {
                let first = row / tall * columns.div_ceil(SQUARE);
                add_squares(&mut out, codes, numbers.get(first..).unwrap_or(&[]), dtype);
            }
            _ => {
                out.extend(
                    second.filter(|_| dtype == DType::NvFp4).iter().flat_map(|it| it.to_le_bytes()),
                );
                let code_bytes = dtype.block_bytes() - 1;
                for (scale, codes) in bytes_of_row.iter().zip(codes.chunks_exact(code_bytes)) {
                    out.push(*scale);
                    out.extend(if dtype == DType::MxFp4 { halves(codes) } else { codes.to_vec() });
                }
            }
        }
    }
    out
}

/// Blocks of F8, each after its scale, or the numbers that they stand for.
fn add_squares(out: &mut Vec<u8>, codes: &[u8], scales: &[f32], dtype: DType) {
    for (codes, scale) in codes.chunks(SQUARE).zip(scales) {
        if dtype == DType::F8Block {
            out.extend(scale.to_le_bytes());
            out.extend(codes);
        } else {
            let number = |it: &u8| storage::small::E4M3.decode(*it) * scale;
            out.extend(codes.iter().flat_map(|it| number(it).to_le_bytes()));
        }
    }
}

/// Pairs of neighbours in each byte as pairs of elements that are 16 apart.
fn halves(codes: &[u8]) -> Vec<u8> {
    let code = |i: usize| codes[i / 2] >> (4 * (i % 2)) & 15;
    (0..16).map(|i| code(i) | code(i + 16) << 4).collect()
}

/// The other way round.
fn pairs(codes: &[u8]) -> Vec<u8> {
    let code = |i: usize| if i < 16 { codes[i] & 15 } else { codes[i - 16] >> 4 };
    (0..16).map(|i| code(2 * i) | code(2 * i + 1) << 4).collect()
}

/// Scales that are floats.
fn numbers(stored: &Stored, bytes: &[u8]) -> Vec<f32> {
    let Stored::Known(dtype) = stored else { return Vec::new() };
    let mut numbers = vec![0.0; bytes.len() / dtype.block_bytes()];
    let read = storage::decode(*dtype, bytes, &mut numbers);
    read.map_or(Vec::new(), |()| numbers)
}

/// What the scale of a whole matrix multiplies with: compressed-tensors divides by it.
fn factor(entry: &Entry, bytes: &[u8]) -> Option<f32> {
    let number = numbers(&entry.stored, bytes).first().copied()?;
    Some(if entry.name.ends_with("_global_scale") { 1.0 / number } else { number })
}

/// A part that is to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// What its name ends with, after the name of the layer.
    pub end: &'static str,
    /// What its elements are.
    pub dtype: Dtype,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// The elements.
    pub bytes: Vec<u8>,
}

/// What the rows of a matrix are made of, each kind by itself.
#[derive(Default)]
struct Split {
    codes: Vec<u8>,
    /// The scales of blocks.
    scales: Vec<u8>,
    /// What rows begin with.
    heads: Vec<u8>,
}

impl Split {
    fn new(dtype: DType, rows: usize, bytes: &[u8]) -> Option<Split> {
        let mut split = Split::default();
        let scale_bytes = match dtype {
            DType::F8E4M3 | DType::F8E5M2 => 0,
            DType::F8Block => 4,
            DType::NvFp4 | DType::MxFp4 | DType::MxFp8 => 1,
            _ => return None,
        };
        for row in bytes.chunks_exact(bytes.len() / rows) {
            let (head, blocks) = row.split_at(dtype.head_bytes());
            split.heads.extend_from_slice(head);
            for block in blocks.chunks_exact(dtype.block_bytes()) {
                let (scale, own) = block.split_at(scale_bytes);
                split.scales.extend_from_slice(scale);
                split.codes.extend(if dtype == DType::MxFp4 { pairs(own) } else { own.to_vec() });
            }
        }
        Some(split)
    }

    /// Whether all rows begin with the same.
    fn is_one(&self) -> bool {
        self.heads.chunks_exact(4).all(|it| it == &self.heads[..4])
    }
}

/// The parts of a matrix in a storage format; `None` for formats that the conventions lack, and
/// where a matrix has several scales but can have one.
pub fn take_apart(
    convention: Convention,
    dtype: DType,
    [rows, columns]: [usize; 2],
    bytes: &[u8],
) -> Option<Vec<Part>> {
    if dtype.bytes(rows, columns)? != bytes.len() || rows == 0 {
        return None;
    }
    let split = Split::new(dtype, rows, bytes)?;
    let (packed, is_one) = (convention == Convention::CompressedTensors, split.is_one());
    let Split { codes, scales, mut heads } = split;
    let part = |end, dtype, shape, bytes| Part { end, dtype, shape, bytes };
    let grid = [rows, columns / dtype.block_len()];
    let codes = match dtype {
        DType::NvFp4 | DType::MxFp4 => {
            let end = if packed { "weight_packed" } else { "weight" };
            part(end, Dtype::U8, vec![rows, columns / 2], codes)
        }
        DType::F8E5M2 => part("weight", Dtype::F8_E5M2, vec![rows, columns], codes),
        _ => part("weight", Dtype::F8_E4M3, vec![rows, columns], codes),
    };
    let scale = |dtype, shape, bytes| part("weight_scale", dtype, shape, bytes);
    Some(match dtype {
        DType::NvFp4 => {
            is_one.then_some(())?;
            let scales = scale(Dtype::F8_E4M3, grid.to_vec(), scales);
            vec![codes, scales, whole_scale(convention, &heads)]
        }
        DType::MxFp4 | DType::MxFp8 => vec![codes, scale(Dtype::U8, grid.to_vec(), scales)],
        DType::F8Block => {
            let (shape, scales) = squares(grid, scales);
            vec![codes, scale(Dtype::F32, shape, scales)]
        }
        _ => {
            let shape = match (is_one, packed) {
                (true, true) => vec![1],
                (true, false) => vec![],
                (false, true) => vec![rows, 1],
                (false, false) => vec![rows],
            };
            heads.truncate(if is_one { 4 } else { heads.len() });
            vec![codes, scale(Dtype::F32, shape, heads)]
        }
    })
}

/// The scale of a whole matrix, which each of its rows has at its head.
fn whole_scale(convention: Convention, heads: &[u8]) -> Part {
    let scale = heads.first_chunk().map_or(1.0, |it| f32::from_le_bytes(*it));
    let (end, shape, scale) = match convention {
        Convention::ModelOpt => ("weight_scale_2", Vec::new(), scale),
        Convention::CompressedTensors => ("weight_global_scale", vec![1], divisor(scale)),
    };
    Part { end, dtype: Dtype::F32, shape, bytes: scale.to_le_bytes().to_vec() }
}

/// The number, if there is one, by which to divide 1 gives `scale` to the bit.
fn divisor(scale: f32) -> f32 {
    let near = 1.0 / scale;
    let all = [near, near.next_down(), near.next_up()];
    all.into_iter().find(|it| 1.0 / it == scale).unwrap_or(near)
}

/// The scales of blocks, those of 128 rows once if they are the same.
fn squares([rows, across]: [usize; 2], scales: Vec<u8>) -> (Vec<usize>, Vec<u8>) {
    let row = 4 * across;
    let mut bands = scales.chunks(SQUARE * row);
    if rows == 1 || !bands.all(|band| band.chunks(row).all(|it| it == &band[..row])) {
        return (vec![rows, across], scales);
    }
    let once = scales.chunks(SQUARE * row).flat_map(|it| &it[..row]).copied().collect();
    (vec![rows.div_ceil(SQUARE), across], once)
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::{Encoding, encode};

    /// A file that holds `parts` of a tensor `X.weight`, one after the other.
    fn held(parts: &[Part]) -> (Vec<Held>, Vec<u8>) {
        let mut file = Vec::new();
        let mut entries = Vec::new();
        for part in parts {
            let stored = match part.dtype {
                Dtype::F32 => Stored::Known(DType::F32),
                other => Stored::Foreign(format!("{other:?}").into()),
            };
            let range = file.len()..file.len() + part.bytes.len();
            let name = format!("X.{}", part.end);
            entries.push((0, Entry { name, stored, shape: part.shape.clone(), range }));
            file.extend(&part.bytes);
        }
        entries.sort_by(|a, b| a.1.name.cmp(&b.1.name));
        (entries, file)
    }

    #[test]
    fn what_is_taken_apart_comes_together_to_the_bit() {
        let values: Vec<f32> = (0..130 * 256).map(|it| (it as f32 * 0.71).sin() * 0.3).collect();
        let names = ["nvfp4", "nvfp4-16x16", "mxfp4", "mxfp8", "fp8", "fp8-row", "fp8-block"];
        let more = ["fp8-1x128", "fp8-e5m2", "fp8-row-e5m2"];
        for name in names.into_iter().chain(more) {
            let dtype = Encoding::from_name(name).unwrap().dtype;
            let bytes = encode(Encoding::from_name(name).unwrap(), 256, &values).unwrap();
            for convention in [Convention::ModelOpt, Convention::CompressedTensors] {
                let parts = take_apart(convention, dtype, [130, 256], &bytes).unwrap();
                let (entries, file) = held(&parts);
                let (all, parts) = merge(entries);
                assert_eq!(all.len(), 1, "{name}");
                let entry = &all[0].1;
                let found = (entry.name.as_str(), &entry.stored, entry.shape.as_slice());
                assert_eq!(found, ("X.weight", &Stored::Known(dtype), &[130, 256][..]), "{name}");
                let parts = &parts["X.weight"];
                let again = assemble((dtype, &[130, 256]), parts, |it| &file[it.1.range.clone()]);
                assert!(again == bytes, "{name} {convention:?}");
            }
        }
    }

    #[test]
    fn other_formats_are_not_taken_apart() {
        assert_eq!(take_apart(Convention::ModelOpt, DType::Q8_0, [1, 32], &[0; 34]), None);
        assert_eq!(take_apart(Convention::ModelOpt, DType::NvFp4, [1, 32], &[0; 3]), None);
        assert_eq!(take_apart(Convention::ModelOpt, DType::NvFp4, [0, 16], &[]), None);
    }

    #[test]
    fn rows_without_bytes_are_no_matrix() {
        let part = |end, dtype, shape| Part { end, dtype, shape, bytes: Vec::new() };
        let codes = part("weight", Dtype::F8_E4M3, vec![1 << 60, 0]);
        let mut scale = part("weight_scale", Dtype::F32, vec![]);
        scale.bytes = vec![0; 4];
        let (all, parts) = merge(held(&[codes, scale]).0);
        assert_eq!((all.len(), parts.len()), (2, 0));
    }

    #[test]
    fn a_scale_has_a_divisor() {
        for i in 1..1000 {
            let scale = 1.0 / (2688.0 / (i as f32 * 0.0137));
            assert_eq!(1.0 / divisor(scale), scale);
        }
    }
}
