//! Llama, and what shares its architecture: SmolLM2, TinyLlama, Mistral.

use super::decoder::{self, Sizes};
use super::rope::Rope;
use super::{Settings, read};
use crate::checkpoint::Checkpoint;
use crate::config::{Config, architecture};
use crate::error::Error;

/// Reads the settings of a Llama or Mistral checkpoint: the axes of [`Sizes`] and the values `eps`,
/// `theta`, `rope_factor`, `rope_low`, `rope_high`, `rope_original` (a factor of 1 is none),
/// `window` (0 is none), `tied`, `attention_bias`, `mlp_bias` and `context`.
///
/// # Errors
/// `T0309` to `T0312` when a setting is missing, wrong or not understood.
pub fn llama_settings(checkpoint: &Checkpoint) -> Result<Settings, Error> {
    read(checkpoint, of_json, of_gguf)
}

fn of_json(config: &Config<'_>, checkpoint: &Checkpoint) -> Result<Settings, Error> {
    decoder::check_unset(config, &["rope_interleaved"])?;
    decoder::check_activation(config, "hidden_act", &["silu"])?;
    let mut window = 0;
    if architecture(checkpoint)? == "MistralForCausalLM" {
        window = config.count("sliding_window")?.unwrap_or(0);
        // Transformers has one in mind where nothing is said, and null says that there is none.
        if !config.names("sliding_window") {
            return Err(config.missing("sliding_window"));
        }
    }
    let numbers = [
        ("eps", config.number("rms_norm_eps")?.unwrap_or(1e-6)),
        ("window", window as f64),
        ("tied", decoder::is_tied(config, checkpoint, false)?.into()),
        ("attention_bias", config.flag("attention_bias")?.into()),
        ("mlp_bias", config.flag("mlp_bias")?.into()),
    ];
    let rope = Rope::of_json(config)?.whole(config)?;
    Ok(Sizes::of_json(config, None)?.settings("llama")?.with(numbers).with(rope.values()))
}

fn of_gguf(config: &Config<'_>, checkpoint: &Checkpoint) -> Result<Settings, Error> {
    let sizes = Sizes::of_gguf(config, checkpoint)?;
    decoder::check_whole_heads(config, &sizes)?;
    let has = |name: &str| f64::from(checkpoint.find(name).is_some());
    let numbers = [
        ("eps", config.number("attention.layer_norm_rms_epsilon")?.unwrap_or(1e-5)),
        ("tied", decoder::is_tied_gguf(checkpoint).into()),
        ("attention_bias", has("blk.0.attn_q.bias")),
        ("mlp_bias", has("blk.0.ffn_up.bias")),
    ];
    let rope = Rope::of_gguf(config, checkpoint)?;
    Ok(sizes.settings("llama")?.with(numbers).with(rope.values()))
}
