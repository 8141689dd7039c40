//! A tokenizer as data: what the compiler writes into an executable.

use crate::bpe::Merges;
use crate::vocab::Vocab;
use serde::{Deserialize, Serialize};

/// Everything that a [`crate::Tokenizer`] needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenizerSpec {
    /// The tokens, added ones included.
    pub vocab: Vocab,
    /// How words become tokens.
    pub model: ModelSpec,
    /// Tokens that are found in the text before anything else happens to it.
    pub added: Vec<AddedToken>,
    /// What happens to the text first, as in `tokenizer.json`.
    pub normalizer: Option<String>,
    /// How the text is cut into words, as in `tokenizer.json`.
    pub pre_tokenizer: Option<String>,
    /// How tokens become text, as in `tokenizer.json`.
    pub decoder: Option<String>,
    /// Tokens put before a text.
    pub prefix: Vec<u32>,
    /// Tokens put after a text.
    pub suffix: Vec<u32>,
    /// The token at the beginning of a text, whether or not it is in `prefix`.
    pub bos: Option<u32>,
    /// The token at the end of a text.
    pub eos: Option<u32>,
    /// Tokens after which generation stops: the end of a text, of a turn, of a message.
    pub stops: Vec<u32>,
}

/// How words become tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ModelSpec {
    /// Characters, merged pair by pair. SentencePiece's BPE models are written so as well: a merge
    /// of theirs ranks by the score of its result.
    Bpe {
        /// The merges.
        merges: Merges,
        /// Whether unknown characters become tokens `<0xHH>`.
        byte_fallback: bool,
        /// Whether a word that is a token is taken whole, whatever the merges say.
        ignore_merges: bool,
        /// The token for an unknown character.
        unknown: Option<u32>,
        /// Whether neighbouring unknown characters become one token.
        fuse_unknown: bool,
    },
    /// The most probable segmentation.
    Unigram {
        /// The logarithm of each token's probability; minus infinity where no text becomes it.
        scores: Vec<f64>,
        /// The token for an unknown character.
        unknown: u32,
        /// The score of an unknown character: well below that of any token.
        unknown_score: f64,
        /// Whether unknown characters become tokens `<0xHH>`.
        byte_fallback: bool,
    },
    /// The longest token first, from left to right.
    WordPiece {
        /// The token for an unknown word.
        unknown: u32,
        /// What a token begins with that continues a word.
        continuing: String,
        /// Longer words are unknown.
        max_characters: u32,
    },
}

/// A token that is found in the text before the model sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddedToken {
    /// Its number.
    pub id: u32,
    /// Its text.
    pub content: String,
    /// Whether it is markup: not found in a user's text, and not shown when decoding.
    pub special: bool,
    /// Whether it takes the white space before it.
    pub strip_left: bool,
    /// Whether it takes the white space after it.
    pub strip_right: bool,
    /// Whether it counts only where no letter, digit or `_` touches it.
    pub whole_word: bool,
    /// Whether the normalised text is searched for its normalised form, not the text as it stands.
    pub normalized: bool,
    /// Whether the model has it too, and may make it of a text unless it is special.
    pub in_model: bool,
}
