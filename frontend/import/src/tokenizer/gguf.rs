//! A tokenizer from GGUF metadata, read as llama.cpp reads it.

use super::json::{merge, split_merge};
use super::splits::{Splits, splits};
use super::{fault, stops};
use crate::error::Error;
use crate::gguf::Value;
use serde_json::json;
use text::{AddedToken, Merge, Merges, ModelSpec, TokenizerSpec, Vocab};

/// Kinds of tokens (`tokenizer.ggml.token_type`).
const NORMAL: i64 = 1;
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;

/// SentencePiece's mark for a space.
const SPACE: &str = "▁";

/// The keys `tokenizer.ggml.*`.
struct Keys<'a> {
    metadata: &'a [(String, Value)],
    tokens: &'a [String],
}

pub(super) fn spec(metadata: &[(String, Value)]) -> Result<Option<TokenizerSpec>, Error> {
    let mut keys = Keys { metadata, tokens: &[] };
    let Some(tokens) = keys.get("tokens").and_then(Value::as_texts) else { return Ok(None) };
    keys.tokens = tokens;
    match keys.text("model") {
        Some("gpt2") => keys.bpe(),
        Some("gemma4") => keys.spaced_bpe(),
        Some("llama") => keys.sentence_piece(),
        Some("bert") => keys.word_piece(),
        other => Err(fault(format!("the tokenizer is `{}`", other.unwrap_or("unnamed")))),
    }
    .map(Some)
}

impl<'a> Keys<'a> {
    fn get(&self, key: &str) -> Option<&'a Value> {
        let key = format!("tokenizer.ggml.{key}");
        let found = self.metadata.binary_search_by(|(name, _)| name.cmp(&key)).ok()?;
        Some(&self.metadata[found].1)
    }

    fn text(&self, key: &str) -> Option<&'a str> {
        self.get(key).and_then(Value::as_str)
    }

    fn flag(&self, key: &str) -> Option<bool> {
        self.get(key).and_then(Value::as_bool)
    }

    fn token(&self, key: &str) -> Option<u32> {
        let id = self.get(key).and_then(Value::as_f64)?;
        (0.0 <= id && id < self.tokens.len() as f64).then_some(id as u32)
    }

    fn kinds(&self) -> Vec<i64> {
        let kinds = self.get("token_type").and_then(Value::as_numbers).unwrap_or_default();
        let mut kinds: Vec<i64> = kinds.into_iter().map(|kind| kind as i64).collect();
        kinds.resize(self.tokens.len(), NORMAL);
        kinds
    }

    fn added(&self) -> Vec<AddedToken> {
        let tokens = self.tokens.iter().zip(self.kinds()).zip(0..);
        let added = tokens.filter(|((_, kind), _)| matches!(*kind, CONTROL | USER_DEFINED));
        let added = added.map(|((content, kind), id)| AddedToken {
            id,
            content: content.clone(),
            special: kind == CONTROL,
            ..AddedToken::default()
        });
        added.collect()
    }

    fn vocab(&self) -> Result<Vocab, Error> {
        let vocab = Vocab::new(self.tokens.iter().map(String::as_str));
        vocab.ok_or_else(|| fault("the vocabulary is too large"))
    }

    /// A specification whose steps around the model are still to be filled in.
    fn plain(&self, vocab: Vocab, model: ModelSpec, add_bos: bool) -> TokenizerSpec {
        let (bos, eos) = (self.token("bos_token_id"), self.token("eos_token_id"));
        let add = |key, default, token: Option<u32>| {
            let wanted = self.flag(key).unwrap_or(default);
            token.filter(|_| wanted).into_iter().collect()
        };
        TokenizerSpec {
            stops: stops(&vocab, eos),
            vocab,
            model,
            added: self.added(),
            normalizer: None,
            pre_tokenizer: None,
            decoder: None,
            prefix: add("add_bos_token", add_bos, bos),
            suffix: add("add_eos_token", false, eos),
            bos,
            eos,
        }
    }

    fn merges(&self, vocab: &Vocab) -> Result<Merges, Error> {
        let lines = self.get("merges").and_then(Value::as_texts).unwrap_or_default();
        let mut merges = Vec::with_capacity(lines.len());
        for (line, rank) in lines.iter().zip(0..) {
            let pair = split_merge(line).ok_or_else(|| fault(format!("{line:?} is no merge")))?;
            merges.push(merge(vocab, pair.0, pair.1, rank)?);
        }
        Merges::new(vocab.len(), merges).ok_or_else(|| fault("there are too many merges"))
    }

    /// Pairs of bytes, as in GPT-2.
    fn bpe(&self) -> Result<TokenizerSpec, Error> {
        let name = self.text("pre").unwrap_or("default");
        let unknown = || fault(format!("the pre-tokenizer `{name}` is not known"));
        let Splits { patterns, ignore_merges, add_bos } = splits(name).ok_or_else(unknown)?;
        let vocab = self.vocab()?;
        let model = pairs(self.merges(&vocab)?, ignore_merges, false);
        let cut = |pattern: &&str| {
            json!({"type": "Split", "pattern": {"Regex": pattern},
            "behavior": "Isolated", "invert": false})
        };
        let mut steps: Vec<_> = patterns.iter().map(cut).collect();
        steps.push(json!({"type": "ByteLevel", "add_prefix_space": false,
            "trim_offsets": false, "use_regex": false}));
        let steps = json!({"type": "Sequence", "pretokenizers": steps});
        let bytes = json!({"type": "ByteLevel", "add_prefix_space": false,
            "trim_offsets": false, "use_regex": false});
        Ok(TokenizerSpec {
            pre_tokenizer: Some(steps.to_string()),
            decoder: Some(bytes.to_string()),
            ..self.plain(vocab, model, add_bos)
        })
    }

    /// Pairs of characters, with spaces marked, within a line.
    fn spaced_bpe(&self) -> Result<TokenizerSpec, Error> {
        let vocab = self.vocab()?;
        let model = pairs(self.merges(&vocab)?, false, true);
        let cut = json!({"type": "Split", "pattern": {"Regex": "[^\n]+|\n+"},
            "behavior": "Isolated", "invert": false});
        Ok(TokenizerSpec {
            normalizer: Some(mark_spaces(false)),
            pre_tokenizer: Some(cut.to_string()),
            decoder: Some(unmark_spaces(false)),
            ..self.plain(vocab, model, true)
        })
    }

    /// SentencePiece's BPE: of all neighbours that make a token, those with the highest score.
    fn sentence_piece(&self) -> Result<TokenizerSpec, Error> {
        let vocab = self.vocab()?;
        let scores = self.get("scores").and_then(Value::as_numbers).unwrap_or_default();
        let merges = scored_merges(&vocab, &scores, &self.kinds());
        let merges = Merges::new(vocab.len(), merges);
        let merges = merges.ok_or_else(|| fault("there are too many merges"))?;
        let space = self.flag("add_space_prefix").unwrap_or(true);
        Ok(TokenizerSpec {
            normalizer: Some(mark_spaces(space)),
            decoder: Some(unmark_spaces(space)),
            ..self.plain(vocab, pairs(merges, false, true), true)
        })
    }

    /// BERT's. llama.cpp marks the beginnings of words, where BERT marks the rest.
    fn word_piece(&self) -> Result<TokenizerSpec, Error> {
        let plain = |(text, kind): (&String, i64)| match text.strip_prefix(SPACE) {
            Some(word) if !word.is_empty() => word.to_owned(),
            None if kind == NORMAL => format!("##{text}"),
            _ => text.clone(),
        };
        let texts: Vec<String> = self.tokens.iter().zip(self.kinds()).map(plain).collect();
        let vocab = Vocab::new(texts.iter().map(String::as_str));
        let vocab = vocab.ok_or_else(|| fault("the vocabulary is too large"))?;
        let token = |key| self.token(key);
        let unknown = token("unknown_token_id").map_or("[UNK]", |id| vocab.token(id)).to_owned();
        let model = ModelSpec::WordPiece { unknown, continuing: "##".into(), max_characters: 1000 };
        let normalizer = json!({"type": "BertNormalizer", "clean_text": true,
            "handle_chinese_chars": true, "strip_accents": true, "lowercase": true});
        let decoder = json!({"type": "WordPiece", "prefix": "##", "cleanup": true});
        let first = token("cls_token_id").or(token("bos_token_id"));
        let last = token("seperator_token_id").or(token("eos_token_id"));
        Ok(TokenizerSpec {
            normalizer: Some(normalizer.to_string()),
            pre_tokenizer: Some(json!({"type": "BertPreTokenizer"}).to_string()),
            decoder: Some(decoder.to_string()),
            prefix: first.into_iter().collect(),
            suffix: last.into_iter().collect(),
            ..self.plain(vocab, model, false)
        })
    }
}

