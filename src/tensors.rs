//! Tensors of a checkpoint as a spec wants them.

use std::borrow::Cow;

use frontend::TensorSource;
use import::Checkpoint;
use ir::DType;

/// A tensor after the changes that the weight map asks for.
pub struct Loaded<'a> {
    /// The storage format.
    pub dtype: DType,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// The elements, row by row.
    pub bytes: Cow<'a, [u8]>,
}

impl Loaded<'_> {
    /// Its elements as numbers.
    ///
    /// # Errors
    ///
    /// When the bytes do not make whole blocks.
    pub fn decode(&self) -> Result<Vec<f32>, String> {
        let mut values = vec![0.0; self.shape.iter().product()];
        let columns = self.shape.last().copied().unwrap_or(1);
        let outcome = ir::storage::decode_rows(self.dtype, columns, &self.bytes, &mut values);
        outcome.map(|()| values).map_err(|why| why.to_string())
    }

    /// A single number as `n` of them; anything else as it is.
    #[must_use]
    pub fn filling(self, n: usize) -> Self {
        if !self.shape.is_empty() {
            return self;
        }
        Loaded { shape: vec![n], bytes: self.bytes.repeat(n).into(), ..self }
    }

    fn from_values(shape: Vec<usize>, values: &[f32]) -> Loaded<'static> {
        let bytes = values.iter().flat_map(|it| it.to_le_bytes()).collect();
        Loaded { dtype: DType::F32, shape, bytes: Cow::Owned(bytes) }
    }

    /// Bytes of one row: all that lies under one place of the first axis.
    fn row_bytes(&self) -> usize {
        self.bytes.len() / self.shape.first().copied().unwrap_or(1).max(1)
    }

    /// The rows `order`, in that order.
    fn rows(self, order: impl ExactSizeIterator<Item = usize>) -> Loaded<'static> {
        let row = self.row_bytes();
        let mut shape = self.shape;
        if let Some(first) = shape.first_mut() {
            *first = order.len();
        }
        let mut bytes = Vec::with_capacity(order.len() * row);
        order.for_each(|it| bytes.extend_from_slice(&self.bytes[it * row..][..row]));
        Loaded { dtype: self.dtype, shape, bytes: Cow::Owned(bytes) }
    }
}

/// Reads tensors by the expressions of a weight map.
pub struct Loader<'a> {
    /// What is read.
    pub checkpoint: &'a Checkpoint,
}

impl<'a> Loader<'a> {
    /// The source with every choice made: the first alternative whose tensors are all there. A
    /// number that stands for a whole tensor stands alone.
    pub fn resolve(&self, source: &TensorSource) -> TensorSource {
        use TensorSource as Source;
        source.map(&|it| match it {
            Source::FirstOf(all) => {
                let there = |it: &&Source| {
                    it.names().iter().all(|name| self.checkpoint.find(name).is_some())
                };
                let choice = all.iter().find(there).or(all.first());
                choice.cloned().unwrap_or(Source::FirstOf(Vec::new()))
            }
            Source::Each(of, change) => match *of {
                Source::Fill(number) => Source::Fill(f64::from(change.apply(number as f32))),
                of => Source::Each(Box::new(of), change),
            },
            Source::Transpose(of)
            | Source::Rows(of, ..)
            | Source::Unrotate(of, _)
            | Source::Squeeze(of)
            | Source::Flat(of)
            | Source::Take(of, ..)
                if matches!(*of, Source::Fill(_)) =>
            {
                *of
            }
            other => other,
        })
    }

