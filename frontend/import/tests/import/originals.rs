//! Tokenizers of each kind against the programs that they come from: the `tokenizers` package and
//! SentencePiece. `make_tokenizers.py` has asked them about a few hundred texts.

use crate::tokenizers::{fixtures, load, streamed};
use import::{Checkpoint, tokenizer, tokenizer_from_json, tokenizer_from_sentence_piece};
use serde_json::Value as Json;
use std::path::{Path, PathBuf};
use text::{Encoding, Tokenizer};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizers")
}

fn read(name: &str) -> Vec<Json> {
    let file = std::fs::read_to_string(folder().join(name)).expect("it is there");
    serde_json::from_str(&file).expect("it is JSON")
}

/// Where the `tokenizers` package and SentencePiece differ. The package maps whole graphemes, and
/// so what becomes of `½` takes the joiner after it along.
const DIFFERS: &str = "the丽\u{a0}\u{feff}½\u{200d}\u{200b}한글";

/// Compares what a tokenizer makes of the texts with a row of a fixture.
fn agrees(tokenizer: &Tokenizer, row: &Json, how: Encoding) {
    let maps_graphemes = matches!(row["name"].as_str(), Some("t5" | "unknown" | "nmt_nfkc"));
    let of_pieces = row.get("tokenizer").is_none();
    let mut wrong = Vec::new();
    for (place, text) in read("texts.json").iter().enumerate() {
        let text = text.as_str().expect("a text");
        let ids = tokenizer.encode(text, how).expect("it encodes");
        if (serde_json::json!(ids) == row["ids"][place])
            == (text == DIFFERS && of_pieces && maps_graphemes)
        {
            wrong.push(format!("{text:?}: {ids:?}, {}", row["ids"][place]));
        }
        let ids: Vec<u32> = serde_json::from_value(row["ids"][place].clone()).expect("tokens");
        let back = tokenizer.decode(&ids, false).expect("it decodes");
        if row["decoded"][place].as_str().is_some_and(|decoded| decoded != back) {
            wrong.push(format!("{text:?}, decoded: {back:?}, {}", row["decoded"][place]));
        }
        if streamed(tokenizer, &ids) != back {
            wrong.push(format!("{text:?}, streamed: {back:?}, {:?}", streamed(tokenizer, &ids)));
        }
    }
    assert!(wrong.is_empty(), "{}, {}:\n{}", row["name"], wrong.len(), wrong.join("\n"));
}

const FRAMED: Encoding = Encoding { framed: true, parse_special: true };

#[test]
fn tokenizer_json_is_read_as_the_tokenizers_package_reads_it() {
    for row in fixtures() {
        let spec = tokenizer_from_json(&row["tokenizer"].to_string(), None);
        agrees(&load(&spec.expect("it can be expressed")), &row, FRAMED);
    }
}

#[test]
fn sentence_piece_models_are_read_as_sentence_piece_reads_them() {
    for row in read("pieces.json") {
        let name = row["name"].as_str().expect("a name");
        let file = std::fs::read(folder().join(format!("{name}.model"))).expect("it is there");
        let spec = tokenizer_from_sentence_piece(&file, None).expect("it can be expressed");
        agrees(&load(&spec), &row, Encoding::default());
    }
}

#[test]
fn gguf_files_of_the_same_vocabularies_agree() {
    let rows = || read("pieces.json").into_iter().chain(fixtures());
    let plain = Encoding::default();
    for (file, name, how) in [
        ("t5", "t5", plain),
        ("llama", "llama", plain),
        ("smollm2", "smollm2", FRAMED),
        ("bert", "bert_uncased", FRAMED),
    ] {
        let checkpoint = Checkpoint::open(&folder().join(format!("{file}.gguf")));
        let spec = tokenizer(&checkpoint.expect("it is well made")).expect("it is known");
        let row = rows().find(|row| row["name"] == name).expect("it is there");
        agrees(&load(&spec.expect("there is one")), &row, how);
    }
}
