//! Llama, and what shares its architecture: SmolLM2, TinyLlama, Mistral without a window.

use super::Settings;
use crate::checkpoint::{Checkpoint, Metadata, Tensor};
use crate::config::Config;
use crate::error::Error;

/// How Llama 3 stretches its rotary frequencies beyond the context of pre-training.
#[derive(Clone, Copy, PartialEq)]
struct Stretch {
    factor: f64,
    low: f64,
    high: f64,
    original: f64,
}

const NO_STRETCH: Stretch = Stretch { factor: 1.0, low: 1.0, high: 4.0, original: 8192.0 };

/// Sizes and numbers as either kind of file gives them.
struct Found {
    vocab: usize,
    residual: usize,
    feed_forward: usize,
    heads: usize,
    kv_heads: usize,
    head_width: usize,
    layers: usize,
    eps: f64,
    theta: f64,
    stretch: Stretch,
    context: usize,
    tied: bool,
}

/// Reads the settings of a Llama checkpoint: axes `V E F K G P L` (vocabulary, residual stream,
/// feed-forward, key/value heads, query heads for each, head width, layers) and values `eps`,
/// `theta`, `rope_factor`, `rope_low`, `rope_high`, `rope_original` (a factor of 1 is none) and
/// `context`.
///
/// # Errors
/// `T0309` to `T0312` when a setting is missing, wrong or not understood.
pub fn llama_settings(checkpoint: &Checkpoint) -> Result<Settings, Error> {
    let found = match checkpoint.metadata() {
        Metadata::HuggingFace(map) => from_json(Config::json(map)),
        Metadata::Gguf(pairs) => from_gguf(Config::gguf(pairs, "llama"), checkpoint),
        Metadata::None => Err(Error::new("T0312", "the checkpoint has no configuration")),
    };
    found.and_then(|found| found.settings()).map_err(|error| error.in_file(checkpoint.path()))
}

fn from_json(config: Config<'_>) -> Result<Found, Error> {
    for key in ["attention_bias", "mlp_bias", "rope_interleaved"] {
        if config.flag(key)? {
            return Err(config.refuse(key, true));
        }
    }
    if let Some(activation) = config.text("hidden_act")?.filter(|&name| name != "silu") {
        return Err(config.refuse("hidden_act", activation));
    }
    let heads = config.required("num_attention_heads")?;
    let residual = config.required("hidden_size")?;
    let (theta, stretch) = rope_of_json(&config)?;
    let found = Found {
        vocab: config.required("vocab_size")?,
        residual,
        feed_forward: config.required("intermediate_size")?,
        heads,
        kv_heads: config.count("num_key_value_heads")?.unwrap_or(heads),
        head_width: config.count("head_dim")?.unwrap_or(residual / heads),
        layers: config.required("num_hidden_layers")?,
        eps: config.number("rms_norm_eps")?.unwrap_or(1e-6),
        theta,
        stretch,
        context: config.count("max_position_embeddings")?.unwrap_or(2048),
        tied: config.flag("tie_word_embeddings")?,
    };
    config.finish()?;
    Ok(found)
}

/// The base and the stretching, from `rope_parameters` or from `rope_theta` and `rope_scaling`.
fn rope_of_json(config: &Config<'_>) -> Result<(f64, Stretch), Error> {
    let outer = config.number("rope_theta")?;
    let sections = [config.section("rope_parameters")?, config.section("rope_scaling")?];
    let found = sections.into_iter().flatten().map(|it| rope_of_section(it, outer));
    match found.collect::<Result<Vec<_>, _>>()?[..] {
        [] => Ok((outer.unwrap_or(10000.0), NO_STRETCH)),
        [first, ref others @ ..] if others.iter().all(|it| *it == first) => Ok(first),
        _ => Err(config.refuse("rope_scaling", "not what `rope_parameters` is")),
    }
}

fn rope_of_section(rope: Config<'_>, outer: Option<f64>) -> Result<(f64, Stretch), Error> {
    let theta = rope.number("rope_theta")?.or(outer).unwrap_or(10000.0);
    let old_name = rope.text("type")?;
    let stretch = match rope.text("rope_type")?.or(old_name) {
        None | Some("default") => NO_STRETCH,
        Some("llama3") => {
            let number = |key| rope.number(key)?.ok_or_else(|| rope.missing(key));
            Stretch {
                factor: number("factor")?,
                low: number("low_freq_factor")?,
                high: number("high_freq_factor")?,
                original: number("original_max_position_embeddings")?,
            }
        }
        Some(other) => return Err(rope.refuse("rope_type", other)),
    };
    rope.finish()?;
    Ok((theta, stretch))
}