    /// The extents of a resolved source, unless it is one number for any shape.
    ///
    /// # Errors
    ///
    /// Why it can not be had, in a sentence that names the tensor.
    pub fn shape(&self, source: &TensorSource) -> Result<Option<Vec<usize>>, String> {
        let of = |of: &TensorSource| self.shape(of).map(Option::unwrap_or_default);
        Ok(Some(match source {
            TensorSource::Fill(_) => return Ok(None),
            TensorSource::FirstOf(_) => return self.shape(&self.resolve(source)),
            TensorSource::Tensor(name) => {
                self.checkpoint.tensor(name).map_err(|it| it.message)?.shape.to_vec()
            }
            TensorSource::Each(inner, _) | TensorSource::Scaled(inner, _) => of(inner)?,
            TensorSource::Squeeze(inner) => squeezed(&of(inner)?),
            TensorSource::Flat(inner) => vec![of(inner)?.iter().product()],
            TensorSource::Rows(inner, from, to) => {
                let mut shape = of(inner)?;
                *has_rows(&mut shape, *from, *to)? = to - from;
                shape
            }
            TensorSource::Unrotate(inner, width) => {
                let shape = of(inner)?;
                heads(&shape, *width)?;
                shape
            }
            TensorSource::Transpose(inner) => {
                let [rows, columns] = matrix(&of(inner)?)?;
                vec![columns, rows]
            }
            TensorSource::Take(inner, axis, kept) => {
                let mut shape = of(inner)?;
                *has_places(&mut shape, *axis, kept)? = kept.len();
                shape
            }
            TensorSource::Stack(all) => {
                let shapes = all.iter().map(of).collect::<Result<Vec<_>, _>>()?;
                let one = shapes.iter().max().cloned().unwrap_or_default();
                [vec![all.len()], one].concat()
            }
            TensorSource::ByLayer(_) => return Err(WHICH_LAYER.to_owned()),
        }))
    }

    /// Reads a resolved source. A number for any shape is a tensor without axes.
    ///
    /// # Errors
    ///
    /// Why it can not be had, in a sentence that names the tensor.
    pub fn load(&self, source: &TensorSource) -> Result<Loaded<'a>, String> {
        match source {
            TensorSource::Fill(number) => Ok(Loaded::from_values(Vec::new(), &[*number as f32])),
            TensorSource::FirstOf(_) => self.load(&self.resolve(source)),
            TensorSource::Tensor(name) => {
                let tensor = self.checkpoint.tensor(name).map_err(|it| it.message)?;
                let (dtype, shape) = (tensor.dtype, tensor.shape.to_vec());
                Ok(Loaded { dtype, shape, bytes: tensor.bytes })
            }
            TensorSource::Rows(of, from, to) => {
                let mut loaded = self.load(of)?;
                has_rows(&mut loaded.shape, *from, *to)?;
                Ok(loaded.rows(*from..*to))
            }
            TensorSource::Squeeze(of) => {
                let loaded = self.load(of)?;
                Ok(Loaded { shape: squeezed(&loaded.shape), ..loaded })
            }
            TensorSource::Flat(of) => {
                let loaded = self.load(of)?;
                let shape = vec![loaded.shape.iter().product()];
                match loaded.dtype.head_bytes() {
                    0 => Ok(Loaded { shape, ..loaded }),
                    // What rows begin with does not stand between elements.
                    _ => Ok(Loaded::from_values(shape, &loaded.decode()?)),
                }
            }
            TensorSource::Unrotate(of, width) => unrotate(self.load(of)?, *width),
            TensorSource::Transpose(of) => transpose(&self.load(of)?),
            TensorSource::Each(of, change) => {
                let loaded = self.load(of)?;
                let values: Vec<f32> =
                    loaded.decode()?.into_iter().map(|it| change.apply(it)).collect();
                Ok(Loaded::from_values(loaded.shape, &values))
            }
            TensorSource::Scaled(of, by) => scaled(&self.load(of)?, &self.load(by)?),
            TensorSource::Take(of, axis, kept) => take(self.load(of)?, *axis, kept),
            TensorSource::Stack(all) => {
                stack(all.iter().map(|it| self.load(it)).collect::<Result<_, _>>()?)
            }
            TensorSource::ByLayer(_) => Err(WHICH_LAYER.to_owned()),
        }
    }
}

/// Tensors of one shape, one after the other; numbers are filled to it.
fn stack(all: Vec<Loaded<'_>>) -> Result<Loaded<'static>, String> {
    let one = all.iter().map(|it| it.shape.clone()).max().unwrap_or_default();
    let (n, mut values) = (one.iter().product(), Vec::new());
    let shape = [vec![all.len()], one.clone()].concat();
    for it in all {
        if !it.shape.is_empty() && it.shape != one {
            return Err(format!("one layer is {:?} and another {one:?}", it.shape));
        }
        values.extend(it.filling(n).decode()?);
    }
    Ok(Loaded::from_values(shape, &values))
}

/// Each row of `of` times `by`, which is as long, or one number.
pub(crate) fn scaled(of: &Loaded<'_>, by: &Loaded<'_>) -> Result<Loaded<'static>, String> {
    let (mut values, factors) = (of.decode()?, by.decode()?);
    if factors.is_empty() || !values.len().is_multiple_of(factors.len()) {
        return Err(format!("{:?} has no rows like {:?}", of.shape, by.shape));
    }
    values.iter_mut().zip(factors.iter().cycle()).for_each(|(it, factor)| *it *= factor);
    Ok(Loaded::from_values(of.shape.clone(), &values))
}

