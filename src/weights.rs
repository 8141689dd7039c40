//! What stands for the weights of a model: a checkpoint, or random numbers.

use frontend::WeightMap;
use import::{Checkpoint, Stored};
use ir::DType;
use runtime::Pages;

use crate::{Error, Loader, Lowered, Random, ReferenceModel, bind, random};

/// Weights that a model can be given.
pub enum Weights {
    /// Those of a checkpoint.
    Checkpoint(Checkpoint),
    /// Random ones.
    Random(Random),
}

impl Weights {
    /// Packs them for `lowered`, whose slots are completed; `maps` say where each parameter comes
    /// from in a checkpoint.
    ///
    /// # Errors
    ///
    /// As [`bind`].
    pub fn bind(&self, lowered: &mut Lowered, maps: &[WeightMap]) -> Result<Pages, Error> {
        match self {
            Weights::Checkpoint(checkpoint) => bind(lowered, maps, checkpoint),
            Weights::Random(random) => random.bind(lowered),
        }
    }

    /// Completes the slots of `lowered`, formats and places, and packs nothing.
    ///
    /// # Errors
    ///
    /// As [`bind`].
    pub fn lay_out(&self, lowered: &mut Lowered, maps: &[WeightMap]) -> Result<(), Error> {
        match self {
            Weights::Checkpoint(checkpoint) => {
                let wanted = bind::wanted(lowered, maps, checkpoint)?;
                bind::lay_out(lowered, &wanted, &Loader { checkpoint })?;
            }
            Weights::Random(random) => {
                let wanted = random::wanted(lowered)?;
                bind::lay_out(lowered, &wanted, random)?;
            }
        }
        Ok(())
    }

    /// The numbers of a layer of a parameter that `of` multiplies with.
    ///
    /// # Errors
    ///
    /// When there is no such parameter, or it can not be read.
    pub fn numbers(
        &self,
        of: &Lowered,
        maps: &[WeightMap],
        param: &str,
        layer: usize,
    ) -> Result<Vec<f32>, Error> {
        let bank = of.plan.banks.iter().find(|it| it.packed && it.param == *param);
        let bank = bank.ok_or_else(|| Error::new("C0203", format!("there is no `{param}`")))?;
        match self {
            Weights::Checkpoint(checkpoint) => bind::numbers(bank, layer, maps, checkpoint),
            Weights::Random(random) => random.numbers(&of.module, bank, layer as u64),
        }
    }

    /// The reference interpreter with them.
    ///
    /// # Errors
    ///
    /// As [`ReferenceModel::new`].
    pub fn reference(&self, of: &Lowered, maps: &[WeightMap]) -> Result<ReferenceModel, Error> {
        match self {
            Weights::Checkpoint(checkpoint) => ReferenceModel::new(of, maps, checkpoint),
            Weights::Random(random) => ReferenceModel::random(of, random),
        }
    }

    /// The type for numbers that a model keeps for itself, such as keys and values: that of most
    /// weights, but 16 bits where they have fewer.
    pub fn cache(&self) -> DType {
        let Weights::Checkpoint(checkpoint) = self else { return DType::BF16 };
        let mut numbers = [(0, DType::F16), (0, DType::BF16), (0, DType::F32)];
        for tensor in checkpoint.tensors() {
            let class = match tensor.stored {
                Stored::Known(DType::F32 | DType::F64) => 2,
                Stored::Known(DType::BF16) => 1,
                _ => 0,
            };
            numbers[class].0 += tensor.shape.iter().product::<usize>();
        }
        numbers.into_iter().max_by_key(|it| it.0).map_or(DType::F32, |it| it.1)
    }

    /// The checkpoint, which may tell of more than weights.
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        match self {
            Weights::Checkpoint(checkpoint) => Some(checkpoint),
            Weights::Random(_) => None,
        }
    }
}
