//! BERT, and models of sentences made from it.

use std::path::Path;

use super::{Settings, decoder, read};
use crate::checkpoint::{Checkpoint, read_json};
use crate::config::Config;
use crate::error::Error;

/// Where sentence-transformers says how one vector comes of many.
const POOLING: &str = "1_Pooling/config.json";

/// No such file is longer.
const MOST_BYTES: u64 = 1 << 16;

/// Reads the settings of a BERT checkpoint: the axes `V E F K P L A B` (vocabulary, residual
/// stream, feed-forward, heads, head width, layers, positions, kinds of segments), the value `eps`
/// and the text `pool`.
///
/// # Errors
/// `T0309` to `T0312` when a setting is missing, wrong or not understood.
pub fn bert_settings(checkpoint: &Checkpoint) -> Result<Settings, Error> {
    let mut settings = read(checkpoint, of_json, of_gguf)?;
    if checkpoint.path().is_dir() {
        settings.texts.push(("pool".to_owned(), pooling(&checkpoint.path().join(POOLING))?));
    }
    Ok(settings)
}

fn of_json(config: &Config<'_>, _: &Checkpoint) -> Result<Settings, Error> {
    config.ignore(&["tie_word_embeddings", "classifier_dropout", "hidden_dropout_prob"]);
    config.ignore(&["attention_probs_dropout_prob"]);
    decoder::check_unset(config, &["is_decoder", "add_cross_attention"])?;
    decoder::check_activation(config, "hidden_act", &["gelu"])?;
    decoder::check_activation(config, "position_embedding_type", &["absolute"])?;
    let eps = config.number("layer_norm_eps")?.unwrap_or(1e-12);
    let names = [
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_attention_heads",
        "num_hidden_layers",
        "max_position_embeddings",
    ];
    let mut sizes = names.map(|_| 0);
    for (size, name) in sizes.iter_mut().zip(names) {
        *size = config.required(name)?;
    }
    let segments = config.count("type_vocab_size")?.unwrap_or(2);
    settings(config, "num_attention_heads", sizes, segments, eps)
}

fn of_gguf(config: &Config<'_>, checkpoint: &Checkpoint) -> Result<Settings, Error> {
    // What pools is the spec's to say; positions are embedded, whatever is said of turning.
    config.ignore(&["pooling_type", "vocab_size", "rope.scaling.finetuned"]);
    if config.flag("attention.causal")? {
        return Err(config.refuse("attention.causal", true));
    }
    let sizes = [
        decoder::rows_gguf(checkpoint, "token_embd.weight")?,
        config.required("embedding_length")?,
        config.required("feed_forward_length")?,
        config.required("attention.head_count")?,
        config.required("block_count")?,
        config.required("context_length")?,
    ];
    // Newer files say how many there are as well.
    config.ignore(&["token_type_count"]);
    let segments = decoder::rows_gguf(checkpoint, "token_types.weight")?;
    let eps = config.number("attention.layer_norm_epsilon")?.unwrap_or(1e-12);
    settings(config, "attention.head_count", sizes, segments, eps)
}

fn settings(
    config: &Config<'_>,
    heads_key: &str,
    [vocab, residual, feed_forward, heads, layers, positions]: [usize; 6],
    segments: usize,
    eps: f64,
) -> Result<Settings, Error> {
    if !residual.is_multiple_of(heads) {
        return Err(config.refuse(heads_key, format!("{heads}, of {residual}")));
    }
    let axes = [
        ("V", vocab),
        ("E", residual),
        ("F", feed_forward),
        ("K", heads),
        ("P", residual / heads),
        ("L", layers),
        ("A", positions),
        ("B", segments),
    ];
    Ok(Settings::of("bert", axes, [("eps", eps)]))
}

/// How one vector comes of many: as the folder says, or else their mean.
fn pooling(path: &Path) -> Result<String, Error> {
    let Ok(found) = std::fs::metadata(path) else { return Ok("mean".to_owned()) };
    let unreadable = |why: String| Error::new("T0309", format!("`{POOLING}`: {why}")).in_file(path);
    if MOST_BYTES < found.len() {
        return Err(unreadable("it is too long".to_owned()));
    }
    let map = read_json(path)?;
    let chosen: Vec<&str> = map
        .iter()
        .filter(|(key, value)| key.starts_with("pooling_mode_") && value.as_bool() == Some(true))
        .map(|(key, _)| key.as_str())
        .chain(map.get("pooling_mode").and_then(|it| it.as_str()))
        .collect();
    match chosen[..] {
        ["pooling_mode_mean_tokens" | "mean"] => Ok("mean".to_owned()),
        ["pooling_mode_cls_token" | "cls"] => Ok("cls".to_owned()),
        _ => Err(unreadable(format!("{chosen:?} is neither the mean nor the first"))),
    }
}
