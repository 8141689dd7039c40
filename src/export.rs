//! Writes the weights of a model as a checkpoint that its own weight map reads: every rule turned
//! around.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use frontend::{Change, ParamRule, TensorSource, WeightMap};
use import::Checkpoint;
use ir::{DType, Module};
use serde_json::json;

use crate::{
    Error, Loader,
    bind::{layer_source, map_for},
};

/// A tensor to be written.
pub struct Tensor {
    /// What its elements are: `f32`, `f16`, `bf16` or `i32`.
    pub dtype: DType,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// The elements.
    pub bytes: Vec<u8>,
}

/// Tensors by name.
pub type Tensors = BTreeMap<String, Tensor>;

/// What a tensor of the new checkpoint is put together from.
struct Piece {
    /// Its first row, or column where pieces stand side by side.
    row: usize,
    /// Whether they stand side by side, and not one below the other.
    beside: bool,
    tensor: Tensor,
}

/// The weights of `module` under the names that `target`, a map without cuts, reads; `maps` say
/// where they come from in `checkpoint`.
///
/// # Errors
///
/// When a weight can not be read, or a rule can not be turned around.
pub fn tensors(
    module: &Module,
    maps: &[WeightMap],
    target: &WeightMap,
    checkpoint: &Checkpoint,
) -> Result<Tensors, Error> {
    let map = map_for(maps, checkpoint)?;
    let loader = Loader { checkpoint };
    let mut pieces: BTreeMap<String, Vec<Piece>> = BTreeMap::new();
    for rule in &target.rules {
        let Some(from) = map.rules.iter().find(|it| it.param == rule.param) else { continue };
        for layer in 0..rule.layers.as_ref().map_or(1, Vec::len) {
            let piece = loaded(module, from, layer, &loader);
            let to = rule.layers.as_ref().map_or(0, |it| it[layer]);
            let turned = piece.and_then(|it| turned(&rule.source.of_layer(to), it));
            let turned =
                turned.map_err(|why| Error::new("C0203", format!("`{}`: {why}", rule.param)))?;
            if let Some((name, piece)) = turned {
                pieces.entry(name).or_default().push(piece);
            }
        }
    }
    Ok(pieces.into_iter().map(|(name, pieces)| (name, joined(pieces))).collect())
}

/// One layer of a weight, in a type that can be written.
fn loaded(
    module: &Module,
    rule: &ParamRule,
    layer: usize,
    loader: &Loader<'_>,
) -> Result<Piece, String> {
    let param = module.entry().params.iter().find(|it| it.name == *rule.param);
    let axes = param.map_or(&[][..], |it| &it.ty.axes[usize::from(rule.layers.is_some())..]);
    let shape: Option<Vec<usize>> = axes.iter().map(|it| module.axes.fixed(it)).collect();
    let shape = shape.ok_or("its extents are not known")?;
    let loaded = loader.load(&layer_source(rule, layer, loader))?;
    let loaded = loaded.filling(shape.iter().product());
    let dtype = match loaded.dtype {
        it @ (DType::F32 | DType::F16 | DType::BF16) => it,
        _ => DType::F32,
    };
    let bytes = encoded(dtype, &loaded.decode()?);
    Ok(Piece { row: 0, beside: false, tensor: Tensor { dtype, shape, bytes } })
}

fn encoded(dtype: DType, values: &[f32]) -> Vec<u8> {
    match dtype {
        DType::BF16 => {
            values.iter().flat_map(|it| half::bf16::from_f32(*it).to_le_bytes()).collect()
        }
        DType::F16 => values.iter().flat_map(|it| half::f16::from_f32(*it).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|it| it.to_le_bytes()).collect(),
    }
}

