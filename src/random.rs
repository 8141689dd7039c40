//! Random numbers that stand in for a checkpoint: for speed and for agreement they do as well.

use std::collections::BTreeMap;

use ir::storage::Encoding;
use ir::{DType, Module, Name, Param, Role, Tensor};
use plan::Bank;
use runtime::{Pages, Target};

use crate::{
    Error, Loaded, Lowered,
    bind::{self, Supply, Wanted},
    tensors::scaled,
};

/// Random weights, the same on every machine: element `i` of a parameter depends on the seed, the
/// parameter's name and `i` alone, by integer arithmetic and operations that IEEE 754 rounds
/// exactly. They are numbers that `bf16` can hold.
#[derive(Clone, Copy, Debug)]
pub struct Random {
    /// Another seed gives other weights.
    pub seed: u64,
}

/// Elements of a parameter, as they follow each other in all its layers.
#[derive(Debug)]
pub(crate) struct Part {
    param: Name,
    /// How long its rows are.
    columns: usize,
    first: u64,
    n: usize,
    /// What each row is multiplied with.
    times: Option<Box<Part>>,
}

/// How numbers are drawn.
#[derive(Clone, Copy)]
enum Law {
    /// With a mean and a standard deviation.
    Normal(f32, f32),
    /// From one number to another.
    Uniform(f32, f32),
}

impl Random {
    /// Packs weights for `lowered`, whose slots are completed.
    ///
    /// # Errors
    ///
    /// When there is no memory for them.
    pub fn bind(&self, lowered: &mut Lowered) -> Result<Pages, Error> {
        let wanted = wanted(lowered)?;
        bind::pack_all(lowered, &wanted, self)
    }

    /// The same in the memory of the device that runs the program: a GPU makes weights up itself
    /// where it can, and what is given is zeros that take no memory.
    ///
    /// # Errors
    ///
    /// As [`Random::bind`].
    pub fn bind_there(&self, lowered: &mut Lowered) -> Result<Pages, Error> {
        let wanted = wanted(lowered)?;
        let (order, bytes) = bind::lay_out(lowered, &wanted, self)?;
        let drawn = order.iter().map(|&it| self.drawn(lowered, &wanted[it]));
        match drawn.collect::<Option<Vec<_>>>() {
            Some(drawn) => {
                bind::finish(lowered, &drawn)?;
                Ok(Pages::sparse(bytes)?)
            }
            None => bind::pack_all(lowered, &wanted, self),
        }
    }

    /// How a GPU makes up a weight; `None` where it can not, or is none.
    fn drawn(&self, lowered: &Lowered, of: &Wanted<Part>) -> Option<cuda::Drawn> {
        let slot = &lowered.program.weights[of.slot];
        let encoding = bind::encoding(lowered, slot, DType::BF16);
        let is_rounded = |it| lowered.rounded.get(&slot.name, slot.layer as usize, it).is_some();
        let as_it_is = Encoding::from_name(if slot.packed { "bf16" } else { "f32" });
        let is_plain = of.part.times.is_none() && !encoding.is_some_and(is_rounded);
        let can_be = lowered.target == Target::Cuda && is_plain;
        let encoding = encoding.or(as_it_is).filter(|it| can_be && cuda::Drawn::can_be(*it))?;
        let (is_uniform, line) = law(of.part.param.as_str(), of.part.columns).line();
        Some(cuda::Drawn {
            slot: of.slot as u64,
            shape: slot.shape,
            encoding,
            key: self.key(&of.part),
            first: of.part.first,
            line,
            is_uniform,
        })
    }

    /// The numbers of a layer of a bank.
    ///
    /// # Errors
    ///
    /// When a parameter has a length that is known only in a run.
    pub(crate) fn numbers(
        &self,
        module: &Module,
        bank: &Bank,
        layer: u64,
    ) -> Result<Vec<f32>, Error> {
        Ok(self.values(&part(module, bank, layer)?).map(half::bf16::to_f32).collect())
    }

    /// Every weight of `module` as the reference takes it.
    ///
    /// # Errors
    ///
    /// When a parameter has a length that is known only in a run.
    pub(crate) fn tensors(&self, module: &Module) -> Result<BTreeMap<Name, Tensor>, Error> {
        let weights = module.entry().params.iter().filter(|it| it.role == Role::Weight);
        weights
            .map(|it| {
                let shape: Option<Vec<usize>> =
                    it.ty.axes.iter().map(|axis| module.axes.fixed(axis)).collect();
                let shape = shape.ok_or_else(|| unknown(&it.name))?;
                let (param, n) = (it.name.clone(), shape.iter().product());
                let columns = columns(module, it)?;
                let part = Part { param, columns, first: 0, n, times: None };
                let data = self.values(&part).map(|it| it.to_f64()).collect();
                Ok((it.name.clone(), Tensor { ty: it.ty.clone(), shape, data }))
            })
            .collect()
    }

    fn values(&self, part: &Part) -> impl Iterator<Item = half::bf16> {
        let key = self.key(part);
        let law = law(part.param.as_str(), part.columns);
        (part.first..part.first + part.n as u64)
            .map(move |i| half::bf16::from_f32(law.draw(mixed(key.wrapping_add(i)))))
    }

    /// What tells a parameter's numbers from those of others.
    fn key(&self, part: &Part) -> u64 {
        mixed(self.seed ^ name_hash(part.param.as_str()))
    }
}

/// Every weight of `lowered`, and what it is made up from.
pub(crate) fn wanted(lowered: &Lowered) -> Result<Vec<Wanted<Part>>, Error> {
    let mut wanted = Vec::new();
    for bank in &lowered.plan.banks {
        for layer in 0..bank.layers {
            let part = part(&lowered.module, bank, layer)?;
            wanted.push(Wanted { slot: (bank.first + layer) as usize, part });
        }
    }
    Ok(wanted)
}

