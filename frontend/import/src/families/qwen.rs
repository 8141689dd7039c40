//! Qwen2, Qwen2.5 and Qwen3.

use super::decoder::{self, Sizes};
use super::rope::Rope;
use super::{Settings, read};
use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::error::Error;

/// Reads the settings of a Qwen2 checkpoint: the axes of [`Sizes`] and the values `eps`, `theta`,
/// `tied` and `context`.
///
/// # Errors
/// `T0309` to `T0312` when a setting is missing, wrong or not understood.
pub fn qwen2_settings(checkpoint: &Checkpoint) -> Result<Settings, Error> {
    let of_json = |config: &Config<'_>, checkpoint: &Checkpoint| {
        of_json(config, checkpoint, Sizes::of_json(config, None)?.settings("qwen2")?)
    };
    read(checkpoint, of_json, |config, checkpoint| of_gguf(config, checkpoint, "qwen2"))
}

/// Reads the settings of a Qwen3 checkpoint: those of Qwen2.
///
/// # Errors
/// `T0309` to `T0312` when a setting is missing, wrong or not understood.
pub fn qwen3_settings(checkpoint: &Checkpoint) -> Result<Settings, Error> {
    let of_json = |config: &Config<'_>, checkpoint: &Checkpoint| {
        decoder::check_unset(config, &["attention_bias"])?;
        of_json(config, checkpoint, Sizes::of_json(config, Some(128))?.settings("qwen3")?)
    };
    read(checkpoint, of_json, |config, checkpoint| of_gguf(config, checkpoint, "qwen3"))
}

fn of_json(
    config: &Config<'_>,
    checkpoint: &Checkpoint,
    sizes: Settings,
) -> Result<Settings, Error> {
    decoder::check_unset(config, &["use_mrope"])?;
    decoder::check_activation(config, "hidden_act", &["silu"])?;
    check_no_window(config)?;
    Ok(sizes.with([
        ("eps", config.number("rms_norm_eps")?.unwrap_or(1e-6)),
        ("theta", Rope::of_json(config)?.whole(config)?.unstretched(config)?),
        ("tied", decoder::is_tied(config, checkpoint, false)?.into()),
    ]))
}

/// Every layer has to see all positions. Published files name a window and then do not use it.
fn check_no_window(config: &Config<'_>) -> Result<(), Error> {
    config.ignore(&["sliding_window", "max_window_layers"]);
    let kinds = config.texts("layer_types")?;
    if let Some(other) = kinds.iter().flatten().find(|kind| **kind != "full_attention") {
        return Err(config.refuse("layer_types", format!("`{other}` for a layer")));
    }
    match config.flag("use_sliding_window")? && kinds.is_none() {
        true => Err(config.refuse("use_sliding_window", true)),
        false => Ok(()),
    }
}

fn of_gguf(
    config: &Config<'_>,
    checkpoint: &Checkpoint,
    family: &'static str,
) -> Result<Settings, Error> {
    let sizes = Sizes::of_gguf(config, checkpoint)?;
    decoder::check_whole_heads(config, &sizes)?;
    Ok(sizes.settings(family)?.with([
        ("eps", config.number("attention.layer_norm_rms_epsilon")?.unwrap_or(1e-6)),
        ("theta", Rope::of_gguf(config, checkpoint)?.whole(config)?.unstretched(config)?),
        ("tied", decoder::is_tied_gguf(checkpoint).into()),
    ]))
}
