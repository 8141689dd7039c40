//! Whether a match is one: what a rule asks for besides its pattern.

use egg::Id;

use crate::rules::{Premise, Rule};

use super::{
    graph::Graph,
    matching::{Instance, Match, number, said, unify, value_of},
    terms::{Head, Term},
};

/// The premises of `rule` that do not hold of `found`, in words. Those that say what a value is
/// made of open it up in the instance.
pub(crate) fn failures(graph: &dyn Graph, rule: &Rule, found: &mut Match) -> Vec<String> {
    let failed = |it: &Premise| failure(graph, it, found);
    rule.premises.iter().filter_map(failed).collect()
}

fn failure(graph: &dyn Graph, premise: &Premise, found: &mut Match) -> Option<String> {
    let class = |name: &str| found.values.get(name).map(|it| graph.find(*it));
    let ty = |name: &str| class(name).and_then(|it| graph.fact(it).types.first());
    match premise {
        Premise::Weight(name) => {
            let holds = class(name).is_some_and(|it| graph.fact(it).weight);
            (!holds).then(|| format!("`{name}` is no weight"))
        }
        Premise::Open(name) => {
            let holds = class(name).is_some_and(|it| graph.fact(it).open);
            (!holds).then(|| format!("`{name}` is no weight that may be stored in another form"))
        }
        Premise::Constant(name) => {
            let holds = class(name).is_some_and(|it| number(graph, it).is_some());
            (!holds).then(|| format!("`{name}` is not one number that is known"))
        }
        Premise::Within(a, b) => {
            let (a_ty, b_ty) = (ty(a)?, ty(b)?);
            let outside = a_ty.axes.iter().find(|it| b_ty.position(it).is_none())?;
            Some(format!("the axis {outside} of `{a}` is none of `{b}`, which is {b_ty}"))
        }
        Premise::Is(name, kind) => {
            let id = class(name)?;
            let Some(fused) = made_as(graph, id, kind) else {
                return Some(format!("`{name}` is no fused `{kind}`"));
            };
            found.instance = opened(graph, &found.instance, id, &fused);
            None
        }
        Premise::Equal(a, b) => {
            let (a_text, b_text) = (value_of(graph, found, a), value_of(graph, found, b));
            let holds = match (&a_text, &b_text) {
                (_, Some(text)) => unify(graph, found, a, text),
                (Some(text), None) => unify(graph, found, b, text),
                (None, None) => false,
            };
            let text = |it: Option<String>| it.unwrap_or_else(|| "unknown".to_owned());
            (!holds).then(|| {
                let (a_said, b_said) = (said(a), said(b));
                format!(
                    "{a_said} should be {b_said}, but is {}, not {}",
                    text(a_text),
                    text(b_text)
                )
            })
        }
    }
}

/// The term of `class` that is a fused function of `kind`; of several, the largest.
fn made_as(graph: &dyn Graph, class: Id, kind: &str) -> Option<Term> {
    let size = |it: &Term| match graph.heads().of(it) {
        Head::Fused(fused) if fused.kind == kind => Some(fused.steps.len()),
        _ => None,
    };
    let mut best: Option<(usize, &Term)> = None;
    for term in graph.terms(class) {
        let Some(size) = size(term) else { continue };
        let better = best.is_none_or(|(most, other)| (most, other) < (size, term));
        best = if better { Some((size, term)) } else { best };
    }
    best.map(|it| it.1.clone())
}

/// `instance` with `term` in place of its class.
fn opened(graph: &dyn Graph, instance: &Instance, class: Id, term: &Term) -> Instance {
    match instance {
        Instance::Leaf(id) if graph.find(*id) == class => {
            let operands = term.operands.iter().map(|it| Instance::Leaf(*it)).collect();
            Instance::Node(graph.heads().of(term).clone(), operands)
        }
        Instance::Leaf(_) => instance.clone(),
        Instance::Node(head, operands) => {
            let operands = operands.iter().map(|it| opened(graph, it, class, term)).collect();
            Instance::Node(head.clone(), operands)
        }
    }
}
