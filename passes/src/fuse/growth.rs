//! How far the rules make the e-graph of a function grow.

use ir::{Function, Module, Stored};

use crate::rules::{Class, Rule, Rules};

use super::{is_rewritten, saturate::saturate};

/// An e-graph in numbers, all of which are counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Growth {
    /// Terms that the function has by itself.
    pub before: usize,
    /// Terms with all that rules made of them.
    pub after: usize,
    /// The limit that was reached before nothing was new, if one was.
    pub limit: Option<String>,
}

/// What the exact ones of `rules` make of `function`; `None` where `fuse` leaves it alone.
pub fn growth(module: &Module, function: &Function, rules: &Rules) -> Option<Growth> {
    if !is_rewritten(function) {
        return None;
    }
    let stored = Stored::new(module).values(&function.name);
    let exact: Vec<&Rule> = rules.list.iter().filter(|it| it.class == Class::Exact).collect();
    let before = saturate(module.scope(), function, stored.clone(), &[]);
    let after = saturate(module.scope(), function, stored, &exact);
    Some(Growth {
        before: before.classes.total_size(),
        after: after.classes.total_size(),
        limit: after.limit,
    })
}
