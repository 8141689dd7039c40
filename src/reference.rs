//! The reference interpreter as a model that can be verified.

use std::collections::BTreeMap;

use frontend::WeightMap;
use import::Checkpoint;
use ir::storage::{self, Encoding};
use ir::{Module, Name, Tensor};
use runtime::{Fault, Model};

use crate::{Error, Lowered, Random, bind::tensors, lower, precision::Rounded};

/// A model run by the meaning of its graph, every result rounded to its type.
pub struct ReferenceModel {
    reference: reference::Reference,
    logits: Vec<f32>,
    longest: usize,
    is_stepwise: bool,
}

impl ReferenceModel {
    /// The model that `lowered` was compiled to, with the weights of `checkpoint`.
    ///
    /// # Errors
    ///
    /// When the checkpoint does not fit.
    pub fn new(
        lowered: &Lowered,
        maps: &[WeightMap],
        checkpoint: &Checkpoint,
    ) -> Result<ReferenceModel, Error> {
        ReferenceModel::of(lowered, tensors(&lowered.module, maps, checkpoint)?)
    }

    /// The same with random weights.
    ///
    /// # Errors
    ///
    /// When the graph is not one that can be run.
    pub fn random(lowered: &Lowered, random: &Random) -> Result<ReferenceModel, Error> {
        ReferenceModel::of(lowered, random.tensors(&lowered.module)?)
    }

    fn of(lowered: &Lowered, weights: BTreeMap<Name, Tensor>) -> Result<ReferenceModel, Error> {
        let mut weights = weights;
        for (param, layers) in &lowered.formats.0 {
            if let Some(tensor) = weights.get_mut(param) {
                round(tensor, param.as_str(), layers, &lowered.rounded)?;
            }
        }
        let module: Module = lowered.module.clone();
        let axes = lower::step_axes(&module)?;
        let is_stepwise = axes.past.is_some();
        let longest = lowered.program.extents.iter().map(|it| it.max as usize).min().unwrap_or(1);
        let reference = reference::Reference::new(module, weights, axes, true);
        Ok(ReferenceModel { reference, logits: Vec::new(), longest, is_stepwise })
    }
}

/// Takes the numbers of each layer for those that are stored for them.
fn round(
    tensor: &mut Tensor,
    param: &str,
    layers: &[Option<Encoding>],
    rounded: &Rounded,
) -> Result<(), Error> {
    let columns = tensor.shape.last().copied().unwrap_or(1);
    let of_layer = tensor.data.len() / layers.len().max(1);
    let of_layers = tensor.data.chunks_mut(of_layer.max(1)).zip(layers);
    for (layer, (values, format)) in of_layers.enumerate() {
        let Some(format) = format else { continue };
        let mut wide: Vec<f32> = values.iter().map(|it| *it as f32).collect();
        let known = rounded.get(param, layer, *format).map(<[u8]>::to_vec);
        let stored = known
            .map_or_else(|| storage::encode(*format, columns, &wide), Ok)
            .and_then(|it| storage::decode_rows(format.dtype, columns, &it, &mut wide));
        stored.map_err(|why| Error::new("C0203", why.to_string()))?;
        values.iter_mut().zip(wide).for_each(|(to, it)| *to = f64::from(it));
    }
    Ok(())
}

impl Model for ReferenceModel {
    fn reset(&mut self) -> Result<(), Fault> {
        self.reference.reset();
        Ok(())
    }

    fn step(&mut self, tokens: &[i32], last: usize) -> Result<&[f32], Fault> {
        let logits = self.reference.step(tokens, last);
        let logits = logits.map_err(|why| Fault::new("R0303", why))?;
        self.logits = logits.into_iter().map(|it| it as f32).collect();
        Ok(&self.logits)
    }

    fn read_source(&mut self, tokens: &[i32]) -> Result<(), Fault> {
        self.reference.set_source(tokens).map_err(|why| Fault::new("R0303", why))
    }

    fn is_stepwise(&self) -> bool {
        self.is_stepwise
    }

    fn longest_step(&self) -> usize {
        self.longest
    }
}
