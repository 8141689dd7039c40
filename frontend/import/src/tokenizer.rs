//! The tokenizer and the chat template of a checkpoint, as an executable will hold them.

mod base64;
mod charsmap;
mod folder;
mod gguf;
mod json;
mod parts;
mod proto;
mod scored;
mod sentence_piece;
mod splits;

use crate::checkpoint::{Checkpoint, Metadata, read_json, read_text};
use crate::error::Error;
use crate::map::Map;
use folder::Settings;
use serde_json::Value as Json;
use std::path::Path;
use text::{Tokenizer, TokenizerSpec};

/// Tokens that end a turn or a message, whatever else a checkpoint says.
const TURN_ENDS: &[&str] = &[
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<end_of_turn>",
    "<turn|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "<｜end▁of▁sentence｜>",
];

/// The files that describe a tokenizer, the one that says the most first.
const FILES: &[&str] = &["tokenizer.json", "tokenizer.model", "spiece.model"];

/// The tokenizer of a checkpoint; `None` when it has none.
///
/// # Errors
/// `T0313` when there is one that cannot be expressed, `T0301`, `T0309` and `T0314` for its files.
pub fn tokenizer(checkpoint: &Checkpoint) -> Result<Option<TokenizerSpec>, Error> {
    match checkpoint.metadata() {
        Metadata::Gguf(metadata) => match gguf::spec(metadata) {
            Ok(None) => Ok(None),
            Ok(Some(spec)) => checked(spec).map(Some),
            Err(error) => Err(error),
        }
        .map_err(|error| error.in_file(checkpoint.path())),
        Metadata::HuggingFace(_) => {
            let mut files = FILES.iter().map(|name| checkpoint.path().join(name));
            files.find(|path| path.is_file()).map(|path| tokenizer_file(&path)).transpose()
        }
        Metadata::None => Ok(None),
    }
}

/// A tokenizer from its file, a `tokenizer.json` or a SentencePiece model, and from the settings
/// that lie beside it.
///
/// # Errors
/// As [`tokenizer`].
pub fn tokenizer_file(path: &Path) -> Result<TokenizerSpec, Error> {
    let settings = Settings::read(path.parent().unwrap_or(Path::new("")))?;
    if path.extension().is_some_and(|extension| extension == "model") {
        sentence_piece(Map::open(path)?.bytes(), &settings)
    } else {
        json(&read_text(path)?, &settings)
    }
    .map_err(|error| error.in_file(path))
}

/// A tokenizer from the text of `tokenizer.json` and, if there are any, the settings of
/// `tokenizer_config.json`.
///
/// # Errors
/// `T0313` when it cannot be expressed, `T0309` when it does not parse.
pub fn tokenizer_from_json(tokenizer: &str, config: Option<&Json>) -> Result<TokenizerSpec, Error> {
    json(tokenizer, &Settings::of(config))
}

/// A tokenizer from the bytes of a SentencePiece model and, if there are any, the settings of
/// `tokenizer_config.json`.
///
/// # Errors
/// `T0313` when it cannot be expressed, `T0314` when it does not parse.
pub fn tokenizer_from_sentence_piece(
    model: &[u8],
    config: Option<&Json>,
) -> Result<TokenizerSpec, Error> {
    sentence_piece(model, &Settings::of(config))
}

fn json(text: &str, settings: &Settings) -> Result<TokenizerSpec, Error> {
    let tokenizer = serde_json::from_str(text)
        .map_err(|error| Error::new("T0309", format!("not valid JSON: {error}")))?;
    let mut spec = json::spec(&tokenizer)?;
    settings.complete(&mut spec);
    checked(spec)
}

fn sentence_piece(model: &[u8], settings: &Settings) -> Result<TokenizerSpec, Error> {
    let mut spec = settings.sentence_piece(model)?;
    settings.complete(&mut spec);
    checked(spec)
}

/// The specification, if the runtime will take it.
fn checked(spec: TokenizerSpec) -> Result<TokenizerSpec, Error> {
    Tokenizer::new(spec.clone()).map_err(|error| fault(error.to_string()))?;
    Ok(spec)
}

/// The token that a decoder behind an encoder begins with: where no file says it, that for padding,
/// as in T5.
///
/// # Errors
/// `T0301` and `T0309` when a file of a folder cannot be read.
pub fn decoder_start(checkpoint: &Checkpoint) -> Result<u32, Error> {
    let token = |value: Option<u64>| value.and_then(|it| u32::try_from(it).ok());
    Ok(match checkpoint.metadata() {
        Metadata::Gguf(_) => {
            let named = |it: &str| Some(checkpoint.gguf_value(it)?.as_f64()? as u64);
            token(named("t5.decoder_start_token_id"))
                .or(token(named("tokenizer.ggml.padding_token_id")))
        }
        Metadata::HuggingFace(config) => {
            let generation = read_if_there(&checkpoint.path().join("generation_config.json"))?;
            let named = |key| token(generation[key].as_u64().or(config.get(key)?.as_u64()));
            let start = "decoder_start_token_id";
            token(generation[start].as_u64()).or(named(start)).or(named("pad_token_id"))
        }
        Metadata::None => None,
    }
    .unwrap_or(0))
}

/// The chat template of a checkpoint; `None` when it has none.
///
/// # Errors
/// `T0301` and `T0309` when a file of a folder cannot be read.
pub fn chat_template(checkpoint: &Checkpoint) -> Result<Option<String>, Error> {
    match checkpoint.metadata() {
        Metadata::Gguf(_) => {
            Ok(checkpoint.gguf_value("tokenizer.chat_template").and_then(|it| it.as_str()))
                .map(|text| text.map(str::to_owned))
        }
        Metadata::HuggingFace(_) => folder_template(checkpoint),
        Metadata::None => Ok(None),
    }
}

fn folder_template(checkpoint: &Checkpoint) -> Result<Option<String>, Error> {
    let path = checkpoint.path().join("chat_template.jinja");
    if path.is_file() {
        return read_text(&path).map(Some);
    }
    let config = read_if_there(&checkpoint.path().join("tokenizer_config.json"))?;
    // Several templates are a list of names and templates; `default` is for conversation.
    let several = config["chat_template"].as_array().into_iter().flatten();
    let default = several.into_iter().find(|it| it["name"] == "default").map(|it| &it["template"]);
    Ok(default.unwrap_or(&config["chat_template"]).as_str().map(str::to_owned))
}

/// A JSON file, or null.
fn read_if_there(path: &Path) -> Result<Json, Error> {
    if path.is_file() { read_json(path).map(Json::Object) } else { Ok(Json::Null) }
}

/// The tokens of [`TURN_ENDS`] that a vocabulary has, and its own end.
fn stops(vocab: &text::Vocab, eos: Option<u32>) -> Vec<u32> {
    let known = TURN_ENDS.iter().filter_map(|text| vocab.id(text));
    let mut stops: Vec<u32> = known.chain(eos).collect();
    stops.sort_unstable();
    stops.dedup();
    stops
}

fn fault(what: impl Into<String>) -> Error {
    Error::new("T0313", what)
}
