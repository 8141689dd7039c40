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
        let outcome = ir::storage::decode(self.dtype, &self.bytes, &mut values);
        outcome.map(|()| values).map_err(|why| why.to_string())
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
    /// The source with every choice made: the first alternative whose tensors are all there.
    pub fn resolve(&self, source: &TensorSource) -> TensorSource {
        let inner = |it: &TensorSource| Box::new(self.resolve(it));
        match source {
            TensorSource::FirstOf(all) => {
                let there = |it: &&TensorSource| {
                    it.names().iter().all(|name| self.checkpoint.find(name).is_some())
                };
                let choice = all.iter().find(there).or(all.first());
                choice.map_or_else(|| source.clone(), |it| self.resolve(it))
            }
            TensorSource::Tensor(_) => source.clone(),
            TensorSource::Transpose(of) => TensorSource::Transpose(inner(of)),
            TensorSource::Rows(of, from, to) => TensorSource::Rows(inner(of), *from, *to),
            TensorSource::Unrotate(of, width) => TensorSource::Unrotate(inner(of), *width),
            TensorSource::Plus(of, add) => TensorSource::Plus(inner(of), *add),
        }
    }

    /// Reads a resolved source.
    ///
    /// # Errors
    ///
    /// Why it can not be had, in a sentence that names the tensor.
    pub fn load(&self, source: &TensorSource) -> Result<Loaded<'a>, String> {
        match source {
            TensorSource::Tensor(name) => {
                let tensor = self.checkpoint.tensor(name).map_err(|it| it.message)?;
                let (dtype, shape) = (tensor.dtype, tensor.shape.to_vec());
                Ok(Loaded { dtype, shape, bytes: Cow::Borrowed(tensor.bytes) })
            }
            TensorSource::FirstOf(_) => self.load(&self.resolve(source)),
            TensorSource::Rows(of, from, to) => {
                let loaded = self.load(of)?;
                let rows = loaded.shape.first().copied().unwrap_or(0);
                if rows < *to {
                    return Err(format!("rows {from} to {to} of a tensor of {rows}"));
                }
                Ok(loaded.rows(*from..*to))
            }
            TensorSource::Unrotate(of, width) => unrotate(self.load(of)?, *width),
            TensorSource::Transpose(of) => transpose(&self.load(of)?),
            TensorSource::Plus(of, add) => {
                let loaded = self.load(of)?;
                let values = loaded.decode()?;
                let sums: Vec<f32> = values.iter().map(|it| it + *add as f32).collect();
                Ok(Loaded::from_values(loaded.shape, &sums))
            }
        }
    }
}

/// Heads of `width` rows with rotated pairs side by side, as heads with the first and the second of
/// all pairs together.
fn unrotate(loaded: Loaded<'_>, width: usize) -> Result<Loaded<'static>, String> {
    let rows = loaded.shape.first().copied().unwrap_or(0);
    if width == 0 || !width.is_multiple_of(2) || !rows.is_multiple_of(width) {
        return Err(format!("{rows} rows are no heads of {width}"));
    }
    let source = |row: usize| {
        let (head, within) = (row / width * width, row % width);
        head + if within < width / 2 { 2 * within } else { 2 * (within - width / 2) + 1 }
    };
    Ok(loaded.rows((0..rows).map(source)))
}

fn transpose(loaded: &Loaded<'_>) -> Result<Loaded<'static>, String> {
    let [rows, columns] = loaded.shape[..] else {
        return Err(format!("a tensor of shape {:?} is no matrix", loaded.shape));
    };
    let values = loaded.decode()?;
    let turned: Vec<f32> = (0..columns)
        .flat_map(|j| (0..rows).map(move |i| (i, j)))
        .map(|(i, j)| values[i * columns + j])
        .collect();
    Ok(Loaded::from_values(vec![columns, rows], &turned))
}
