//! A tokenizer from `tokenizer.json`.

use super::fault;
use super::parts::{DECODER, NORMALIZER, PRE_TOKENIZER};
use crate::error::Error;
use serde_json::Value as Json;
use text::{AddedToken, Merge, Merges, ModelSpec, TokenizerSpec, Vocab};

/// How far below the lowest score that of an unknown character is.
const UNKNOWN_PENALTY: f64 = 10.0;

/// The tokenizer but for what other files say: bos, eos and stops.
///
/// `truncation` and `padding` are settings of a call, which the caller of a model makes.
pub(super) fn spec(tokenizer: &Json) -> Result<TokenizerSpec, Error> {
    let model = &tokenizer["model"];
    let added = added_tokens(&tokenizer["added_tokens"], &model["vocab"])?;
    let vocab = vocab(model, &added)?;
    let (prefix, suffix) = frame(&tokenizer["post_processor"], &vocab)?;
    Ok(TokenizerSpec {
        model: model_spec(model, &vocab)?,
        added,
        normalizer: NORMALIZER.read(&tokenizer["normalizer"])?,
        pre_tokenizer: PRE_TOKENIZER.read(&tokenizer["pre_tokenizer"])?,
        decoder: DECODER.read(&tokenizer["decoder"])?,
        bos: None,
        eos: None,
        stops: Vec::new(),
        prefix,
        suffix,
        vocab,
    })
}

/// How many things a map or a list has.
fn length(json: &Json) -> usize {
    json.as_object().map(|map| map.len()).or(json.as_array().map(Vec::len)).unwrap_or(0)
}

fn added_tokens(list: &Json, words: &Json) -> Result<Vec<AddedToken>, Error> {
    let n_tokens = length(words) + length(list);
    let read = |token: &Json| {
        let mut token = added_token(&token["id"], token, n_tokens)?;
        token.in_model = match words {
            Json::Object(map) => map.contains_key(&token.content),
            _ => (token.id as usize) < length(words),
        };
        Ok(token)
    };
    list.as_array().into_iter().flatten().map(read).collect()
}

/// A token as `tokenizer.json` and `tokenizer_config.json` describe it, in a vocabulary of about
/// so many.
pub(super) fn added_token(id: &Json, json: &Json, n_tokens: usize) -> Result<AddedToken, Error> {
    let flag = |key: &str| json[key].as_bool();
    let content = json["content"].as_str().ok_or_else(|| fault("an added token has no content"))?;
    let special = flag("special").unwrap_or(false);
    Ok(AddedToken {
        id: number(id, n_tokens)?,
        content: content.to_owned(),
        special,
        strip_left: flag("lstrip").unwrap_or(false),
        strip_right: flag("rstrip").unwrap_or(false),
        whole_word: flag("single_word").unwrap_or(false),
        normalized: flag("normalized").unwrap_or(!special),
        in_model: false,
    })
}

/// A token's number. Numbers may leave gaps, but one far above the number of tokens is a trap: all
/// below it take memory.
fn number(json: &Json, n_tokens: usize) -> Result<u32, Error> {
    let id = json.as_u64().and_then(|id| u32::try_from(id).ok());
    let id = id.filter(|&id| (id as usize) < 2 * n_tokens + 1024);
    id.ok_or_else(|| fault(format!("{json} is no number of one of {n_tokens} tokens")))
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
                put(number(id, map.len() + added.len())?, text);
            }
        }
        Json::Array(list) => {
            for (id, pair) in (0..).zip(list) {
                let text = pair[0].as_str();
                put(id, text.ok_or_else(|| fault(format!("{pair} is no token and its score")))?);
            }
        }
        _ => return Err(fault("the model has no vocabulary")),
    }
    added.iter().for_each(|token| put(token.id, &token.content));
    Vocab::new(texts).ok_or_else(|| fault("the vocabulary is too large"))
}

fn model_spec(model: &Json, vocab: &Vocab) -> Result<ModelSpec, Error> {
    // Old files do not name the type.
    match model["type"].as_str().or_else(|| model.get("merges").map(|_| "BPE")) {
        Some("BPE") => pairs(model, vocab),
        Some("Unigram") => unigram(model),
        Some("WordPiece") => Ok(ModelSpec::WordPiece {
            unknown: unknown(model, vocab)?.ok_or_else(|| fault("there is no unknown token"))?,
            continuing: model["continuing_subword_prefix"].as_str().unwrap_or("##").to_owned(),
            max_characters: model["max_input_chars_per_word"].as_u64().unwrap_or(100).min(1000)
                as u32,
        }),
        other => Err(fault(format!("the model is {}", other.unwrap_or("of no known type")))),
    }
}

