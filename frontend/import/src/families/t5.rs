//! T5 and T5 v1.1.

use super::{Settings, decoder, read};
use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::error::Error;

/// Positions that there is room for where nothing is said: distances have no end.
const CONTEXT: usize = 512;

/// Reads the settings of a T5 checkpoint: the axes `V E F H P L M B R` (vocabulary, residual
/// stream, feed-forward, heads, head width, layers of the encoder and of the decoder, kinds of
/// distances, positions of the source) and the values `eps`, `farthest`, `gated`, `tied`, `scaled`
/// and `context`.
///
/// # Errors
/// `T0309` to `T0312` when a setting is missing, wrong or not understood.
pub fn t5_settings(checkpoint: &Checkpoint) -> Result<Settings, Error> {
    read(checkpoint, of_json, of_gguf)
}

fn of_json(config: &Config<'_>, checkpoint: &Checkpoint) -> Result<Settings, Error> {
    config.ignore(&["classifier_dropout", "dropout_rate", "initializer_factor", "output_past"]);
    config.ignore(&["decoder_start_token_id", "task_specific_params", "is_encoder_decoder"]);
    // What `feed_forward_proj` says.
    config.ignore(&["dense_act_fn", "is_gated_act"]);
    decoder::check_unset(config, &["is_decoder"])?;
    let gated = match config.text("feed_forward_proj")? {
        None | Some("relu") => false,
        Some("gated-gelu") => true,
        Some(other) => return Err(config.refuse("feed_forward_proj", other)),
    };
    let layers = config.required("num_layers")?;
    let context = config.count("n_positions")?.unwrap_or(CONTEXT);
    let axes = [
        ("V", config.required("vocab_size")?),
        ("E", config.required("d_model")?),
        ("F", config.required("d_ff")?),
        ("H", config.required("num_heads")?),
        ("P", config.required("d_kv")?),
        ("L", layers),
        ("M", config.count("num_decoder_layers")?.unwrap_or(layers)),
        ("B", config.count("relative_attention_num_buckets")?.unwrap_or(32)),
        ("R", context),
    ];
    let farthest = config.count("relative_attention_max_distance")?.unwrap_or(128) as f64;
    let eps = config.number("layer_norm_epsilon")?.unwrap_or(1e-6);
    // Older files tell v1.1 by a head of its own; newer ones say whether the decoder is scaled.
    let says_tied = config.flag_or("tie_word_embeddings", true)?;
    let scaled = config.flag_or("scale_decoder_outputs", says_tied)?;
    let tied = decoder::has_no_head(checkpoint, says_tied);
    Ok(settings(axes, [eps, farthest, context as f64], [gated, tied, scaled]))
}

fn of_gguf(config: &Config<'_>, checkpoint: &Checkpoint) -> Result<Settings, Error> {
    config.ignore(&["decoder_start_token_id", "vocab_size", "attention.value_length"]);
    let vocab = decoder::rows_gguf(checkpoint, "token_embd.weight")?;
    let kinds = decoder::rows_gguf(checkpoint, "dec.blk.0.attn_rel_b.weight")?;
    let layers = config.required("block_count")?;
    let context = config.count("context_length")?.unwrap_or(CONTEXT);
    let axes = [
        ("V", vocab),
        ("E", config.required("embedding_length")?),
        ("F", config.required("feed_forward_length")?),
        ("H", config.required("attention.head_count")?),
        ("P", config.required("attention.key_length")?),
        ("L", layers),
        ("M", config.count("decoder_block_count")?.unwrap_or(layers)),
        ("B", kinds),
        ("R", context),
    ];
    config.count("attention.relative_buckets_count")?;
    let eps = config.number("attention.layer_norm_rms_epsilon")?;
    config.number("attention.layer_norm_epsilon")?;
    let gated = checkpoint.find("enc.blk.0.ffn_gate.weight").is_some();
    let tied = decoder::is_tied_gguf(checkpoint);
    // The file does not say it; of the published models the first version is scaled.
    let scaled = tied && !gated;
    Ok(settings(axes, [eps.unwrap_or(1e-6), 128.0, context as f64], [gated, tied, scaled]))
}

fn settings(
    axes: [(&'static str, usize); 9],
    [eps, farthest, context]: [f64; 3],
    [gated, tied, scaled]: [bool; 3],
) -> Settings {
    let numbers = [("eps", eps), ("farthest", farthest), ("context", context)];
    let flags = [("gated", gated), ("tied", tied), ("scaled", scaled)];
    let flags = flags.map(|(name, flag)| (name, f64::from(flag)));
    Settings::of("t5", axes, numbers.into_iter().chain(flags))
}
