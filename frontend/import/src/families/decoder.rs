//! What the importers of decoders share: their sizes, and whether the embedding is the output too.

use super::Settings;
use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::error::Error;

/// The sizes of a decoder, as either kind of file gives them.
pub(super) struct Sizes {
    pub(super) vocab: usize,
    pub(super) residual: usize,
    pub(super) feed_forward: usize,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_width: usize,
    pub(super) layers: usize,
    pub(super) context: usize,
}

impl Sizes {
    /// From the keys of `config.json` that most families have. Where it does not give the width of
    /// a head, that is `head_width`, or else the residual stream's over the heads.
    pub(super) fn of_json(config: &Config<'_>, head_width: Option<usize>) -> Result<Sizes, Error> {
        let heads = config.required("num_attention_heads")?;
        let residual = config.required("hidden_size")?;
        let own_width = config.count_of(&["head_dim", "kv_channels"])?;
        Ok(Sizes {
            vocab: config.required("vocab_size")?,
            residual,
            feed_forward: config.required("intermediate_size")?,
            heads,
            kv_heads: config.count("num_key_value_heads")?.unwrap_or(heads),
            head_width: own_width.or(head_width).unwrap_or(residual / heads),
            layers: config.required("num_hidden_layers")?,
            context: config.count("max_position_embeddings")?.unwrap_or(2048),
        })
    }

    /// From the metadata of a GGUF file.
    pub(super) fn of_gguf(config: &Config<'_>, checkpoint: &Checkpoint) -> Result<Sizes, Error> {
        let heads = config.required("attention.head_count")?;
        let residual = config.required("embedding_length")?;
        let head_width = config.count("attention.key_length")?.unwrap_or(residual / heads);
        if let Some(width) = config.count("attention.value_length")?.filter(|&it| it != head_width)
        {
            return Err(config.refuse("attention.value_length", width));
        }
        // The size of the embedding, and not this number, is what counts.
        config.count("vocab_size")?;
        Ok(Sizes {
            vocab: rows_gguf(checkpoint, "token_embd.weight")?,
            residual,
            feed_forward: config.required("feed_forward_length")?,
            heads,
            kv_heads: config.count("attention.head_count_kv")?.unwrap_or(heads),
            head_width,
            layers: config.required("block_count")?,
            context: config.required("context_length")?,
        })
    }

    /// Settings with the axes `V E F K G P L` (vocabulary, residual stream, feed-forward, key/value
    /// heads, query heads for each, head width, layers) and the value `context`.
    pub(super) fn settings(&self, family: &'static str) -> Result<Settings, Error> {
        let axes = [
            ("V", self.vocab),
            ("E", self.residual),
            ("F", self.feed_forward),
            ("K", self.kv_heads),
            ("G", group(self.heads, self.kv_heads)?),
            ("P", self.head_width),
            ("L", self.layers),
        ];
        Ok(Settings::of(family, axes, [("context", self.context as f64)]))
    }
}

/// How many query heads share a key/value head.
pub(super) fn group(heads: usize, kv_heads: usize) -> Result<usize, Error> {
    if heads.is_multiple_of(kv_heads) {
        return Ok(heads / kv_heads);
    }
    Err(Error::new("T0311", format!("{heads} heads cannot share {kv_heads}")))
}

/// The rows of a matrix of a GGUF file.
pub(super) fn rows_gguf(checkpoint: &Checkpoint, name: &str) -> Result<usize, Error> {
    Ok(checkpoint.tensor(name)?.shape.first().copied().unwrap_or(1))
}

/// Refuses a width of what turns in a head, in GGUF, other than all of it.
pub(super) fn check_whole_heads(config: &Config<'_>, sizes: &Sizes) -> Result<(), Error> {
    match config.count("rope.dimension_count")?.filter(|&width| width != sizes.head_width) {
        Some(width) => Err(config.refuse("rope.dimension_count", width)),
        None => Ok(()),
    }
}

/// Refuses any activation but these names of one function.
pub(super) fn check_activation(
    config: &Config<'_>,
    key: &str,
    names: &[&str],
) -> Result<(), Error> {
    match config.text(key)?.filter(|name| !names.contains(name)) {
        Some(other) => Err(config.refuse(key, other)),
        None => Ok(()),
    }
}

/// Refuses flags that are set.
pub(super) fn check_unset(config: &Config<'_>, keys: &[&str]) -> Result<(), Error> {
    for key in keys {
        if config.flag(key)? {
            return Err(config.refuse(key, true));
        }
    }
    Ok(())
}

/// Whether the embedding is the output matrix too, in a Hugging Face folder of a family for which
/// that is so unless it is said. Some folders say it and hold both matrices all the same: then the
/// spec reads the second, if it is no other.
pub(super) fn is_tied(
    config: &Config<'_>,
    checkpoint: &Checkpoint,
    unless_said: bool,
) -> Result<bool, Error> {
    let is_tied = config.flag_or("tie_word_embeddings", unless_said)?;
    let [embed, head] = ["model.embed_tokens.weight", "lm_head.weight"];
    if !is_tied || checkpoint.find(head).is_none() {
        return Ok(is_tied);
    }
    let [embed, head] = [checkpoint.tensor(embed)?, checkpoint.tensor(head)?];
    if (embed.dtype, embed.shape, embed.bytes) != (head.dtype, head.shape, head.bytes) {
        return Err(config.refuse("tie_word_embeddings", "true, but there are two matrices"));
    }
    Ok(false)
}

/// Whether a Hugging Face folder has no output matrix of its own; without weights, what it says.
pub(super) fn has_no_head(checkpoint: &Checkpoint, says_tied: bool) -> bool {
    if checkpoint.is_bare() { says_tied } else { checkpoint.find("lm_head.weight").is_none() }
}

/// Whether a GGUF file has no output matrix of its own.
pub(super) fn is_tied_gguf(checkpoint: &Checkpoint) -> bool {
    checkpoint.find("output.weight").is_none()
}

/// The error for a GGUF file that has one, in a family where there is none.
pub(super) fn untied_gguf() -> Error {
    Error::new("T0311", "this family uses its embedding as the output matrix")
        .at("tensor output.weight")
}
