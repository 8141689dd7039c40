//! Checkpoints that are well made, or wrong in a way that the user can mend.

use crate::support::{self, Pair, Row, f32, gguf_bytes, safetensors_bytes, text, u32};
use import::gguf::{Gguf, List, Value};
use import::{Checkpoint, Error, Metadata, Settings, Stored, settings};
use ir::DType;
use ir::storage::decode_rows;
use std::path::{Path, PathBuf};

/// A folder of this test's own, with these files.
pub(crate) fn folder(test: &str, files: &[(&str, &[u8])]) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    std::fs::create_dir_all(&folder).expect("the target folder is ours");
    for (name, bytes) in files {
        std::fs::write(folder.join(name), bytes).expect("the target folder is ours");
    }
    folder
}

fn gguf_file(test: &str, pairs: &[Pair], rows: &[Row]) -> PathBuf {
    folder(test, &[("model.gguf", &gguf_bytes(pairs, rows))]).join("model.gguf")
}

#[test]
fn every_gguf_value_is_read() {
    let gguf = Gguf::parse(&gguf_bytes(&support::every_value(), &[])).expect("it is well made");
    for key in ["u8", "u16", "u32", "u64"] {
        assert_eq!(gguf.get(key), Some(&Value::Unsigned(1)));
    }
    for key in ["i8", "i16", "i32", "i64"] {
        assert_eq!(gguf.get(key), Some(&Value::Signed(1)));
    }
    assert_eq!(gguf.get("bool"), Some(&Value::Bool(true)));
    assert_eq!(gguf.get("f32").and_then(Value::as_f64), Some(f32::from_bits(1).into()));
    assert_eq!(
        gguf.get("tokenizer.ggml.tokens").and_then(Value::as_texts).map(<[_]>::len),
        Some(3)
    );
    let nested = vec![List::Signed(vec![1]), List::Unsigned(vec![1, 2, 3])];
    assert_eq!(gguf.get("nested"), Some(&Value::List(List::List(nested))));
}

#[test]
fn gguf_tensors_are_outermost_first_and_in_the_order_of_names() {
    let path = gguf_file("gguf", &support::every_value(), &support::tensors());
    let checkpoint = Checkpoint::open(&path).expect("it is well made");
    let names: Vec<&str> = checkpoint.tensors().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, ["block", "foreign", "plain"]);
    let block = checkpoint.tensor("block").expect("it is there");
    assert_eq!(
        (block.dtype, block.shape, &*block.bytes),
        (DType::Q8_0, &[4, 32][..], &[2; 136][..])
    );
    checkpoint.forget("block");
    assert_eq!(checkpoint.tensor("block").expect("it is there").bytes[..], [2; 136]);
    let foreign = checkpoint.tensor("foreign").unwrap_err();
    assert_eq!((foreign.code, &*foreign.message), ("T0307", "the tensor is stored as Q2_K"));
    assert_eq!(checkpoint.tensor("other").unwrap_err().code, "T0306");
}

#[test]
fn a_part_of_a_split_model_says_so() {
    let u16 = |key, value: u16| Pair { key, kind: 2, value: value.to_le_bytes().into() };
    let error = Gguf::parse(&gguf_bytes(&[u16("split.count", 3), u16("split.no", 1)], &[]));
    let error = error.unwrap_err();
    assert_eq!(error.code, "T0305");
    assert_eq!(error.message, "this is part 2 of a model split into 3 files");
}

#[test]
fn a_safetensors_file_alone() {
    let path = folder("alone", &[("x.safetensors", &safetensors_bytes())]).join("x.safetensors");
    let checkpoint = Checkpoint::open(&path).expect("it is well made");
    assert!(matches!(checkpoint.metadata(), Metadata::None));
    let matrix = checkpoint.tensor("matrix").expect("it is there");
    assert_eq!(
        (matrix.dtype, matrix.shape, &*matrix.bytes),
        (DType::F32, &[2, 3][..], &[1; 24][..])
    );
    let ids = checkpoint.find("position_ids").expect("it is there");
    assert_eq!(ids.stored, Stored::Foreign("I64".into()));
    assert_eq!(checkpoint.tensor("position_ids").unwrap_err().code, "T0307");
}

