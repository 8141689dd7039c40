//! Mamba-2.

use super::mamba::{self, Mixer};
use super::{Settings, decoder, read};
use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::error::Error;

/// Reads the settings of a Mamba-2 checkpoint: the axes `V E H J D N W L` (vocabulary, residual
/// stream, groups, heads in each, head width, state, convolution, layers) and the values `eps`,
/// `tied` and `dt_min`.
///
/// # Errors
/// `T0309` to `T0312` when a setting is missing, wrong or not understood.
pub fn mamba2_settings(checkpoint: &Checkpoint) -> Result<Settings, Error> {
    read(checkpoint, of_json, of_gguf)
}

fn of_json(config: &Config<'_>, checkpoint: &Checkpoint) -> Result<Settings, Error> {
    mamba::check(config)?;
    // Mamba-2 has no such rank; what is written there is that of Mamba-1.
    config.ignore(&["time_step_rank"]);
    decoder::check_activation(config, "hidden_act", &["silu", "swish"])?;
    let mixer = Mixer {
        groups: config.count("n_groups")?.unwrap_or(8),
        heads: config.required("num_heads")?,
        head_width: config.required("head_dim")?,
        state: config.required("state_size")?,
        window: config.count("conv_kernel")?.unwrap_or(4),
    };
    let sizes = [
        ("V", config.required("vocab_size")?),
        ("E", config.required("hidden_size")?),
        ("L", config.required("num_hidden_layers")?),
    ];
    let says_tied = config.flag("tie_word_embeddings")?;
    let tied = decoder::has_no_head(checkpoint, says_tied);
    let eps = config.number("layer_norm_epsilon")?.unwrap_or(1e-5);
    let values =
        [("eps", eps), ("tied", f64::from(tied)), ("dt_min", mamba::least_time_step(config)?)];
    Ok(Settings::of("mamba2", sizes.into_iter().chain(mixer.axes()?), values))
}

fn of_gguf(config: &Config<'_>, checkpoint: &Checkpoint) -> Result<Settings, Error> {
    // Nothing but zeros, which llama.cpp wants to see.
    config.ignore(&["feed_forward_length", "attention.head_count", "vocab_size"]);
    let sizes = [
        ("V", decoder::rows_gguf(checkpoint, "token_embd.weight")?),
        ("E", config.required("embedding_length")?),
        ("L", config.required("block_count")?),
    ];
    let axes = sizes.into_iter().chain(Mixer::of_gguf(config)?.axes()?);
    let tied = f64::from(decoder::is_tied_gguf(checkpoint));
    let eps = config.number("attention.layer_norm_rms_epsilon")?.unwrap_or(1e-5);
    let context = config.required("context_length")? as f64;
    Ok(Settings::of("mamba2", axes, [("eps", eps), ("tied", tied), ("context", context)]))
}
