//! What the e-graph is over: ops with their attributes, values given from outside, and fused
//! functions. A [`Head`] is numbered, so that a term is small and has an order.

use std::{collections::HashMap, sync::Arc};

use egg::{Id, Language};
use ir::{Op, Real, Scope, Type};

/// What a term does to its operands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Head {
    /// A value of the function that is taken as it is: a parameter, or a layer of a weight.
    Given(usize),
    /// An op.
    Apply(Op),
    /// One of the results of an op that has several.
    Part(usize),
    /// A function made of a match.
    Fused(Arc<Fused>),
    /// What the function gives.
    Outputs,
}

/// A function made of matched nodes: its body, in order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Fused {
    /// What kind of function it is.
    pub(crate) kind: String,
    /// Each op with where its operands come from. The last gives the result.
    pub(crate) steps: Vec<(Op, Vec<Source>)>,
}

/// Where an operand within a fused function comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    /// A parameter.
    Param(usize),
    /// The result of an earlier step.
    Step(usize),
}

/// A head over operands.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Term {
    pub(crate) head: u32,
    pub(crate) operands: Vec<Id>,
}

impl Language for Term {
    type Discriminant = u32;

    fn discriminant(&self) -> u32 {
        self.head
    }

    fn matches(&self, other: &Term) -> bool {
        self.head == other.head && self.operands.len() == other.operands.len()
    }

    fn children(&self) -> &[Id] {
        &self.operands
    }

    fn children_mut(&mut self) -> &mut [Id] {
        &mut self.operands
    }
}

/// Every head, by number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heads {
    list: Vec<Head>,
    known: HashMap<Head, u32>,
}

impl Heads {
    /// The number of `head`.
    pub(crate) fn number(&mut self, head: Head) -> u32 {
        let next = self.list.len() as u32;
        *self.known.entry(head).or_insert_with_key(|it| {
            self.list.push(it.clone());
            next
        })
    }

    /// The head of `term`.
    pub(crate) fn of(&self, term: &Term) -> &Head {
        &self.list[term.head as usize]
    }
}

impl Head {
    /// The types of the results, given those of the operands; `None` where they do not fit.
    pub(crate) fn infer(&self, operands: &[Vec<Type>], scope: Scope<'_>) -> Option<Vec<Type>> {
        let single = || operands.iter().map(|it| it.first().cloned()).collect::<Option<Vec<_>>>();
        match self {
            Head::Given(_) => None,
            Head::Outputs => Some(Vec::new()),
            Head::Apply(op) => op.rules().infer(&single()?, scope).ok(),
            Head::Part(i) => Some(vec![operands.first()?.get(*i)?.clone()]),
            Head::Fused(fused) => Some(vec![fused.types(&single()?, scope)?.pop()?]),
        }
    }

    /// The number that every element of a constant is.
    pub(crate) fn number(&self) -> Option<Real> {
        match self {
            Head::Apply(Op::Constant(it)) if it.values.len() == 1 => {
                Some(Real(it.dtype.round(it.values[0].0)))
            }
            _ => None,
        }
    }
}

impl Fused {
    /// The type of each step.
    pub(crate) fn types(&self, params: &[Type], scope: Scope<'_>) -> Option<Vec<Type>> {
        let mut types: Vec<Type> = Vec::new();
        for (op, sources) in &self.steps {
            let operands: Option<Vec<Type>> = sources
                .iter()
                .map(|it| match *it {
                    Source::Param(i) => params.get(i).cloned(),
                    Source::Step(i) => types.get(i).cloned(),
                })
                .collect();
            let [ty] = <[Type; 1]>::try_from(op.rules().infer(&operands?, scope).ok()?).ok()?;
            types.push(ty);
        }
        Some(types)
    }
}
