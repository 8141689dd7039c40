//! Graph to graph. Knows no target.
//!
//! To add a pass: write its file, then add its two lines here. What a pass promises is its
//! [`Contract`]; the [`Manager`] checks it whenever the pass runs.

mod check;
mod contract;
mod diff;
mod incremental;
mod inline;
mod loops;
mod manager;
mod noise;
mod pass;
mod pipeline;
mod rebuild;

use std::sync::Arc;

pub use contract::{Contract, Recovers};
pub use diff::diff;
pub use incremental::Incremental;
pub use inline::Inline;
pub use loops::Loops;
pub use manager::{Failure, Manager, Record, Step};
pub use noise::Noise;
pub use pass::{Cx, Fault, Pass, PassOption};
pub use pipeline::{Pipeline, Stage};

/// Every pass that needs no knowledge of a target, by name.
pub fn all() -> Vec<Arc<dyn Pass>> {
    vec![Arc::new(Incremental), Arc::new(Inline::default()), Arc::new(Loops::default())]
}
