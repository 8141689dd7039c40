//! How probable a model finds what follows, and how far its predictions are from another model's.

use text::greedy;

/// Sums over the predicted tokens of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    /// How many there are.
    pub tokens: usize,
    /// Minus the natural logarithms of their probabilities.
    pub surprise: f64,
    /// Divergences of the model's predictions from another model's, in nats: the sum of
    /// `p ln(p / q)` with the other's `p` and the model's `q`.
    pub divergence: f64,
    /// Where both models hold the same token for the most probable.
    pub same: usize,
}

impl Score {
    /// Adds the answers to the first of `tokens`, each of which predicts the next one.
    pub(super) fn add_all(
        &mut self,
        logits: &[f32],
        vocabulary: usize,
        tokens: &[i32],
        other: Option<&[f32]>,
    ) {
        for (i, row) in logits.chunks_exact(vocabulary).enumerate() {
            let next = tokens.get(i + 1).map(|it| *it as usize);
            let other = other.and_then(|it| it.get(i * vocabulary..(i + 1) * vocabulary));
            self.add(row, next, other);
        }
    }

    fn add(&mut self, logits: &[f32], next: Option<usize>, other: Option<&[f32]>) {
        let Some(&wanted) = next.and_then(|it| logits.get(it)) else { return };
        let norm = log_sum_exp(logits);
        self.tokens += 1;
        self.surprise += norm - f64::from(wanted);
        if let Some(other) = other {
            self.divergence += divergence(other, logits, norm);
            self.same += usize::from(greedy(other) == greedy(logits));
        }
    }

    /// What a model has on average to choose among for each token.
    pub fn perplexity(&self) -> f64 {
        (self.surprise / self.tokens.max(1) as f64).exp()
    }

    /// The mean divergence of a token, in nats.
    pub fn kl(&self) -> f64 {
        self.divergence / self.tokens.max(1) as f64
    }
}

impl std::ops::AddAssign for Score {
    fn add_assign(&mut self, other: Score) {
        self.tokens += other.tokens;
        self.surprise += other.surprise;
        self.divergence += other.divergence;
        self.same += other.same;
    }
}

/// The logarithm of the sum of exponentials.
fn log_sum_exp(logits: &[f32]) -> f64 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|it| f64::from((it - most).exp())).sum();
    f64::from(most) + sum.ln()
}

/// The divergence of what `of` says from what `reference` says; `norm` is [`log_sum_exp`] of `of`.
fn divergence(reference: &[f32], of: &[f32], norm: f64) -> f64 {
    let own = log_sum_exp(reference);
    let terms = reference.iter().zip(of).map(|(p, q)| {
        let (p, q) = (f64::from(*p) - own, f64::from(*q) - norm);
        f64::from((p as f32).exp()) * (p - q)
    });
    terms.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_known_distributions() {
        let mut score = Score::default();
        score.add(&[0.0; 4], Some(2), Some(&[0.0; 4]));
        assert!((score.perplexity() - 4.0).abs() < 1e-6);
        assert_eq!((score.same, score.kl()), (1, 0.0));
        // The divergence of (1/4, 3/4) from (1/2, 1/2) is ln(2) - ln(3) / 2.
        let (halves, quarters) = ([0.0, 0.0], [0.0, 3f32.ln()]);
        let found = divergence(&halves, &quarters, log_sum_exp(&quarters));
        assert!((found - (2f64.ln() - 3f64.ln() / 2.0)).abs() < 1e-6, "{found}");
    }
}
