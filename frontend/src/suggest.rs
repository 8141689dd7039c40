//! "Did you mean": the known word nearest to an unknown one.

/// Longer words are not compared: the work grows with the square.
const MOST_COMPARED: usize = 64;

/// The candidate with the fewest edits, if they are few for its length. Ties go to the first.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if MOST_COMPARED < word.len() {
        return None;
    }
    let limit = word.chars().count().div_ceil(3);
    candidates
        .into_iter()
        .filter(|it| it.len().abs_diff(word.len()) <= limit)
        .map(|it| (edits(word, it), it))
        .filter(|(n_edits, it)| *n_edits <= limit && *n_edits < it.len())
        .min_by_key(|(n_edits, _)| *n_edits)
        .map(|(_, it)| it)
}

/// Levenshtein distance, with a swap of neighbours counted as one edit.
fn edits(from: &str, to: &str) -> usize {
    let from: Vec<char> = from.chars().collect();
    let to: Vec<char> = to.chars().collect();
    let mut rows = vec![vec![0; to.len() + 1]; from.len() + 1];
    rows[0] = (0..=to.len()).collect();
    for i in 1..=from.len() {
        rows[i][0] = i;
        for j in 1..=to.len() {
            let same = from[i - 1] == to[j - 1];
            let mut least = (rows[i - 1][j - 1] + usize::from(!same))
                .min(rows[i - 1][j] + 1)
                .min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = least;
        }
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_slip_and_nothing_far_fetched() {
        let known = ["linear", "rms_norm", "rope", "attend"];
        assert_eq!(nearest("rmsnorm", known), Some("rms_norm"));
        assert_eq!(nearest("lienar", known), Some("linear"));
        assert_eq!(nearest("convolve", known), None);
        assert_eq!(nearest("x", ["y"]), None);
        let long = "a".repeat(500_000);
        assert_eq!(nearest(&long, [format!("{long}b").as_str()]), None);
    }
}
