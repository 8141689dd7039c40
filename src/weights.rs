//! What stands for the weights of a model: a checkpoint, or random numbers.

use frontend::WeightMap;
use import::{Checkpoint, Stored};
use ir::DType;
use runtime::{Pages, Target};

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

    /// The same for a program that runs at once: random weights are made up where they are used.
    ///
    /// # Errors
    ///
    /// As [`bind`].
    pub fn bind_there(&self, lowered: &mut Lowered, maps: &[WeightMap]) -> Result<Pages, Error> {
        match self {
            Weights::Checkpoint(checkpoint) => bind(lowered, maps, checkpoint),
            Weights::Random(random) => random.bind_there(lowered),
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

    /// The parameters of which other numbers may be stored with no loss: layers in `f32`, which no
    /// other parameter has.
    pub fn open(&self, maps: &[WeightMap]) -> Vec<String> {
        match self {
            Weights::Checkpoint(checkpoint) => bind::open(maps, checkpoint),
            Weights::Random(_) => Vec::new(),
        }
    }

    /// The type for numbers that a model keeps for itself, such as keys and values: 16 bits where
    /// most weights have fewer, so that much is rounded anyway, and on a GPU where they have as
    /// many; else `f32`.
    pub fn cache(&self, target: Target) -> DType {
        match (self.most(), target) {
            (Some(DType::BF16), Target::Cuda) => DType::BF16,
            (Some(DType::F16), Target::Cuda) | (None, _) => DType::F16,
            (Some(_), _) => DType::F32,
        }
    }

    /// How most numbers are stored; `None` for formats of fewer than 16 bits.
    fn most(&self) -> Option<DType> {
        let Weights::Checkpoint(checkpoint) = self else { return Some(DType::BF16) };
        let types = [Some(DType::F32), Some(DType::F16), Some(DType::BF16), None];
        let mut numbers = types.map(|it| (0, it));
        for tensor in checkpoint.tensors() {
            let class = match tensor.stored {
                Stored::Known(DType::F32 | DType::F64) => 0,
                Stored::Known(DType::F16) => 1,
                Stored::Known(DType::BF16) => 2,
                _ => 3,
            };
            numbers[class].0 += tensor.shape.iter().product::<usize>();
        }
        numbers.into_iter().max_by_key(|it| it.0).and_then(|it| it.1)
    }

    /// The checkpoint, which may tell of more than weights.
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        match self {
            Weights::Checkpoint(checkpoint) => Some(checkpoint),
            Weights::Random(_) => None,
        }
    }
}