fn pairs(merges: Merges, ignore_merges: bool, byte_fallback: bool) -> ModelSpec {
    ModelSpec::Bpe { merges, byte_fallback, ignore_merges, unknown: None, fuse_unknown: false }
}

/// Every way to make a token from two, ranked by the token's score.
fn scored_merges(vocab: &Vocab, scores: &[f64], kinds: &[i64]) -> Vec<Merge> {
    let score = |id: u32| scores.get(id as usize).copied().unwrap_or(0.0);
    let is_text = |id: u32| matches!(kinds.get(id as usize), Some(&(NORMAL | USER_DEFINED)));
    let mut by_score: Vec<u32> = (0..vocab.len() as u32).filter(|&id| is_text(id)).collect();
    by_score.sort_by(|&a, &b| score(b).total_cmp(&score(a)));
    let mut merges = Vec::new();
    let mut rank = 0;
    for (place, &result) in by_score.iter().enumerate() {
        let is_lower = place != 0 && score(by_score[place - 1]) != score(result);
        rank += u32::from(is_lower);
        let text = vocab.token(result);
        for (cut, _) in text.char_indices().skip(1) {
            let (left, right) = text.split_at(cut);
            if let Some(pair) = vocab.id(left).zip(vocab.id(right)) {
                merges.push(Merge { pair, rank, result });
            }
        }
    }
    merges
}

fn mark_spaces(before_text: bool) -> String {
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE});
    let prepend = json!({"type": "Prepend", "prepend": SPACE});
    let steps = if before_text { vec![prepend, replace] } else { vec![replace] };
    json!({"type": "Sequence", "normalizers": steps}).to_string()
}

fn unmark_spaces(before_text: bool) -> String {
    let mut steps = vec![
        json!({"type": "Replace", "pattern": {"String": SPACE}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if before_text {
        steps.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    json!({"type": "Sequence", "decoders": steps}).to_string()
}
