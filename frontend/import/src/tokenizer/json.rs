//! A tokenizer from `tokenizer.json`.

use super::{fault, stops};
use crate::error::Error;
use serde_json::Value as Json;
use text::{AddedToken, Merge, Merges, ModelSpec, TokenizerSpec, Vocab};

/// More tokens than any vocabulary has.
const MAX_TOKENS: usize = 4 << 20;

pub(super) fn spec(tokenizer: &Json, config: &Json) -> Result<TokenizerSpec, Error> {
    let model = &tokenizer["model"];
    let added = added_tokens(&tokenizer["added_tokens"])?;
    let vocab = vocab(model, &added)?;
    let (prefix, suffix) = frame(&tokenizer["post_processor"], &vocab)?;
    let named = |key: &str| {
        let token = &config[key];
        token.as_str().or_else(|| token["content"].as_str()).and_then(|text| vocab.id(text))
    };
    let eos = named("eos_token");
    Ok(TokenizerSpec {
        model: model_spec(model, &vocab)?,
        added,
        normalizer: part(&tokenizer["normalizer"]),
        pre_tokenizer: part(&tokenizer["pre_tokenizer"]),
        decoder: part(&tokenizer["decoder"]),
        bos: named("bos_token"),
        eos,
        stops: stops(&vocab, eos),
        prefix,
        suffix,
        vocab,
    })
}

/// A part that the `tokenizers` crate reads, as text.
fn part(json: &Json) -> Option<String> {
    (!json.is_null()).then(|| json.to_string())
}

fn added_tokens(list: &Json) -> Result<Vec<AddedToken>, Error> {
    list.as_array().into_iter().flatten().map(added_token).collect()
}

fn added_token(json: &Json) -> Result<AddedToken, Error> {
    let flag = |key: &str| json[key].as_bool().unwrap_or(false);
    let content = json["content"].as_str().ok_or_else(|| fault("an added token has no content"))?;
    if flag("single_word") {
        return Err(fault(format!("the added token {content:?} counts as a whole word only")));
    }
    Ok(AddedToken {
        id: number(&json["id"])?,
        content: content.to_owned(),
        special: flag("special"),
        strip_left: flag("lstrip"),
        strip_right: flag("rstrip"),
    })
}

fn number(json: &Json) -> Result<u32, Error> {
    let id = json.as_u64().filter(|&id| id < MAX_TOKENS as u64);
    id.map(|id| id as u32).ok_or_else(|| fault(format!("{json} is no number of a token")))
}

/// The tokens by number: the model's, and the added ones over them.
fn vocab(model: &Json, added: &[AddedToken]) -> Result<Vocab, Error> {
    let mut texts: Vec<&str> = Vec::new();
    let mut put = |id: u32, text| {
        let index = id as usize;
        texts.resize(texts.len().max(index + 1), "");
        texts[index] = text;
    };
    match &model["vocab"] {
        Json::Object(map) => {
            for (text, id) in map {
                put(number(id)?, text);
            }
        }
        Json::Array(list) => {
            for (id, pair) in list.iter().enumerate().take(MAX_TOKENS) {
                put(id as u32, pair[0].as_str().unwrap_or(""));
            }
        }
        _ => return Err(fault("the model has no vocabulary")),
    }
    added.iter().for_each(|token| put(token.id, &token.content));
    Vocab::new(texts).ok_or_else(|| fault("the vocabulary is too large"))
}

fn model_spec(model: &Json, vocab: &Vocab) -> Result<ModelSpec, Error> {
    let flag = |key: &str| model[key].as_bool().unwrap_or(false);
    // Old files do not name the type.
    match model["type"].as_str().or_else(|| model.get("merges").map(|_| "BPE")) {
        Some("BPE") => {
            for key in ["continuing_subword_prefix", "end_of_word_suffix"] {
                if model[key].as_str().is_some_and(|text| !text.is_empty()) {
                    return Err(fault(format!("the BPE model has a `{key}`")));
                }
            }
            Ok(ModelSpec::Bpe {
                merges: merges(&model["merges"], vocab)?,
                byte_fallback: flag("byte_fallback"),
                ignore_merges: flag("ignore_merges"),
                unknown: model["unk_token"].as_str().and_then(|text| vocab.id(text)),
                fuse_unknown: flag("fuse_unk"),
            })
        }
        Some("Unigram") => Ok(ModelSpec::Unigram {
            scores: scores(&model["vocab"]),
            unknown: (!model["unk_id"].is_null()).then(|| number(&model["unk_id"])).transpose()?,
            byte_fallback: flag("byte_fallback"),
        }),
        Some("WordPiece") => Ok(ModelSpec::WordPiece {
            unknown: model["unk_token"].as_str().unwrap_or("[UNK]").to_owned(),
            continuing: model["continuing_subword_prefix"].as_str().unwrap_or("##").to_owned(),
            max_characters: model["max_input_chars_per_word"].as_u64().unwrap_or(100).min(1000)
                as u32,
        }),
        other => Err(fault(format!("the model is {}", other.unwrap_or("of no known type")))),
    }
}

