//! Checks what the e-graph says without believing it: each application of a rule is matched again
//! on the very terms that it is said of, and what follows from those alone must make the new
//! function the same as the old one.

use std::collections::{BTreeMap, HashMap};

use egg::{Id, Symbol};
use ir::Scope;

use crate::rules::Rule;

use super::{
    application::apply,
    graph::{Classes, Fact, Facts, Graph},
    matching::{Instance, Match, Strictness, find},
    terms::{Heads, Term},
};

/// Terms, each a class of its own.
pub(crate) struct Bank<'a> {
    terms: Vec<Term>,
    facts: Vec<Fact>,
    analysis: Facts<'a>,
}

/// One application of a rule.
pub(crate) struct Applied<'a> {
    pub(crate) rule: &'a Rule,
    pub(crate) from: Id,
    pub(crate) to: Id,
    pub(crate) found: Match,
}

impl Graph for Bank<'_> {
    fn terms(&self, class: Id) -> &[Term] {
        std::slice::from_ref(&self.terms[usize::from(class)])
    }

    fn find(&self, id: Id) -> Id {
        id
    }

    fn heads(&self) -> &Heads {
        &self.analysis.heads
    }

    fn fact(&self, class: Id) -> &Fact {
        &self.facts[usize::from(class)]
    }

    fn scope(&self) -> Scope<'_> {
        self.analysis.scope
    }
}

impl<'a> Bank<'a> {
    /// Every term that the e-graph ever had, as it was first written.
    pub(crate) fn new(classes: &Classes<'a>) -> Bank<'a> {
        let analysis = classes.analysis.clone();
        let terms = classes.nodes().to_vec();
        let mut facts: Vec<Fact> = Vec::new();
        for term in &terms {
            let operands: Vec<&Fact> =
                term.operands.iter().map(|it| &facts[usize::from(*it)]).collect();
            facts.push(analysis.fact(analysis.heads.of(term), &operands));
        }
        Bank { terms, facts, analysis }
    }

    /// Matches every application again.
    ///
    /// # Errors
    ///
    /// The first that is none.
    pub(crate) fn replay<'r>(
        &self,
        equalities: &[(Id, Id, Symbol)],
        rules: &[&'r Rule],
    ) -> Result<Vec<Applied<'r>>, String> {
        let by_name: BTreeMap<&str, &'r Rule> =
            rules.iter().map(|it| (it.name.as_str(), *it)).collect();
        let mut applied = Vec::new();
        for &(from, to, name) in equalities {
            let rule = by_name.get(name.as_str()).copied();
            let found = rule.and_then(|rule| Some((rule, self.again(rule, from, to)?)));
            let Some((rule, found)) = found else {
                return Err(format!("the rule `{name}` is said to hold where it does not"));
            };
            applied.push(Applied { rule, from, to, found });
        }
        Ok(applied)
    }

    /// The match by which `rule` makes `to` of `from`.
    fn again(&self, rule: &Rule, from: Id, to: Id) -> Option<Match> {
        find(self, &rule.pattern, from, Strictness::Strict).into_iter().find_map(|mut found| {
            let made = apply(self, rule, &mut found).ok()?;
            self.is(&made, to).then_some(found)
        })
    }

    fn is(&self, instance: &Instance, id: Id) -> bool {
        match instance {
            Instance::Leaf(class) => *class == id,
            Instance::Node(head, operands) => {
                let term = &self.terms[usize::from(id)];
                let same = operands.iter().zip(&term.operands).all(|(it, id)| self.is(it, *id));
                self.heads().of(term) == head && operands.len() == term.operands.len() && same
            }
        }
    }

    /// Whether `a` is `b`, as far as `applied` and equal operands say.
    pub(crate) fn follows(&self, applied: &[Applied<'_>], a: Id, b: Id) -> bool {
        let mut same = Same((0..self.terms.len()).collect());
        applied.iter().for_each(|it| {
            same.join(usize::from(it.from), usize::from(it.to));
        });
        loop {
            let mut known: HashMap<(u32, Vec<usize>), usize> = HashMap::new();
            let mut changed = false;
            for (i, term) in self.terms.iter().enumerate() {
                let operands = term.operands.iter().map(|it| same.find(usize::from(*it))).collect();
                let other = *known.entry((term.head, operands)).or_insert(i);
                changed |= same.join(i, other);
            }
            if !changed {
                return same.find(usize::from(a)) == same.find(usize::from(b));
            }
        }
    }
}

/// Which terms are the same: each points to an earlier one, or to itself.
struct Same(Vec<usize>);

impl Same {
    fn find(&self, mut it: usize) -> usize {
        while self.0[it] != it {
            it = self.0[it];
        }
        it
    }

    /// Whether this was new.
    fn join(&mut self, a: usize, b: usize) -> bool {
        let (a, b) = (self.find(a), self.find(b));
        self.0[a.max(b)] = a.min(b);
        a != b
    }
}
