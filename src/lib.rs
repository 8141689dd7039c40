//! The compiler as a library: from a spec and a checkpoint to a program.
//!
//! [`Spec::open`] finds the text and the numbers of a model, [`lower`] compiles it for the CPU,
//! [`bind`] packs the weights. The command line in `main.rs` is built from these.

mod bind;
pub mod budget;
pub mod catalog;
mod checked;
mod costs;
mod cover;
mod depth;
mod error;
pub mod evaluate;
pub mod export;
mod lower;
pub mod memory;
pub mod precision;
mod random;
pub mod rank;
mod reference;
mod report;
pub mod slices;
mod spec;
mod tensors;
mod weights;

pub use bind::bind;
pub use budget::Budget;
pub use cover::Cover;
pub use depth::Stack;
pub use error::{Error, explain};
pub use lower::{DEFAULT_PIPELINE, Lowered, Options, WHOLE_PIPELINE, lower, passes, passes_with};
pub use random::Random;
pub use reference::ReferenceModel;
pub use report::Report;
pub use slices::{Choice, Ranking, Sliced};
pub use spec::Spec;
pub use tensors::{Loaded, Loader};
pub use weights::Weights;
