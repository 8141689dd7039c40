//! The most probable segmentation of a word: Viterbi's algorithm over the tokens' probabilities.

use crate::words::Words;

/// What a unigram model knows beside its vocabulary.
#[derive(Clone, Copy)]
pub(crate) struct Unigram<'a> {
    /// The logarithm of each token's probability; a token of minus infinity is never used.
    pub(crate) scores: &'a [f64],
    /// The token for what no token covers, and its score.
    pub(crate) unknown: (u32, f64),
    /// Whether unknown characters become tokens `<0xHH>`, if there are such tokens.
    pub(crate) byte_fallback: bool,
}

/// The last step of the best way to a place in the text.
#[derive(Clone, Copy)]
struct Step {
    score: f64,
    start: usize,
    token: u32,
}

/// Appends the tokens of a word.
pub(crate) fn encode(words: Words<'_>, model: Unigram<'_>, word: &str, out: &mut Vec<u32>) {
    let steps = best_steps(words, model, word);
    let mut path = Vec::new();
    let mut end = word.len();
    while let Some(step) = steps[end] {
        path.push((step.token, step.start..end));
        end = step.start;
    }
    path.reverse();
    for run in path.chunk_by(|a, b| (a.0, b.0) == (model.unknown.0, model.unknown.0)) {
        let (token, first) = &run[0];
        let text = first.start..run[run.len() - 1].1.end;
        let is_bytes = model.byte_fallback && *token == model.unknown.0;
        match words.bytes(&word.as_bytes()[text]).filter(|_| is_bytes) {
            Some(bytes) => out.extend(bytes),
            None => out.push(*token),
        }
    }
}

/// The best step to each place that can be reached, by the place's offset. None leads to offset 0.
fn best_steps(words: Words<'_>, model: Unigram<'_>, word: &str) -> Vec<Option<Step>> {
    let mut steps: Vec<Option<Step>> = vec![None; word.len() + 1];
    for (start, character) in word.char_indices() {
        let before = steps[start].map_or(0.0, |step| step.score);
        let mut is_covered = false;
        let mut reach = |length: usize, token, score: f64| {
            let step = Step { score: before + score, start, token };
            let best = &mut steps[start + length];
            if best.is_none_or(|best| best.score < step.score) {
                *best = Some(step);
            }
        };
        for (token, length) in words.prefixes(&word[start..]) {
            let score = model.scores.get(token as usize).copied().unwrap_or(f64::NEG_INFINITY);
            if score != f64::NEG_INFINITY {
                is_covered |= length == character.len_utf8();
                reach(length, token, score);
            }
        }
        if !is_covered {
            let (token, score) = model.unknown;
            reach(character.len_utf8(), token, score);
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::{Unigram, encode};
    use crate::vocab::Vocab;
    use crate::words::Words;

    fn encoded(byte_fallback: bool, word: &str) -> Vec<u32> {
        let tokens = ["<unk>", "a", "b", "ab", "aba", "<0xC3>", "<0xA9>", "<s>"];
        let vocab = Vocab::new(tokens).expect("it is short");
        let never = f64::NEG_INFINITY;
        let scores = [0.0, -2.0, -2.0, -3.0, -5.5, never, never, 0.0];
        let model = Unigram { scores: &scores, unknown: (0, -15.5), byte_fallback };
        let mut out = Vec::new();
        encode(Words { vocab: &vocab, others: &[7] }, model, word, &mut out);
        out
    }

    #[test]
    fn the_most_probable_way_is_taken() {
        assert!(encoded(false, "").is_empty());
        assert_eq!(encoded(false, "aba"), [3, 1]);
        assert_eq!(encoded(false, "abab"), [3, 3]);
    }

    #[test]
    fn unknown_characters_are_one_token_or_bytes() {
        assert_eq!(encoded(false, "aééb"), [1, 0, 2]);
        assert_eq!(encoded(true, "aéb"), [1, 5, 6, 2]);
        assert_eq!(encoded(true, "aßb"), [1, 0, 2]);
        assert_eq!(encoded(false, "<s>"), [0]);
    }
}
