//! Finds patterns in terms, and builds what takes their place.

use std::collections::BTreeMap;

use egg::Id;
use ir::{
    Attribute, Op, Type, Visit,
    ops::{BinaryFn, Call, Constant},
};

use crate::rules::{ANY, Pattern, RESULT, Word, attributes_of};

use super::{
    graph::Graph,
    terms::{Head, Term},
};

/// The most ways in which one pattern is matched at one place.
const MAX_WAYS: usize = 64;

/// A pattern found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Match {
    /// The class that each variable stands for.
    pub(crate) values: BTreeMap<String, Id>,
    /// The attribute that each name stands for, and the function behind each called origin.
    pub(crate) words: BTreeMap<String, String>,
    /// The terms that were matched, down to the variables.
    pub(crate) instance: Instance,
    /// What does not fit, where one looks for near misses.
    pub(crate) misses: Vec<String>,
}

/// Terms over classes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Instance {
    /// Anything of a class.
    Leaf(Id),
    /// A head over operands.
    Node(Head, Vec<Instance>),
}

impl Default for Instance {
    fn default() -> Instance {
        Instance::Node(Head::Outputs, Vec::new())
    }
}

/// Whether attributes that differ rule out a match, or are only noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strictness {
    Strict,
    Lenient,
}

/// Every way in which `pattern` is found at `class`.
pub(crate) fn find(
    graph: &dyn Graph,
    pattern: &Pattern,
    class: Id,
    strictness: Strictness,
) -> Vec<Match> {
    let matcher = Matcher { graph, strictness };
    let mut found = matcher.at(pattern, class, Match::default());
    for it in &mut found {
        it.values.insert(RESULT.to_owned(), graph.find(class));
    }
    found
}

struct Matcher<'a> {
    graph: &'a dyn Graph,
    strictness: Strictness,
}

impl Matcher<'_> {
    /// The ways to go on from `so_far`; the instance of each is that of `pattern`.
    fn at(&self, pattern: &Pattern, class: Id, so_far: Match) -> Vec<Match> {
        let class = self.graph.find(class);
        match pattern {
            Pattern::Var(name) => self.variable(name, class, so_far),
            Pattern::Fill(..) => Vec::new(),
            Pattern::Number(_) | Pattern::Call { .. } | Pattern::Apply { .. } => {
                let terms = self.graph.terms(class).iter();
                let mut ways: Vec<Match> =
                    terms.flat_map(|it| self.term(pattern, it, &so_far)).collect();
                ways.truncate(MAX_WAYS);
                ways
            }
        }
    }

    fn variable(&self, name: &str, class: Id, mut so_far: Match) -> Vec<Match> {
        if *so_far.values.entry(name.to_owned()).or_insert(class) != class {
            return Vec::new();
        }
        so_far.instance = Instance::Leaf(class);
        vec![so_far]
    }

    fn term(&self, pattern: &Pattern, term: &Term, so_far: &Match) -> Vec<Match> {
        let head = self.graph.heads().of(term);
        let Head::Apply(found) = head else { return Vec::new() };
        let operands = pattern.operands();
        if pattern.op() != Some(found.rules().name()) || operands.len() != term.operands.len() {
            return Vec::new();
        }
        let mut next = so_far.clone();
        let fits = match (pattern, found) {
            (Pattern::Number(wanted), _) => {
                head.number().is_some_and(|it| it.0.to_bits() == wanted.0.to_bits())
            }
            (Pattern::Call { origin, .. }, Op::Call(call)) => {
                let callee = self.graph.scope().function(call.function.as_str());
                let is_it = callee
                    .and_then(|it| it.origin.as_ref())
                    .is_some_and(|it| it.function == *origin);
                is_it && bind(&mut next, origin, call.function.as_str())
            }
            (Pattern::Apply { attributes, .. }, _) => self.attributes(&mut next, found, attributes),
            _ => false,
        };
        if !fits {
            return Vec::new();
        }
        let mut ways = self.operands(head, operands, &term.operands, &next);
        if let (Some(op), [a, b]) = (commutative(head), term.operands.as_slice())
            && a != b
        {
            // The sum as it stands, but read the other way round.
            let turned = self.operands(&Head::Apply(op), operands, &[*b, *a], &next);
            ways.extend(turned.into_iter().map(|mut it| {
                if let Instance::Node(_, operands) = &mut it.instance {
                    operands.reverse();
                }
                it
            }));
        }
        ways
    }

    fn operands(&self, head: &Head, patterns: &[Pattern], ids: &[Id], start: &Match) -> Vec<Match> {
        let mut ways = vec![(start.clone(), Vec::new())];
        for (pattern, &id) in patterns.iter().zip(ids) {
            let mut next = Vec::new();
            for (way, instances) in ways {
                for found in self.at(pattern, id, way) {
                    let mut instances: Vec<Instance> = instances.clone();
                    instances.push(found.instance.clone());
                    next.push((found, instances));
                }
            }
            next.truncate(MAX_WAYS);
            ways = next;
        }
        let node = |(mut way, operands): (Match, _)| {
            way.instance = Instance::Node(head.clone(), operands);
            way
        };
        ways.into_iter().map(node).collect()
    }

    fn attributes(&self, so_far: &mut Match, op: &Op, wanted: &[(String, Word)]) -> bool {
        if wanted.is_empty() {
            return true;
        }
        let found = attributes_of(op);
        wanted.iter().all(|(name, word)| {
            let text = found.iter().find(|it| it.0 == *name).map_or("", |it| it.1.as_str());
            let fits = unify(self.graph, so_far, word, text);
            if !fits && self.strictness == Strictness::Lenient {
                let op = op.rules().name();
                so_far.misses.push(format!("`{name}` of `{op}` is {text}, not {}", said(word)));
            }
            fits || self.strictness == Strictness::Lenient
        })
    }
}

