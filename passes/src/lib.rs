//! Graph to graph. Knows no target.
//!
//! To add a pass: write its file, then add its two lines here. What a pass promises is its
//! [`Contract`]; the [`Manager`] checks it whenever the pass runs.

mod absorb;
mod active;
mod blame;
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
mod forms;
mod fuse;
mod guard;
mod hoist;
mod importance;
mod incremental;
mod inline;
mod inputs;
mod join;
mod links;
mod loops;
mod manager;
mod mask;
mod noise;
mod once;
mod orders;
mod pass;
mod pipeline;
mod precision;
mod rebuild;
mod reduce;
mod rotate;
pub mod rules;
mod slice;
mod tail;
mod widths;

use std::sync::Arc;

pub use absorb::Absorb;
pub use active::Active;
pub use cache::Cache;
pub use canonicalise::Canonicalise;
pub use contract::{Contract, Recovers};
pub use cx::{Cx, Rewrite};
pub use diff::diff;
pub use failure::{Failure, Guilty};
pub use fault::{Fault, FaultKind};
pub use fold::Fold;
pub use fuse::{Fuse, Growth, NearMiss, growth, why_not};
pub use hoist::Hoist;
pub use importance::{Importance, LAYERS, PREFIX};
pub use incremental::Incremental;
pub use inline::Inline;
pub use inputs::{INPUTS, Inputs};
pub use join::Join;
pub use links::{Class, Holder, Links};
pub use loops::Loops;
pub use manager::{Manager, Record, Step};
pub use mask::Mask;
pub use noise::Noise;
pub use once::Once;
pub use orders::{Cut, Orders, group, key, order_shape, taken};
pub use pass::{Pass, PassOption};
pub use pipeline::{Pipeline, Stage};
pub use precision::{Formats, Precision};
pub use reduce::reduce;
pub use rotate::Rotate;
pub use slice::Slice;
pub use tail::Tail;
pub use widths::Widths;

/// Every pass that needs no knowledge of a target, by name.
pub fn all() -> Vec<Arc<dyn Pass>> {
    vec![
        Arc::new(Absorb::default()),
        Arc::new(Active),
        Arc::new(Cache),
        Arc::new(Canonicalise),
        Arc::new(Fold),
        Arc::new(Fuse::default()),
        Arc::new(Hoist),
        Arc::new(Importance),
        Arc::new(Incremental),
        Arc::new(Inline::default()),
        Arc::new(Inputs),
        Arc::new(Join),
        Arc::new(Loops::default()),
        Arc::new(Mask),
        Arc::new(Once),
        Arc::new(Precision),
        Arc::new(Rotate),
        Arc::new(Slice),
        Arc::new(Tail),
    ]
}
