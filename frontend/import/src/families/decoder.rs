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
        let widths = [config.count("head_dim")?, config.count("kv_channels")?];
        if let [Some(a), Some(b)] = widths
            && a != b
        {
            return Err(config.refuse("kv_channels", format!("{b}, and `head_dim` {a}")));
        }
        Ok(Sizes {
            vocab: config.required("vocab_size")?,
            residual,
            feed_forward: config.required("intermediate_size")?,
            heads,
            kv_heads: config.count("num_key_value_heads")?.unwrap_or(heads),
            head_width: widths[0].or(widths[1]).or(head_width).unwrap_or(residual / heads),
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
        let embedding = checkpoint.tensor("token_embd.weight")?;
        // The size of the embedding, and not this number, is what counts.
        config.count("vocab_size")?;
        Ok(Sizes {
            vocab: embedding.shape.first().copied().unwrap_or(1),
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
        let axes = axes.map(|(name, extent)| (name.to_owned(), extent)).into();
        let settings = Settings { family, axes, values: Vec::new(), texts: Vec::new() };
        Ok(settings.with([("context", self.context as f64)]))
    }
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

/// Whether a GGUF file has no output matrix of its own.
pub(super) fn is_tied_gguf(checkpoint: &Checkpoint) -> bool {
    checkpoint.find("output.weight").is_none()
}

/// The error for a GGUF file that has one, in a family where there is none.
pub(super) fn untied_gguf() -> Error {
    Error::new("T0311", "this family uses its embedding as the output matrix")
        .at("tensor output.weight")
}
