//! What tokenizers do and refuse, beside what their originals say (`originals.rs`).

use crate::support::{Pair, Row, f32s, gguf_bytes, i32s, text, texts, u32};
use import::{
    Checkpoint, chat_template, tokenizer, tokenizer_file, tokenizer_from_json,
    tokenizer_from_sentence_piece,
};
use serde_json::Value as Json;
use std::path::{Path, PathBuf};
use text::{DecodeStream, Encoding, Tokenizer, TokenizerSpec};

const FRAMED: Encoding = Encoding { framed: true, parse_special: true };

pub(crate) fn fixtures() -> Vec<Json> {
    serde_json::from_str(include_str!("../fixtures/tokenizers/tokenizers.json"))
        .expect("it is JSON")
}

fn fixture(name: &str) -> Json {
    let found = fixtures().into_iter().find(|fixture| fixture["name"] == name);
    found.expect("it is there")["tokenizer"].take()
}

/// The tokenizer after a trip through the form that an executable holds.
pub(crate) fn load(spec: &TokenizerSpec) -> Tokenizer {
    let bytes = postcard::to_allocvec(spec).expect("it serializes");
    let loaded: TokenizerSpec = postcard::from_bytes(&bytes).expect("it reads");
    assert_eq!(&loaded, spec);
    Tokenizer::new(loaded).expect("its parts parse")
}

pub(crate) fn streamed(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    let mut stream = DecodeStream::new(tokenizer, &[], false).expect("it decodes");
    let mut out = String::new();
    for &id in ids {
        out.push_str(&stream.push(id).expect("it decodes"));
    }
    out + &stream.finish().expect("it decodes")
}

#[test]
fn a_user_cannot_write_markup() {
    let spec = tokenizer_from_json(&fixture("llama3").to_string(), None);
    let tokenizer = load(&spec.expect("it can be expressed"));
    let plain = tokenizer.encode("<s>", Encoding::default()).expect("it encodes");
    let markup = tokenizer.encode("<s>", Encoding { parse_special: true, framed: false });
    assert_eq!(markup.expect("it encodes"), [1]);
    assert!(!plain.contains(&1));
    assert_eq!(tokenizer.decode(&plain, false).expect("it decodes"), "<s>");
    assert_eq!(tokenizer.decode(&[1], false).expect("it decodes"), "");
    assert_eq!(tokenizer.decode(&[1], true).expect("it decodes"), "<s>");
}

#[test]
fn a_stream_never_gives_half_a_character() {
    for name in ["llama3", "llama"] {
        let spec = tokenizer_from_json(&fixture(name).to_string(), None);
        let tokenizer = load(&spec.expect("it can be expressed"));
        let text = "a🚀🚀𝄞é\u{200d}字 end";
        let ids = tokenizer.encode(text, Encoding::default()).expect("it encodes");
        let mut stream = DecodeStream::new(&tokenizer, &[], false).expect("it decodes");
        let parts = ids.iter().map(|&id| stream.push(id).expect("it decodes"));
        let parts: Vec<String> = parts.collect();
        assert!(parts.iter().all(|part| !part.contains('\u{FFFD}')), "{parts:?}");
        assert_eq!(parts.concat(), text);
        // A character that never ends is given as U+FFFD, and what follows it is not held back.
        let half = ids[1..3].iter().chain(&ids[ids.len() - 2..]).copied().collect::<Vec<_>>();
        let shown = streamed(&tokenizer, &half);
        assert!(shown.starts_with('\u{FFFD}') && shown.ends_with('d'), "{shown}");
    }
}

fn broken(change: impl Fn(&mut Json)) -> String {
    let mut tokenizer = fixture("llama3");
    change(&mut tokenizer);
    let error = tokenizer_from_json(&tokenizer.to_string(), None).unwrap_err();
    assert_eq!(error.code, "T0313");
    error.message
}

