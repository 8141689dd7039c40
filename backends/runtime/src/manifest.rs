//! What an executable knows about its model besides code and weights.

use serde::{Deserialize, Serialize};
use text::TokenizerSpec;

use crate::Program;

/// A compiled model and what is needed to talk to it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The compiled model. In an executable its code lies in a section of its own.
    pub program: Program,
    /// What a token costs.
    pub costs: Costs,
    /// How text becomes tokens; it also knows which tokens end a text.
    pub tokenizer: Option<TokenizerSpec>,
    /// The token that a decoder behind an encoder begins with.
    pub start: u32,
    /// The Jinja template that makes one text of a chat.
    pub chat_template: Option<String>,
    /// The spec that was compiled.
    pub spec: String,
    /// The compiler and its version.
    pub made_by: String,
}

/// What the model's work amounts to, for judging how fast it is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Costs {
    /// Parameters, tied ones once.
    pub parameters: u64,
    /// Floating-point operations for one position, without those that grow with the context and
    /// those of the output head.
    pub position_flops: u64,
    /// Floating-point operations for one pair of positions of which the later looks at the earlier.
    pub pair_flops: u64,
    /// Floating-point operations of the output head, for each position whose output is wanted.
    pub head_flops: u64,
    /// Bytes of weights that one step reads, however many positions it has.
    pub step_bytes: u64,
}

impl Costs {
    /// Floating-point operations for a prompt of `positions` of which one output is wanted.
    pub fn prompt_flops(&self, positions: u64) -> f64 {
        let pairs = positions as f64 * (positions as f64 + 1.0) / 2.0;
        self.position_flops as f64 * positions as f64
            + self.pair_flops as f64 * pairs
            + self.head_flops as f64
    }
}
