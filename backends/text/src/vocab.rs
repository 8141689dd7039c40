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

    /// The tokens that a text begins with, shortest first, each with its length in bytes.
    pub(crate) fn prefixes(&self, text: &str) -> impl Iterator<Item = (u32, usize)> {
        // The tokens that share `length` bytes with the text; the one of that length is the first.
        let mut sharing = &self.by_text[..];
        let mut length = 0;
        std::iter::from_fn(move || {
            loop {
                let byte = text.as_bytes().get(length);
                let next = |&id: &u32| self.token(id).as_bytes().get(length);
                let end = sharing.partition_point(|id| next(id) <= byte);
                let start = sharing.partition_point(|id| next(id) < byte);
                sharing = sharing.get(start..end).filter(|_| byte.is_some())?;
                length += 1;
                let &first = sharing.first()?;
                if self.token(first).len() == length {
                    return Some((first, length));
                }
            }
        })
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
        let prefixes = |text: &str| vocab.prefixes(text).collect::<Vec<_>>();
        assert_eq!(prefixes("abc"), [(1, 1), (3, 2)]);
        assert_eq!(prefixes("éa"), [(5, 2)]);
        assert!(prefixes("").is_empty() && prefixes("è").is_empty());
    }
}
