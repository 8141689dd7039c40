//! What turns text into tokens and back while a model runs. It is linked into every executable.
//!
//! A vocabulary is laid out by the compiler (crate `import`) the way it is used here, so that an
//! executable has nothing to build before its first token. The steps around it, normalising,
//! splitting and decoding, are those of the `tokenizers` crate. Its models are not used: they build
//! maps and tries of owned strings first.

mod added;
mod bpe;
mod error;
mod numbers;
mod philox;
mod sampler;
mod spec;
mod stream;
mod template;
mod tokenizer;
mod unigram;
mod vocab;
mod word_piece;
mod words;

pub use bpe::{Merge, Merges};
pub use error::Error;
pub use sampler::{Rule, Sampler, SamplerSettings, greedy};
pub use spec::{AddedToken, ModelSpec, TokenizerSpec};
pub use stream::DecodeStream;
pub use template::{ChatTemplate, Message};
pub use tokenizer::{Encoding, Tokenizer};
pub use vocab::Vocab;
