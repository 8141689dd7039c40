//! Gemma 3, of text.

use super::decoder::{self, Sizes};
use super::rope::Rope;
use super::{Settings, read};
use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::error::Error;

/// Every so many layers one sees all positions, where nothing else is said.
const EVERY: usize = 6;

/// The base of rotary positions where it is not said, of layers that see all.
const THETA: f64 = 1e6;

/// That of the others.
const LOCAL_THETA: f64 = 1e4;

/// Reads the settings of a Gemma 3 checkpoint: the axes of [`Sizes`] but `L`, the values `eps`,
/// `theta`, `local_theta`, `rope_factor`, `window`, `scalar` (scores are divided by its root) and
/// `context`, and the text `pattern` (for each layer `s` for a window, or `f`).
///
/// # Errors
/// `T0309` to `T0312` when a setting is missing, wrong or not understood.
pub fn gemma3_settings(checkpoint: &Checkpoint) -> Result<Settings, Error> {
    read(checkpoint, of_json, of_gguf)
}

fn of_json(config: &Config<'_>, checkpoint: &Checkpoint) -> Result<Settings, Error> {
    // What a program did with its cache, and what `layer_types` says better.
    config.ignore(&["cache_implementation", "_sliding_window_pattern"]);
    decoder::check_unset(config, &["attention_bias", "use_bidirectional_attention"])?;
    decoder::check_activation(config, "hidden_activation", &["gelu_pytorch_tanh"])?;
    for key in ["attn_logit_softcapping", "final_logit_softcapping"] {
        if let Some(cap) = config.number(key)? {
            return Err(config.refuse(key, cap));
        }
    }
    if !decoder::is_tied(config, checkpoint, true)? {
        return Err(config.refuse("tie_word_embeddings", "false, or there is an output matrix"));
    }
    let sizes = Sizes::of_json(config, Some(256))?;
    let pattern = pattern_of_json(config, sizes.layers)?;
    let window = config.count("sliding_window")?.unwrap_or(4096);
    let scalar = config.number("query_pre_attn_scalar")?.unwrap_or(256.0);
    let eps = config.number("rms_norm_eps")?.unwrap_or(1e-6);
    let [full, local] = ropes_of_json(config)?;
    let numbers = [("eps", eps), ("scalar", scalar), ("window", window as f64)];
    Ok(settings(config, &sizes, pattern, full, local)?.with(numbers))
}

/// `s` for a layer with a window, `f` for one without.
fn pattern_of_json(config: &Config<'_>, layers: usize) -> Result<String, Error> {
    let every = config.count("sliding_window_pattern")?.unwrap_or(EVERY);
    let Some(kinds) = config.texts("layer_types")? else {
        return Ok(pattern(layers, every));
    };
    if kinds.len() != layers {
        return Err(config.refuse("layer_types", format!("one for {} layers", kinds.len())));
    }
    let letter = |kind: &&str| match *kind {
        "sliding_attention" => Ok('s'),
        "full_attention" => Ok('f'),
        other => Err(config.refuse("layer_types", format!("`{other}` for a layer"))),
    };
    kinds.iter().map(letter).collect()
}

/// Layers of which one in `every` sees all positions.
fn pattern(layers: usize, every: usize) -> String {
    (1..=layers).map(|layer| if layer.is_multiple_of(every) { 'f' } else { 's' }).collect()
}

/// The rotary positions of layers that see all, and of the others, as Transformers 5 or 4 spelt
/// them.
fn ropes_of_json(config: &Config<'_>) -> Result<[Rope; 2], Error> {
    let mut full = Rope::of_base(config.number("rope_theta")?.unwrap_or(THETA));
    let mut local = Rope::of_base(config.number("rope_local_base_freq")?.unwrap_or(LOCAL_THETA));
    if let Some(kinds) = config.section("rope_parameters")? {
        if let Some(section) = kinds.section("full_attention")? {
            full = Rope::of_section(section, full.theta)?;
        }
        if let Some(section) = kinds.section("sliding_attention")? {
            local = Rope::of_section(section, local.theta)?;
        }
        kinds.finish()?;
    }
    if let Some(section) = config.section("rope_scaling")? {
        full = Rope::of_section(section, full.theta)?;
    }
    Ok([full, local])
}

fn of_gguf(config: &Config<'_>, checkpoint: &Checkpoint) -> Result<Settings, Error> {
    if !decoder::is_tied_gguf(checkpoint) {
        return Err(decoder::untied_gguf());
    }
    let sizes = Sizes::of_gguf(config, checkpoint)?;
    decoder::check_whole_heads(config, &sizes)?;
    let every = config.count("attention.sliding_window_pattern")?.unwrap_or(EVERY);
    let window = config.count("attention.sliding_window")?;
    let every = if window.is_some() { every } else { 1 };
    let local = Rope::of_base(config.number("rope.freq_base_swa")?.unwrap_or(LOCAL_THETA));
    let full = Rope::of_gguf(config, checkpoint)?;
    let numbers = [
        ("eps", config.number("attention.layer_norm_rms_epsilon")?.unwrap_or(1e-6)),
        ("scalar", scalar_of_gguf(&sizes) as f64),
        ("window", window.unwrap_or(1) as f64),
    ];
    Ok(settings(config, &sizes, pattern(sizes.layers, every), full, local)?.with(numbers))
}

/// GGUF does not hold it: llama.cpp knows that only the largest model, by its 62 layers, has
/// another one than the width of its heads.
fn scalar_of_gguf(sizes: &Sizes) -> usize {
    if sizes.layers == 62 { sizes.residual / sizes.heads } else { sizes.head_width }
}

fn settings(
    config: &Config<'_>,
    sizes: &Sizes,
    pattern: String,
    full: Rope,
    local: Rope,
) -> Result<Settings, Error> {
    let mut settings = sizes.settings("gemma3")?.with([
        ("theta", full.whole(config)?.theta),
        ("rope_factor", full.even_factor(config)?),
        ("local_theta", local.whole(config)?.unstretched(config)?),
    ]);
    settings.axes.retain(|(name, _)| name != "L");
    settings.texts.push(("pattern".to_owned(), pattern));
    Ok(settings)
}
