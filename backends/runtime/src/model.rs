//! What generating, measuring and verifying need of a model.

use crate::Fault;

/// Reads tokens, remembers them, and says what may follow.
pub trait Model {
    /// Forgets everything.
    fn reset(&mut self) -> Result<(), Fault>;

    /// Forgets everything and gives the encoder `tokens` to read, to which the next steps answer. A
    /// model without an encoder refuses.
    fn read_source(&mut self, tokens: &[i32]) -> Result<(), Fault>;

    /// Whether a text may be read in several steps.
    fn is_stepwise(&self) -> bool;

    /// Reads `tokens` after those of earlier steps. The logits that follow each of the `last` last
    /// ones: `f32[last, vocabulary]`.
    fn step(&mut self, tokens: &[i32], last: usize) -> Result<&[f32], Fault>;

    /// The most tokens that one step can read and give all logits of.
    fn longest_step(&self) -> usize;
}