/// The tensor that `source` would read `piece` from; `None` where it would read none.
fn turned(source: &TensorSource, piece: Piece) -> Result<Option<(String, Piece)>, String> {
    match source {
        TensorSource::Tensor(name) => Ok(Some((name.clone(), piece))),
        TensorSource::Fill(_) => Ok(None),
        TensorSource::FirstOf(all) => match all.first() {
            Some(first) => turned(first, piece),
            None => Ok(None),
        },
        TensorSource::Rows(of, from, _) if !piece.beside => {
            turned(of, Piece { row: piece.row + from, ..piece })
        }
        TensorSource::Flat(of) => turned(of, piece),
        TensorSource::Squeeze(of) => {
            let mut piece = piece;
            if 1 < piece.tensor.shape.len() {
                piece.tensor.shape.insert(1, 1);
            }
            turned(of, piece)
        }
        TensorSource::Transpose(of) => turned(of, transposed(piece)?),
        TensorSource::Each(of, change) => turned(of, undone(*change, piece)?),
        TensorSource::Rows(..)
        | TensorSource::Unrotate(..)
        | TensorSource::Take(..)
        | TensorSource::ByLayer(_) => Err("what its rule does can not be turned around".to_owned()),
    }
}

fn values(tensor: &Tensor) -> Result<Vec<f32>, String> {
    let mut values = vec![0.0; tensor.shape.iter().product()];
    let decoded = ir::storage::decode(tensor.dtype, &tensor.bytes, &mut values);
    decoded.map(|()| values).map_err(|why| why.to_string())
}

fn transposed(piece: Piece) -> Result<Piece, String> {
    let [rows, columns] = piece.tensor.shape[..] else {
        return Err("it is no matrix, and so has no rows and columns to swap".to_owned());
    };
    let old = values(&piece.tensor)?;
    let places = (0..columns).flat_map(|j| (0..rows).map(move |i| i * columns + j));
    let new: Vec<f32> = places.map(|it| old[it]).collect();
    let dtype = piece.tensor.dtype;
    let tensor = Tensor { dtype, shape: vec![columns, rows], bytes: encoded(dtype, &new) };
    // What was the first row of several becomes the first column.
    Ok(Piece { tensor, beside: 0 < piece.row || piece.beside, ..piece })
}

/// The elements before `change` was made.
fn undone(change: Change, piece: Piece) -> Result<Piece, String> {
    let undo = |x: f32| match change {
        Change::Plus(number) => x - number as f32,
        Change::Times(number) => x / number as f32,
        Change::Log => x.exp(),
    };
    let new: Vec<f32> = values(&piece.tensor)?.into_iter().map(undo).collect();
    let bytes = encoded(piece.tensor.dtype, &new);
    Ok(Piece { tensor: Tensor { bytes, ..piece.tensor }, ..piece })
}

/// Pieces one after the other, by their rows.
fn joined(mut pieces: Vec<Piece>) -> Tensor {
    pieces.sort_by_key(|it| it.row);
    // A weight that several parameters share is there several times.
    pieces.dedup_by_key(|it| it.row);
    let axis = usize::from(pieces.iter().any(|it| it.beside));
    let dtype = pieces.first().map_or(DType::F32, |it| it.tensor.dtype);
    let mut shape = pieces.first().map_or(Vec::new(), |it| it.tensor.shape.clone());
    if let Some(size) = shape.get_mut(axis) {
        *size = pieces.iter().map(|it| it.tensor.shape.get(axis).copied().unwrap_or(1)).sum();
    }
    let rows = if axis == 0 { 1 } else { shape.first().copied().unwrap_or(1).max(1) };
    let row_of = |it: &Piece, row: usize| {
        let n = it.tensor.bytes.len() / rows;
        it.tensor.bytes[row * n..][..n].to_vec()
    };
    let bytes = (0..rows).flat_map(|row| pieces.iter().flat_map(move |it| row_of(it, row)));
    Tensor { dtype, shape, bytes: bytes.collect() }
}

/// Writes tensors in the safetensors format, in the order of their names.
///
/// # Errors
///
/// When the file can not be written.
pub fn write(path: &Path, tensors: &Tensors) -> std::io::Result<()> {
    let (mut header, mut end) = (serde_json::Map::new(), 0);
    header.insert("__metadata__".to_owned(), json!({ "format": "pt" }));
    for (name, it) in tensors {
        let dtype = it.dtype.name().to_uppercase();
        let places = [end, end + it.bytes.len()];
        let row = json!({ "dtype": dtype, "shape": it.shape, "data_offsets": places });
        header.insert(name.clone(), row);
        end += it.bytes.len();
    }
    let mut header = serde_json::Value::Object(header).to_string();
    header += &" ".repeat(header.len().next_multiple_of(8) - header.len());
    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    tensors.values().try_for_each(|it| file.write_all(&it.bytes))?;
    file.flush()
}
