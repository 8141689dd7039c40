//! The files of a Hugging Face folder that say more about a tokenizer than its own file does.

use super::json::added_token;
use super::proto::{self, BPE, UNIGRAM};
use super::{fault, read_if_there, stops};
use crate::error::Error;
use serde_json::Value as Json;
use std::collections::BTreeSet;
use std::path::Path;
use text::{AddedToken, TokenizerSpec, Vocab};

/// The settings beside a tokenizer's file; null where there is no such file.
#[derive(Default)]
pub(super) struct Settings {
    /// `tokenizer_config.json`
    tokenizer: Json,
    /// `special_tokens_map.json`
    special: Json,
    /// `generation_config.json`
    generation: Json,
    /// `config.json`
    model: Json,
}

/// What a SentencePiece file does not say of the tokenizer that it is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    /// A text ends with the end token, and 100 tokens stand for gaps in it.
    T5,
    /// A text begins with the token for that.
    Llama,
    /// Neither.
    Plain,
}

/// Classes of tokenizers, and types of models for folders that name no class.
const FAMILIES: &[(Family, &[&str])] = &[
    (Family::T5, &["T5Tokenizer", "T5TokenizerFast", "MT5Tokenizer", "MT5TokenizerFast"]),
    (Family::T5, &["t5", "mt5", "umt5"]),
    (Family::Llama, &["LlamaTokenizer", "LlamaTokenizerFast", "llama", "mistral", "mixtral"]),
    (Family::Llama, &["GemmaTokenizer", "GemmaTokenizerFast"]),
    (Family::Llama, &["gemma", "gemma2", "gemma3", "gemma3_text"]),
    (Family::Plain, &["PreTrainedTokenizer", "PreTrainedTokenizerFast", "TokenizersBackend"]),
];

/// How many gap tokens T5 has, unless its settings say.
const EXTRA_IDS: u64 = 100;