#[test]
fn what_cannot_be_expressed_is_refused() {
    let refused = |path: &'static str, value: Json, why: &str| {
        let message = broken(|json| *json.pointer_mut(path).expect("it is there") = value.clone());
        assert!(message.contains(why), "{message}");
    };
    refused("/model/type", "WordLevel".into(), "WordLevel");
    refused("/model/end_of_word_suffix", "</w>".into(), "end_of_word_suffix");
    refused("/model/merges/0", "nosuch token".into(), "no token");
    refused("/model/merges/0", 7.into(), "no merge");
    refused("/model/vocab/<s>", 4_000_000_000u32.into(), "no number");
    refused("/model/vocab/<s>", 2_000.into(), "no number");
    refused("/model/dropout", 0.1.into(), "dropout");
    refused("/model/unk_token", "<none>".into(), "no token");
    refused("/normalizer", serde_json::json!({"type": "Nonesuch"}), "the normalizer is Nonesuch");
    refused("/pre_tokenizer/pretokenizers/1/type", "Nonesuch".into(), "pre-tokenizer is Nonesuch");
    refused("/pre_tokenizer/pretokenizers/0/pattern/Regex", "(".into(), "does not parse");
    refused("/decoder/type", "Nonesuch".into(), "the decoder is Nonesuch");
    refused("/post_processor/single/0/SpecialToken/id", "<none>".into(), "no token");
    refused("/post_processor/type", "Other".into(), "Other");
    assert_eq!(tokenizer_from_json("{", None).unwrap_err().code, "T0309");
}

fn gguf(test: &str, pairs: Vec<Pair>) -> Checkpoint {
    let path: PathBuf = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}.gguf"));
    let rows: [Row; 0] = [];
    std::fs::write(&path, gguf_bytes(&pairs, &rows)).expect("the target folder is ours");
    Checkpoint::open(&path).expect("it is well made")
}

#[test]
fn byte_pairs_from_gguf() {
    let tokens = ["<|im_start|>", "<|im_end|>", "a", "b", "ab", "Ġ", "Ġa", "1", "11", "Ġab"];
    let pairs = vec![
        text("tokenizer.ggml.model", "gpt2"),
        text("tokenizer.ggml.pre", "smollm"),
        texts("tokenizer.ggml.tokens", &tokens),
        i32s("tokenizer.ggml.token_type", &[3, 3, 1, 1, 1, 1, 1, 1, 1, 1]),
        texts("tokenizer.ggml.merges", &["a b", "Ġ ab", "Ġ a", "1 1"]),
        u32("tokenizer.ggml.bos_token_id", 0),
        u32("tokenizer.ggml.eos_token_id", 1),
        text("tokenizer.chat_template", "{{ bos_token }}"),
    ];
    let checkpoint = gguf("byte-pairs", pairs);
    let spec = tokenizer(&checkpoint).expect("it is known").expect("there is one");
    assert_eq!((spec.bos, spec.eos, &spec.stops[..]), (Some(0), Some(1), &[1][..]));
    assert_eq!(chat_template(&checkpoint), Ok(Some("{{ bos_token }}".into())));
    let tokenizer = load(&spec);
    // Digits stand alone, so that `1 1` never merges.
    let ids = tokenizer.encode("<|im_start|>ab ab a11<|im_end|>", FRAMED).expect("it encodes");
    assert_eq!(ids, [0, 4, 9, 6, 7, 7, 1]);
    assert_eq!(tokenizer.decode(&ids, false).expect("it decodes"), "ab ab a11");
}

#[test]
fn sentence_piece_from_gguf() {
    let tokens = ["<unk>", "<s>", "<0xC3>", "<0xA9>", "▁", "a", "b", "▁a", "ab", "▁ab", "ba"];
    let pairs = vec![
        text("tokenizer.ggml.model", "llama"),
        texts("tokenizer.ggml.tokens", &tokens),
        f32s(
            "tokenizer.ggml.scores",
            &[0.0, 0.0, 0.0, 0.0, -9.0, -8.0, -7.0, -3.0, -2.0, -1.0, -2.0],
        ),
        i32s("tokenizer.ggml.token_type", &[2, 3, 6, 6, 1, 1, 1, 1, 1, 1, 1]),
        u32("tokenizer.ggml.bos_token_id", 1),
    ];
    let spec = tokenizer(&gguf("sentence-piece", pairs)).expect("it is known");
    let tokenizer = load(&spec.expect("there is one"));
    let ids = |text| tokenizer.encode(text, FRAMED).expect("it encodes");
    assert_eq!(ids("ab"), [1, 9]);
    // `ab` and `ba` have one score: the left one goes first.
    assert_eq!(ids("bab"), [1, 4, 10, 6]);
    assert_eq!(ids("aé a"), [1, 7, 2, 3, 7]);
    assert_eq!(tokenizer.decode(&ids("aé a"), false).expect("it decodes"), "aé a");
}

