//! What a call gives to the parameters of a generic function, and what their axes stand for.

use std::collections::BTreeMap;

use ir::ops::Transpose;
use ir::{Axis, DType, Type, Value};

use super::bound::{Bound, Word};
use super::frame::Frame;
use super::{Lower, Result, shown};
use crate::ast::{Binary, Call, Expr, ExprKind, Function, FunctionKind, Param};
use crate::diagnostic::Diagnostic;
use crate::source::Span;

/// Arguments by parameter: those given, and the others' defaults.
pub(super) struct Bindings {
    pub(super) frame: Frame,
    /// The tensors among them, in order.
    pub(super) tensors: Vec<(String, Value)>,
}

impl<'a> Lower<'a> {
    /// The argument of each parameter of a call, in the order of the parameters.
    pub(super) fn arrange(
        &mut self,
        call: &'a Call,
        names: &[&str],
        n_required: usize,
    ) -> Result<Vec<Option<&'a Expr>>> {
        let mut places: Vec<Option<&'a Expr>> = vec![None; names.len()];
        let mut position = 0;
        for arg in &call.args {
            let place = match &arg.name {
                Some(name) => names.iter().position(|it| *it == name.text),
                None => {
                    position += 1;
                    Some(position - 1).filter(|it| *it < names.len())
                }
            };
            match place {
                Some(place) if places[place].is_none() => places[place] = Some(&arg.value),
                Some(place) => return Err(self.twice(names[place], arg.value.span)),
                None => return Err(self.not_taken(call, names, arg)),
            }
        }
        match places.iter().take(n_required).position(Option::is_none) {
            Some(missing) => Err(self.missing(call, names, names[missing])),
            None => Ok(places),
        }
    }

    fn twice(&mut self, name: &str, span: Span) -> super::Reported {
        self.wrong("E0401", format!("`{name}` is given twice"), span)
    }

    fn not_taken(&mut self, call: &Call, names: &[&str], arg: &crate::ast::Arg) -> super::Reported {
        let callee = &call.callee.text;
        let diagnostic = match &arg.name {
            Some(name) => {
                let message = format!("`{callee}` takes no `{}`", name.text);
                let diagnostic = Diagnostic::error("E0401", message).at(name.span, "");
                diagnostic.did_you_mean(name.span, &name.text, names.iter().copied())
            }
            None => {
                let message = format!("`{callee}` takes {} arguments at most", names.len());
                Diagnostic::error("E0401", message).at(arg.value.span, "one too many")
            }
        };
        self.fault(diagnostic.note(usage(callee, names)))
    }

    fn missing(&mut self, call: &Call, names: &[&str], name: &str) -> super::Reported {
        let message = format!("`{}` needs `{name}`", call.callee.text);
        let diagnostic = Diagnostic::error("E0401", message).at(call.callee.span, "");
        self.fault(diagnostic.note(usage(&call.callee.text, names)))
    }

    /// Evaluates the arguments of a call and finds what the axes of the parameters stand for.
    pub(super) fn bindings(
        &mut self,
        definition: (u16, &'a Function),
        call: &'a Call,
    ) -> Result<Bindings> {
        let (source, function) = definition;
        let names: Vec<&str> = function.params.iter().map(|it| it.name.text.as_str()).collect();
        let places = self.arrange(call, &names, 0)?;
        let mut frame = Frame::new(source, function.kind);
        let mut given = Vec::new();
        for (param, place) in function.params.iter().zip(places) {
            if place.is_none() && param.default.is_none() {
                return Err(self.missing(call, &names, &param.name.text));
            }
            match &param.shape {
                Some(shape) => {
                    let span = place.map_or(call.callee.span, |it| it.span);
                    let value = self.tensor_for(param, place)?;
                    given.push(Given { param, shape, value, span });
                }
                None => {
                    let bound = self.known_for(param, place)?;
                    frame.names.push((param.name.text.clone(), bound));
                }
            }
        }
        let tensors = self.bind_axes(&mut frame, given)?;
        for (name, value) in &tensors {
            frame.names.push((name.clone(), Bound::Tensor(*value)));
        }
        Ok(Bindings { frame, tensors })
    }

    fn tensor_for(&mut self, param: &'a Param, place: Option<&'a Expr>) -> Result<Value> {
        let Some(expr) = place.or(param.default.as_ref()) else {
            return Err(super::Reported);
        };
        let value = self.tensor(expr)?;
        let dtype = self.ty(value).dtype;
        match self.wanted_type(param)? {
            Some(wanted) if wanted != dtype => {
                let message = format!("`{}` takes {wanted}, not {dtype}", param.name.text);
                Err(self.wrong("E0305", message, expr.span))
            }
            _ => Ok(value),
        }
    }

    /// The element type of a parameter, if it is declared.
    pub(super) fn wanted_type(&mut self, param: &Param) -> Result<Option<DType>> {
        let Some(name) = &param.dtype else { return Ok(None) };
        self.dtype_named(&name.text, name.span).map(Some)
    }

    pub(super) fn dtype_named(&mut self, name: &str, span: Span) -> Result<DType> {
        match DType::from_name(name).filter(|it| *it == it.value_type()) {
            Some(dtype) => Ok(dtype),
            None => {
                let known = DType::ALL.iter().filter(|it| it.0 == it.0.value_type()).map(|it| it.1);
                let diagnostic = Diagnostic::error("E0306", format!("`{name}` is no element type"))
                    .at(span, "")
                    .did_you_mean(span, name, known);
                Err(self.fault(diagnostic))
            }
        }
    }

    /// The argument of a parameter without axes: known when compiling.
    pub(super) fn known_for(&mut self, param: &'a Param, place: Option<&'a Expr>) -> Result<Bound> {
        if param.dtype.as_ref().is_some_and(|it| it.text == "axis") {
            let Some(expr) = place else { return Err(super::Reported) };
            return self.axis(expr).map(Bound::Axis);
        }
        let words = param.default.as_ref().and_then(words);
        let words = words.filter(|it| it.iter().all(|it| !self.values.contains_key(it)));
        if let Some(of) = words {
            let of: std::rc::Rc<[String]> = of.into();
            return match place {
                Some(expr) => self.word(expr, &of).map(Bound::Word),
                None => Ok(Bound::Word(Word { text: of[0].clone(), of })),
            };
        }
        let Some(expr) = place.or(param.default.as_ref()) else { return Err(super::Reported) };
        match self.expr(expr)? {
            Bound::Tensor(_) => {
                let message = format!("`{}` must be known when compiling", param.name.text);
                Err(self.wrong("E0306", message, expr.span))
            }
            bound => Ok(bound),
        }
    }

    /// Gives each axis name of the parameters its meaning: first where a shape is written without
    /// `..`, then the others.
    fn bind_axes(
        &mut self,
        frame: &mut Frame,
        given: Vec<Given<'a>>,
    ) -> Result<Vec<(String, Value)>> {
        let is_open = |it: &&Given<'_>| it.shape.iter().any(|it| matches!(it.kind, ExprKind::Rest));
        for one in given.iter().filter(|it| !is_open(it)).chain(given.iter().filter(is_open)) {
            self.bind_shape(frame, one)?;
        }
        let keeps_order = frame.kind == FunctionKind::Inline;
        let mut tensors = Vec::new();
        for one in given {
            let value = match keeps_order {
                true => one.value,
                false => {
                    let axes = self.resolve(frame, one.shape)?;
                    self.in_order(one.value, &axes, one.span)?
                }
            };
            tensors.push((one.param.name.text.clone(), value));
        }
        Ok(tensors)
    }

    /// The names that are bound already are found wherever they stand; of the axes that are left,
    /// the names before `..` take the first ones, those after it the last ones.
    fn bind_shape(&mut self, frame: &mut Frame, given: &Given<'a>) -> Result<()> {
        let mut left = self.ty(given.value).axes.clone();
        let mut open: Vec<&'a Expr> = Vec::new();
        for expr in given.shape {
            let Some(axis) = self.bound_axis(frame, expr)? else {
                open.push(expr);
                continue;
            };
            match left.iter().position(|it| *it == axis) {
                Some(position) => drop(left.remove(position)),
                None => return Err(self.mismatch(given, &axis, frame)),
            }
        }
        let rest = open.iter().position(|it| matches!(it.kind, ExprKind::Rest));
        let n_named = open.len() - usize::from(rest.is_some());
        if left.len() < n_named || (rest.is_none() && left.len() > n_named) {
            return Err(self.wrong_rank(given));
        }
        let n_rest = left.len() - n_named;
        let front = rest.unwrap_or(n_named);
        let middle: Vec<Axis> = left.drain(front..front + n_rest).collect();
        if rest.is_some() {
            self.bind_rest(frame, given, middle)?;
        }
        for (expr, axis) in open.iter().filter(|it| !matches!(it.kind, ExprKind::Rest)).zip(left) {
            match &expr.kind {
                ExprKind::Axis(name) => drop(frame.axes.insert(name.clone(), axis)),
                _ => return Err(self.wrong("E0302", "this names no axis to bind", expr.span)),
            }
        }
        Ok(())
    }

    /// The axis of a part of a parameter's shape, if it is known. The axes of the spec stand for
    /// themselves in a block, and are names like others in a function.
    pub(super) fn bound_axis(&mut self, frame: &Frame, expr: &'a Expr) -> Result<Option<Axis>> {
        let is_generic = matches!(frame.kind, FunctionKind::Plain | FunctionKind::Inline);
        match &expr.kind {
            ExprKind::Rest => Ok(None),
            ExprKind::Axis(name) => {
                let local = frame.axes.get(name).cloned();
                let global = self.module.axes.get(name).filter(|_| !is_generic);
                Ok(local.or_else(|| global.map(|_| Axis::atom(name.as_str()))))
            }
            ExprKind::Binary(op @ (Binary::Multiply | Binary::Concat), sides) => {
                let (a, b) = (self.bound_axis(frame, &sides.0)?, self.bound_axis(frame, &sides.1)?);
                let (Some(a), Some(b)) = (a, b) else {
                    let message = "the parts of this axis must stand alone in another parameter";
                    return Err(self.wrong("E0302", message, expr.span));
                };
                let concat = *op == Binary::Concat;
                Ok(if concat { Some(Axis::concat([&a, &b])) } else { Axis::product([&a, &b]) })
            }
            _ => Err(self.wrong("E0302", "this is not an axis", expr.span)),
        }
    }

    fn bind_rest(&mut self, frame: &mut Frame, given: &Given<'_>, axes: Vec<Axis>) -> Result<()> {
        let Some(known) = &frame.rest else {
            frame.rest = Some(axes);
            return Ok(());
        };
        let same = known.len() == axes.len() && axes.iter().all(|it| known.contains(it));
        match same {
            true => Ok(()),
            false => {
                let message = format!("{} against {}", shown(&axes), shown(known));
                Err(self.wrong("E0301", message, given.span))
            }
        }
    }

    /// "`F` against `E`": what stands where the axis should be.
    fn mismatch(&mut self, given: &Given<'a>, wanted: &Axis, frame: &Frame) -> super::Reported {
        let ty = self.ty(given.value).clone();
        let position = given
            .shape
            .iter()
            .position(|it| self.bound_axis(frame, it).ok().flatten().as_ref() == Some(wanted));
        let from_end = given.shape.iter().any(|it| matches!(it.kind, ExprKind::Rest));
        let index = position.and_then(|it| match from_end {
            true => ty.axes.len().checked_sub(given.shape.len() - it),
            false => Some(it),
        });
        let found = index.and_then(|it| ty.axes.get(it)).map(Axis::to_string);
        let found = found.unwrap_or_else(|| shown(&ty.axes));
        let shape: Vec<String> = given.shape.iter().map(axis_text).collect();
        let name = &given.param.name;
        let diagnostic = Diagnostic::error("E0301", format!("`{found}` against `{wanted}`"))
            .at(given.span, format!("this is {ty}"))
            .at(
                name.span,
                format!("`{}` is [{}], with `{wanted}` here", name.text, shape.join(", ")),
            );
        self.fault(diagnostic)
    }

    fn wrong_rank(&mut self, given: &Given<'a>) -> super::Reported {
        let ty = self.ty(given.value).to_string();
        let shape: Vec<String> = given.shape.iter().map(axis_text).collect();
        let name = &given.param.name;
        let message = format!("`{}` takes [{}], not {ty}", name.text, shape.join(", "));
        let diagnostic =
            Diagnostic::error("E0301", message).at(given.span, format!("this is {ty}"));
        self.fault(diagnostic.at(name.span, "declared here"))
    }

    /// The axes of a declared shape, all of which are bound.
    pub(super) fn resolve(&mut self, frame: &Frame, shape: &'a [Expr]) -> Result<Vec<Axis>> {
        let mut axes = Vec::new();
        for expr in shape {
            match &expr.kind {
                ExprKind::Rest => axes.extend(frame.rest.iter().flatten().cloned()),
                _ => {
                    let outer = std::mem::take(&mut self.frame().axes);
                    self.frame().axes = frame.axes.clone();
                    let axis = self.axis(expr);
                    self.frame().axes = outer;
                    axes.push(axis?);
                }
            }
        }
        Ok(axes)
    }

    /// The same elements with the axes in the given order.
    pub(super) fn in_order(&mut self, value: Value, axes: &[Axis], span: Span) -> Result<Value> {
        let found = self.ty(value).axes.clone();
        if found == axes {
            return Ok(value);
        }
        let odd = found.iter().find(|it| !axes.contains(it));
        let lacking = axes.iter().find(|it| !found.contains(it));
        if odd.is_none() && lacking.is_none() {
            return self.op(Transpose { to: axes.to_vec() }, &[value], span);
        }
        let message = match (odd, lacking) {
            (Some(odd), Some(lacking)) => format!("`{odd}` against `{lacking}`"),
            _ => format!("{} against {}", shown(&found), shown(axes)),
        };
        let label = format!("this is {}, and {} is wanted", shown(&found), shown(axes));
        Err(self.fault(Diagnostic::error("E0301", message).at(span, label)))
    }

    /// Checks a result against the declared one.
    pub(super) fn conform(
        &mut self,
        frame: &Frame,
        bound: Bound,
        declared: &'a Expr,
        span: Span,
    ) -> Result<Bound> {
        match (&declared.kind, bound) {
            (ExprKind::Tuple(shapes), Bound::Tuple(parts)) if shapes.len() == parts.len() => {
                let parts = parts.into_iter().zip(shapes);
                let parts = parts.map(|(part, shape)| self.conform(frame, part, shape, span));
                Ok(Bound::Tuple(parts.collect::<Result<_>>()?))
            }
            (ExprKind::List(shape), Bound::Tensor(value)) => {
                let axes = self.resolve(frame, shape)?;
                Ok(Bound::Tensor(self.in_order(value, &axes, span)?))
            }
            (_, bound) => {
                let message = format!("the declared result does not fit {}", bound.describe());
                Err(self
                    .fault(Diagnostic::error("E0301", message).at(declared.span, "declared here")))
            }
        }
    }
}

