//! The `config.json` of a Hugging Face folder with the numbers of a cut model.

use ir::{Axis, Module};
use serde_json::{Map, Value, json};

/// Keys of configurations, each with the axes whose product it counts.
const COUNTS: [(&str, &[&str]); 15] = [
    ("hidden_size", &["E"]),
    ("n_embd", &["E"]),
    ("d_model", &["E"]),
    ("intermediate_size", &["F"]),
    ("n_inner", &["F"]),
    ("d_ff", &["F"]),
    ("num_attention_heads", &["K", "G"]),
    ("n_head", &["K", "G"]),
    ("num_heads", &["K", "G"]),
    ("num_key_value_heads", &["K"]),
    ("head_dim", &["P"]),
    ("attention_head_dim", &["P"]),
    ("d_kv", &["P"]),
    ("mamba_num_heads", &["H", "J"]),
    ("mamba_head_dim", &["D"]),
];

/// Keys that count layers.
const LAYERS: [&str; 3] = ["num_hidden_layers", "n_layer", "num_layers"];

/// Keys that name each layer, in a text or a list.
const KINDS: [&str; 3] = ["hybrid_override_pattern", "layers_block_type", "layer_types"];

/// `config` with the extents of `small`, which has the layers `kept` of `n_layers`.
pub(super) fn cut(
    mut config: Map<String, Value>,
    small: &Module,
    n_layers: usize,
    kept: &[usize],
) -> Map<String, Value> {
    let size = |axes: &[&str]| {
        axes.iter().try_fold(1, |n, it| Some(n * small.axes.fixed(&Axis::atom(*it))?))
    };
    // The width of a head no longer follows from the stream and the number of heads.
    let heads = ["num_key_value_heads", "attention_head_dim"].map(|it| config.contains_key(it));
    if let ([true, false], Some(width)) = (heads, size(&["P"])) {
        config.entry("head_dim").or_insert(json!(width));
    }
    for (key, axes) in COUNTS {
        let known = config.get(key).is_some_and(|it| !it.is_null());
        if let (true, Some(size)) =
            (known || key == "n_inner" && config.contains_key(key), size(axes))
        {
            config.insert(key.to_owned(), json!(size));
        }
    }
    for key in LAYERS {
        if config.get(key).is_some_and(Value::is_number) {
            config.insert(key.to_owned(), json!(kept.len()));
        }
    }
    for key in KINDS {
        match config.get_mut(key) {
            Some(Value::String(letters)) if letters.chars().count() == n_layers => {
                let all: Vec<char> = letters.chars().collect();
                *letters = kept.iter().map(|it| all[*it]).collect();
            }
            Some(Value::Array(kinds)) if kinds.len() == n_layers => {
                *kinds = kept.iter().map(|it| kinds[*it].clone()).collect();
            }
            _ => {}
        }
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_cut_model() {
        let mut small = Module::default();
        let sizes = [("E", 12), ("F", 20), ("K", 2), ("G", 1), ("P", 10)];
        sizes.iter().for_each(|(name, n)| small.axes.fix(*name, *n));
        let config = json!({
            "hidden_size": 24, "intermediate_size": 28, "num_attention_heads": 4,
            "num_key_value_heads": 2, "num_hidden_layers": 3, "layer_types": ["a", "b", "c"],
            "hybrid_override_pattern": "M-*", "vocab_size": 97, "n_inner": null,
        });
        let Value::Object(config) = config else { panic!("an object") };
        let cut = Value::Object(cut(config, &small, 3, &[0, 2]));
        let expected = json!({
            "hidden_size": 12, "intermediate_size": 20, "num_attention_heads": 2,
            "num_key_value_heads": 2, "num_hidden_layers": 2, "layer_types": ["a", "c"],
            "hybrid_override_pattern": "M*", "vocab_size": 97, "n_inner": 20, "head_dim": 10,
        });
        assert_eq!(cut, expected);
    }
}
