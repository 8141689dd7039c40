//! Byte pair encoding over a table of merges that needs no building.
//!
//! The `tokenizers` crate's own model builds three hash maps of owned strings, which takes longer
//! than an executable may take to its first token. This one looks merges up where they lie.

use crate::numbers::Numbers;
use crate::words::Words;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Two neighbouring tokens that become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Merge {
    /// The two tokens.
    pub pair: (u32, u32),
    /// Lower ranks are merged first. Equal ranks are merged from left to right.
    pub rank: u32,
    /// The token that they become.
    pub result: u32,
}

/// Merges, grouped by their left token and sorted by their right one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Merges {
    /// Where the group of each left token begins, and where the last ends.
    starts: Numbers,
    rights: Numbers,
    ranks: Numbers,
    results: Numbers,
}

impl Merges {
    /// Lays out the merges of a vocabulary of `n_tokens`. Where a pair occurs twice the last
    /// counts. `None` when there are more than 2^32.
    pub fn new(n_tokens: usize, mut merges: Vec<Merge>) -> Option<Merges> {
        u32::try_from(merges.len()).ok()?;
        merges.reverse();
        merges.sort_by_key(|merge| merge.pair);
        merges.dedup_by_key(|merge| merge.pair);
        let start = |left| merges.partition_point(|merge| (merge.pair.0 as usize) < left) as u32;
        Some(Merges {
            starts: (0..=n_tokens).map(start).collect(),
            rights: merges.iter().map(|merge| merge.pair.1).collect(),
            ranks: merges.iter().map(|merge| merge.rank).collect(),
            results: merges.iter().map(|merge| merge.result).collect(),
        })
    }

    /// The rank and the result of a pair.
    fn find(&self, left: u32, right: u32) -> Option<(u32, u32)> {
        let left = left as usize;
        let range = *self.starts.get(left)? as usize..*self.starts.get(left + 1)? as usize;
        let place = range.start + self.rights.get(range)?.binary_search(&right).ok()?;
        Some((*self.ranks.get(place)?, *self.results.get(place)?))
    }
}

/// What happens to a character that is no token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unknown {
    /// It becomes a token `<0xHH>` for each of its bytes, if there are such tokens.
    pub(crate) byte_fallback: bool,
    /// Otherwise this token; if there is none it is left out.
    pub(crate) token: Option<u32>,
    /// Whether neighbouring unknown characters become one token.
    pub(crate) fuse: bool,
}

/// A token of a word that is being merged, in a list linked by position.
struct Symbol {
    token: u32,
    previous: usize,
    next: usize,
}

const NONE: usize = usize::MAX;

/// Appends the tokens of a word.
pub(crate) fn encode(
    words: Words<'_>,
    merges: &Merges,
    unknown: Unknown,
    word: &str,
    out: &mut Vec<u32>,
) {
    let tokens = characters(words, unknown, word);
    let last = tokens.len().wrapping_sub(1);
    let link = |(at, &token): (usize, &u32)| Symbol {
        token,
        previous: at.wrapping_sub(1),
        next: if at == last { NONE } else { at + 1 },
    };
    let mut symbols: Vec<Symbol> = tokens.iter().enumerate().map(link).collect();
    merge_all(merges, &mut symbols);
    let mut at = if symbols.is_empty() { NONE } else { 0 };
    while at != NONE {
        out.push(symbols[at].token);
        at = symbols[at].next;
    }
}

/// The tokens of a word's characters.
fn characters(words: Words<'_>, unknown: Unknown, word: &str) -> Vec<u32> {
    let mut tokens = Vec::with_capacity(word.len());
    let mut after_unknown = false;
    for (at, character) in word.char_indices() {
        let text = &word[at..at + character.len_utf8()];
        if let Some(token) = words.find(text) {
            tokens.push(token);
            after_unknown = false;
        } else if let Some(bytes) = bytes(words, unknown, text) {
            tokens.extend(bytes);
            after_unknown = false;
        } else if let Some(token) = unknown.token
            && !(unknown.fuse && after_unknown)
        {
            tokens.push(token);
            after_unknown = true;
        }
    }
    tokens
}

fn bytes(words: Words<'_>, unknown: Unknown, character: &str) -> Option<Vec<u32>> {
    unknown.byte_fallback.then(|| words.bytes(character.as_bytes()))?
}

/// Merges the pair of the lowest rank, the leftmost of several, until no pair is left.
fn merge_all(merges: &Merges, symbols: &mut [Symbol]) {
    let mut heap = BinaryHeap::new();
    let look = |symbols: &[Symbol], at: usize| {
        let next = symbols[at].next;
        let pair = (symbols[at].token, symbols.get(next)?.token);
        let (rank, result) = merges.find(pair.0, pair.1)?;
        Some(Reverse((rank, at, pair, result)))
    };
    heap.extend((0..symbols.len()).filter_map(|at| look(symbols, at)));
    while let Some(Reverse((_, at, pair, result))) = heap.pop() {
        let next = symbols[at].next;
        // Earlier merges may have taken either symbol away.
        if symbols[at].token != pair.0 || symbols.get(next).is_none_or(|it| it.token != pair.1) {
            continue;
        }
        symbols[at].token = result;
        symbols[at].next = symbols[next].next;
        symbols[next] = Symbol { token: u32::MAX, previous: NONE, next: NONE };
        if let Some(after) = symbols.get(symbols[at].next).map(|_| symbols[at].next) {
            symbols[after].previous = at;
        }
        heap.extend(look(symbols, at));
        if let Some(before) = Some(symbols[at].previous).filter(|&before| before != NONE) {
            heap.extend(look(symbols, before));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Merge, Merges, Unknown, encode};
    use crate::vocab::Vocab;
    use crate::words::Words;

    const DROP: Unknown = Unknown { byte_fallback: false, token: None, fuse: false };

    fn encoded(unknown: Unknown, word: &str) -> Vec<u32> {
        let vocab = Vocab::new(["a", "b", "ab", "abab", "ba", "<0xC3>", "<0xA9>"]);
        let merge = |pair, rank, result| Merge { pair, rank, result };
        let merges = vec![merge((0, 1), 1, 2), merge((2, 2), 2, 3), merge((1, 0), 0, 4)];
        let merges = Merges::new(7, merges).expect("they are few");
        let vocab = vocab.expect("it is short");
        let mut out = Vec::new();
        encode(Words { vocab: &vocab, others: &[] }, &merges, unknown, word, &mut out);
        out
    }

    #[test]
    fn lower_ranks_go_first_and_then_left_ones() {
        assert!(encoded(DROP, "").is_empty());
        assert_eq!(encoded(DROP, "ab"), [2]);
        assert_eq!(encoded(DROP, "aba"), [0, 4]);
        assert_eq!(encoded(DROP, "bab"), [4, 1]);
        assert_eq!(encoded(DROP, "aabb"), [0, 2, 1]);
    }

    #[test]
    fn unknown_characters() {
        assert_eq!(encoded(DROP, "aéé"), [0]);
        assert_eq!(encoded(Unknown { token: Some(9), ..DROP }, "aéé"), [0, 9, 9]);
        assert_eq!(encoded(Unknown { token: Some(9), fuse: true, ..DROP }, "éébé"), [9, 1, 9]);
        assert_eq!(encoded(Unknown { byte_fallback: true, ..DROP }, "éa"), [5, 6, 0]);
        assert_eq!(encoded(Unknown { byte_fallback: true, token: Some(9), ..DROP }, "ß"), [9]);
    }
}
