//! Configurations of each family: all spellings, and what is refused by name. They begin as those
//! of the fixtures.

use crate::read::folder;
use crate::support::safetensors_bytes;
use ::safetensors::{Dtype, serialize, tensor::TensorView};
use import::{Checkpoint, Error, Settings, settings};
use serde_json::{Map, Value, json};

/// The settings of a fixture's configuration after a change.
fn changed(fixture: &str, change: impl FnOnce(&mut Map<String, Value>)) -> Result<Settings, Error> {
    let name = std::thread::current().name().unwrap_or_default().replace("::", "-");
    let path = folder(&name, &[("model.safetensors", &safetensors_bytes())]);
    let config =
        format!("{}/../../tests/fixtures/{fixture}/config.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(config).expect("a fixture");
    let mut config = serde_json::from_str(&text).expect("its configuration");
    change(&mut config);
    std::fs::write(path.join("config.json"), Value::Object(config).to_string()).expect("ours");
    settings(&Checkpoint::open(&path)?)
}

/// The settings of a fixture's configuration with these more, or others.
fn with(fixture: &str, more: Value) -> Result<Settings, Error> {
    changed(fixture, |config| config.extend(more.as_object().expect("an object").clone()))
}

/// Each of these settings is refused, and the error names it, or what is given beside it.
fn refused(fixture: &str, cases: &[(Value, &str)]) {
    for (more, name) in cases {
        let error = with(fixture, more.clone()).expect_err(name);
        assert_eq!(error.code, "T0311", "{error}");
        assert!(error.message.contains(name), "{error}");
    }
}

fn yarn() -> Value {
    json!({"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0,
        "original_max_position_embeddings": 32768})
}

fn linear() -> Value {
    json!({"rope_type": "linear", "rope_theta": 1e6, "factor": 4.0})
}

#[test]
fn llama_with_all_its_options() {
    let more = json!({"attention_bias": true, "mlp_bias": true, "rope_parameters": linear()});
    let found = with("llama-grouped", more).expect("a Llama");
    for (name, number) in [
        ("attention_bias", 1.0),
        ("mlp_bias", 1.0),
        ("rope_factor", 4.0),
        ("rope_low", 1.0),
        ("rope_high", 1.0),
        ("window", 0.0),
    ] {
        assert_eq!(found.value(name), Some(number), "{name}");
    }
    refused(
        "llama-grouped",
        &[
            (json!({"rope_parameters": yarn()}), "rope_parameters.rope_type"),
            (json!({"hidden_act": "gelu"}), "hidden_act"),
            (json!({"kv_channels": 9}), "kv_channels"),
            (json!({"rope_parameters": {"partial_rotary_factor": 0.5}}), "partial_rotary_factor"),
        ],
    );
}

#[test]
fn mistral_says_whether_it_has_a_window() {
    assert_eq!(with("mistral", json!({})).expect("a Mistral").value("window"), Some(9.0));
    let without = with("mistral", json!({"sliding_window": null}));
    assert_eq!(without.expect("a Mistral").value("window"), Some(0.0));
    let silent = changed("mistral", |config| drop(config.remove("sliding_window")));
    assert_eq!(silent.expect_err("it does not say").code, "T0310");
}

#[test]
fn qwen_sees_all_positions() {
    for fixture in ["qwen2", "qwen3"] {
        // As published: a window that is not used.
        let older = changed(fixture, |config| {
            config.remove("layer_types");
            config.insert("sliding_window".into(), json!(4096));
            config.insert("use_mrope".into(), json!(false));
        });
        assert_eq!(older, with(fixture, json!({})));
        let sliding = json!({"use_sliding_window": true, "layer_types": null});
        refused(
            fixture,
            &[
                (sliding, "use_sliding_window"),
                (json!({"layer_types": ["full_attention", "sliding_attention"]}), "layer_types"),
                (json!({"rope_parameters": yarn()}), "rope_parameters.rope_type"),
                (json!({"rope_parameters": linear()}), "rope_parameters.factor"),
                (json!({"use_mrope": true}), "use_mrope"),
                (json!({"hidden_act": "gelu"}), "hidden_act"),
                (json!({"quantization_config": {}}), "quantization_config"),
            ],
        );
    }
    refused("qwen3", &[(json!({"attention_bias": true}), "attention_bias")]);
}

#[test]
fn gemma3_in_both_spellings() {
    let newer = with("gemma3", json!({"num_hidden_layers": 7, "layer_types": null}));
    let newer = newer.expect("a Gemma");
    let older = changed("gemma3", |config| {
        config.retain(|key, _| key != "rope_parameters" && key != "layer_types");
        let more = json!({"num_hidden_layers": 7, "rope_theta": 1e5, "rope_local_base_freq": 500.0,
            "rope_scaling": {"type": "linear", "factor": 4.0}, "sliding_window_pattern": 6});
        config.extend(more.as_object().expect("an object").clone());
    });
    assert_eq!(older, Ok(newer.clone()));
    assert_eq!(newer.texts, [("pattern".to_owned(), "sssssfs".to_owned())]);
    assert_eq!((newer.axis("L"), newer.value("scalar")), (None, Some(13.0)));
}

#[test]
fn what_a_gemma3_is_not_is_refused_by_name() {
    let kinds = |kind: &str| json!({"layer_types": [kind, kind, kind, kind]});
    let bare = json!({"rope_parameters": {"sliding_attention": linear()}});
    refused(
        "gemma3",
        &[
            (json!({"attn_logit_softcapping": 50.0}), "attn_logit_softcapping"),
            (json!({"final_logit_softcapping": 30.0}), "final_logit_softcapping"),
            (json!({"use_bidirectional_attention": true}), "use_bidirectional_attention"),
            (json!({"attention_bias": true}), "attention_bias"),
            (json!({"tie_word_embeddings": false}), "tie_word_embeddings"),
            (json!({"hidden_activation": "gelu"}), "hidden_activation"),
            (kinds("chunked_attention"), "layer_types"),
            (json!({"num_hidden_layers": 5}), "layer_types"),
            (bare, "factor"),
            (json!({"rope_parameters": {"rope_theta": 1e6}}), "rope_parameters.rope_theta"),
        ],
    );
}

#[test]
fn what_a_gpt2_is_not_is_refused_by_name() {
    let published = with("gpt2", json!({"n_ctx": 64, "task_specific_params": {}, "n_inner": null}));
    let published = published.expect("a GPT-2");
    assert_eq!((published.axis("F"), published.axis("N")), (Some(120), Some(64)));
    let by_layer = "scale_attn_by_inverse_layer_idx";
    refused(
        "gpt2",
        &[
            (json!({by_layer: true}), by_layer),
            (json!({"scale_attn_weights": false}), "scale_attn_weights"),
            (json!({"add_cross_attention": true}), "add_cross_attention"),
            (json!({"activation_function": "gelu"}), "activation_function"),
            (json!({"tie_word_embeddings": false}), "tie_word_embeddings"),
        ],
    );
}

#[test]
fn nemotron_in_all_spellings() {
    let newer = with("nemotron", json!({})).expect("a Nemotron");
    assert_eq!((newer.axis("P"), newer.axis("R")), (Some(14), Some(10)));
    for key in ["partial_rotary_factor", "rope_percent", "rotary_percent"] {
        let older = changed("nemotron", |config| {
            config.retain(|key, _| key != "rope_parameters" && key != "head_dim");
            let more = json!({key: 0.72, "rope_theta": 700.0, "kv_channels": 14});
            config.extend(more.as_object().expect("an object").clone());
        });
        assert_eq!(older.as_ref(), Ok(&newer), "{key}");
    }
    let half = changed("nemotron", |config| drop(config.remove("rope_parameters")));
    // Half of 14 is odd, which can not turn.
    assert!(half.expect_err("it is odd").message.contains("7 of 14"));
    refused(
        "nemotron",
        &[
            (json!({"rope_percent": 0.5}), "rope_percent"),
            (json!({"rope_parameters": {"partial_rotary_factor": 1.0}}), "partial_rotary_factor"),
            (json!({"hidden_act": "silu"}), "hidden_act"),
            (json!({"attention_bias": true}), "attention_bias"),
            (json!({"mlp_bias": true}), "mlp_bias"),
            (json!({"tie_word_embeddings": true}), "tie_word_embeddings"),
        ],
    );
}

#[test]
fn a_tied_matrix_that_is_there_twice_is_the_same() {
    let write = |head: u8| {
        let (embed, head) = ([1; 8], [head; 8]);
        let view = |bytes| TensorView::new(Dtype::F32, vec![2, 1], bytes).expect("it fits");
        let tensors =
            [("model.embed_tokens.weight", view(&embed)), ("lm_head.weight", view(&head))];
        serialize(tensors, None).expect("it serializes")
    };
    let config = include_str!("../../../../tests/fixtures/qwen2/config.json").as_bytes();
    let tied = |head| {
        let files: [(&str, &[u8]); 2] =
            [("config.json", config), ("model.safetensors", &write(head))];
        let path = folder("tied-twice", &files);
        settings(&Checkpoint::open(&path)?).map(|found| found.value("tied"))
    };
    assert_eq!(tied(1), Ok(Some(0.0)));
    assert!(tied(2).expect_err("they differ").message.contains("tie_word_embeddings"));
}