/// The op, where its two operands may change places.
fn commutative(head: &Head) -> Option<Op> {
    use BinaryFn::{Add, And, Max, Min, Mul, Or};
    let Head::Apply(op) = head else { return None };
    matches!(op.as_binary()?, Add | Mul | Max | Min | And | Or).then(|| op.clone())
}

fn bind(so_far: &mut Match, name: &str, text: &str) -> bool {
    so_far.words.entry(name.to_owned()).or_insert_with(|| text.to_owned()) == text
}

/// Makes `word` stand for `text`, where it may.
pub(crate) fn unify(graph: &dyn Graph, so_far: &mut Match, word: &Word, text: &str) -> bool {
    match word {
        Word::Var(name) => name == ANY || bind(so_far, name, text),
        Word::Axes { open, axes } => {
            let Some(inner) = text.strip_prefix('[').and_then(|it| it.strip_suffix(']')) else {
                return false;
            };
            let found: Vec<&str> =
                inner.split(',').map(str::trim).filter(|it| !it.is_empty()).collect();
            let Some(more) = found.len().checked_sub(axes.len()) else { return false };
            (*open || more == 0)
                && axes.iter().zip(&found[more..]).all(|(name, text)| bind(so_far, name, text))
        }
        _ => value_of(graph, so_far, word).as_deref() == Some(text),
    }
}

/// The text that `word` stands for, if that is known.
pub(crate) fn value_of(graph: &dyn Graph, found: &Match, word: &Word) -> Option<String> {
    let ty = |name: &str| -> Option<&Type> {
        graph.fact(graph.find(*found.values.get(name)?)).types.first()
    };
    match word {
        Word::Literal(text) => Some(text.clone()),
        Word::Var(name) => found.words.get(name).cloned(),
        Word::Axes { open: true, .. } => None,
        Word::Axes { axes, .. } => {
            let axes: Option<Vec<&str>> =
                axes.iter().map(|it| found.words.get(it).map(String::as_str)).collect();
            Some(format!("[{}]", axes?.join(", ")))
        }
        Word::AxesOf(name) => Some(ty(name)?.axes.print()),
        Word::TypeOf(name) => Some(ty(name)?.to_string()),
        Word::DTypeOf(name) => Some(ty(name)?.dtype.to_string()),
        Word::NumberOf(name) => {
            let class = graph.find(*found.values.get(name)?);
            number(graph, class).map(|it| format!("{it:?}"))
        }
    }
}

