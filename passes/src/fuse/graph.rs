//! What a pattern is matched against: terms by class. An e-graph has several terms in a class; the
//! replay of a log has one.

use egg::{Analysis, DidMerge, EGraph, Id};
use ir::{Function, Op, Scope, Type, ops::BinaryFn};

use super::{
    terms::{Head, Heads, Term},
    weights::Weights,
};

/// Terms by class.
pub(crate) trait Graph {
    /// The terms of a class.
    fn terms(&self, class: Id) -> &[Term];
    /// The class that `id` is in.
    fn find(&self, id: Id) -> Id;
    /// The heads of all terms.
    fn heads(&self) -> &Heads;
    /// What is known of a class.
    fn fact(&self, class: Id) -> &Fact;
    /// What types depend on.
    fn scope(&self) -> Scope<'_>;
}

/// What is known of every term of a class.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fact {
    /// The types of the results; one for all but ops that have several.
    pub(crate) types: Vec<Type>,
    /// Whether it is a weight, weights laid end to end, or one times another.
    pub(crate) weight: bool,
    /// Whether it is a weight that may be stored in another form.
    pub(crate) open: bool,
}

/// The function behind an e-graph.
#[derive(Clone)]
pub(crate) struct Facts<'a> {
    pub(crate) scope: Scope<'a>,
    pub(crate) function: &'a Function,
    /// Which values of the function are weights.
    pub(crate) weights: Weights,
    pub(crate) heads: Heads,
    /// The first two types that were said to be one.
    pub(crate) fault: Option<String>,
}

impl Facts<'_> {
    /// What is known of a head over operands of which this is known.
    pub(crate) fn fact(&self, head: &Head, operands: &[&Fact]) -> Fact {
        if let Head::Given(value) = head {
            let value = self.function.values().nth(*value);
            let types = value.map(|it| self.function.ty(it).clone()).into_iter().collect();
            let weight = value.is_some_and(|it| self.weights.has(it));
            let open = value.is_some_and(|it| self.weights.is_open(it));
            return Fact { types, weight, open };
        }
        let types: Vec<Vec<Type>> = operands.iter().map(|it| it.types.clone()).collect();
        let joins = matches!(head, Head::Apply(Op::Concat(_)));
        let scales = matches!(head, Head::Apply(it) if it.as_binary() == Some(BinaryFn::Mul));
        Fact {
            types: head.infer(&types, self.scope).unwrap_or_default(),
            weight: (joins || scales) && operands.iter().all(|it| it.weight),
            open: false,
        }
    }
}

impl Analysis<Term> for Facts<'_> {
    type Data = Fact;

    fn make(egraph: &mut EGraph<Term, Self>, term: &Term, _: Id) -> Fact {
        let operands: Vec<&Fact> = term.operands.iter().map(|&it| &egraph[it].data).collect();
        egraph.analysis.fact(egraph.analysis.heads.of(term), &operands)
    }

    fn merge(&mut self, a: &mut Fact, b: Fact) -> DidMerge {
        if a.types != b.types && self.fault.is_none() {
            self.fault = Some(format!("{:?} is said to be {:?}", a.types, b.types));
        }
        let weight = a.weight || b.weight;
        let open = a.open || b.open;
        let new = (weight, open);
        let changed = DidMerge((a.weight, a.open) != new, (b.weight, b.open) != new);
        (a.weight, a.open) = new;
        changed
    }
}

/// The e-graph of a function.
pub(crate) type Classes<'a> = EGraph<Term, Facts<'a>>;

impl Graph for Classes<'_> {
    fn terms(&self, class: Id) -> &[Term] {
        &self[class].nodes
    }

    fn find(&self, id: Id) -> Id {
        EGraph::find(self, id)
    }

    fn heads(&self) -> &Heads {
        &self.analysis.heads
    }

    fn fact(&self, class: Id) -> &Fact {
        &self[class].data
    }

    fn scope(&self) -> Scope<'_> {
        self.analysis.scope
    }
}