fn pairs(model: &Json, vocab: &Vocab) -> Result<ModelSpec, Error> {
    let flag = |key: &str| model[key].as_bool().unwrap_or(false);
    for key in ["continuing_subword_prefix", "end_of_word_suffix"] {
        if model[key].as_str().is_some_and(|text| !text.is_empty()) {
            return Err(fault(format!("the BPE model has a `{key}`")));
        }
    }
    if model["dropout"].as_f64().is_some_and(|dropout| dropout != 0.0) {
        return Err(fault("the BPE model leaves out merges at random (`dropout`)"));
    }
    Ok(ModelSpec::Bpe {
        merges: merges(&model["merges"], vocab)?,
        byte_fallback: flag("byte_fallback"),
        ignore_merges: flag("ignore_merges"),
        unknown: unknown(model, vocab)?,
        fuse_unknown: flag("fuse_unk"),
    })
}

/// The token that `unk_token` names.
fn unknown(model: &Json, vocab: &Vocab) -> Result<Option<u32>, Error> {
    let Some(text) = model["unk_token"].as_str() else { return Ok(None) };
    let token = vocab.id(text);
    token.map(Some).ok_or_else(|| fault(format!("the unknown token {text:?} is no token")))
}

fn unigram(model: &Json) -> Result<ModelSpec, Error> {
    let list = model["vocab"].as_array().map_or(&[][..], Vec::as_slice);
    let score = |pair: &Json| {
        let score = pair[1].as_f64();
        score.ok_or_else(|| fault(format!("{pair} is no token and its score")))
    };
    let scores: Vec<f64> = list.iter().map(score).collect::<Result<_, Error>>()?;
    let lowest = scores.iter().copied().fold(f64::INFINITY, f64::min);
    let unknown = number(&model["unk_id"], list.len())?;
    if list.len() <= unknown as usize {
        return Err(fault("the unknown token is no token"));
    }
    let byte_fallback = model["byte_fallback"].as_bool().unwrap_or(false);
    let unknown_score = lowest - UNKNOWN_PENALTY;
    Ok(ModelSpec::Unigram { scores, unknown, unknown_score, byte_fallback })
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
    let token = |pair: &Json| number(&pair[1], vocab.len()).map(|id| vec![id]);
    if json.is_null() {
        return Ok(Default::default());
    }
    match json["type"].as_str() {
        Some("ByteLevel") => Ok(Default::default()),
        Some("TemplateProcessing") => template_frame(json, vocab),
        Some("BertProcessing" | "RobertaProcessing") => {
            Ok((token(&json["cls"])?, token(&json["sep"])?))
        }
        Some("Sequence") => {
            let mut whole = (Vec::new(), Vec::new());
            for part in json["processors"].as_array().into_iter().flatten() {
                let (prefix, suffix) = frame(part, vocab)?;
                whole.0.splice(0..0, prefix);
                whole.1.extend(suffix);
            }
            Ok(whole)
        }
        other => Err(fault(format!("the post-processor is {}", other.unwrap_or("of no type")))),
    }
}

fn template_frame(json: &Json, vocab: &Vocab) -> Result<(Vec<u32>, Vec<u32>), Error> {
    let (mut prefix, mut suffix) = (Vec::new(), Vec::new());
    let mut after_text = false;
    for item in json["single"].as_array().into_iter().flatten() {
        let Some(name) = item["SpecialToken"]["id"].as_str() else {
            if after_text || item["Sequence"]["id"] != "A" {
                return Err(fault(format!("the post-processor's template has {item}")));
            }
            after_text = true;
            continue;
        };
        let side = if after_text { &mut suffix } else { &mut prefix };
        let ids = json["special_tokens"][name]["ids"].as_array();
        let ids = ids.ok_or_else(|| fault(format!("the post-processor's {name:?} is no token")))?;
        for id in ids {
            side.push(number(id, vocab.len())?);
        }
    }
    Ok((prefix, suffix))
}
