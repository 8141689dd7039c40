//! The merges of a vocabulary that has scores in their place, as SentencePiece's BPE models do.

use text::{Merge, Vocab};

/// Every way to make a token from two, ranked by the score of the result. `is_text` says which
/// tokens a text may become.
///
/// Both halves of a token must be tokens, so the left one is in the chain of tokens that it begins
/// with, and the right one in the chain of those that it ends with.
pub(super) fn merges(vocab: &Vocab, scores: &[f64], is_text: impl Fn(u32) -> bool) -> Vec<Merge> {
    let tokens =
        || (0..vocab.len() as u32).filter(|&id| is_text(id) && !vocab.token(id).is_empty());
    let starts = chains(tokens().collect(), vocab.len(), |id| vocab.token(id).bytes());
    let ends = chains(tokens().collect(), vocab.len(), |id| vocab.token(id).bytes().rev());
    let score = |id: u32| scores.get(id as usize).copied().unwrap_or(0.0);
    let mut by_score: Vec<u32> = tokens().collect();
    by_score.sort_by(|&a, &b| score(b).total_cmp(&score(a)));
    let mut merges = Vec::new();
    let mut rank = 0;
    for (place, &result) in by_score.iter().enumerate() {
        let is_lower = place != 0 && score(by_score[place - 1]) != score(result);
        rank += u32::from(is_lower);
        push_halves(vocab, &starts, &ends, result, |pair| {
            merges.push(Merge { pair, rank, result });
        });
    }
    merges
}

/// For each token the longest other one that it begins with, in the order in which `bytes` gives
/// its bytes.
fn chains<I: Iterator<Item = u8>>(
    mut tokens: Vec<u32>,
    n_tokens: usize,
    bytes: impl Fn(u32) -> I,
) -> Vec<Option<u32>> {
    tokens.sort_by(|&a, &b| bytes(a).cmp(bytes(b)));
    tokens.dedup_by(|a, b| bytes(*a).eq(bytes(*b)));
    let mut longest = vec![None; n_tokens];
    // Those that the last token begins with, itself included.
    let mut chain: Vec<u32> = Vec::new();
    for id in tokens {
        let begins_with = |&start: &u32| {
            let mut bytes_of_id = bytes(id);
            bytes(start).all(|byte| bytes_of_id.next() == Some(byte))
        };
        while chain.last().is_some_and(|start| !begins_with(start)) {
            chain.pop();
        }
        longest[id as usize] = chain.last().copied();
        chain.push(id);
    }
    longest
}

/// Gives each pair of tokens that `whole` is made of.
fn push_halves(
    vocab: &Vocab,
    starts: &[Option<u32>],
    ends: &[Option<u32>],
    whole: u32,
    mut push: impl FnMut((u32, u32)),
) {
    let length = |id: u32| vocab.token(id).len();
    let mut left = starts[whole as usize];
    // Shorter ends go with longer starts, so this chain is read from its short end.
    let right = std::iter::successors(ends[whole as usize], |&id| ends[id as usize]);
    let right: Vec<u32> = right.collect();
    for &right in right.iter().rev() {
        while let Some(longer) = left
            && length(whole) < length(longer) + length(right)
        {
            left = starts[longer as usize];
        }
        if let Some(left) = left
            && length(left) + length(right) == length(whole)
        {
            push((left, right));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::merges;
    use text::Vocab;

    #[test]
    fn every_pair_is_found_and_ranked() {
        let tokens = ["a", "aa", "aaa", "b", "aab", "ab", "", "<s>", "aab"];
        let vocab = Vocab::new(tokens).expect("it is short");
        let scores = [0.0, -3.0, -1.0, 0.0, -1.0, -2.0, 0.0, 0.0, 0.0];
        let found = merges(&vocab, &scores, |id| id != 7 && id != 8);
        let found: Vec<_> = found.iter().map(|it| (it.rank, it.pair, it.result)).collect();
        let expected = [
            (1, (1, 0), 2),
            (1, (0, 1), 2),
            (1, (1, 3), 4),
            (1, (0, 5), 4),
            (2, (0, 3), 5),
            (3, (0, 0), 1),
        ];
        assert_eq!(found, expected);
    }
}
