//! A vocabulary that needs no building: one text, and two lists of numbers.

use crate::numbers::Numbers;
use serde::{Deserialize, Serialize};

/// Tokens by number and by text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Vocab {
    /// All tokens, one after another.
    text: String,
    /// Where each token ends in `text`.
    ends: Numbers,
    /// The numbers of all tokens, in the order of their texts.
    by_text: Numbers,
}

impl Vocab {
    /// Lays out a vocabulary. Token 0 is the first. `None` when it has more than 4 GB of text.
    pub fn new<'a>(tokens: impl IntoIterator<Item = &'a str>) -> Option<Vocab> {
        let mut text = String::new();
        let mut ends = Vec::new();
        for token in tokens {
            text.push_str(token);
            ends.push(u32::try_from(text.len()).ok()?);
        }
        let mut by_text: Vec<u32> = (0..u32::try_from(ends.len()).ok()?).collect();
        let ends = ends.into_iter().collect();
        let mut vocab = Vocab { text, ends, by_text: Numbers::default() };
        by_text.sort_by_key(|&id| vocab.token(id));
        vocab.by_text = by_text.into_iter().collect();
        Some(vocab)
    }

    /// How many tokens there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The text of a token, empty where there is none of that number.
    pub fn token(&self, id: u32) -> &str {
        let index = id as usize;
        let Some(&end) = self.ends.get(index) else { return "" };
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        self.text.get(start as usize..end as usize).unwrap_or("")
    }

    /// The token of that text; the lowest, where there are several. No token has an empty text.
    pub fn id(&self, text: &str) -> Option<u32> {
        let place = self.by_text.partition_point(|&id| self.token(id) < text);
        let &id = self.by_text.get(place)?;
        (!text.is_empty() && self.token(id) == text).then_some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::Vocab;

    #[test]
    fn finds_tokens_both_ways() {
        let vocab = Vocab::new(["b", "a", "", "ab", "a", "é"]).expect("it is short");
        assert_eq!(vocab.len(), 6);
        assert_eq!([vocab.token(0), vocab.token(3), vocab.token(5)], ["b", "ab", "é"]);
        assert_eq!([vocab.id("a"), vocab.id("ab"), vocab.id("é")], [Some(1), Some(3), Some(5)]);
        assert_eq!([vocab.id(""), vocab.id("c"), vocab.id("abc")], [None; 3]);
        assert_eq!(vocab.token(6), "");
    }
}