impl Supply for Random {
    type Part = Part;

    fn dtype(&self, part: &Part) -> Result<DType, Error> {
        Ok(if part.times.is_none() { DType::BF16 } else { DType::F32 })
    }

    fn load(&self, part: &Part) -> Result<Loaded<'_>, String> {
        let bytes: Vec<u8> = self.values(part).flat_map(half::bf16::to_le_bytes).collect();
        let loaded = Loaded { dtype: DType::BF16, shape: vec![part.n], bytes: bytes.into() };
        match &part.times {
            Some(by) => scaled(&loaded, &self.load(by)?),
            None => Ok(loaded),
        }
    }
}

impl Law {
    /// A number made of 64 random bits.
    fn draw(self, bits: u64) -> f32 {
        let (is_uniform, [from, by]) = self.line();
        let x = if is_uniform {
            (bits >> 40) as f32 / 16_777_216.0
        } else {
            // The sum of four numbers below 2^16 is nearly normal; their deviation is the root of
            // (2^32 - 1) / 3.
            let sum: u64 = (0..4).map(|i| bits >> (16 * i) & 0xffff).sum();
            (sum as f32 - 131_070.0) / 37_837.227
        };
        from + by * x
    }

    /// Whether `x` is uniform from 0 to 1 and not normal, and `[a, b]` of the numbers `a + b x`.
    fn line(self) -> (bool, [f32; 2]) {
        match self {
            Law::Normal(mean, deviation) => (false, [mean, deviation]),
            Law::Uniform(from, to) => (true, [from, to - from]),
        }
    }
}

/// What suits a parameter, by the last part of its name: norms are about 1, biases near 0, decays
/// and time steps as Mamba begins with them (-16 to -1, 0.001 to 0.1), and matrices such that what
/// they give is about as large as what they are given.
fn law(param: &str, columns: usize) -> Law {
    match param.rsplit('.').next().unwrap_or(param) {
        "a_log" => Law::Uniform(0.0, 2.77),
        "dt_bias" => Law::Uniform(-6.9, -2.25),
        "skip" => Law::Normal(1.0, 0.0),
        it if it.contains("bias") => Law::Normal(0.0, 0.02),
        it if it.contains("norm") => Law::Normal(1.0, 0.02),
        _ => Law::Normal(0.0, 1.0 / (columns.max(1) as f32).sqrt()),
    }
}

/// A layer of a bank.
fn part(module: &Module, bank: &Bank, layer: u64) -> Result<Part, Error> {
    let of = |name: &Name, layer: u64, n: u64, times| {
        let columns = columns(module, param(module, name)?)?;
        Ok(Part { param: name.clone(), columns, first: layer * n, n: n as usize, times })
    };
    let [rows, columns] = bank.shape;
    let by = bank.times.as_ref().map(|(by, from)| of(by, from + layer, columns, None));
    of(&bank.param, bank.from + layer, rows * columns, by.transpose()?.map(Box::new))
}

fn param<'a>(module: &'a Module, name: &Name) -> Result<&'a Param, Error> {
    module.entry().params.iter().find(|it| it.name == *name).ok_or_else(|| unknown(name))
}

/// How long the rows of a parameter are.
fn columns(module: &Module, param: &Param) -> Result<usize, Error> {
    let last = param.ty.axes.last().map_or(Some(1), |it| module.axes.fixed(it));
    last.ok_or_else(|| unknown(&param.name))
}

fn unknown(name: &Name) -> Error {
    Error::new("C0203", format!("`{name}` has no known extents"))
}

/// The step of SplitMix64: neighbouring numbers give unrelated ones.
fn mixed(number: u64) -> u64 {
    let x = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

/// FNV-1a.
fn name_hash(name: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    name.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(param: &str, columns: usize, first: u64, n: usize) -> Vec<f32> {
        let part = Part { param: param.into(), columns, first, n, times: None };
        Random { seed: 1 }.values(&part).map(half::bf16::to_f32).collect()
    }

    #[test]
    fn numbers_are_of_the_size_that_suits_them() {
        let n = 1 << 16;
        let moments = |values: &[f32]| {
            let mean = values.iter().sum::<f32>() / n as f32;
            (mean, (values.iter().map(|it| (it - mean).powi(2)).sum::<f32>() / n as f32).sqrt())
        };
        let (mean, deviation) = moments(&values("layers.mlp.up", 256, 0, n));
        assert!(mean.abs() < 1e-3 && (deviation - 1.0 / 16.0).abs() < 1e-3, "{mean} {deviation}");
        let (mean, deviation) = moments(&values("layers.mlp.norm", 256, 0, n));
        assert!((mean - 1.0).abs() < 1e-3 && deviation < 0.03, "{mean} {deviation}");
        let steps = values("layers.mamba.dt_bias", 256, 0, n);
        assert!(steps.iter().all(|it| (-6.91..=-2.24).contains(it)));
        assert!(values("layers.mamba.skip", 256, 0, 9).iter().all(|it| *it == 1.0));
    }

    #[test]
    fn an_element_is_the_same_whichever_part_it_is_read_in() {
        let whole = values("embed", 8, 0, 64);
        assert_eq!(whole[40..48], values("embed", 8, 40, 8));
        assert_ne!(whole[..8], values("head", 8, 0, 8));
        // They are a promise: results with random weights can be compared between versions.
        assert_eq!(whole[..4], [0.408_203_13, -0.125_976_56, -0.408_203_13, -0.425_781_25]);
    }
}