#[test]
fn unknown_gguf_tokenizers_are_refused_by_name() {
    let refused = |test, model: &str, pre: &str, name: &str| {
        let pairs = vec![
            text("tokenizer.ggml.model", model),
            text("tokenizer.ggml.pre", pre),
            texts("tokenizer.ggml.tokens", &["a"]),
        ];
        let error = tokenizer(&gguf(test, pairs)).unwrap_err();
        assert!(error.code == "T0313" && error.message.contains(name), "{error}");
    };
    refused("no-model", "rwkv", "", "rwkv");
    refused("no-pre", "gpt2", "nosuch", "nosuch");
    assert_eq!(tokenizer(&gguf("no-tokens", vec![])), Ok(None));
}

/// A folder of its own for a test, with these files.
fn folder(test: &str, files: &[(&str, &[u8])]) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    std::fs::create_dir_all(&path).expect("the target folder is ours");
    for (name, bytes) in files {
        std::fs::write(path.join(name), bytes).expect("the target folder is ours");
    }
    path
}

#[test]
fn a_sentence_piece_model_and_the_settings_beside_it() {
    let t5 = include_bytes!("../fixtures/tokenizers/t5.model");
    let config = br#"{"tokenizer_class":"T5Tokenizer","extra_ids":2}"#;
    let files = [("spiece.model", &t5[..]), ("tokenizer_config.json", config)];
    let spec = tokenizer_file(&folder("t5", &files).join("spiece.model")).expect("it is known");
    let tokenizer = load(&spec);
    let ids = tokenizer.encode("the <extra_id_0> fox<extra_id_1>", FRAMED).expect("it encodes");
    let n = spec.vocab.len() as u32;
    let of_text = |text| tokenizer.encode(text, Encoding::default()).expect("it encodes");
    assert_eq!(ids, [of_text("the"), vec![n - 1], of_text("fox"), vec![n - 2, 1]].concat());
    assert_eq!((spec.bos, spec.eos, &spec.stops[..]), (None, Some(1), &[1][..]));

    let llama = include_bytes!("../fixtures/tokenizers/llama.model");
    let config = br#"{"tokenizer_class":"LlamaTokenizer","add_eos_token":true,
        "bos_token":"<s>","eos_token":{"content":"</s>"},
        "added_tokens_decoder":{"450":{"content":"<|end|>","special":true}}}"#;
    let generation = br#"{"eos_token_id":[2,7]}"#;
    let files = [
        ("tokenizer.model", &llama[..]),
        ("tokenizer_config.json", config),
        ("generation_config.json", generation),
    ];
    let spec = tokenizer_file(&folder("llama", &files).join("tokenizer.model"));
    let spec = spec.expect("it is known");
    assert_eq!((spec.vocab.token(450), &spec.stops[..]), ("<|end|>", &[2, 7, 450][..]));
    assert_eq!((&spec.prefix[..], &spec.suffix[..]), (&[][..], &[2][..]));

    let config = serde_json::json!({"tokenizer_class": "XLMRobertaTokenizer"});
    let error = tokenizer_from_sentence_piece(t5, Some(&config)).unwrap_err();
    assert!(error.code == "T0313" && error.message.contains("XLMRoberta"), "{error}");
}

#[test]
fn flags_beside_tokenizer_json_say_what_frames_a_text() {
    let frame = |flags: Json| {
        let spec = tokenizer_from_json(&fixture("llama3").to_string(), Some(&flags));
        let spec = spec.expect("it can be expressed");
        (spec.prefix, spec.suffix)
    };
    let named = serde_json::json!({"bos_token": "<s>", "eos_token": "</s>"});
    assert_eq!(frame(named), (vec![1], vec![2]));
    let no_end = serde_json::json!({"bos_token": "<s>", "add_bos_token": true});
    assert_eq!(frame(no_end), (vec![1], vec![]));
    let neither = serde_json::json!({"bos_token": "<s>", "add_bos_token": false});
    assert_eq!(frame(neither), (vec![], vec![]));
}
