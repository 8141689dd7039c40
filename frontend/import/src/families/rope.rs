//! Rotary positions as configurations give them: base, stretching, how much of a head turns.

use crate::checkpoint::{Checkpoint, Tensor};
use crate::config::Config;
use crate::error::Error;

/// What a configuration says about rotary positions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rope {
    /// The slowest wavelength, over 2 pi.
    pub(super) theta: f64,
    /// How frequencies are stretched beyond the context of pre-training.
    stretch: Stretch,
    /// Which part of a head turns, if that is said.
    pub(super) part: Option<f64>,
}

/// How rotary frequencies are stretched. A factor of 1 is not at all; with `low` equal to `high` it
/// is the same for all of them, and otherwise as Llama 3 does it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Stretch {
    factor: f64,
    low: f64,
    high: f64,
    original: f64,
}

const LLAMA3: Stretch = Stretch { factor: 1.0, low: 1.0, high: 4.0, original: 8192.0 };

impl Rope {
    /// A base and nothing else.
    pub(super) fn of_base(theta: f64) -> Rope {
        Rope { theta, stretch: LLAMA3, part: None }
    }

    /// From `rope_theta` with `rope_parameters` (Transformers 5) or `rope_scaling` (before), which
    /// have to agree where there are both.
    pub(super) fn of_json(config: &Config<'_>) -> Result<Rope, Error> {
        let theta = config.number("rope_theta")?.unwrap_or(10000.0);
        let sections = [config.section("rope_parameters")?, config.section("rope_scaling")?];
        let found = sections.into_iter().flatten().map(|it| Rope::of_section(it, theta));
        match found.collect::<Result<Vec<_>, _>>()?[..] {
            [] => Ok(Rope::of_base(theta)),
            [first, ref others @ ..] if others.iter().all(|it| *it == first) => Ok(first),
            _ => Err(config.refuse("rope_scaling", "not what `rope_parameters` is")),
        }
    }

    /// From one section, whose base is `theta` where it has none.
    pub(super) fn of_section(rope: Config<'_>, theta: f64) -> Result<Rope, Error> {
        let theta = rope.number("rope_theta")?.unwrap_or(theta);
        let part = rope.number("partial_rotary_factor")?;
        let number = |key| rope.number(key)?.ok_or_else(|| rope.missing(key));
        let old_name = rope.text("type")?;
        let stretch = match rope.text("rope_type")?.or(old_name) {
            None | Some("default") => LLAMA3,
            Some("linear") => Stretch::evenly(number("factor")?),
            Some("llama3") => Stretch {
                factor: number("factor")?,
                low: number("low_freq_factor")?,
                high: number("high_freq_factor")?,
                original: number("original_max_position_embeddings")?,
            },
            Some(other) => return Err(rope.refuse("rope_type", other)),
        };
        rope.finish()?;
        Ok(Rope { theta, stretch, part })
    }

    /// From the metadata of a GGUF file, and from the divisors it may hold.
    pub(super) fn of_gguf(config: &Config<'_>, checkpoint: &Checkpoint) -> Result<Rope, Error> {
        let theta = config.number("rope.freq_base")?.unwrap_or(10000.0);
        let old_factor = config.number("rope.scale_linear")?;
        let factor = config.number("rope.scaling.factor")?.or(old_factor);
        let stretch = match (config.text("rope.scaling.type")?, factor) {
            (Some("none"), _) | (None | Some("linear"), None) => {
                Stretch::of_divisors(checkpoint, theta)?
            }
            (None | Some("linear"), Some(factor)) => Stretch::evenly(factor),
            (Some(other), _) => return Err(config.refuse("rope.scaling.type", other)),
        };
        Ok(Rope { theta, stretch, part: None })
    }

    /// The base, for families that never stretch.
    pub(super) fn unstretched(self, config: &Config<'_>) -> Result<f64, Error> {
        match self.stretch.factor {
            1.0 => Ok(self.theta),
            factor => Err(config.refuse("rope_parameters.factor", factor)),
        }
    }

    /// The factor by which all frequencies alike are stretched.
    pub(super) fn even_factor(self, config: &Config<'_>) -> Result<f64, Error> {
        let Stretch { factor, low, high, .. } = self.stretch;
        match factor == 1.0 || low == high {
            true => Ok(factor),
            false => Err(config.refuse("rope_parameters.rope_type", "llama3")),
        }
    }

    /// Refuses to turn only a part of each head.
    pub(super) fn whole(self, config: &Config<'_>) -> Result<Rope, Error> {
        match self.part.filter(|&part| part != 1.0) {
            Some(part) => Err(config.refuse("rope_parameters.partial_rotary_factor", part)),
            None => Ok(self),
        }
    }

    /// The values of a spec that hands all of them to the prelude's `rope`.
    pub(super) fn values(&self) -> [(&'static str, f64); 5] {
        let Stretch { factor, low, high, original } = self.stretch;
        [
            ("theta", self.theta),
            ("rope_factor", factor),
            ("rope_low", low),
            ("rope_high", high),
            ("rope_original", original),
        ]
    }
}

impl Stretch {
    /// All frequencies alike.
    fn evenly(factor: f64) -> Stretch {
        Stretch { factor, high: LLAMA3.low, ..LLAMA3 }
    }

    /// GGUF stores, for each frequency, what it is divided by. Llama 3 has published one set of
    /// limits, so the factor is the largest divisor; the others must then follow from it.
    fn of_divisors(checkpoint: &Checkpoint, theta: f64) -> Result<Stretch, Error> {
        let name = "rope_freqs.weight";
        if checkpoint.find(name).is_none() {
            return Ok(LLAMA3);
        }
        let Tensor { dtype, bytes, .. } = checkpoint.tensor(name)?;
        let refused =
            || Error::new("T0311", "these are not Llama 3's").at(format!("tensor {name}"));
        if dtype != ir::DType::F32 {
            return Err(refused());
        }
        let (values, _) = bytes.as_chunks::<4>();
        let divisors: Vec<f64> = values.iter().map(|&b| f32::from_le_bytes(b).into()).collect();
        let factor = divisors.iter().copied().fold(1.0, f64::max);
        let stretch = Stretch { factor, ..LLAMA3 };
        let n = divisors.len() as f64;
        let follows = |(index, divisor): (usize, &f64)| {
            let expected = stretch.divisor(theta.powf(-(index as f64) / n));
            (divisor - expected).abs() <= 1e-3 * expected
        };
        if divisors.iter().enumerate().all(follows) { Ok(stretch) } else { Err(refused()) }
    }

    /// What a rotary frequency is divided by (transformers, `_compute_llama3_parameters`).
    fn divisor(&self, frequency: f64) -> f64 {
        let turns = self.original * frequency / std::f64::consts::TAU;
        let smooth = ((turns - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        1.0 / ((1.0 - smooth) / self.factor + smooth)
    }
}
