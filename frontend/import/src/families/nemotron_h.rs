//! Nemotron-H, Nemotron Nano 2 and Nemotron Elastic.

use super::decoder::{check_activation, check_unset, group, is_tied_gguf, rows_gguf};
use super::mamba::{self, Mixer};
use super::{Settings, read};
use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::error::Error;

/// Settings of layers of experts and of further heads, which a model without them has all the same.
const OF_EXPERTS: [&str; 16] = [
    "moe_intermediate_size",
    "moe_latent_size",
    "moe_shared_expert_intermediate_size",
    "moe_shared_expert_overlap",
    "mtp_hybrid_override_pattern",
    "mtp_layers_block_type",
    "n_group",
    "n_routed_experts",
    "n_shared_experts",
    "norm_topk_prob",
    "num_experts_per_tok",
    "num_logits_to_keep",
    "output_router_logits",
    "routed_scaling_factor",
    "topk_group",
    "hidden_dropout",
];

/// Reads the settings of a Nemotron-H checkpoint: the axes `V E F H J D N W K G P` (vocabulary,
/// residual stream, feed-forward, Mamba groups, heads in each, head width, state, convolution,
/// key/value heads, query heads for each, head width), the values `eps`, `tied` and `context`, and
/// the text `pattern` (for each layer `M`, `-` or `*`).
///
/// # Errors
/// `T0309` to `T0312` when a setting is missing, wrong or not understood.
pub fn nemotron_h_settings(checkpoint: &Checkpoint) -> Result<Settings, Error> {
    read(checkpoint, of_json, of_gguf)
}

/// What the two kinds of files give.
struct Found {
    vocab: usize,
    residual: usize,
    feed_forward: usize,
    mixer: Mixer,
    heads: usize,
    kv_heads: usize,
    head_width: usize,
    pattern: String,
}

