//! Weight maps: where the numbers of each parameter come from in checkpoints of one format.

mod name;
mod path;
mod source;

use std::collections::BTreeMap;

use ir::{Axis, Module};

use crate::ast::{Binary, Call, Expr, ExprKind, Name, Segment, Unary, WeightRule, Weights};
use crate::diagnostic::Diagnostic;
use crate::lower::Weight;
use crate::source::Span;
use path::{Way, n_ways, ways};
pub use source::{Change, TensorSource};

/// One rule may stand for this many names of tensors.
const MOST_NAMES: usize = 64;

/// The rules of one `weights` section: one for each parameter of the entry.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightMap {
    /// `hf`, `gguf`
    pub format: String,
    /// In the order of the entry's parameters.
    pub rules: Vec<ParamRule>,
    /// Names of tensors that the model has no use for; `*` stands for any text.
    pub unused: Vec<String>,
}

impl WeightMap {
    /// Whether the section says that the model has no use for a tensor. What is ours in a
    /// checkpoint, such as orders of importance, is no weight.
    pub fn spares(&self, tensor: &str) -> bool {
        tensor.starts_with("treen.") || self.unused.iter().any(|it| fits(it, tensor))
    }
}

/// Whether a name is what a pattern with `*` for any text describes.
pub fn fits(pattern: &str, name: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else { return pattern == name };
    let Some(rest) = name.strip_prefix(head) else { return false };
    rest.char_indices().any(|(at, _)| fits(tail, &rest[at..])) || fits(tail, "")
}

/// Where one parameter comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct ParamRule {
    /// The parameter's name: `layers.attention.q`.
    pub param: String,
    /// For a bank, the number of the layer of each of its parts, in order.
    pub layers: Option<Vec<usize>>,
    /// What to read. In a bank, once for each layer, see [`TensorSource::of_layer`].
    pub source: TensorSource,
}

/// The formats of checkpoints that a section may be for.
const FORMATS: [&str; 2] = ["hf", "gguf"];

/// Reads one `weights` section against the parameters of the entry.
pub(crate) fn weight_map(
    section: &Weights,
    module: &Module,
    weights: &[Weight],
    faults: &mut Vec<Diagnostic>,
) -> WeightMap {
    let format = &section.format;
    if !FORMATS.contains(&format.text.as_str()) {
        let message = format!("`{}` is no format of checkpoints", format.text);
        let known = format!("there is {}", FORMATS.map(|it| format!("`{it}`")).join(", "));
        faults.push(Diagnostic::error("E0505", message).at(format.span, "").note(known));
    }
    let way = Way::default();
    let mut reader = Reader { module, weights, way, most_names: 0, absent: Vec::new(), faults };
    let mut found: BTreeMap<&str, TensorSource> = BTreeMap::new();
    let mut unused = Vec::new();
    for rule in &section.rules {
        if let [Segment::Name(name)] = rule.path.as_slice()
            && name.text == "_"
        {
            (reader.way, reader.most_names) = (Way::default(), MOST_NAMES);
            unused.extend(reader.unused(&rule.source));
            continue;
        }
        for (weight, source) in reader.rule(rule).unwrap_or_default() {
            if found.insert(&weight.name, source).is_some() {
                let message = format!("`{}` has two rules", weight.name);
                let diagnostic = Diagnostic::error("E0502", message);
                reader.faults.push(diagnostic.at(rule.span, "again here"));
            }
        }
    }
    let lacking: Vec<&str> =
        weights.iter().map(|it| &*it.name).filter(|it| !found.contains_key(it)).collect();
    if !lacking.is_empty() {
        reader.faults.append(&mut reader.absent);
        let message = format!("the section says nothing of {}", listed(&lacking));
        reader.faults.push(Diagnostic::error("E0502", message).at(section.format.span, ""));
    }
    let rules = weights.iter().filter_map(|it| {
        let (param, layers) = (it.name.clone(), it.layers.clone());
        Some(ParamRule { param, layers, source: found.remove(it.name.as_str())? })
    });
    WeightMap { format: section.format.text.clone(), rules: rules.collect(), unused }
}

fn listed(names: &[&str]) -> String {
    let shown: Vec<String> = names.iter().take(5).map(|it| format!("`{it}`")).collect();
    let more =
        if names.len() > 5 { format!(" and {} more", names.len() - 5) } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

/// What is shared in `split("name")`.
fn shared(expr: &Expr) -> Option<&Expr> {
    match &expr.kind {
        ExprKind::Call(call) if call.callee.text == "split" && call.args.len() == 1 => {
            Some(&call.args[0].value)
        }
        _ => None,
    }
}

struct Reader<'a> {
    module: &'a Module,
    weights: &'a [Weight],
    /// The way through the path of the rule at hand.
    way: Way<'a>,
    /// How many tensors each name of that rule may stand for.
    most_names: usize,
    /// Rules for no parameter. Settings may have left it out, so it is a fault only beside a
    /// parameter without a rule.
    absent: Vec<Diagnostic>,
    faults: &'a mut Vec<Diagnostic>,
}

