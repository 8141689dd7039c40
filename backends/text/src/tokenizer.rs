//! Text to tokens and back.

use crate::added::{Added, Piece};
use crate::bpe::{self, Unknown};
use crate::error::Error;
use crate::spec::{AddedToken, ModelSpec, TokenizerSpec};
use crate::unigram::{self, Unigram};
use crate::vocab::Vocab;
use crate::word_piece::{self, WordPiece};
use crate::words::Words;
use serde::de::DeserializeOwned;
use tokenizers::normalizer::Range;
use tokenizers::{
    Decoder, DecoderWrapper, NormalizedString, Normalizer, NormalizerWrapper, OffsetReferential,
    OffsetType, PreTokenizedString, PreTokenizer, PreTokenizerWrapper, Token,
};

/// A tokenizer, ready to use.
pub struct Tokenizer {
    spec: TokenizerSpec,
    /// What is searched for in the text as it stands.
    added: Added,
    /// What is searched for in the normalised text.
    normalized: Added,
    /// Tokens that read otherwise than in the vocabulary, in order: the normalised ones.
    renamed: Vec<(u32, String)>,
    /// The numbers of the special tokens, in order.
    special: Vec<u32>,
    /// The numbers of the tokens that the model does not make of words, in order.
    others: Vec<u32>,
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

impl Tokenizer {
    /// Makes a tokenizer ready.
    ///
    /// # Errors
    /// When a part of the specification does not parse.
    pub fn new(mut spec: TokenizerSpec) -> Result<Tokenizer, Error> {
        let added = std::mem::take(&mut spec.added);
        let special = ids(&added, |token| token.special);
        let others = ids(&added, |token| token.special || !token.in_model);
        let normalizer = part("normalizer", spec.normalizer.as_deref())?;
        let (mut normalized, added): (Vec<_>, Vec<_>) =
            added.into_iter().partition(|token| token.normalized);
        normalize(&mut normalized, normalizer.as_ref())?;
        let mut renamed: Vec<(u32, String)> =
            normalized.iter().map(|token| (token.id, token.content.clone())).collect();
        renamed.sort_unstable();
        Ok(Tokenizer {
            added: Added::new(added),
            normalized: Added::new(normalized),
            renamed,
            special,
            others,
            normalizer,
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
        pieces
            .split(|_, whole| cut(&whole, self.added.split(whole.get(), how.parse_special)))
            .map_err(failed)?;
        pieces
            .split(|_, mut piece| {
                if let Some(normalizer) = &self.normalizer {
                    normalizer.normalize(&mut piece)?;
                }
                cut(&piece, self.normalized.split(piece.get(), how.parse_special))
            })
            .map_err(failed)?;
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
                None => self.encode_word(word, &mut out),
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
        let texts = tokens.iter().filter(shown).map(|&id| self.text(id).to_owned());
        let texts: Vec<String> = texts.collect();
        match &self.decoder {
            Some(decoder) => decoder
                .decode(texts)
                .map_err(|error| Error::new("the tokens cannot be decoded", error)),
            None => Ok(texts.join(" ")),
        }
    }

    /// What a token reads as, before the decoder.
    fn text(&self, id: u32) -> &str {
        let renamed = self.renamed.binary_search_by_key(&id, |(token, _)| *token);
        renamed.map_or_else(|_| self.spec.vocab.token(id), |place| &self.renamed[place].1)
    }

    fn encode_word(&self, word: &str, out: &mut Vec<u32>) {
        let words = Words { vocab: &self.spec.vocab, others: &self.others };
        match &self.spec.model {
            ModelSpec::Bpe { merges, byte_fallback, ignore_merges, unknown, fuse_unknown } => {
                if *ignore_merges && let Some(token) = words.find(word) {
                    out.push(token);
                    return;
                }
                let (token, fuse) = (*unknown, *fuse_unknown);
                let unknown = Unknown { byte_fallback: *byte_fallback, token, fuse };
                bpe::encode(words, merges, unknown, word, out);
            }
            ModelSpec::Unigram { scores, unknown, unknown_score, byte_fallback } => {
                let (unknown, byte_fallback) = ((*unknown, *unknown_score), *byte_fallback);
                unigram::encode(words, Unigram { scores, unknown, byte_fallback }, word, out);
            }
            ModelSpec::WordPiece { unknown, continuing, max_characters } => {
                let (unknown, max_characters) = (*unknown, *max_characters);
                let model = WordPiece { unknown, continuing, max_characters };
                word_piece::encode(words, model, word, out);
            }
        }
    }
}

/// The numbers of those tokens, in order.
fn ids(tokens: &[AddedToken], those: impl Fn(&AddedToken) -> bool) -> Vec<u32> {
    let mut ids: Vec<u32> = tokens.iter().filter(|it| those(it)).map(|it| it.id).collect();
    ids.sort_unstable();
    ids
}

/// A piece of a text, and its token if it is an added one.
type Cut = (NormalizedString, Option<Vec<Token>>);

/// A text cut into pieces, those of added tokens with their token.
fn cut(whole: &NormalizedString, pieces: Vec<Piece>) -> Result<Vec<Cut>, tokenizers::Error> {
    let cut = |piece: Piece| {
        let tokens = piece.token.map(|id| vec![Token::new(id, String::new(), (0, 0))]);
        Some((whole.slice(Range::Normalized(piece.range))?, tokens))
    };
    Ok(pieces.into_iter().filter_map(cut).collect())
}

fn normalize(tokens: &mut [AddedToken], by: Option<&NormalizerWrapper>) -> Result<(), Error> {
    let Some(normalizer) = by else { return Ok(()) };
    for token in tokens {
        let mut text = NormalizedString::from(&*token.content);
        normalizer
            .normalize(&mut text)
            .map_err(|error| Error::new("an added token cannot be normalised", error))?;
        token.content = text.get().to_owned();
    }
    Ok(())
}

/// A part of the `tokenizers` crate, from its JSON.
fn part<T: DeserializeOwned>(what: &str, json: Option<&str>) -> Result<Option<T>, Error> {
    let failed = |error| Error::new(&format!("the {what} does not parse"), error);
    json.map(|json| serde_json::from_str(json).map_err(failed)).transpose()
}