fn scores(vocab: &Json) -> Vec<f64> {
    let list = vocab.as_array().into_iter().flatten();
    list.map(|pair| pair[1].as_f64().unwrap_or(0.0)).collect()
}

fn merges(list: &Json, vocab: &Vocab) -> Result<Merges, Error> {
    let list = list.as_array().map_or(&[][..], Vec::as_slice);
    let mut merges = Vec::with_capacity(list.len());
    for (json, rank) in list.iter().zip(0..) {
        let pair = match json {
            Json::String(text) => split_merge(text),
            pair => pair[0].as_str().zip(pair[1].as_str()),
        };
        let (left, right) = pair.ok_or_else(|| fault(format!("{json} is no merge")))?;
        merges.push(merge(vocab, left, right, rank)?);
    }
    Merges::new(vocab.len(), merges).ok_or_else(|| fault("there are too many merges"))
}

/// The two tokens of `a b`. The first may begin with a space, so the space after that counts.
pub(super) fn split_merge(text: &str) -> Option<(&str, &str)> {
    let first = text.chars().next()?.len_utf8();
    let space = first + text[first..].find(' ')?;
    Some((&text[..space], &text[space + 1..]))
}

pub(super) fn merge(vocab: &Vocab, left: &str, right: &str, rank: u32) -> Result<Merge, Error> {
    let token = |text: &str| {
        vocab
            .id(text)
            .ok_or_else(|| fault(format!("merge {rank} is of {text:?}, which is no token")))
    };
    let pair = (token(left)?, token(right)?);
    Ok(Merge { pair, rank, result: token(&format!("{left}{right}"))? })
}

/// The tokens around a text, from the post-processor.
fn frame(json: &Json, vocab: &Vocab) -> Result<(Vec<u32>, Vec<u32>), Error> {
    let token = |pair: &Json| pair[1].as_u64().and_then(|id| u32::try_from(id).ok());
    match json["type"].as_str() {
        None | Some("ByteLevel") => Ok(Default::default()),
        Some("TemplateProcessing") => template_frame(json, vocab),
        Some("BertProcessing" | "RobertaProcessing") => Ok((
            token(&json["cls"]).into_iter().collect(),
            token(&json["sep"]).into_iter().collect(),
        )),
        Some("Sequence") => {
            let mut whole = (Vec::new(), Vec::new());
            for part in json["processors"].as_array().into_iter().flatten() {
                let (prefix, suffix) = frame(part, vocab)?;
                whole.0.splice(0..0, prefix);
                whole.1.extend(suffix);
            }
            Ok(whole)
        }
        Some(other) => Err(fault(format!("the post-processor is {other}"))),
    }
}

fn template_frame(json: &Json, vocab: &Vocab) -> Result<(Vec<u32>, Vec<u32>), Error> {
    let (mut prefix, mut suffix) = (Vec::new(), Vec::new());
    let mut after_text = false;
    for item in json["single"].as_array().into_iter().flatten() {
        if let Some(name) = item["SpecialToken"]["id"].as_str() {
            let side = if after_text { &mut suffix } else { &mut prefix };
            let ids = json["special_tokens"][name]["ids"].as_array();
            match ids {
                Some(ids) => {
                    for id in ids {
                        side.push(number(id)?);
                    }
                }
                None => side.extend(vocab.id(name)),
            }
        } else {
            after_text = true;
        }
    }
    Ok((prefix, suffix))
}
