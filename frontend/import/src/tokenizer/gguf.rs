//! A tokenizer from GGUF metadata, read as llama.cpp reads it.

use super::json::{merge, split_merge};
use super::sentence_piece::{NORMAL, Pieces, SPACE, Style};
use super::splits::{Splits, splits};
use super::{fault, stops};
use crate::error::Error;
use crate::gguf::Value;
use serde_json::json;
use text::{Merges, ModelSpec, TokenizerSpec, Vocab};

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
        Some("llama") => keys.sentence_piece_bpe(),
        Some("t5") => keys.sentence_piece_unigram(),
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

    /// The columns of the vocabulary, made as long as the list of tokens.
    fn pieces(&self) -> Pieces<&'a String> {
        let numbers = |key| self.get(key).and_then(Value::as_numbers).unwrap_or_default();
        let mut scores = numbers("scores");
        scores.resize(self.tokens.len(), 0.0);
        let mut kinds: Vec<u8> = numbers("token_type").into_iter().map(|it| it as u8).collect();
        kinds.resize(self.tokens.len(), NORMAL);
        Pieces { texts: self.tokens.iter().collect(), scores, kinds }
    }

    /// A specification whose steps around the model are still to be filled in. What is put around a
    /// text if the file does not say: `(add_bos, add_eos)`.
    fn plain(&self, vocab: Vocab, model: ModelSpec, frame: (bool, bool)) -> TokenizerSpec {
        let (bos, eos) = (self.token("bos_token_id"), self.token("eos_token_id"));
        let add = |key, default, token: Option<u32>| {
            let wanted = self.flag(key).unwrap_or(default);
            token.filter(|_| wanted).into_iter().collect()
        };
        TokenizerSpec {
            stops: stops(&vocab, eos),
            vocab,
            model,
            added: self.pieces().added(),
            normalizer: None,
            pre_tokenizer: None,
            decoder: None,
            prefix: add("add_bos_token", frame.0, bos),
            suffix: add("add_eos_token", frame.1, eos),
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
        let vocab = self.pieces().vocab()?;
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
            ..self.plain(vocab, model, (add_bos, false))
        })
    }

    /// Pairs of characters, with spaces marked, within a line.
    fn spaced_bpe(&self) -> Result<TokenizerSpec, Error> {
        let vocab = self.pieces().vocab()?;
        let model = pairs(self.merges(&vocab)?, false, true);
        let cut = json!({"type": "Split", "pattern": {"Regex": "[^\n]+|\n+"},
            "behavior": "Isolated", "invert": false});
        Ok(TokenizerSpec {
            normalizer: Some(SPACED.normalizer()?),
            pre_tokenizer: Some(cut.to_string()),
            decoder: Some(SPACED.decoder()),
            ..self.plain(vocab, model, (true, false))
        })
    }

    /// SentencePiece's BPE. llama.cpp neither maps characters nor trims spaces for it.
    fn sentence_piece_bpe(&self) -> Result<TokenizerSpec, Error> {
        let prefix_space = self.flag("add_space_prefix").unwrap_or(true);
        let style = Style { prefix_space, ..SPACED };
        let pieces = self.pieces();
        let vocab = pieces.vocab()?;
        let model = pieces.pairs(&vocab)?;
        Ok(TokenizerSpec {
            normalizer: Some(style.normalizer()?),
            decoder: Some(style.decoder()),
            ..self.plain(vocab, model, (true, false))
        })
    }

    /// SentencePiece's most probable segmentation, as in T5.
    fn sentence_piece_unigram(&self) -> Result<TokenizerSpec, Error> {
        let map = self.get("precompiled_charsmap").and_then(Value::as_numbers).unwrap_or_default();
        // The list is of signed or of unsigned bytes.
        let charsmap: Vec<u8> = map.into_iter().map(|byte| byte as i64 as u8).collect();
        let style = Style {
            charsmap: &charsmap,
            prefix_space: self.flag("add_space_prefix").unwrap_or(true),
            trim_spaces: self.flag("remove_extra_whitespaces").unwrap_or(false),
            mark_spaces: self.flag("escape_whitespaces").unwrap_or(true),
        };
        let pieces = self.pieces();
        let vocab = pieces.vocab()?;
        Ok(TokenizerSpec {
            normalizer: Some(style.normalizer()?),
            decoder: Some(style.decoder()),
            ..self.plain(vocab, pieces.unigram()?, (false, true))
        })
    }

    /// BERT's. llama.cpp marks the beginnings of words, where BERT marks the rest.
    fn word_piece(&self) -> Result<TokenizerSpec, Error> {
        let plain = |(text, &kind): (&String, &u8)| match text.strip_prefix(SPACE) {
            Some(word) if !word.is_empty() => word.to_owned(),
            None if kind == NORMAL => format!("##{text}"),
            _ => text.clone(),
        };
        let texts: Vec<String> = self.tokens.iter().zip(&self.pieces().kinds).map(plain).collect();
        let vocab = Vocab::new(texts.iter().map(String::as_str));
        let vocab = vocab.ok_or_else(|| fault("the vocabulary is too large"))?;
        let token = |key| self.token(key);
        let unknown = token("unknown_token_id").or(vocab.id("[UNK]"));
        let unknown = unknown.ok_or_else(|| fault("there is no unknown token"))?;
        let model = ModelSpec::WordPiece { unknown, continuing: "##".into(), max_characters: 100 };
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
            ..self.plain(vocab, model, (false, false))
        })
    }
}

/// Spaces are marked and nothing else.
const SPACED: Style<'static> =
    Style { charsmap: &[], prefix_space: false, trim_spaces: false, mark_spaces: true };

fn pairs(merges: Merges, ignore_merges: bool, byte_fallback: bool) -> ModelSpec {
    ModelSpec::Bpe { merges, byte_fallback, ignore_merges, unknown: None, fuse_unknown: false }
}
