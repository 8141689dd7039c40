//! Graph to graph. Knows no target.
//!
//! To add a pass: write its file, then add its two lines here. What a pass promises is its
//! [`Contract`]; the [`Manager`] checks it whenever the pass runs.

mod cache;
mod canonicalise;
mod check;
mod contract;
mod cost;
mod cx;
mod diff;
mod effort;
mod failure;
mod fault;
mod fold;
mod guard;
mod hoist;
mod incremental;
mod inline;
mod loops;
mod manager;
mod noise;
mod once;
mod pass;
mod pipeline;
mod rebuild;
mod reduce;
mod tail;

use std::sync::Arc;

pub use cache::Cache;
pub use canonicalise::Canonicalise;
pub use contract::{Contract, Recovers};
pub use cx::{Cx, Rewrite};
pub use diff::diff;
pub use failure::{Failure, Guilty};
pub use fault::{Fault, FaultKind};
pub use fold::Fold;
pub use hoist::Hoist;
pub use incremental::Incremental;
pub use inline::Inline;
pub use loops::Loops;
pub use manager::{Manager, Record, Step};
pub use noise::Noise;
pub use once::Once;
pub use pass::{Pass, PassOption};
pub use pipeline::{Pipeline, Stage};
pub use reduce::reduce;
pub use tail::Tail;

/// Every pass that needs no knowledge of a target, by name.
pub fn all() -> Vec<Arc<dyn Pass>> {
    vec![
        Arc::new(Cache),
        Arc::new(Canonicalise),
        Arc::new(Fold),
        Arc::new(Hoist),
        Arc::new(Incremental),
        Arc::new(Inline::default()),
        Arc::new(Loops::default()),
        Arc::new(Once),
        Arc::new(Tail),
    ]
}
