//! What a rule makes of a match.

use std::sync::Arc;

use egg::Id;
use ir::Op;

use crate::rules::{Action, Rule};

use super::{
    graph::Graph,
    matching::{Instance, Match, build},
    premises,
    terms::{Fused, Head, Source},
};

/// The most ops that a fused function has.
const MAX_STEPS: usize = 64;

/// What takes the place of `found`, once the premises hold; of the same type.
///
/// # Errors
///
/// Why the rule does not apply, in words.
pub(crate) fn apply(
    graph: &dyn Graph,
    rule: &Rule,
    found: &mut Match,
) -> Result<Instance, Vec<String>> {
    let mut failures = std::mem::take(&mut found.misses);
    failures.extend(premises::failures(graph, rule, found));
    if !failures.is_empty() {
        return Err(failures);
    }
    let made = match &rule.action {
        Action::Rewrite(pattern) => build(graph, pattern, found),
        Action::Fuse(kind) => fused(graph, kind, &found.instance),
    };
    let Some(made) = made else { return Err(vec!["what it would make is no graph".to_owned()]) };
    let (old, new) = (found.instance.types(graph), made.types(graph));
    if old.is_none() || old != new {
        let show = |it: Option<Vec<ir::Type>>| match it.as_deref() {
            Some([ty]) => ty.to_string(),
            _ => "no value".to_owned(),
        };
        return Err(vec![format!("it would give {}, not {}", show(new), show(old))]);
    }
    Ok(made)
}

/// A call of a function whose body is `instance`.
fn fused(graph: &dyn Graph, kind: &str, instance: &Instance) -> Option<Instance> {
    let mut body = Body { graph, steps: Vec::new(), params: Vec::new() };
    body.source(instance)?;
    let head = Head::Fused(Arc::new(Fused { kind: kind.to_owned(), steps: body.steps }));
    Some(Instance::Node(head, body.params.into_iter().map(Instance::Leaf).collect()))
}

struct Body<'a> {
    graph: &'a dyn Graph,
    steps: Vec<(Op, Vec<Source>)>,
    params: Vec<Id>,
}

impl Body<'_> {
    /// Where the value of `instance` is found in the body.
    fn source(&mut self, instance: &Instance) -> Option<Source> {
        match instance {
            Instance::Leaf(class) => Some(self.leaf(self.graph.find(*class))),
            Instance::Node(head, operands) => {
                let sources = operands.iter().map(|it| self.source(it));
                let sources: Vec<Source> = sources.collect::<Option<_>>()?;
                match head {
                    Head::Apply(op) => self.step(op, sources),
                    Head::Fused(inner) => self.splice(inner, &sources),
                    Head::Given(_) | Head::Part(_) | Head::Outputs => None,
                }
            }
        }
    }

    /// A number stands in the body, and so do weights laid end to end; anything else is given.
    fn leaf(&mut self, class: Id) -> Source {
        self.inside(class).unwrap_or_else(|| {
            let known = self.params.iter().position(|it| *it == class);
            Source::Param(known.unwrap_or_else(|| {
                self.params.push(class);
                self.params.len() - 1
            }))
        })
    }

    fn inside(&mut self, class: Id) -> Option<Source> {
        let graph = self.graph;
        graph.terms(class).iter().find_map(|term| match graph.heads().of(term) {
            Head::Apply(op @ Op::Constant(it)) if it.values.len() == 1 => self.step(op, Vec::new()),
            Head::Apply(op @ Op::Concat(_)) if graph.fact(class).weight => {
                let parts = term.operands.iter().map(|it| self.leaf(graph.find(*it))).collect();
                self.step(op, parts)
            }
            _ => None,
        })
    }

    fn step(&mut self, op: &Op, sources: Vec<Source>) -> Option<Source> {
        let step = (op.clone(), sources);
        let at = self.steps.iter().position(|it| *it == step);
        if at.is_none() && MAX_STEPS <= self.steps.len() {
            return None;
        }
        Some(Source::Step(at.unwrap_or_else(|| {
            self.steps.push(step);
            self.steps.len() - 1
        })))
    }

    fn splice(&mut self, inner: &Fused, params: &[Source]) -> Option<Source> {
        let mut made: Vec<Source> = Vec::new();
        for (op, sources) in &inner.steps {
            let sources = sources.iter().map(|it| match *it {
                Source::Param(i) => params.get(i).copied(),
                Source::Step(i) => made.get(i).copied(),
            });
            let source = self.step(op, sources.collect::<Option<_>>()?)?;
            made.push(source);
        }
        made.pop()
    }
}
