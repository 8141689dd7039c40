//! How far the rules make the e-graphs of a function grow.

use ir::{Function, Module, Stored};

use crate::rules::{Class, Rules};

use super::{
    is_rewritten,
    parts::{Body, Parts},
    saturate::saturate,
    weights::Weights,
};

/// An e-graph in numbers, all of which are counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Growth {
    /// Terms that the part has by itself.
    pub before: usize,
    /// Terms with all that rules made of them.
    pub after: usize,
    /// The limit that was reached before nothing was new, if one was.
    pub limit: Option<String>,
}

/// What the exact ones of `rules` make of each distinct part of `function`; nothing where `fuse`
/// leaves it alone.
pub fn growth(module: &Module, function: &Function, rules: &Rules) -> Vec<Growth> {
    if !is_rewritten(function) {
        return Vec::new();
    }
    let weights = Weights::of(module, &Stored::new(module), function, &|_| false);
    let exact = rules.of(Class::Exact);
    let parts = Parts::of(module.scope(), function, &weights);
    let of_body = |body: &Body| {
        let before = saturate(module.scope(), body, &[]);
        let after = saturate(module.scope(), body, &exact);
        Growth {
            before: before.classes.total_size(),
            after: after.classes.total_size(),
            limit: after.limit,
        }
    };
    parts.bodies.iter().map(of_body).collect()
}