fn from_gguf(config: Config<'_>, checkpoint: &Checkpoint) -> Result<Found, Error> {
    if let Some(bias) = checkpoint.tensors().find(|entry| entry.name.ends_with(".bias")) {
        return Err(Error::new("T0311", "this family has no biases")
            .at(format!("tensor {}", bias.name))
            .help("write the model as a .tn spec, and give the checkpoint with --weights"));
    }
    let heads = config.required("attention.head_count")?;
    let residual = config.required("embedding_length")?;
    let head_width = config.count("attention.key_length")?.unwrap_or(residual / heads);
    for key in ["attention.value_length", "rope.dimension_count"] {
        if let Some(width) = config.count(key)?.filter(|&width| width != head_width) {
            return Err(config.refuse(key, width));
        }
    }
    let embedding = checkpoint.tensor("token_embd.weight")?;
    let theta = config.number("rope.freq_base")?.unwrap_or(10000.0);
    // The size of the embedding, and not this number, is what counts.
    config.count("vocab_size")?;
    let found = Found {
        vocab: embedding.shape.first().copied().unwrap_or(1),
        residual,
        feed_forward: config.required("feed_forward_length")?,
        heads,
        kv_heads: config.count("attention.head_count_kv")?.unwrap_or(heads),
        head_width,
        layers: config.required("block_count")?,
        eps: config.number("attention.layer_norm_rms_epsilon")?.unwrap_or(1e-5),
        theta,
        stretch: stretch_of_gguf(checkpoint, theta)?,
        context: config.required("context_length")?,
        tied: checkpoint.find("output.weight").is_none(),
    };
    config.finish()?;
    Ok(found)
}

/// GGUF stores, for each frequency, what it is divided by. Llama 3 has published one set of limits,
/// so the factor is the largest divisor; the others must then follow from it.
fn stretch_of_gguf(checkpoint: &Checkpoint, theta: f64) -> Result<Stretch, Error> {
    let name = "rope_freqs.weight";
    if checkpoint.find(name).is_none() {
        return Ok(NO_STRETCH);
    }
    let Tensor { dtype, bytes, .. } = checkpoint.tensor(name)?;
    let refused = || Error::new("T0311", "these are not Llama 3's").at(format!("tensor {name}"));
    if dtype != ir::DType::F32 {
        return Err(refused());
    }
    let (values, _) = bytes.as_chunks::<4>();
    let divisors: Vec<f64> = values.iter().map(|&b| f32::from_le_bytes(b).into()).collect();
    let factor = divisors.iter().copied().fold(1.0, f64::max);
    let stretch = Stretch { factor, ..NO_STRETCH };
    let n = divisors.len() as f64;
    let follows = |(index, divisor): (usize, &f64)| {
        let expected = stretch.divisor(theta.powf(-(index as f64) / n));
        (divisor - expected).abs() <= 1e-3 * expected
    };
    if divisors.iter().enumerate().all(follows) { Ok(stretch) } else { Err(refused()) }
}

impl Stretch {
    /// What a rotary frequency is divided by (transformers, `_compute_llama3_parameters`).
    fn divisor(&self, frequency: f64) -> f64 {
        let turns = self.original * frequency / std::f64::consts::TAU;
        let smooth = ((turns - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        1.0 / ((1.0 - smooth) / self.factor + smooth)
    }
}

impl Found {
    fn settings(self) -> Result<Settings, Error> {
        if !self.heads.is_multiple_of(self.kv_heads) {
            let message = format!("{} heads cannot share {}", self.heads, self.kv_heads);
            return Err(Error::new("T0311", message));
        }
        let axes = [
            ("V", self.vocab),
            ("E", self.residual),
            ("F", self.feed_forward),
            ("K", self.kv_heads),
            ("G", self.heads / self.kv_heads),
            ("P", self.head_width),
            ("L", self.layers),
        ];
        let values = [
            ("eps", self.eps),
            ("theta", self.theta),
            ("rope_factor", self.stretch.factor),
            ("rope_low", self.stretch.low),
            ("rope_high", self.stretch.high),
            ("rope_original", self.stretch.original),
            ("context", self.context as f64),
        ];
        Ok(Settings {
            family: "llama",
            axes: axes.map(|(name, extent)| (name.to_owned(), extent)).into(),
            values: values.map(|(name, value)| (name.to_owned(), value)).into(),
            tied: self.tied,
        })
    }
}