impl<'a> Reader<'a> {
    fn wrong<T>(
        &mut self,
        code: &'static str,
        message: impl Into<String>,
        span: Span,
    ) -> Option<T> {
        self.faults.push(Diagnostic::error(code, message).at(span, ""));
        None
    }

    /// The parameters of a rule with their sources; nothing if it is faulty.
    fn rule(&mut self, rule: &'a WeightRule) -> Option<Vec<(&'a Weight, TensorSource)>> {
        self.most_names = match n_ways(&rule.path) {
            Some(n) if n <= MOST_NAMES => MOST_NAMES / n,
            _ => return self.wrong("E0503", "this stands for too many parameters", rule.span),
        };
        let all: Option<Vec<_>> = match (rule.path.split_last(), shared(&rule.source)) {
            (Some((Segment::Group(names), front)), Some(whole)) => {
                ways(front).into_iter().map(|it| self.parts(rule, it, names, whole)).collect()
            }
            _ => ways(&rule.path).into_iter().map(|it| self.one(rule, it)).collect(),
        };
        Some(all?.concat())
    }

    /// A parameter with a source of its own; none if it is absent.
    fn one(
        &mut self,
        rule: &'a WeightRule,
        way: Way<'a>,
    ) -> Option<Vec<(&'a Weight, TensorSource)>> {
        self.way = way;
        let name = self.way.name.clone();
        let Some(weight) = self.param(&name, rule.span) else { return Some(Vec::new()) };
        Some(vec![(weight, self.source(&rule.source)?)])
    }

    /// Parameters that share a tensor, one after the other; none if one is absent.
    fn parts(
        &mut self,
        rule: &'a WeightRule,
        way: Way<'a>,
        names: &'a [Name],
        whole: &Expr,
    ) -> Option<Vec<(&'a Weight, TensorSource)>> {
        let paths: Vec<String> = names.iter().map(|it| way.to(it).name).collect();
        self.way = way;
        let weights: Option<Vec<_>> = paths.iter().map(|it| self.param(it, rule.span)).collect();
        let Some(weights) = weights else { return Some(Vec::new()) };
        let whole = self.source(whole)?;
        let mut start = 0usize;
        let mut parts = Vec::new();
        for weight in weights {
            let Some(end) = self.rows(weight).and_then(|it| start.checked_add(it)) else {
                return self.wrong("E0504", format!("`{}` has no rows", weight.name), rule.span);
            };
            parts.push((weight, TensorSource::Rows(Box::new(whole.clone()), start, end)));
            start = end;
        }
        Some(parts)
    }

    /// The extent of the first axis of a parameter, or of one part of a bank.
    fn rows(&self, weight: &Weight) -> Option<usize> {
        let axis = weight.ty.axes.get(usize::from(weight.layers.is_some()))?;
        self.module.axes.fixed(axis)
    }