impl Found {
    fn settings(self, values: [(&'static str, f64); 3]) -> Result<Settings, Error> {
        let axes = [
            ("V", self.vocab),
            ("E", self.residual),
            ("F", self.feed_forward),
            ("K", self.kv_heads),
            ("G", group(self.heads, self.kv_heads)?),
            ("P", self.head_width),
        ];
        let axes = axes.into_iter().chain(self.mixer.axes()?);
        let mut settings = Settings::of("nemotron_h", axes, values);
        settings.texts.push(("pattern".to_owned(), self.pattern));
        Ok(settings)
    }
}

fn of_json(config: &Config<'_>, _: &Checkpoint) -> Result<Settings, Error> {
    mamba::check(config)?;
    // The authors' code has no limit; what is written there is the default of every model.
    mamba::least_time_step(config)?;
    let pattern = pattern_of_json(config)?;
    config.ignore(&OF_EXPERTS);
    check_unset(config, &["attention_bias", "mlp_bias"])?;
    check_activation(config, "mlp_hidden_act", &["relu2"])?;
    check_activation(config, "mamba_hidden_act", &["silu", "swish"])?;
    for key in ["sliding_window", "num_nextn_predict_layers"] {
        if let Some(number) = config.number(key)?.filter(|it| *it != 0.0) {
            return Err(config.refuse(key, number));
        }
    }
    let residual = config.required("hidden_size")?;
    let heads = config.required("num_attention_heads")?;
    let head_width = config.count_of(&["head_dim", "attention_head_dim"])?;
    let missing = |key| move || config.missing(key);
    let mixer = Mixer {
        groups: config.count_of(&["n_groups", "mamba_num_groups"])?.unwrap_or(8),
        heads: config.required("mamba_num_heads")?,
        head_width: config.required("mamba_head_dim")?,
        state: config
            .count_of(&["ssm_state_size", "mamba_state_dim"])?
            .ok_or_else(missing("ssm_state_size"))?,
        window: config.count("conv_kernel")?.unwrap_or(4),
    };
    let eps = config.number("layer_norm_epsilon")?.or(config.number("rms_norm_eps")?);
    let context = config.count("max_position_embeddings")?.unwrap_or(8192) as f64;
    let tied = f64::from(config.flag("tie_word_embeddings")?);
    let found = Found {
        vocab: config.required("vocab_size")?,
        residual,
        feed_forward: config.required("intermediate_size")?,
        mixer,
        heads,
        kv_heads: config.count("num_key_value_heads")?.unwrap_or(heads),
        head_width: head_width.unwrap_or(residual / heads),
        pattern,
    };
    found.settings([("eps", eps.unwrap_or(1e-5)), ("tied", tied), ("context", context)])
}

/// A letter for each layer, from a text or from a list of names.
fn pattern_of_json(config: &Config<'_>) -> Result<String, Error> {
    // It counts the letters, but the letters are what counts.
    let layers = config.count("num_hidden_layers")?;
    let mut pattern = config.text("hybrid_override_pattern")?.map(|it| it.replace('|', ""));
    for key in ["layers_block_type", "layer_types"] {
        let Some(kinds) = config.texts(key)? else { continue };
        let letter = |kind: &&str| match *kind {
            "mamba" | "linear_attention" => Ok('M'),
            "mlp" => Ok('-'),
            "attention" | "full_attention" => Ok('*'),
            other => Err(config.refuse(key, format!("`{other}` for a layer"))),
        };
        let letters = kinds.iter().map(letter).collect::<Result<String, Error>>()?;
        if *pattern.get_or_insert(letters.clone()) != letters {
            return Err(config.refuse(key, "not what the pattern says"));
        }
    }
    let pattern = pattern.ok_or_else(|| config.missing("hybrid_override_pattern"))?;
    let pattern = pattern.replace('A', "*");
    if let Some(letter) = pattern.chars().find(|it| !"M-*".contains(*it)) {
        return Err(config.refuse("hybrid_override_pattern", format!("one with `{letter}`")));
    }
    match layers.filter(|it| *it != pattern.len()) {
        Some(layers) => Err(config.refuse("num_hidden_layers", layers)),
        None => Ok(pattern),
    }
}

fn of_gguf(config: &Config<'_>, checkpoint: &Checkpoint) -> Result<Settings, Error> {
    let vocab = rows_gguf(checkpoint, "token_embd.weight")?;
    config.ignore(&["vocab_size", "rope.dimension_count", "rope.scaling.finetuned"]);
    config.ignore(&["expert_group_count", "expert_group_used_count"]);
    let layers = config.required("block_count")?;
    let mut per_layer = Vec::new();
    for key in ["attention.head_count_kv", "feed_forward_length"] {
        let numbers = config.numbers(key)?.ok_or_else(|| config.missing(key))?;
        if numbers.len() != layers {
            return Err(config.refuse(key, "not one number for each layer"));
        }
        per_layer.push(numbers);
    }
    let letter = |layer: usize| match (per_layer[0][layer] > 0.0, per_layer[1][layer] > 0.0) {
        (false, false) => Ok('M'),
        (true, false) => Ok('*'),
        (false, true) => Ok('-'),
        (true, true) => {
            Err(config.refuse("feed_forward_length", "of a layer that has attention too"))
        }
    };
    let pattern = (0..layers).map(letter).collect::<Result<String, Error>>()?;
    // All layers of a kind are alike: the shapes of their tensors are compared later.
    let most = |it: &[f64]| it.iter().copied().fold(1.0, f64::max) as usize;
    let residual = config.required("embedding_length")?;
    let heads = config.numbers("attention.head_count")?.map_or(1, |it| most(&it));
    let head_width = config.count_of(&["attention.key_length", "attention.value_length"])?;
    let found = Found {
        vocab,
        residual,
        feed_forward: most(&per_layer[1]),
        mixer: Mixer::of_gguf(config)?,
        heads,
        kv_heads: most(&per_layer[0]),
        head_width: head_width.unwrap_or(residual / heads.max(1)),
        pattern,
    };
    // llama.cpp has written it under both names.
    let plain = config.number("attention.layer_norm_epsilon")?;
    let eps = config.number("attention.layer_norm_rms_epsilon")?.or(plain).unwrap_or(1e-5);
    let context = config.required("context_length")? as f64;
    let tied = f64::from(is_tied_gguf(checkpoint));
    found.settings([("eps", eps), ("tied", tied), ("context", context)])
}
