//! Nemotron-4 and Minitron.

use super::decoder::{self, Sizes};
use super::rope::Rope;
use super::{Settings, read};
use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::error::Error;

/// Which part of a head turns where the configuration does not say: in all published models.
const PART: f64 = 0.5;

/// Reads the settings of a Nemotron-4 checkpoint: the axes of [`Sizes`] and `R`, the part of a head
/// that turns, and the values `eps`, `theta` and `context`.
///
/// # Errors
/// `T0309` to `T0312` when a setting is missing, wrong or not understood.
pub fn nemotron_settings(checkpoint: &Checkpoint) -> Result<Settings, Error> {
    read(checkpoint, of_json, of_gguf)
}

fn of_json(config: &Config<'_>, _: &Checkpoint) -> Result<Settings, Error> {
    decoder::check_unset(config, &["attention_bias", "mlp_bias", "tie_word_embeddings"])?;
    decoder::check_activation(config, "hidden_act", &["relu2"])?;
    let sizes = Sizes::of_json(config, None)?;
    let rope = Rope::of_json(config)?;
    let mut part = rope.part;
    for key in ["partial_rotary_factor", "rope_percent", "rotary_percent"] {
        let Some(found) = config.number(key)? else { continue };
        if *part.get_or_insert(found) != found {
            return Err(config.refuse(key, format!("{found}, and elsewhere another")));
        }
    }
    // As Transformers rounds it.
    let turning = (sizes.head_width as f64 * part.unwrap_or(PART)) as usize;
    let theta = rope.unstretched(config)?;
    let eps = config.number("norm_eps")?.unwrap_or(1e-5);
    settings(config, &sizes, turning, [("eps", eps), ("theta", theta)])
}

fn of_gguf(config: &Config<'_>, checkpoint: &Checkpoint) -> Result<Settings, Error> {
    // Written for llama.cpp's sake, which has one number for both kinds of norms.
    config.ignore(&["attention.layer_norm_rms_epsilon"]);
    let sizes = Sizes::of_gguf(config, checkpoint)?;
    let turning = config.required("rope.dimension_count")?;
    // Converters take the width of a head from the residual stream, be it so or not.
    if sizes.heads * sizes.head_width != sizes.residual {
        let found = format!("{turning}, which converters get wrong for heads of another width");
        return Err(config.refuse("rope.dimension_count", found));
    }
    let theta = Rope::of_gguf(config, checkpoint)?.unstretched(config)?;
    let eps = config.number("attention.layer_norm_epsilon")?.unwrap_or(1e-5);
    settings(config, &sizes, turning, [("eps", eps), ("theta", theta)])
}

fn settings(
    config: &Config<'_>,
    sizes: &Sizes,
    turning: usize,
    numbers: [(&'static str, f64); 2],
) -> Result<Settings, Error> {
    if !turning.is_multiple_of(2) || !(2..sizes.head_width).contains(&turning) {
        let heads = format!("such that {turning} of {} turn in a head", sizes.head_width);
        return Err(config.refuse("partial_rotary_factor", heads));
    }
    let mut settings = sizes.settings("nemotron")?.with(numbers);
    settings.axes.push(("R".to_owned(), turning));
    Ok(settings)
}
