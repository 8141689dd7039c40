//! What a model loses by leaving something out: its answers to a text against those of the whole
//! model.

use crate::{
    Error,
    evaluate::{Evaluator, Windows},
};

/// A measure of what is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The divergence of the predictions.
    Kl,
    /// The mean squared change of the logits.
    Mse,
    /// The same, relative to the squares of the logits.
    Nmse,
}

impl Loss {
    /// What `part` loses of `whole` on a text.
    ///
    /// # Errors
    ///
    /// When one of them can not read the text.
    pub fn of(
        self,
        part: &mut Evaluator,
        whole: &mut Evaluator,
        windows: &Windows,
    ) -> Result<f64, Error> {
        if self == Loss::Kl {
            return Ok(part.compare_all(whole, windows, &mut |_| {})?[0].kl());
        }
        let mut change = Change::default();
        for window in &windows.tokens {
            change.add(&part.logits(window)?, &whole.logits(window)?);
        }
        Ok(if self == Loss::Mse { change.mean() } else { change.share() })
    }
}

/// Sums over logits.
#[derive(Default)]
struct Change {
    /// Of the squares of what changed.
    difference: f64,
    /// Of the squares of those of the whole model.
    squares: f64,
    count: usize,
}

impl Change {
    fn add(&mut self, part: &[f32], whole: &[f32]) {
        for (part, whole) in part.iter().zip(whole) {
            self.difference += f64::from(part - whole).powi(2);
            self.squares += f64::from(*whole).powi(2);
        }
        self.count += whole.len();
    }

    fn mean(&self) -> f64 {
        self.difference / self.count.max(1) as f64
    }

    fn share(&self) -> f64 {
        self.difference / self.squares.max(f64::MIN_POSITIVE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_squared_and_relative_to_the_whole_model() {
        let mut change = Change::default();
        change.add(&[3.0, 0.0], &[1.0, 0.0]);
        change.add(&[0.0], &[3.0]);
        // (4 + 0 + 9) / 3, and 13 / (1 + 9): not by what is left, nor window by window.
        assert_eq!((change.mean(), change.share()), (13.0 / 3.0, 1.3));
        assert_eq!(Change::default().share(), 0.0);
    }
}