/// Keys of the settings that name a special token.
const SPECIAL: &[&str] =
    &["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

impl Settings {
    /// Reads the settings in a folder.
    pub(super) fn read(folder: &Path) -> Result<Settings, Error> {
        let file = |name: &str| read_if_there(&folder.join(name));
        Ok(Settings {
            tokenizer: file("tokenizer_config.json")?,
            special: file("special_tokens_map.json")?,
            generation: file("generation_config.json")?,
            model: file("config.json")?,
        })
    }

    /// Settings of which only those of the tokenizer are known, if any.
    pub(super) fn of(tokenizer: Option<&Json>) -> Settings {
        Settings { tokenizer: tokenizer.cloned().unwrap_or_default(), ..Settings::default() }
    }

    /// The text of a special token, such as `eos_token`.
    fn named(&self, key: &str) -> Option<&str> {
        content(&self.tokenizer[key]).or_else(|| content(&self.special[key]))
    }

    /// Fills in the special tokens: those around a text, as far as they are set, and the last.
    pub(super) fn complete(&self, spec: &mut TokenizerSpec) {
        let token = |key: &str| self.named(key).and_then(|text| spec.vocab.id(text));
        let is_unnamed = self.tokenizer.is_null() && self.special.is_null();
        let id = |key: &str| self.ids(key).first().copied().filter(|_| is_unnamed);
        spec.bos = token("bos_token").or(spec.bos).or_else(|| id("bos_token_id"));
        spec.eos = token("eos_token").or(spec.eos).or_else(|| id("eos_token_id"));
        let flag = |key: &str| self.tokenizer[key].as_bool();
        let (bos, eos) = (flag("add_bos_token"), flag("add_eos_token"));
        if bos.is_some() || eos.is_some() {
            spec.prefix = spec.bos.filter(|_| bos == Some(true)).into_iter().collect();
            spec.suffix = spec.eos.filter(|_| eos == Some(true)).into_iter().collect();
        }
        spec.stops = stops(&spec.vocab, spec.eos);
        spec.stops.extend(self.ids("eos_token_id"));
        spec.stops.sort_unstable();
        spec.stops.dedup();
    }

    /// The tokens that the model's settings name, one or several.
    fn ids(&self, key: &str) -> Vec<u32> {
        let ids = |json: &Json| -> Vec<u32> {
            let listed = json[key].as_array().into_iter().flatten().chain(Some(&json[key]));
            listed.filter_map(Json::as_u64).filter_map(|id| u32::try_from(id).ok()).collect()
        };
        let ids_of_generation = ids(&self.generation);
        if ids_of_generation.is_empty() { ids(&self.model) } else { ids_of_generation }
    }

    /// A tokenizer from a SentencePiece file.
    pub(super) fn sentence_piece(&self, file: &[u8]) -> Result<TokenizerSpec, Error> {
        let proto::Model { pieces, style, algorithm, bos, eos } = proto::parse(file)?;
        let family = self.family()?;
        let added = self.added(pieces.added(), pieces.texts.len(), family)?;
        let mut texts = pieces.texts.clone();
        for token in &added {
            let place = token.id as usize;
            texts.resize(texts.len().max(place + 1), "");
            texts[place] = &token.content;
        }
        let vocab = Vocab::new(texts).ok_or_else(|| fault("the vocabulary is too large"))?;
        let model = match algorithm {
            UNIGRAM => pieces.unigram()?,
            BPE => pieces.pairs(&vocab)?,
            other => return Err(fault(format!("the SentencePiece model is of type {other}"))),
        };
        let (bos, eos) = (vocab.id(bos), vocab.id(eos));
        let named = |key: &str, own| self.named(key).and_then(|text| vocab.id(text)).or(own);
        Ok(TokenizerSpec {
            model,
            added,
            normalizer: Some(style.normalizer()?),
            pre_tokenizer: None,
            decoder: Some(style.decoder()),
            prefix: named("bos_token", bos)
                .filter(|_| family == Family::Llama)
                .into_iter()
                .collect(),
            suffix: named("eos_token", eos).filter(|_| family == Family::T5).into_iter().collect(),
            bos,
            eos,
            stops: Vec::new(),
            vocab,
        })
    }

    fn family(&self) -> Result<Family, Error> {
        let row = |name: &str| FAMILIES.iter().find(|(_, names)| names.contains(&name));
        let found = match self.tokenizer["tokenizer_class"].as_str() {
            Some(class) => row(class).ok_or_else(|| {
                fault(format!("a SentencePiece file does not say all about a {class}"))
                    .help("save the tokenizer as tokenizer.json")
            })?,
            None => match self.model["model_type"].as_str().and_then(row) {
                Some(found) => found,
                None => return Ok(Family::Plain),
            },
        };
        Ok(found.0)
    }

    /// The pieces that are found in a text, and the tokens that are added to them.
    fn added(
        &self,
        mut added: Vec<AddedToken>,
        n_pieces: usize,
        family: Family,
    ) -> Result<Vec<AddedToken>, Error> {
        if family == Family::T5 {
            let n = self.tokenizer["extra_ids"].as_u64().unwrap_or(EXTRA_IDS).min(10 * EXTRA_IDS);
            added.extend((0..n).rev().zip(n_pieces as u32..).map(|(gap, id)| AddedToken {
                id,
                content: format!("<extra_id_{gap}>"),
                special: true,
                ..AddedToken::default()
            }));
        }
        let listed = self.tokenizer["added_tokens_decoder"].as_object();
        let mut more = Vec::new();
        for (id, token) in listed.into_iter().flatten() {
            let id = id.parse().unwrap_or(u64::MAX);
            let mut token = added_token(&id.into(), token, n_pieces + added.len())?;
            token.in_model = (token.id as usize) < n_pieces;
            more.push(token);
        }
        let replaced: BTreeSet<u32> = more.iter().map(|token| token.id).collect();
        added.retain(|token| !replaced.contains(&token.id));
        added.extend(more);
        let special = self.special_texts();
        for token in &mut added {
            token.special |= special.contains(&*token.content);
        }
        Ok(added)
    }

    /// The texts of all tokens that the settings call special.
    fn special_texts(&self) -> BTreeSet<&str> {
        let lists = ["additional_special_tokens", "extra_special_tokens"].iter().flat_map(|key| {
            let list = self.tokenizer[key].as_array().or(self.special[key].as_array());
            list.into_iter().flatten().filter_map(content)
        });
        SPECIAL.iter().filter_map(|key| self.named(key)).chain(lists).collect()
    }
}

fn content(token: &Json) -> Option<&str> {
    token.as_str().or_else(|| token["content"].as_str())
}