const WHICH_LAYER: &str = "it is another one for each layer";

/// The length of an axis, if all the places are along it.
fn has_places<'a>(
    shape: &'a mut [usize],
    axis: usize,
    places: &[usize],
) -> Result<&'a mut usize, String> {
    let what = format!("an axis {axis} of {shape:?}");
    match shape.get_mut(axis) {
        Some(size) if places.iter().all(|it| *it < *size) => Ok(size),
        Some(_) => Err(format!("there are no such places along {what}")),
        None => Err(format!("there is no such thing as {what}")),
    }
}

/// The format in which the places `kept` of an axis of a tensor of `dtype` can be had: its own,
/// unless that would take blocks of elements apart.
pub(crate) fn taken_type(dtype: DType, rank: usize, axis: usize, kept: &[usize]) -> DType {
    let block = dtype.block_len();
    let is_block = |places: &[usize]| {
        let first = places[0];
        first.is_multiple_of(block) && places.iter().copied().eq(first..first + block)
    };
    let is_whole = axis + 1 < rank || kept.chunks(block).all(is_block);
    if is_whole { dtype } else { DType::F32 }
}

/// A tensor at the places `kept` of an axis alone.
fn take(loaded: Loaded<'_>, axis: usize, kept: &[usize]) -> Result<Loaded<'static>, String> {
    let Loaded { dtype, mut shape, bytes } = loaded;
    let of_kept = taken_type(dtype, shape.len(), axis, kept);
    if of_kept != dtype {
        let whole = Loaded { dtype, shape, bytes };
        let values = whole.decode()?;
        return take(Loaded::from_values(whole.shape, &values), axis, kept);
    }
    let block = if axis + 1 < shape.len() { 1 } else { dtype.block_len() };
    let size = *has_places(&mut shape, axis, kept)?;
    let cells: Vec<usize> = kept.chunks(block).map(|it| it[0] / block).collect();
    let outer: usize = shape[..axis].iter().product();
    let cell = bytes.len() / (outer * (size / block)).max(1);
    let in_cells = [outer, size / block, cell];
    shape[axis] = kept.len();
    Ok(Loaded { dtype, shape, bytes: passes::taken(&bytes, &in_cells, 1, &cells).into() })
}

/// The number of rows, if those from one to another are among them.
fn has_rows(shape: &mut [usize], from: usize, to: usize) -> Result<&mut usize, String> {
    match shape.first_mut() {
        Some(rows) if to <= *rows => Ok(rows),
        Some(rows) => Err(format!("rows {from} to {to} of a tensor of {rows}")),
        None => Err(format!("rows {from} to {to} of a single number")),
    }
}

fn squeezed(shape: &[usize]) -> Vec<usize> {
    shape.iter().copied().filter(|it| *it != 1).collect()
}

fn matrix(shape: &[usize]) -> Result<[usize; 2], String> {
    shape.try_into().map_err(|_| format!("a tensor of shape {shape:?} is no matrix"))
}

/// The number of rows, which are heads of `width`.
fn heads(shape: &[usize], width: usize) -> Result<usize, String> {
    let rows = shape.first().copied().unwrap_or(0);
    match width != 0 && width.is_multiple_of(2) && rows.is_multiple_of(width) {
        true => Ok(rows),
        false => Err(format!("{rows} rows are no heads of {width}")),
    }
}

/// Heads of `width` rows with rotated pairs side by side, as heads with the first and the second of
/// all pairs together.
fn unrotate(loaded: Loaded<'_>, width: usize) -> Result<Loaded<'static>, String> {
    let rows = heads(&loaded.shape, width)?;
    let source = |row: usize| {
        let (head, within) = (row / width * width, row % width);
        head + if within < width / 2 { 2 * within } else { 2 * (within - width / 2) + 1 }
    };
    Ok(loaded.rows((0..rows).map(source)))
}

fn transpose(loaded: &Loaded<'_>) -> Result<Loaded<'static>, String> {
    let [rows, columns] = matrix(&loaded.shape)?;
    let values = loaded.decode()?;
    let turned: Vec<f32> = (0..columns)
        .flat_map(|j| (0..rows).map(move |i| (i, j)))
        .map(|(i, j)| values[i * columns + j])
        .collect();
    Ok(Loaded::from_values(vec![columns, rows], &turned))
}
