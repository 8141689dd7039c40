//! The longest token first, from left to right.

use crate::words::Words;

/// What a WordPiece model knows beside its vocabulary.
#[derive(Clone, Copy)]
pub(crate) struct WordPiece<'a> {
    /// The token for a word that tokens do not cover.
    pub(crate) unknown: u32,
    /// What a token begins with that continues a word.
    pub(crate) continuing: &'a str,
    /// Longer words are unknown.
    pub(crate) max_characters: u32,
}

/// Appends the tokens of a word.
pub(crate) fn encode(words: Words<'_>, model: WordPiece<'_>, word: &str, out: &mut Vec<u32>) {
    let length = word.chars().take(model.max_characters as usize + 1).count();
    let pieces = pieces(words, model.continuing, word);
    match pieces.filter(|_| length <= model.max_characters as usize) {
        Some(pieces) => out.extend(pieces),
        None => out.push(model.unknown),
    }
}

fn pieces(words: Words<'_>, continuing: &str, word: &str) -> Option<Vec<u32>> {
    let mut pieces = Vec::new();
    let mut rest = word.to_owned();
    let mut lead = "";
    while lead.len() < rest.len() {
        let longest = words.prefixes(&rest).filter(|(_, length)| lead.len() < *length).last();
        let (token, length) = longest?;
        pieces.push(token);
        rest.replace_range(..length, continuing);
        lead = continuing;
    }
    Some(pieces)
}

#[cfg(test)]
mod tests {
    use super::{WordPiece, encode};
    use crate::vocab::Vocab;
    use crate::words::Words;

    #[test]
    fn the_longest_token_first_and_all_or_nothing() {
        let vocab = Vocab::new(["?", "un", "una", "##b", "##ble", "##le", "#", "[SEP]"]);
        let vocab = vocab.expect("it is short");
        let encoded = |word: &str| {
            let model = WordPiece { unknown: 0, continuing: "##", max_characters: 6 };
            let mut out = Vec::new();
            encode(Words { vocab: &vocab, others: &[7] }, model, word, &mut out);
            out
        };
        assert_eq!(encoded("unable"), [2, 4]);
        assert_eq!(encoded("unab"), [2, 3]);
        assert_eq!(encoded("unabl"), [0]);
        assert_eq!(encoded("unablele"), [0]);
        assert_eq!(encoded("[SEP]"), [0]);
    }
}