/// The number that every element of a class is.
pub(crate) fn number(graph: &dyn Graph, class: Id) -> Option<f64> {
    graph.terms(class).iter().find_map(|it| graph.heads().of(it).number()).map(|it| it.0)
}

/// How a word is told to a user.
pub(crate) fn said(word: &Word) -> String {
    match word {
        Word::Literal(text) | Word::Var(text) => format!("`{text}`"),
        Word::Axes { open, axes } => {
            let axes = axes.join(", ");
            format!("`[{}{axes}]`", if *open { ".., " } else { "" })
        }
        Word::AxesOf(name) => format!("the axes of `{name}`"),
        Word::TypeOf(name) => format!("the type of `{name}`"),
        Word::DTypeOf(name) => format!("the element type of `{name}`"),
        Word::NumberOf(name) => format!("the number `{name}`"),
    }
}

/// What takes the place of a match; `None` where an attribute can not be what it should.
pub(crate) fn build(graph: &dyn Graph, pattern: &Pattern, found: &Match) -> Option<Instance> {
    let operands = || {
        let built = pattern.operands().iter().map(|it| build(graph, it, found));
        built.collect::<Option<Vec<_>>>()
    };
    match pattern {
        Pattern::Var(name) => Some(Instance::Leaf(*found.values.get(name)?)),
        Pattern::Number(number) => {
            let constant = Constant::scalar(ir::DType::F32, number.0);
            Some(Instance::Node(Head::Apply(constant.into()), Vec::new()))
        }
        Pattern::Fill(number, like) => {
            let ty = graph.fact(graph.find(*found.values.get(like)?)).types.first()?.clone();
            let constant = Constant::fill(ty, number.0);
            Some(Instance::Node(Head::Apply(constant.into()), Vec::new()))
        }
        Pattern::Call { origin, .. } => {
            let function = found.words.get(origin)?.as_str().into();
            Some(Instance::Node(Head::Apply(Call { function }.into()), operands()?))
        }
        Pattern::Apply { op, attributes, .. } => {
            let words = attributes
                .iter()
                .map(|(name, word)| Some((name.as_str(), value_of(graph, found, word)?)));
            let op = with_attributes(op, &words.collect::<Option<BTreeMap<_, _>>>()?)?;
            Some(Instance::Node(Head::Apply(op), operands()?))
        }
    }
}

/// `op` with attributes read from their texts.
fn with_attributes(op: &Op, words: &BTreeMap<&str, String>) -> Option<Op> {
    struct Write<'a>(&'a BTreeMap<&'a str, String>, bool);
    impl Visit for Write<'_> {
        fn attribute(&mut self, name: &'static str, value: &mut dyn Attribute) {
            self.1 &= self.0.get(name).is_some_and(|it| value.parse(it).is_ok());
        }
    }
    let mut op = op.clone();
    let mut write = Write(words, true);
    op.rules_mut().attributes(&mut write);
    write.1.then_some(op)
}

impl Instance {
    /// The types of the results; `None` where operands do not fit.
    pub(crate) fn types(&self, graph: &dyn Graph) -> Option<Vec<Type>> {
        match self {
            Instance::Leaf(class) => Some(graph.fact(graph.find(*class)).types.clone()),
            Instance::Node(head, operands) => {
                let types = operands.iter().map(|it| it.types(graph));
                head.infer(&types.collect::<Option<Vec<_>>>()?, graph.scope())
            }
        }
    }
}
