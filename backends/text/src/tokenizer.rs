//! Text to tokens and back.

use crate::added::Added;
use crate::bpe::{self, Unknown};
use crate::error::Error;
use crate::spec::{ModelSpec, TokenizerSpec};
use crate::vocab::Vocab;
use serde::de::DeserializeOwned;
use tokenizers::models::unigram::Unigram;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizer::Range;
use tokenizers::{
    Decoder, DecoderWrapper, Model, NormalizedString, Normalizer, NormalizerWrapper,
    OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, PreTokenizerWrapper, Token,
};

/// A tokenizer, ready to use.
pub struct Tokenizer {
    spec: TokenizerSpec,
    model: Words,
    added: Added,
    /// The numbers of the special tokens, in order.
    special: Vec<u32>,
    normalizer: Option<NormalizerWrapper>,
    pre_tokenizer: Option<PreTokenizerWrapper>,
    decoder: Option<DecoderWrapper>,
}

/// How [`Tokenizer::encode`] reads a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Encoding {
    /// Put the tokenizer's prefix and suffix around the text.
    pub framed: bool,
    /// Read special tokens in the text as such. Not for the text of a user, who could otherwise
    /// write markup.
    pub parse_special: bool,
}

/// What turns words into tokens.
enum Words {
    /// Works on the tables of the spec.
    Bpe,
    Unigram(Box<Unigram>),
    WordPiece(Box<WordPiece>),
}

impl Tokenizer {
    /// Makes a tokenizer ready.
    ///
    /// # Errors
    /// When a part of the specification does not parse.
    pub fn new(mut spec: TokenizerSpec) -> Result<Tokenizer, Error> {
        let added = std::mem::take(&mut spec.added);
        let special = added.iter().filter(|token| token.special).map(|token| token.id);
        let mut special: Vec<u32> = special.collect();
        special.sort_unstable();
        Ok(Tokenizer {
            model: words(&spec)?,
            special,
            added: Added::new(added),
            normalizer: part("normalizer", spec.normalizer.as_deref())?,
            pre_tokenizer: part("pre-tokenizer", spec.pre_tokenizer.as_deref())?,
            decoder: part("decoder", spec.decoder.as_deref())?,
            spec,
        })
    }

    /// The tokens by number and by text.
    pub fn vocab(&self) -> &Vocab {
        &self.spec.vocab
    }

    /// The token at the beginning of a text.
    pub fn bos(&self) -> Option<u32> {
        self.spec.bos
    }

    /// The token at the end of a text.
    pub fn eos(&self) -> Option<u32> {
        self.spec.eos
    }

    /// Whether generation ends with this token.
    pub fn is_stop(&self, token: u32) -> bool {
        self.spec.stops.contains(&token)
    }

    /// The tokens of a text.
    ///
    /// # Errors
    /// When a regular expression of the tokenizer gives up on the text.
    pub fn encode(&self, text: &str, how: Encoding) -> Result<Vec<u32>, Error> {
        let failed = |error| Error::new("the text cannot be tokenized", error);
        let mut pieces = PreTokenizedString::from(text);
        pieces.split(|_, whole| Ok(self.split_added(&whole, how.parse_special))).map_err(failed)?;
        if let Some(normalizer) = &self.normalizer {
            pieces.normalize(|piece| normalizer.normalize(piece)).map_err(failed)?;
        }
        if let Some(pre_tokenizer) = &self.pre_tokenizer {
            pre_tokenizer.pre_tokenize(&mut pieces).map_err(failed)?;
        }
        let (before, after) = if how.framed {
            (&self.spec.prefix[..], &self.spec.suffix[..])
        } else {
            Default::default()
        };
        let mut out = before.to_vec();
        for (word, _, found) in pieces.get_splits(OffsetReferential::Original, OffsetType::None) {
            match found {
                Some(tokens) => out.extend(tokens.iter().map(|token| token.id)),
                None => self.encode_word(word, &mut out).map_err(failed)?,
            }
        }
        out.extend(after);
        Ok(out)
    }

