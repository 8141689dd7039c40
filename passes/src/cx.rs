//! What a pass is given to work with: its options, and the count of its rewrites.

use std::collections::BTreeMap;

use ir::{Function, Name, Op, Scope, Value};

use crate::{Fault, Pass};

/// What a pass may look up while it runs: the options that its stage of the pipeline gives. What
/// it rewrites is counted here, and stopped where there is a limit.
#[derive(Clone, Debug, Default)]
pub struct Cx {
    options: BTreeMap<&'static str, String>,
    /// How many rewrites may be made.
    limit: Option<usize>,
    rewrites: Vec<Rewrite>,
    notes: Vec<String>,
}

/// One rewrite that a pass made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// The function that it was made in.
    pub function: Name,
    /// What was rewritten, or by which rule.
    pub what: String,
}

impl Cx {
    /// The defaults of `pass`, then what `given` says.
    ///
    /// # Errors
    ///
    /// When the pass has no such option.
    pub fn new(pass: &dyn Pass, given: &[(String, String)]) -> Result<Cx, Fault> {
        let mut options: BTreeMap<&'static str, String> =
            pass.options().iter().map(|it| (it.name, it.default.to_owned())).collect();
        for (name, value) in given {
            let Some(slot) = options.get_mut(name.as_str()) else {
                let known: Vec<&str> = pass.options().iter().map(|it| it.name).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return Err(Fault::new(format!("no option `{name}`; there is {known}")));
            };
            slot.clone_from(value);
        }
        Ok(Cx { options, ..Cx::default() })
    }

    /// The same options, with so many rewrites allowed, or all; none are made yet.
    #[must_use]
    pub fn with_limit(&self, limit: Option<usize>) -> Cx {
        Cx { options: self.options.clone(), limit, ..Cx::default() }
    }

    /// The value of an option; empty for one that the pass does not have.
    pub fn option(&self, name: &str) -> &str {
        self.options.get(name).map_or("", String::as_str)
    }

    /// Whether one rewrite more may be made in `function`. If so it counts as made.
    pub fn allows(&mut self, function: &Name, what: impl Into<String>) -> bool {
        let allows = !self.is_spent();
        if allows {
            self.rewrites.push(Rewrite { function: function.clone(), what: what.into() });
        }
        allows
    }

    /// [`Function::rewrite`] where each answer of `rule` that changes something counts.
    pub fn rewrite(
        &mut self,
        scope: Scope<'_>,
        function: &Function,
        mut rule: impl FnMut(&mut Function, &Op, &[Value]) -> Option<Vec<Value>>,
    ) -> Function {
        function.rewrite(scope, |f, op, operands| {
            if self.is_spent() {
                return None;
            }
            let values = rule(f, op, operands)?;
            let maker = values.first().and_then(|&it| f.maker(it));
            if !maker.is_some_and(|it| it.op == *op && it.operands == operands) {
                self.allows(&function.name, op.rules().name());
            }
            Some(values)
        })
    }

    /// The rewrites made so far.
    pub fn rewrites(&self) -> &[Rewrite] {
        &self.rewrites
    }

    /// Says what a user should know of a run that did what it could, such as a limit that was met.
    pub fn note(&mut self, what: String) {
        self.notes.push(what);
    }

    /// What was said of the run so far.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// How many more rewrites may be made.
    pub(crate) fn left(&self) -> usize {
        self.limit.map_or(usize::MAX, |it| it.saturating_sub(self.rewrites.len()))
    }

    /// Whether no more rewrites may be made.
    pub(crate) fn is_spent(&self) -> bool {
        self.limit.is_some_and(|it| it <= self.rewrites.len())
    }
}

impl std::fmt::Display for Rewrite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` in @{}", self.what, self.function)
    }
}
