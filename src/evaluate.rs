//! A compiled model over a text: what it answers, and how probable it finds what follows.
//!
//! A text is read in windows of equal length, each from the beginning, in the order of the text.
//! Every token is predicted from those before it in its window, once; only the first token of a
//! text without a beginning token is predicted by nothing. So figures depend on the text, the model
//! and the length of windows alone.

mod score;

use runtime::{Compiled, Model, Session};
use serde::Serialize;
use text::Encoding;

use crate::Error;

pub use score::Score;

/// A text as a model reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Tokens of each window; the first is there to be read and is not predicted.
    pub tokens: Vec<Vec<i32>>,
    /// Bytes of the text.
    pub bytes: usize,
}

impl Windows {
    /// Cuts `text` into windows of at most `length` tokens of `model`.
    ///
    /// # Errors
    ///
    /// When the model has no tokenizer or fewer positions.
    pub fn of(model: &Compiled, text: &str, length: usize) -> Result<Windows, Error> {
        let most = model.manifest().program.capacity();
        if length < 2 || most < length as u64 {
            let message = format!("windows of {length} tokens, where 2 to {most} are possible");
            return Err(Error::new("C0305", message));
        }
        let tokenizer = model.tokenizer()?;
        let framed = Encoding { framed: true, parse_special: false };
        let tokens = tokenizer.encode(text, framed);
        let tokens = tokens.map_err(|why| Error::new("C0304", format!("the text: {why}")))?;
        let begins = tokens.first().copied().filter(|it| tokenizer.bos() == Some(*it));
        let signed = |it: u32| i32::try_from(it).unwrap_or(i32::MAX);
        let begin = begins.map(signed);
        let tokens: Vec<i32> =
            tokens.into_iter().skip(usize::from(begin.is_some())).map(signed).collect();
        Ok(Windows { tokens: windows(begin, &tokens, length), bytes: text.len() })
    }

    /// Tokens of the longest window.
    pub fn longest(&self) -> usize {
        self.tokens.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// Tokens that are predicted.
    pub fn predicted(&self) -> usize {
        self.tokens.iter().map(|it| it.len() - 1).sum()
    }

    /// So many windows that at least `tokens` are predicted where there are so many, at equal
    /// distances over the text.
    #[must_use]
    pub fn spread(&self, tokens: usize) -> Windows {
        let (all, predicted) = (self.tokens.len(), self.predicted().max(1));
        let n = tokens.saturating_mul(all).div_ceil(predicted).clamp(1.min(all), all);
        let some = (0..n).map(|i| self.tokens[i * all / n].clone()).collect();
        Windows { tokens: some, bytes: self.bytes * n / all.max(1) }
    }

    /// The first windows, with at least `tokens` predicted tokens where there are so many.
    #[must_use]
    pub fn first(&self, tokens: usize) -> Windows {
        let mut some = Windows { tokens: Vec::new(), bytes: 0 };
        for window in &self.tokens {
            if tokens <= some.predicted() {
                break;
            }
            some.tokens.push(window.clone());
        }
        Windows { bytes: self.bytes * some.predicted() / self.predicted().max(1), ..some }
    }
}

/// Windows of `length` tokens, each after `begin` or after the last token of the one before.
fn windows(begin: Option<i32>, tokens: &[i32], length: usize) -> Vec<Vec<i32>> {
    let (mut before, rest) = match (begin, tokens.split_first()) {
        (Some(begin), _) => (begin, tokens),
        (None, Some((&first, rest))) => (first, rest),
        (None, None) => return Vec::new(),
    };
    let mut all = Vec::new();
    for part in rest.chunks(length - 1) {
        all.push(std::iter::once(before).chain(part.iter().copied()).collect());
        before = begin.or(part.last().copied()).unwrap_or(before);
    }
    all
}

/// What a model answered to some tokens of a window.
pub struct Answer<'a> {
    /// Tokens of the window before these.
    pub past: usize,
    /// The tokens.
    pub tokens: &'a [i32],
    /// The model after them, which still knows all that it gave.
    pub session: &'a Session,
}

/// A model that is asked about texts.
pub struct Evaluator {
    session: Session,
}

impl Evaluator {
    /// Makes `model` ready for windows of at most `length` tokens, on as many threads as pay unless
    /// told.
    ///
    /// # Errors
    ///
    /// When it can not be run, or does not read texts by itself.
    pub fn new(
        model: &Compiled,
        length: usize,
        threads: Option<usize>,
    ) -> Result<Evaluator, Error> {
        let session = model.session(threads, Some(length as u64))?;
        if session.has_source() || !session.is_stepwise() {
            let message = "the model does not say what follows in a text that it reads by itself";
            return Err(Error::new("C0305", message));
        }
        Ok(Evaluator { session })
    }

