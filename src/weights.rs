//! What stands for the weights of a model: a checkpoint, or random numbers.

use frontend::WeightMap;
use import::Checkpoint;
use runtime::Pages;

use crate::{Error, Lowered, Random, ReferenceModel, bind};

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

    /// The checkpoint, which may tell of more than weights.
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        match self {
            Weights::Checkpoint(checkpoint) => Some(checkpoint),
            Weights::Random(_) => None,
        }
    }
}