#[test]
fn shards_are_held_against_their_index() {
    let bytes = safetensors_bytes();
    let open = |test: &str, map: &str| {
        let index = format!(r#"{{"weight_map":{map}}}"#);
        let files: [(&str, &[u8]); 3] = [
            ("config.json", b"{}"),
            ("model.safetensors.index.json", index.as_bytes()),
            ("one.safetensors", &bytes),
        ];
        Checkpoint::open(&folder(test, &files))
    };
    let good = open("shards", r#"{"matrix":"one.safetensors"}"#).expect("it is well made");
    assert_eq!(good.tensors().len(), 3);
    let code = |test, map| open(test, map).unwrap_err().code;
    assert_eq!(code("shards-missing", r#"{"other":"one.safetensors"}"#), "T0308");
    assert_eq!(code("shards-outside", r#"{"matrix":"../one.safetensors"}"#), "T0308");
    assert_eq!(code("shards-absent", r#"{"matrix":"two.safetensors"}"#), "T0301");
}

#[test]
fn what_is_no_checkpoint_is_refused() {
    let empty = folder("empty", &[("x.txt", b""), ("x.safetensors", b"")]);
    let code = |path: &Path| Checkpoint::open(path).unwrap_err().code;
    assert_eq!(code(&empty), "T0302");
    assert_eq!(code(&empty.join("x.txt")), "T0302");
    assert_eq!(code(&empty.join("x.safetensors")), "T0304");
    assert_eq!(code(&empty.join("missing")), "T0301");
    assert_eq!(code(Path::new("/dev/null")), "T0301");
}

/// The settings of a Hugging Face Llama with these lines more.
fn llama_json(test: &str, more: &str) -> Result<Settings, Error> {
    let config = format!(
        r#"{{"architectures": ["LlamaForCausalLM"], "vocab_size": 64, "hidden_size": 16,
        "intermediate_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2,
        "rms_norm_eps": 1e-5, "hidden_act": "silu", "pad_token_id": null{more}}}"#
    );
    let files: [(&str, &[u8]); 2] =
        [("config.json", config.as_bytes()), ("model.safetensors", &safetensors_bytes())];
    settings(&Checkpoint::open(&folder(test, &files))?)
}

fn axes(settings: &Settings) -> Vec<(&str, usize)> {
    settings.axes.iter().map(|(name, extent)| (name.as_str(), *extent)).collect()
}

#[test]
fn llama_from_hugging_face() {
    let plain = llama_json("hf-plain", "").expect("it is a Llama");
    let expected = [("V", 64), ("E", 16), ("F", 32), ("K", 4), ("G", 1), ("P", 4), ("L", 2)];
    assert_eq!(axes(&plain), expected);
    assert_eq!((plain.value("theta"), plain.value("rope_factor")), (Some(1e4), Some(1.0)));
    assert_eq!(plain.value("tied"), Some(0.0));

    let more = r#", "num_key_value_heads": 2, "head_dim": 8, "tie_word_embeddings": true,
        "rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", "factor": 32.0,
        "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192}"#;
    let scaled = llama_json("hf-scaled", more).expect("it is a Llama");
    let groups = [scaled.axis("K"), scaled.axis("G"), scaled.axis("P")];
    assert_eq!(groups, [Some(2), Some(2), Some(8)]);
    assert_eq!((scaled.value("theta"), scaled.value("rope_factor")), (Some(5e5), Some(32.0)));
    assert_eq!(scaled.value("tied"), Some(1.0));

    let newer = r#", "rope_parameters": {"rope_type": "default", "rope_theta": 100000}"#;
    assert_eq!(llama_json("hf-newer", newer).expect("it is a Llama").value("theta"), Some(1e5));
}

#[test]
fn what_a_llama_is_not_is_refused_by_name() {
    let refused = |test, more: &str, code, name| {
        let error = llama_json(test, &format!(", {more}")).unwrap_err();
        assert_eq!(error.code, code, "{error}");
        assert!(error.message.contains(name), "{error}");
    };
    refused("no-quant", r#""quantization_config": {}"#, "T0311", "quantization_config");
    let yarn = r#""rope_scaling": {"rope_type": "yarn", "factor": 4.0}"#;
    refused("no-yarn", yarn, "T0311", "rope_scaling.rope_type");
    let unread = r#""rope_scaling": {"rope_type": "default", "attention_factor": 4.0}"#;
    refused("no-factor", unread, "T0311", "rope_scaling.attention_factor");
    refused("no-share", r#""num_key_value_heads": 3"#, "T0311", "cannot share");
    refused("no-text", r#""num_key_value_heads": "3""#, "T0309", "num_key_value_heads");
    refused("no-zero", r#""num_key_value_heads": 0"#, "T0309", "num_key_value_heads");
}

/// The settings of a GGUF Llama with these pairs and tensors more.
fn llama_gguf(test: &str, pairs: Vec<Pair>, rows: Vec<Row>) -> Result<Settings, Error> {
    let mut all = vec![
        text("general.architecture", "llama"),
        u32("llama.block_count", 2),
        u32("llama.embedding_length", 16),
        u32("llama.feed_forward_length", 32),
        u32("llama.attention.head_count", 4),
        u32("llama.attention.head_count_kv", 2),
        u32("llama.context_length", 2048),
        u32("llama.rope.dimension_count", 4),
        f32("llama.attention.layer_norm_rms_epsilon", 1e-5),
        f32("llama.rope.freq_base", 1e8),
    ];
    all.extend(pairs);
    let bytes = vec![0; 64 * 16 * 4];
    let mut tensors =
        vec![Row { name: "token_embd.weight", extents: vec![16, 64], kind: 0, bytes }];
    tensors.extend(rows);
    settings(&Checkpoint::open(&gguf_file(test, &all, &tensors))?)
}

fn frequencies(divisors: &[f32]) -> Row {
    let bytes = divisors.iter().flat_map(|divisor| divisor.to_le_bytes()).collect();
    let extents = vec![divisors.len() as u64];
    Row { name: "rope_freqs.weight", extents, kind: 0, bytes }
}

#[test]
fn llama_from_gguf() {
    let plain = llama_gguf("gguf-plain", vec![], vec![]).expect("it is a Llama");
    let expected = [("V", 64), ("E", 16), ("F", 32), ("K", 2), ("G", 2), ("P", 4), ("L", 2)];
    assert_eq!(axes(&plain), expected);
    assert_eq!(plain.value("tied"), Some(1.0));
    // Pair 0 turns 1304 times in the 8192 positions, so it stays; pair 1 does not turn once.
    let rows = vec![frequencies(&[1.0, 32.0])];
    let scaled = llama_gguf("gguf-scaled", vec![], rows).expect("it is a Llama");
    assert_eq!(scaled.value("rope_factor"), Some(32.0));
    let bias = Row { name: "blk.0.attn_q.bias", extents: vec![1], kind: 0, bytes: vec![0; 4] };
    let biased = llama_gguf("gguf-bias", vec![], vec![bias]).expect("it is a Llama");
    assert_eq!(biased.value("attention_bias"), Some(1.0));
    let linear = vec![f32("llama.rope.scaling.factor", 4.0)];
    let linear = llama_gguf("gguf-linear", linear, vec![]).expect("it is a Llama");
    let numbers = ["rope_factor", "rope_low", "rope_high"].map(|name| linear.value(name));
    assert_eq!(numbers, [Some(4.0), Some(1.0), Some(1.0)]);
}

#[test]
fn what_a_gguf_llama_is_not_is_refused_by_name() {
    let experts = llama_gguf("gguf-experts", vec![u32("llama.expert_count", 8)], vec![]);
    assert!(experts.unwrap_err().message.contains("llama.expert_count"));
    let yarn = vec![text("llama.rope.scaling.type", "yarn")];
    let yarn = llama_gguf("gguf-yarn", yarn, vec![]);
    assert!(yarn.unwrap_err().message.contains("llama.rope.scaling.type"));
    let wild = llama_gguf("gguf-wild", vec![], vec![frequencies(&[2.0, 3.0])]);
    assert_eq!(wild.unwrap_err().code, "T0311");
}

/// Made by `tests/fixtures/quantised.py`: tensors in parts, and the values that PyTorch computes.
#[test]
fn tensors_in_parts_have_the_values_of_torch() {
    for convention in ["modelopt", "compressed-tensors"] {
        let name = format!("tests/fixtures/quantised/{convention}.safetensors");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        let checkpoint = Checkpoint::open(&path).expect("it can be read");
        let names: Vec<&str> = checkpoint.tensors().map(|it| it.name.as_str()).collect();
        let layers: Vec<&str> = names.iter().filter_map(|it| it.strip_suffix(".weight")).collect();
        assert!(5 <= layers.len() && names.len() == 2 * layers.len(), "{names:?}");
        for layer in layers {
            let found = checkpoint.tensor(&format!("{layer}.weight")).expect("it is there");
            let wanted = checkpoint.tensor(&format!("{layer}.values")).expect("it is there");
            assert_eq!(found.shape, wanted.shape, "{layer}");
            assert!(found.dtype != DType::F32 || layer == "ragged");
            let mut values = vec![0.0; found.shape.iter().product()];
            decode_rows(found.dtype, found.shape[1], &found.bytes, &mut values).expect("blocks");
            let bytes: Vec<u8> = values.iter().flat_map(|it| it.to_le_bytes()).collect();
            assert!(bytes == *wanted.bytes, "{convention} {layer}");
        }
    }
}