    /// Reads a window from the beginning, in as few steps as the model can; `see` gets what it
    /// answers to each.
    ///
    /// # Errors
    ///
    /// When the model can not read the window, answers what is no number, or `see` fails.
    pub fn read(
        &mut self,
        window: &[i32],
        see: &mut dyn FnMut(&Answer<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.session.reset()?;
        let step = self.session.longest_step().max(1);
        for (i, tokens) in window.chunks(step).enumerate() {
            let logits = self.session.step(tokens, tokens.len())?;
            if logits.iter().any(|it| it.is_nan()) {
                return Err(no_number(i * step, tokens.len()));
            }
            see(&Answer { past: i * step, tokens, session: &self.session })?;
        }
        Ok(())
    }

    /// The logits of a window: `f32[tokens, vocabulary]`.
    ///
    /// # Errors
    ///
    /// As [`Evaluator::read`].
    pub fn logits(&mut self, window: &[i32]) -> Result<Vec<f32>, Error> {
        let mut all = Vec::new();
        self.read(window, &mut |answer| {
            all.extend_from_slice(answer.session.logits());
            Ok(())
        })?;
        Ok(all)
    }

    /// How probable the model finds a window, and how far its answers are from those of another
    /// model, whose logits of this window are given.
    ///
    /// # Errors
    ///
    /// As [`Evaluator::read`].
    pub fn score(&mut self, window: &[i32], other: Option<&[f32]>) -> Result<Score, Error> {
        let vocabulary = self.session.vocabulary() as usize;
        let mut score = Score::default();
        self.read(window, &mut |answer| {
            let at = answer.past * vocabulary;
            let other = other.and_then(|it| it.get(at..at + answer.session.logits().len()));
            score.add_all(answer.session.logits(), vocabulary, &window[answer.past..], other);
            Ok(())
        })?;
        Ok(score)
    }

    /// The same over all windows; `report` is told how many are done.
    ///
    /// # Errors
    ///
    /// As [`Evaluator::read`].
    pub fn score_all(
        &mut self,
        windows: &Windows,
        report: &mut dyn FnMut(usize),
    ) -> Result<Score, Error> {
        let mut total = Score::default();
        for (done, window) in windows.tokens.iter().enumerate() {
            report(done);
            total += self.score(window, None)?;
        }
        Ok(total)
    }

    /// The score of this model, with its divergence from `other`, and that of the other.
    ///
    /// # Errors
    ///
    /// As [`Evaluator::read`].
    pub fn compare_all(
        &mut self,
        other: &mut Evaluator,
        windows: &Windows,
        report: &mut dyn FnMut(usize),
    ) -> Result<[Score; 2], Error> {
        let mut totals = [Score::default(); 2];
        let vocabulary = other.session.vocabulary() as usize;
        for (done, window) in windows.tokens.iter().enumerate() {
            report(done);
            let logits = other.logits(window)?;
            totals[0] += self.score(window, Some(&logits))?;
            let mut own = Score::default();
            own.add_all(&logits, vocabulary, window, None);
            totals[1] += own;
        }
        Ok(totals)
    }
}

/// Nothing that is measured of a model that answers NaN would mean anything.
fn no_number(past: usize, tokens: usize) -> Error {
    let message = format!(
        "the model answers NaN to tokens {past} to {} of a window",
        past + tokens.saturating_sub(1)
    );
    Error::new("C0304", message).help("a weight is NaN, or what it is multiplied with too large")
}

/// Figures of a model on a text.
#[derive(Clone, Debug, Serialize)]
pub struct Evaluation {
    /// `e` to the mean surprise of a token.
    pub perplexity: f64,
    /// Surprise in bits for each byte of the text: comparable between tokenizers.
    pub bits_per_byte: f64,
    /// Mean surprise of a token in nats.
    pub nats_per_token: f64,
    /// Tokens predicted.
    pub tokens: usize,
    /// Windows they were read in.
    pub windows: usize,
    /// Bytes of the text.
    pub bytes: usize,
}

impl Evaluation {
    /// Of what was counted.
    pub fn new(windows: &Windows, score: &Score) -> Evaluation {
        Evaluation {
            perplexity: score.perplexity(),
            bits_per_byte: score.surprise / std::f64::consts::LN_2 / windows.bytes.max(1) as f64,
            nats_per_token: score.surprise / score.tokens.max(1) as f64,
            tokens: score.tokens,
            windows: windows.tokens.len(),
            bytes: windows.bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_is_predicted_once() {
        assert_eq!(windows(None, &[1, 2, 3, 4], 3), [vec![1, 2, 3], vec![3, 4]]);
        assert_eq!(windows(Some(0), &[1, 2, 3], 3), [vec![0, 1, 2], vec![0, 3]]);
        assert!(windows(None, &[1], 3).is_empty());
        assert!(windows(None, &[], 3).is_empty() && windows(Some(0), &[], 3).is_empty());
    }

    #[test]
    fn beginnings_are_whole_windows() {
        let all = Windows { tokens: windows(None, &[1, 2, 3, 4, 5, 6], 3), bytes: 10 };
        let some = all.first(3);
        assert_eq!((some.predicted(), some.tokens.len(), some.bytes), (4, 2, 8));
        assert_eq!(all.first(100), all);
        let some = all.spread(3);
        assert_eq!(some.tokens, [all.tokens[0].clone(), all.tokens[1].clone()]);
        assert_eq!((all.spread(100), all.spread(0).tokens.len()), (all, 1));
    }
}