    /// The text of some tokens. Special tokens are left out unless they are to be shown.
    ///
    /// # Errors
    /// When the tokenizer's decoder fails.
    pub fn decode(&self, tokens: &[u32], show_special: bool) -> Result<String, Error> {
        let shown = |id: &&u32| show_special || self.special.binary_search(id).is_err();
        let texts = tokens.iter().filter(shown).map(|&id| self.spec.vocab.token(id).to_owned());
        let texts: Vec<String> = texts.collect();
        match &self.decoder {
            Some(decoder) => decoder
                .decode(texts)
                .map_err(|error| Error::new("the tokens cannot be decoded", error)),
            None => Ok(texts.join(" ")),
        }
    }

    fn split_added(
        &self,
        whole: &NormalizedString,
        parse_special: bool,
    ) -> Vec<(NormalizedString, Option<Vec<Token>>)> {
        let cut = |piece: crate::added::Piece| {
            let tokens = piece.token.map(|id| vec![Token::new(id, String::new(), (0, 0))]);
            Some((whole.slice(Range::Original(piece.range))?, tokens))
        };
        self.added.split(whole.get(), parse_special).into_iter().filter_map(cut).collect()
    }

    fn encode_word(&self, word: &str, out: &mut Vec<u32>) -> Result<(), tokenizers::Error> {
        let tokens = match &self.model {
            Words::Bpe => {
                self.encode_pairs(word, out);
                return Ok(());
            }
            Words::Unigram(model) => model.tokenize(word)?,
            Words::WordPiece(model) => model.tokenize(word)?,
        };
        out.extend(tokens.iter().map(|token| token.id));
        Ok(())
    }

    fn encode_pairs(&self, word: &str, out: &mut Vec<u32>) {
        let vocab = &self.spec.vocab;
        let ModelSpec::Bpe { merges, byte_fallback, ignore_merges, unknown, fuse_unknown } =
            &self.spec.model
        else {
            return;
        };
        if *ignore_merges && let Some(token) = vocab.id(word) {
            out.push(token);
            return;
        }
        let unknown =
            Unknown { byte_fallback: *byte_fallback, token: *unknown, fuse: *fuse_unknown };
        bpe::encode(vocab, merges, unknown, word, out);
    }
}

fn words(spec: &TokenizerSpec) -> Result<Words, Error> {
    let failed = |error| Error::new("the vocabulary does not work", error);
    let tokens = || (0..spec.vocab.len() as u32).map(|id| spec.vocab.token(id).to_owned());
    match &spec.model {
        ModelSpec::Bpe { .. } => Ok(Words::Bpe),
        ModelSpec::Unigram { scores, unknown, byte_fallback } => {
            let scored = tokens().zip(scores.iter().copied()).collect();
            let unknown = unknown.map(|id| id as usize);
            let model = Unigram::from(scored, unknown, *byte_fallback).map_err(failed)?;
            Ok(Words::Unigram(Box::new(model)))
        }
        ModelSpec::WordPiece { unknown, continuing, max_characters } => {
            let vocab: tokenizers::models::bpe::Vocab = tokens().zip(0..).collect();
            let model = WordPiece::builder()
                .vocab(vocab)
                .unk_token(unknown.clone())
                .continuing_subword_prefix(continuing.clone())
                .max_input_chars_per_word(*max_characters as usize)
                .build()
                .map_err(failed)?;
            Ok(Words::WordPiece(Box::new(model)))
        }
    }
}

/// A part of the `tokenizers` crate, from its JSON.
fn part<T: DeserializeOwned>(what: &str, json: Option<&str>) -> Result<Option<T>, Error> {
    let failed = |error| Error::new(&format!("the {what} does not parse"), error);
    json.map(|json| serde_json::from_str(json).map_err(failed)).transpose()
}
