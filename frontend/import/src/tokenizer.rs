//! The tokenizer and the chat template of a checkpoint, as an executable will hold them.

mod gguf;
mod json;
mod splits;

use crate::checkpoint::{Checkpoint, Metadata, read_json};
use crate::error::Error;
use serde_json::Value as Json;
use text::TokenizerSpec;

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

/// The tokenizer of a checkpoint; `None` when it has none.
///
/// # Errors
/// `T0313` when there is one that cannot be expressed, `T0301` and `T0309` for its files.
pub fn tokenizer(checkpoint: &Checkpoint) -> Result<Option<TokenizerSpec>, Error> {
    match checkpoint.metadata() {
        Metadata::Gguf(metadata) => gguf::spec(metadata),
        Metadata::HuggingFace(_) => folder_tokenizer(checkpoint),
        Metadata::None => Ok(None),
    }
    .map_err(|error| error.in_file(checkpoint.path()))
}

/// A tokenizer from the text of `tokenizer.json` and, if there are any, the settings of
/// `tokenizer_config.json`.
///
/// # Errors
/// `T0313` when it cannot be expressed, `T0309` when it does not parse.
pub fn tokenizer_from_json(tokenizer: &str, config: Option<&Json>) -> Result<TokenizerSpec, Error> {
    let tokenizer = serde_json::from_str(tokenizer)
        .map_err(|error| Error::new("T0309", format!("not valid JSON: {error}")))?;
    json::spec(&tokenizer, config.unwrap_or(&Json::Null))
}

fn folder_tokenizer(checkpoint: &Checkpoint) -> Result<Option<TokenizerSpec>, Error> {
    let path = checkpoint.path().join("tokenizer.json");
    if !path.is_file() {
        return Ok(None);
    }
    let tokenizer = Json::Object(read_json(&path)?);
    let mut spec = json::spec(&tokenizer, &folder_json(checkpoint, "tokenizer_config.json")?)?;
    let generation = folder_json(checkpoint, "generation_config.json")?;
    let listed = generation["eos_token_id"].as_array().into_iter().flatten();
    let ends = listed.chain(Some(&generation["eos_token_id"])).filter_map(Json::as_u64);
    spec.stops.extend(ends.filter_map(|id| u32::try_from(id).ok()));
    spec.stops.sort_unstable();
    spec.stops.dedup();
    Ok(Some(spec))
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
        return crate::checkpoint::read_text(&path).map(Some);
    }
    let config = folder_json(checkpoint, "tokenizer_config.json")?;
    // Several templates are a list of names and templates; `default` is for conversation.
    let several = config["chat_template"].as_array().into_iter().flatten();
    let default = several.into_iter().find(|it| it["name"] == "default").map(|it| &it["template"]);
    Ok(default.unwrap_or(&config["chat_template"]).as_str().map(str::to_owned))
}

/// A JSON file of the folder, or null.
fn folder_json(checkpoint: &Checkpoint, name: &str) -> Result<Json, Error> {
    let path = checkpoint.path().join(name);
    if path.is_file() { read_json(&path).map(Json::Object) } else { Ok(Json::Null) }
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
