//! Finds added tokens in a text.

use crate::spec::AddedToken;
use std::ops::Range;

/// Added tokens, so that those beginning with a byte are found at once.
pub(crate) struct Added {
    /// By first byte, and longer ones first.
    tokens: Vec<AddedToken>,
}

/// A stretch of a text: one added token, or what lies between two.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) range: Range<usize>,
    pub(crate) token: Option<u32>,
}

impl Added {
    pub(crate) fn new(mut tokens: Vec<AddedToken>) -> Added {
        tokens.retain(|token| !token.content.is_empty());
        tokens.sort_by(|a, b| {
            let length = b.content.len().cmp(&a.content.len());
            first_byte(a).cmp(&first_byte(b)).then(length)
        });
        Added { tokens }
    }

    /// Cuts a text at its added tokens. Special ones count if `parse_special`.
    pub(crate) fn split(&self, text: &str, parse_special: bool) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut rest = 0;
        let mut at = 0;
        while at < text.len() {
            let Some(token) = self.at(text, at, parse_special) else {
                at += 1;
                continue;
            };
            if token.whole_word && !token.is_alone(text, at) {
                at += token.content.len();
                continue;
            }
            let range = token.extent(text, rest, at);
            push_between(&mut pieces, rest..range.start);
            rest = range.end;
            at = range.end;
            pieces.push(Piece { range, token: Some(token.id) });
        }
        push_between(&mut pieces, rest..text.len());
        pieces
    }

    fn at(&self, text: &str, at: usize, parse_special: bool) -> Option<&AddedToken> {
        let rest = &text.as_bytes()[at..];
        let first = self.tokens.partition_point(|token| first_byte(token) < rest[0]);
        self.tokens[first..]
            .iter()
            .take_while(|token| first_byte(token) == rest[0])
            .filter(|token| parse_special || !token.special)
            .find(|token| rest.starts_with(token.content.as_bytes()))
    }
}

impl AddedToken {
    /// What the token takes of a text in which it lies at `at`, and of which `rest..` is left.
    fn extent(&self, text: &str, rest: usize, at: usize) -> Range<usize> {
        let end = at + self.content.len();
        let before = &text[rest..at];
        let after = &text[end..];
        let start = if self.strip_left { rest + before.trim_end().len() } else { at };
        let taken = if self.strip_right { after.len() - after.trim_start().len() } else { 0 };
        start..end + taken
    }

    /// Whether nothing that a word is made of touches the token, which lies at `at`.
    fn is_alone(&self, text: &str, at: usize) -> bool {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let (before, after) = (&text[..at], &text[at + self.content.len()..]);
        !before.ends_with(is_word) && !after.starts_with(is_word)
    }
}

fn first_byte(token: &AddedToken) -> u8 {
    token.content.as_bytes()[0]
}

fn push_between(pieces: &mut Vec<Piece>, range: Range<usize>) {
    if !range.is_empty() {
        pieces.push(Piece { range, token: None });
    }
}

#[cfg(test)]
mod tests {
    use super::{Added, AddedToken, Piece};

    fn pieces(text: &str, parse_special: bool) -> Vec<(&str, Option<u32>)> {
        let token = |id, content: &str, special, strip| AddedToken {
            id,
            content: content.into(),
            special,
            strip_left: strip,
            strip_right: strip,
            whole_word: content == "ony",
            normalized: false,
            in_model: false,
        };
        let added = Added::new(vec![
            token(1, "<a>", true, false),
            token(2, "<a><b>", true, false),
            token(3, "é", false, false),
            token(4, "<mask>", true, true),
            token(5, "ony", false, false),
        ]);
        let cut = |Piece { range, token }: Piece| (&text[range], token);
        added.split(text, parse_special).into_iter().map(cut).collect()
    }

    #[test]
    fn the_longest_is_found_and_white_space_taken() {
        assert!(pieces("", true).is_empty());
        assert_eq!(
            pieces("x<a><b><a>", true),
            [("x", None), ("<a><b>", Some(2)), ("<a>", Some(1))]
        );
        assert_eq!(pieces("<a>é", false), [("<a>", None), ("é", Some(3))]);
        assert_eq!(pieces("o <mask> x", true), [("o", None), (" <mask> ", Some(4)), ("x", None)]);
        assert_eq!(pieces("anthony ony", true), [("anthony ", None), ("ony", Some(5))]);
        assert_eq!(pieces("日é本<", true), [("日", None), ("é", Some(3)), ("本<", None)]);
    }
}
