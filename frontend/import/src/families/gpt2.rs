//! GPT-2.

use super::decoder::{self, Sizes};
use super::{Settings, read};
use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::error::Error;

/// What the published files say about tasks that are none of the decoder's.
const OF_OTHER_TASKS: &[&str] = &[
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    "task_specific_params",
];

/// Reads the settings of a GPT-2 checkpoint: the axes of [`Sizes`] and `N`, the learned positions,
/// and the values `eps` and `context`.
///
/// # Errors
/// `T0309` to `T0312` when a setting is missing, wrong or not understood.
pub fn gpt2_settings(checkpoint: &Checkpoint) -> Result<Settings, Error> {
    read(checkpoint, of_json, of_gguf)
}

fn of_json(config: &Config<'_>, _: &Checkpoint) -> Result<Settings, Error> {
    // How Transformers computes the scores, which makes them no others.
    config.ignore(&["reorder_and_upcast_attn", "n_ctx"]);
    config.ignore(OF_OTHER_TASKS);
    decoder::check_unset(config, &["scale_attn_by_inverse_layer_idx", "add_cross_attention"])?;
    for key in ["scale_attn_weights", "tie_word_embeddings"] {
        if !config.flag_or(key, true)? {
            return Err(config.refuse(key, false));
        }
    }
    let names = ["gelu_new", "gelu_pytorch_tanh"];
    decoder::check_activation(config, "activation_function", &names)?;
    let (residual, heads) = (config.required("n_embd")?, config.required("n_head")?);
    let sizes = Sizes {
        vocab: config.required("vocab_size")?,
        residual,
        feed_forward: config.count("n_inner")?.unwrap_or(4 * residual),
        heads,
        kv_heads: heads,
        head_width: residual / heads,
        layers: config.required("n_layer")?,
        context: config.required("n_positions")?,
    };
    settings(&sizes, config.number("layer_norm_epsilon")?)
}

fn of_gguf(config: &Config<'_>, checkpoint: &Checkpoint) -> Result<Settings, Error> {
    if !decoder::is_tied_gguf(checkpoint) {
        return Err(decoder::untied_gguf());
    }
    let sizes = Sizes::of_gguf(config, checkpoint)?;
    settings(&sizes, config.number("attention.layer_norm_epsilon")?)
}

fn settings(sizes: &Sizes, eps: Option<f64>) -> Result<Settings, Error> {
    let mut settings = sizes.settings("gpt2")?.with([("eps", eps.unwrap_or(1e-5))]);
    settings.axes.push(("N".to_owned(), sizes.context));
    Ok(settings)
}