    fn param(&mut self, path: &str, span: Span) -> Option<&'a Weight> {
        let weights = self.weights;
        let Some(weight) = weights.iter().find(|it| it.name == *path) else {
            let message = format!("there is no parameter `{path}`");
            let diagnostic = Diagnostic::error("E0501", message).at(span, "");
            let near = crate::suggest::nearest(path, weights.iter().map(|it| &*it.name));
            self.absent.push(match near {
                Some(near) => diagnostic.note(format!("did you mean `{near}`?")),
                None => diagnostic,
            });
            return None;
        };
        match (self.way.layer, &weight.layers) {
            (None, Some(_)) => {
                let message = format!("`{path}` is one for each layer; name it: `layers[l]`");
                self.wrong("E0501", message, span)
            }
            (Some(_), None) => self.wrong("E0501", format!("`{path}` is in no layers"), span),
            _ => Some(weight),
        }
    }

    fn source(&mut self, expr: &Expr) -> Option<TensorSource> {
        match &expr.kind {
            ExprKind::Text(text) => self.tensor(text, expr.span),
            ExprKind::Number(number) => Some(TensorSource::Fill(*number)),
            ExprKind::Binary(Binary::Or, sides) => {
                let mut all = Vec::new();
                for side in [&sides.0, &sides.1] {
                    match self.source(side)? {
                        TensorSource::FirstOf(more) => all.extend(more),
                        one => all.push(one),
                    }
                }
                Some(TensorSource::FirstOf(all))
            }
            ExprKind::Call(call) => self.change(call),
            _ => self.wrong("E0503", "a tensor of the checkpoint is wanted here", expr.span),
        }
    }

    /// Names of tensors that nobody needs, such as `"rope.*"`.
    fn unused(&mut self, expr: &Expr) -> Vec<String> {
        match &expr.kind {
            ExprKind::Text(text) => self.names(text, expr.span).unwrap_or_default(),
            ExprKind::Binary(Binary::Or, sides) => {
                [self.unused(&sides.0), self.unused(&sides.1)].concat()
            }
            _ => {
                let message = "names of tensors are wanted here: `_ = \"rope.*\"`";
                self.wrong("E0503", message, expr.span).unwrap_or_default()
            }
        }
    }

    /// The tensor of a name, or the first of several: `{a|b}` in it stands for either.
    fn tensor(&mut self, text: &str, span: Span) -> Option<TensorSource> {
        let mut tensors: Vec<_> =
            self.names(text, span)?.into_iter().map(TensorSource::Tensor).collect();
        match tensors.len() {
            1 => tensors.pop(),
            _ => Some(TensorSource::FirstOf(tensors)),
        }
    }

    fn names(&mut self, text: &str, span: Span) -> Option<Vec<String>> {
        match name::names(text, &self.way, self.most_names) {
            Ok(names) => Some(names),
            Err(message) => self.wrong("E0503", message, span),
        }
    }

    /// A change of a source tensor.
    fn change(&mut self, call: &Call) -> Option<TensorSource> {
        if let Some(name) = call.args.iter().find_map(|it| it.name.as_ref()).or(call.label.as_ref())
        {
            return self.wrong("E0503", "a change of a tensor takes no names", name.span);
        }
        let args: Vec<&Expr> = call.args.iter().map(|it| &it.value).collect();
        match (&*call.callee.text, args.as_slice()) {
            ("transpose", [of]) => Some(TensorSource::Transpose(Box::new(self.source(of)?))),
            ("unrotate", [of, width]) => {
                let width = self.count(width).filter(|it| it % 2 == 0 && *it > 0);
                let Some(width) = width else {
                    return self.wrong("E0503", "the width of a head is even", call.callee.span);
                };
                Some(TensorSource::Unrotate(Box::new(self.source(of)?), width))
            }
            ("squeeze", [of]) => Some(TensorSource::Squeeze(Box::new(self.source(of)?))),
            ("flat", [of]) => Some(TensorSource::Flat(Box::new(self.source(of)?))),
            ("log", [of]) => Some(TensorSource::Each(Box::new(self.source(of)?), Change::Log)),
            ("plus", [of, number]) => {
                let change = Change::Plus(self.number(number)?);
                Some(TensorSource::Each(Box::new(self.source(of)?), change))
            }
            ("times", [of, number]) => {
                let change = Change::Times(self.number(number)?);
                Some(TensorSource::Each(Box::new(self.source(of)?), change))
            }
            ("rows", [of, range]) => {
                let ExprKind::Binary(Binary::Range, sides) = &range.kind else {
                    return self.wrong("E0503", "rows are a range: `0..E`", range.span);
                };
                let (from, to) = (self.count(&sides.0)?, self.count(&sides.1)?);
                if to <= from {
                    return self.wrong("E0503", "this range holds no rows", range.span);
                }
                Some(TensorSource::Rows(Box::new(self.source(of)?), from, to))
            }
            (name, _) => {
                let known = "they are: transpose(t), unrotate(t, P), rows(t, a..b), squeeze(t), \
                             flat(t), plus(t, 1), times(t, -1), log(t)";
                let message = format!("`{name}` is no such change of a tensor");
                self.faults
                    .push(Diagnostic::error("E0503", message).at(call.callee.span, "").note(known));
                None
            }
        }
    }

    fn number(&mut self, expr: &Expr) -> Option<f64> {
        match &expr.kind {
            ExprKind::Number(number) => Some(*number),
            ExprKind::Unary(Unary::Minus, of) => self.number(of).map(|it| -it),
            _ => self.wrong("E0503", "a number is wanted here", expr.span),
        }
    }

    /// A number of rows, by the axes of the spec.
    fn count(&mut self, expr: &Expr) -> Option<usize> {
        let count = self.known_count(expr);
        if count.is_none() {
            return self.wrong("E0503", "a number of rows is wanted here", expr.span);
        }
        count
    }

    fn known_count(&self, expr: &Expr) -> Option<usize> {
        match &expr.kind {
            ExprKind::Number(number) if number.fract() == 0.0 && *number >= 0.0 => {
                Some(*number as usize)
            }
            ExprKind::Axis(name) => self.module.axes.fixed(&Axis::atom(name.as_str())),
            ExprKind::Binary(op, sides) => {
                let (a, b) = (self.known_count(&sides.0)?, self.known_count(&sides.1)?);
                match op {
                    Binary::Add | Binary::Concat => a.checked_add(b),
                    Binary::Subtract => a.checked_sub(b),
                    Binary::Multiply => a.checked_mul(b),
                    Binary::Divide if b > 0 && a % b == 0 => Some(a / b),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}