/// A tensor with the parameter that takes it.
struct Given<'a> {
    param: &'a Param,
    shape: &'a [Expr],
    value: Value,
    span: Span,
}

/// The words of a default such as `causal or none`.
fn words(expr: &Expr) -> Option<Vec<String>> {
    match &expr.kind {
        ExprKind::Name(name) => Some(vec![name.clone()]),
        ExprKind::Binary(Binary::Or, sides) => Some([words(&sides.0)?, words(&sides.1)?].concat()),
        _ => None,
    }
}

fn usage(callee: &str, names: &[&str]) -> String {
    format!("it is `{callee}({})`", names.join(", "))
}

/// An axis expression as written.
fn axis_text(expr: &Expr) -> String {
    match &expr.kind {
        ExprKind::Axis(name) => name.clone(),
        ExprKind::Rest => "..".into(),
        ExprKind::Binary(op, sides) => {
            let space = if *op == Binary::Concat { " " } else { "" };
            let (a, b) = (axis_text(&sides.0), axis_text(&sides.1));
            format!("{a}{space}{}{space}{b}", op.symbol())
        }
        _ => "?".into(),
    }
}

/// Types that differ only in names would make two instances of one function; this is what tells
/// instances apart.
pub(super) fn key(index: usize, frame: &Frame, types: &[Type]) -> String {
    let known: BTreeMap<&str, String> =
        frame.names.iter().filter_map(|(name, it)| Some((name.as_str(), known(it)?))).collect();
    let types: Vec<String> = types.iter().map(Type::to_string).collect();
    format!("{index} {known:?} {types:?}")
}

/// A compile-time argument as text.
fn known(bound: &Bound) -> Option<String> {
    match bound {
        Bound::Number(number) => Some(format!("{number:?}")),
        Bound::Truth(truth) => Some(truth.to_string()),
        Bound::Word(word) => Some(word.text.clone()),
        Bound::Text(text) => Some(text.clone()),
        Bound::Axis(axis) => Some(axis.to_string()),
        Bound::Tensor(_) | Bound::Tuple(_) | Bound::Unknown => None,
    }
}
