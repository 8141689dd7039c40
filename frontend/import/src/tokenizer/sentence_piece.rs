//! What SentencePiece does, in the steps that the runtime knows. Its own files and GGUF's say the
//! same things in other words.

use super::{base64, charsmap, fault, scored};
use crate::error::Error;
use serde_json::{Value as Json, json};
use text::{AddedToken, Merges, ModelSpec, Vocab};

/// Kinds of pieces, as both formats number them.
pub(super) const NORMAL: u8 = 1;
pub(super) const UNKNOWN: u8 = 2;
pub(super) const CONTROL: u8 = 3;
pub(super) const USER_DEFINED: u8 = 4;

/// The mark for a space.
pub(super) const SPACE: &str = "▁";

/// How far below the lowest score that of an unknown character is.
const UNKNOWN_PENALTY: f64 = 10.0;

/// A vocabulary, a column for each property. The columns have one length.
pub(super) struct Pieces<T> {
    pub(super) texts: Vec<T>,
    pub(super) scores: Vec<f64>,
    pub(super) kinds: Vec<u8>,
}

/// What is done to a text and undone when decoding.
pub(super) struct Style<'a> {
    /// What characters become; may be empty.
    pub(super) charsmap: &'a [u8],
    /// Whether a text begins with a space, wanted or not.
    pub(super) prefix_space: bool,
    /// Whether spaces at both ends and beside others go.
    pub(super) trim_spaces: bool,
    /// Whether a space is written as [`SPACE`].
    pub(super) mark_spaces: bool,
}

impl<T: AsRef<str>> Pieces<T> {
    pub(super) fn vocab(&self) -> Result<Vocab, Error> {
        let vocab = Vocab::new(self.texts.iter().map(AsRef::as_ref));
        vocab.ok_or_else(|| fault("the vocabulary is too large"))
    }

    /// The pieces that are found in the text before anything else happens to it.
    pub(super) fn added(&self) -> Vec<AddedToken> {
        let added = (0..).zip(self.texts.iter().zip(&self.kinds));
        let added =
            added.filter(|(_, (_, kind))| matches!(**kind, UNKNOWN | CONTROL | USER_DEFINED));
        let added = added.map(|(id, (content, kind))| AddedToken {
            id,
            content: content.as_ref().to_owned(),
            special: *kind != USER_DEFINED,
            in_model: true,
            ..AddedToken::default()
        });
        added.collect()
    }

    /// Of all neighbours that make a piece, those with the highest score are merged.
    pub(super) fn pairs(&self, vocab: &Vocab) -> Result<ModelSpec, Error> {
        let merges = scored::merges(vocab, &self.scores, |id| self.is_text(id));
        let merges = Merges::new(vocab.len(), merges);
        Ok(ModelSpec::Bpe {
            merges: merges.ok_or_else(|| fault("there are too many merges"))?,
            byte_fallback: true,
            ignore_merges: false,
            unknown: self.unknown(),
            fuse_unknown: true,
        })
    }

    /// The most probable pieces are taken.
    pub(super) fn unigram(self) -> Result<ModelSpec, Error> {
        if self.scores.iter().any(|score| !score.is_finite()) {
            return Err(fault("the score of a piece is no number"));
        }
        let unknown = self.unknown().ok_or_else(|| fault("there is no unknown piece"))?;
        let mut lowest = f64::INFINITY;
        let mut scores = self.scores;
        for (score, &kind) in scores.iter_mut().zip(&self.kinds) {
            match kind {
                NORMAL => lowest = lowest.min(*score),
                USER_DEFINED => {}
                _ => *score = f64::NEG_INFINITY,
            }
        }
        let lowest = if lowest.is_finite() { lowest } else { 0.0 };
        let unknown_score = lowest - UNKNOWN_PENALTY;
        Ok(ModelSpec::Unigram { scores, unknown, unknown_score, byte_fallback: true })
    }

    fn is_text(&self, id: u32) -> bool {
        matches!(self.kinds.get(id as usize), Some(&(NORMAL | USER_DEFINED)))
    }

    fn unknown(&self) -> Option<u32> {
        self.kinds.iter().position(|&kind| kind == UNKNOWN).map(|id| id as u32)
    }
}

impl Style<'_> {
    pub(super) fn normalizer(&self) -> Result<String, Error> {
        let mut steps = Vec::new();
        if !self.charsmap.is_empty() {
            if !charsmap::is_sound(self.charsmap) {
                return Err(fault("the precompiled charsmap is damaged"));
            }
            let map = base64::encode(self.charsmap);
            steps.push(json!({"type": "Precompiled", "precompiled_charsmap": map}));
        }
        if self.trim_spaces {
            steps.push(replace(json!({"Regex": "^ +|[ ▁]+$"}), ""));
            steps.push(replace(json!({"Regex": " {2,}"}), " "));
        }
        let space = if self.mark_spaces { SPACE } else { " " };
        if self.prefix_space {
            steps.push(json!({"type": "Prepend", "prepend": space}));
        }
        steps.push(replace(json!({"String": " "}), space));
        Ok(json!({"type": "Sequence", "normalizers": steps}).to_string())
    }

    pub(super) fn decoder(&self) -> String {
        let mut steps = vec![
            replace(json!({"String": SPACE}), " "),
            json!({"type": "ByteFallback"}),
            json!({"type": "Fuse"}),
        ];
        let unwanted = match (self.trim_spaces, self.prefix_space) {
            (true, _) => u32::MAX,
            (false, prefix) => prefix.into(),
        };
        if unwanted != 0 {
            steps.push(json!({"type": "Strip", "content": " ", "start": unwanted, "stop": 0}));
        }
        json!({"type": "Sequence", "decoders": steps}).to_string()
    }
}

fn replace(pattern: Json, content: &str) -> Json {
    json!({"type": "Replace", "pattern": pattern, "content": content})
}
