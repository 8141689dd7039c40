//! Writes the weights of a model as a checkpoint that its own weight map reads: every rule turned
//! around.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use frontend::{Change, ParamRule, TensorSource, WeightMap};
use import::Checkpoint;
use import::quantised::{Convention, take_apart};
use ir::{DType, Module};
pub use safetensors::Dtype;
use safetensors::{View, serialize_to_file};

use crate::{
    Error, Loader,
    bind::{layer_source, map_for},
    precision::Assignment,
};

/// A tensor of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// What its elements are.
    pub dtype: Dtype,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// The elements.
    pub bytes: Vec<u8>,
}

/// Tensors by name.
pub type Tensors = BTreeMap<String, Tensor>;

/// What a checkpoint is to hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exported {
    /// The tensors of its file.
    pub tensors: Tensors,
    /// The matrices that are kept in several of them, by the name that they begin with, and the
    /// formats that they are stored in.
    pub formats: BTreeMap<String, DType>,
}

/// A tensor in a format of `ir`.
struct Whole {
    dtype: DType,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// What a tensor of the new checkpoint is put together from.
struct Piece {
    /// Its first row, or column where pieces stand side by side.
    row: usize,
    /// Whether they stand side by side, and not one below the other.
    beside: bool,
    tensor: Whole,
}

/// The weights of `module` under the names that `target`, a map without cuts, reads; `maps` say
/// where they come from in `checkpoint`. Those that an assignment names are stored in its formats.
///
/// # Errors
///
/// When a weight can not be read, or a rule can not be turned around.
pub fn tensors(
    module: &Module,
    maps: &[WeightMap],
    target: &WeightMap,
    checkpoint: &Checkpoint,
    stored: Option<(&Assignment, Convention)>,
) -> Result<Exported, Error> {
    let map = map_for(maps, checkpoint)?;
    let loader = Loader { checkpoint };
    let mut pieces: BTreeMap<String, Vec<Piece>> = BTreeMap::new();
    for rule in &target.rules {
        let Some(from) = map.rules.iter().find(|it| it.param == rule.param) else { continue };
        for layer in 0..rule.layers.as_ref().map_or(1, Vec::len) {
            let assignment = stored.map(|it| it.0);
            let piece = loaded(module, from, layer, &loader, assignment);
            let to = rule.layers.as_ref().map_or(0, |it| it[layer]);
            let turned = piece.and_then(|it| turned(&rule.source.of_layer(to), it));
            let turned =
                turned.map_err(|why| Error::new("C0203", format!("`{}`: {why}", rule.param)))?;
            if let Some((name, piece)) = turned {
                pieces.entry(name).or_default().push(piece);
            }
        }
    }
    let mut exported = Exported::default();
    for (name, pieces) in pieces {
        let convention = stored.map_or(Convention::ModelOpt, |it| it.1);
        let same = pieces.windows(2).all(|it| it[0].tensor.dtype == it[1].tensor.dtype);
        let added = same.then(|| joined(pieces)).and_then(|it| exported.add(&name, it, convention));
        added.ok_or_else(|| {
            let message = format!("`{name}` can not be written in its format");
            Error::new("C0307", message).help("choose another format for it, or keep it")
        })?;
    }
    Ok(exported)
}

impl Exported {
    /// Adds a tensor, in parts where its format asks for it; `None` where that can not be.
    fn add(&mut self, name: &str, it: Whole, convention: Convention) -> Option<()> {
        let Whole { dtype, shape, bytes } = it;
        let plain = match dtype {
            DType::F32 => Some(Dtype::F32),
            DType::F16 => Some(Dtype::F16),
            DType::BF16 => Some(Dtype::BF16),
            _ => None,
        };
        if let Some(dtype) = plain {
            self.tensors.insert(name.to_owned(), Tensor { dtype, shape, bytes });
            return Some(());
        }
        let base = name.strip_suffix(".weight")?;
        for part in take_apart(convention, dtype, shape.try_into().ok()?, &bytes)? {
            let tensor = Tensor { dtype: part.dtype, shape: part.shape, bytes: part.bytes };
            self.tensors.insert(format!("{base}.{}", part.end), tensor);
        }
        self.formats.insert(base.to_owned(), dtype);
        Some(())
    }
}

/// One layer of a weight, in a type that can be written.
fn loaded(
    module: &Module,
    rule: &ParamRule,
    layer: usize,
    loader: &Loader<'_>,
    assignment: Option<&Assignment>,
) -> Result<Piece, String> {
    let param = module.entry().params.iter().find(|it| it.name == *rule.param);
    let axes = param.map_or(&[][..], |it| &it.ty.axes[usize::from(rule.layers.is_some())..]);
    let shape: Option<Vec<usize>> = axes.iter().map(|it| module.axes.fixed(it)).collect();
    let shape = shape.ok_or("its extents are not known")?;
    let loaded = loader.load(&layer_source(rule, layer, loader))?;
    let loaded = loaded.filling(shape.iter().product());
    let row = |(dtype, bytes)| {
        let tensor = Whole { dtype, shape: shape.clone(), bytes };
        Piece { row: 0, beside: false, tensor }
    };
    if let Some(stored) = assignment.filter(|_| shape.len() == 2)
        && let Some(found) = stored.stored(&rule.param, layer, &loaded)?
    {
        return Ok(row(found));
    }
    let dtype = match loaded.dtype {
        it @ (DType::F32 | DType::F16 | DType::BF16) => it,
        _ => DType::F32,
    };
    let bytes = encoded(dtype, &loaded.decode()?);
    Ok(row((dtype, bytes)))
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
    // Codes stay whole rows.
    let moves_rows = matches!(
        source,
        TensorSource::Tensor(_) | TensorSource::FirstOf(_) | TensorSource::Rows(..)
    );
    if piece.tensor.dtype.is_scaled() && !moves_rows {
        let why = "the checkpoint keeps it in another shape than the model multiplies with, such as \
                   turned, and rows of codes have but one";
        return Err(format!("{} can not be written: {why}", piece.tensor.dtype));
    }
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
        | TensorSource::Scaled(..)
        | TensorSource::Stack(_)
        | TensorSource::ByLayer(_) => Err("what its rule does can not be turned around".to_owned()),
    }
}

fn values(tensor: &Whole) -> Result<Vec<f32>, String> {
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
    let tensor = Whole { dtype, shape: vec![columns, rows], bytes: encoded(dtype, &new) };
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
    Ok(Piece { tensor: Whole { bytes, ..piece.tensor }, ..piece })
}

/// Pieces one after the other, by their rows.
fn joined(mut pieces: Vec<Piece>) -> Whole {
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
    Whole { dtype, shape, bytes: bytes.collect() }
}

impl View for &Tensor {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// Writes tensors in the safetensors format.
///
/// # Errors
///
/// When the file can not be written.
pub fn write(path: &Path, tensors: &Tensors) -> Result<(), Error> {
    let about = [("format".to_owned(), "pt".to_owned())].into();
    serialize_to_file(tensors, Some(about), path)
        .map_err(|why| Error::new("C0303", format!("`{}`: {why}", path.display())))
}
