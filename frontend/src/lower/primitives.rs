//! The functions that are not written in the language: one op each, or nearly so.

use ir::ops::{
    ArgMax, Binary, BinaryFn, Concat, Constant, Contract, ExtentOf, Iota, Merge, Pad, Reduce,
    ReduceKind, Rename, Select, Slice, Split, Transpose, UnaryFn,
};
use ir::{Axis, DType, Real, Type, Value};

use super::bound::Bound;
use super::call::LowerPrimitive;
use super::{Lower, Reported, Result};
use crate::ast::{Expr, ExprKind};
use crate::source::Span;

/// A primitive: how it is called, and what becomes of it.
pub(super) struct Primitive {
    pub(super) name: &'static str,
    pub(super) params: &'static [&'static str],
    pub(super) n_required: usize,
    pub(super) lower: LowerPrimitive,
}

const fn primitive(
    name: &'static str,
    params: &'static [&'static str],
    n_required: usize,
    lower: LowerPrimitive,
) -> Primitive {
    Primitive { name, params, n_required, lower }
}

macro_rules! pointwise {
    ($name:literal, $function:ident) => {
        primitive($name, &["x"], 1, |it, args, _| it.pointwise(UnaryFn::$function, given(args, 0)?))
    };
}

pub(super) const PRIMITIVES: [Primitive; 29] = [
    pointwise!("abs", Abs),
    pointwise!("cos", Cos),
    pointwise!("erf", Erf),
    pointwise!("exp", Exp),
    pointwise!("floor", Floor),
    pointwise!("log", Log),
    pointwise!("rsqrt", Rsqrt),
    pointwise!("sin", Sin),
    pointwise!("sqrt", Sqrt),
    pointwise!("tanh", Tanh),
    primitive("pow", &["x", "y"], 2, |it, args, span| it.two(BinaryFn::Pow, args, span)),
    primitive("min", &["x", "y"], 2, |it, args, span| it.two(BinaryFn::Min, args, span)),
    primitive("max", &["x", "y", "over"], 1, max),
    primitive("sum", &["x", "over"], 2, |it, args, span| {
        it.reduce(ReduceKind::Sum, args, 1, span).map(Bound::Tensor)
    }),
    primitive("mean", &["x", "over"], 2, mean),
    primitive("argmax", &["x", "over"], 2, argmax),
    primitive("contract", &["a", "b", "over"], 3, contract),
    primitive("where", &["condition", "a", "b"], 3, select),
    primitive("split", &["x", "change"], 2, split),
    primitive("merge", &["x", "change"], 2, merge),
    primitive("rename", &["x", "change"], 2, rename),
    primitive("transpose", &["x", "to"], 2, transpose),
    primitive("slice", &["x", "change", "after", "at"], 2, slice),
    primitive("pad", &["x", "change", "after", "at", "value"], 2, pad),
    primitive("concat", &["parts", "over"], 2, concat),
    primitive("zeros", &["axes"], 1, zeros),
    primitive("iota", &["over"], 1, iota),
    primitive("extent", &["of"], 1, extent),
    primitive("cast", &["x", "to"], 2, cast),
];

/// An argument that `arrange` has seen to.
fn given<'a>(args: &[Option<&'a Expr>], place: usize) -> Result<&'a Expr> {
    args.get(place).copied().flatten().ok_or(Reported)
}

impl<'a> Lower<'a> {
    /// A function of two numbers.
    fn two(&mut self, function: BinaryFn, args: &[Option<&'a Expr>], span: Span) -> Result<Bound> {
        let (a, b) = (given(args, 0)?, given(args, 1)?);
        let (x, y) = (self.expr(a)?, self.expr(b)?);
        if let (Bound::Number(x), Bound::Number(y)) = (&x, &y) {
            return self.finite(function.apply(*x, *y), span);
        }
        let (x, y) = self.both_bound((x, a.span), (y, b.span))?;
        self.op(Binary { function }, &[x, y], span).map(Bound::Tensor)
    }

    fn reduce(
        &mut self,
        kind: ReduceKind,
        args: &[Option<&'a Expr>],
        over: usize,
        span: Span,
    ) -> Result<Value> {
        let x = self.tensor(given(args, 0)?)?;
        let over = self.axes(given(args, over)?)?;
        self.op(Reduce { over, kind }, &[x], span)
    }

    /// The axes that `after` names, and whether `at = end`.
    fn place(
        &mut self,
        after: Option<&'a Expr>,
        at: Option<&'a Expr>,
    ) -> Result<(Vec<Axis>, bool)> {
        let after = after.map_or(Ok(Vec::new()), |it| self.axes(it))?;
        let of = ["start".to_owned(), "end".to_owned()].into();
        let last = at.map_or(Ok(false), |it| self.word(it, &of).map(|it| it.text == "end"))?;
        Ok((after, last))
    }
}

fn max<'a>(it: &mut Lower<'a>, args: &[Option<&'a Expr>], span: Span) -> Result<Bound> {
    match (args[1], args[2]) {
        (None, Some(_)) => it.reduce(ReduceKind::Max, args, 2, span).map(Bound::Tensor),
        (Some(_), None) => it.two(BinaryFn::Max, args, span),
        _ => Err(it.wrong("E0401", "it is `max(x, y)` or `max(x, over = E)`", span)),
    }
}

fn mean<'a>(it: &mut Lower<'a>, args: &[Option<&'a Expr>], span: Span) -> Result<Bound> {
    let mut value = it.reduce(ReduceKind::Sum, args, 1, span)?;
    for axis in it.axes(given(args, 1)?)? {
        let extent = it.op(ExtentOf { axis }, &[], span)?;
        value = it.op(Binary { function: BinaryFn::Div }, &[value, extent], span)?;
    }
    Ok(Bound::Tensor(value))
}

fn argmax<'a>(it: &mut Lower<'a>, args: &[Option<&'a Expr>], span: Span) -> Result<Bound> {
    let x = it.tensor(given(args, 0)?)?;
    let axis = it.axis(given(args, 1)?)?;
    it.op(ArgMax { axis }, &[x], span).map(Bound::Tensor)
}

fn contract<'a>(it: &mut Lower<'a>, args: &[Option<&'a Expr>], span: Span) -> Result<Bound> {
    let (a, b) = (it.tensor(given(args, 0)?)?, it.tensor(given(args, 1)?)?);
    let over = it.axes(given(args, 2)?)?;
    it.op(Contract { over }, &[a, b], span).map(Bound::Tensor)
}

fn select<'a>(it: &mut Lower<'a>, args: &[Option<&'a Expr>], span: Span) -> Result<Bound> {
    let condition = it.tensor(given(args, 0)?)?;
    let (a, b) = it.both(given(args, 1)?, given(args, 2)?)?;
    it.op(Select, &[condition, a, b], span).map(Bound::Tensor)
}

fn split<'a>(it: &mut Lower<'a>, args: &[Option<&'a Expr>], span: Span) -> Result<Bound> {
    let x = it.tensor(given(args, 0)?)?;
    let (from, to) = it.change(given(args, 1)?)?;
    let (axis, into) = (it.axis(from)?, it.axes(to)?);
    it.op(Split { axis, into }, &[x], span).map(Bound::Tensor)
}

/// `[K, P]`, which become their product, or `[K, P] -> E`.
fn merge<'a>(it: &mut Lower<'a>, args: &[Option<&'a Expr>], span: Span) -> Result<Bound> {
    let x = it.tensor(given(args, 0)?)?;
    let change = given(args, 1)?;
    let (axes, into) = match &change.kind {
        ExprKind::List(_) => {
            let axes = it.axes(change)?;
            let into = Axis::product(&axes);
            (axes, into)
        }
        _ => {
            let (from, to) = it.change(change)?;
            (it.axes(from)?, Some(it.axis(to)?))
        }
    };
    match into {
        Some(into) => it.op(Merge { axes, into }, &[x], span).map(Bound::Tensor),
        None => Err(it.wrong("E0302", "these axes have no product", change.span)),
    }
}

fn rename<'a>(it: &mut Lower<'a>, args: &[Option<&'a Expr>], span: Span) -> Result<Bound> {
    let x = it.tensor(given(args, 0)?)?;
    let (from, to) = it.change(given(args, 1)?)?;
    let (axis, into) = (it.axis(from)?, it.axis(to)?);
    it.op(Rename { axis, into }, &[x], span).map(Bound::Tensor)
}

fn transpose<'a>(it: &mut Lower<'a>, args: &[Option<&'a Expr>], span: Span) -> Result<Bound> {
    let x = it.tensor(given(args, 0)?)?;
    let to = it.axes(given(args, 1)?)?;
    it.op(Transpose { to }, &[x], span).map(Bound::Tensor)
}

fn slice<'a>(it: &mut Lower<'a>, args: &[Option<&'a Expr>], span: Span) -> Result<Bound> {
    let x = it.tensor(given(args, 0)?)?;
    let (from, to) = it.change(given(args, 1)?)?;
    let (axis, into) = (it.axis(from)?, it.axis(to)?);
    let (after, last) = it.place(args[2], args[3])?;
    it.op(Slice { axis, after, last, into }, &[x], span).map(Bound::Tensor)
}

fn pad<'a>(it: &mut Lower<'a>, args: &[Option<&'a Expr>], span: Span) -> Result<Bound> {
    let x = it.tensor(given(args, 0)?)?;
    let (from, to) = it.change(given(args, 1)?)?;
    let (axis, into) = (it.axis(from)?, it.axis(to)?);
    let (after, last) = it.place(args[2], args[3])?;
    let value = match args[4].map_or(Ok(Bound::Number(0.0)), |value| it.expr(value))? {
        Bound::Number(number) => Real(number),
        other => {
            let message = format!("what fills the rest is a number, not {}", other.describe());
            return Err(it.wrong("E0306", message, span));
        }
    };
    it.op(Pad { axis, after, last, into, value }, &[x], span).map(Bound::Tensor)
}

/// `concat([a, b], A | B)`: one part for each segment.
fn concat<'a>(it: &mut Lower<'a>, args: &[Option<&'a Expr>], span: Span) -> Result<Bound> {
    let list = given(args, 0)?;
    let ExprKind::List(members) = &list.kind else {
        return Err(it.wrong("E0306", "the parts stand in brackets: `[a, b]`", list.span));
    };
    let values = members.iter().map(|member| it.tensor(member)).collect::<Result<Vec<_>>>()?;
    let parts = it.segments(given(args, 1)?)?;
    it.op(Concat { parts }, &values, span).map(Bound::Tensor)
}

impl<'a> Lower<'a> {
    /// The axes that `|` joins.
    fn segments(&mut self, expr: &'a Expr) -> Result<Vec<Axis>> {
        match &expr.kind {
            ExprKind::Binary(crate::ast::Binary::Concat, sides) => {
                Ok([self.segments(&sides.0)?, self.segments(&sides.1)?].concat())
            }
            _ => Ok(vec![self.axis(expr)?]),
        }
    }
}

fn zeros<'a>(it: &mut Lower<'a>, args: &[Option<&'a Expr>], span: Span) -> Result<Bound> {
    let axes = it.axes(given(args, 0)?)?;
    let ty = it.sound(Type::new(DType::F32, axes), span)?;
    it.op(Constant::fill(ty, 0.0), &[], span).map(Bound::Tensor)
}

fn iota<'a>(it: &mut Lower<'a>, args: &[Option<&'a Expr>], span: Span) -> Result<Bound> {
    let axis = it.axis(given(args, 0)?)?;
    it.op(Iota { axis }, &[], span).map(Bound::Tensor)
}

fn extent<'a>(it: &mut Lower<'a>, args: &[Option<&'a Expr>], span: Span) -> Result<Bound> {
    let axis = it.axis(given(args, 0)?)?;
    it.op(ExtentOf { axis }, &[], span).map(Bound::Tensor)
}

fn cast<'a>(it: &mut Lower<'a>, args: &[Option<&'a Expr>], span: Span) -> Result<Bound> {
    let x = it.tensor(given(args, 0)?)?;
    let to = given(args, 1)?;
    let ExprKind::Name(name) = &to.kind else {
        return Err(it.wrong("E0306", "an element type is wanted here, such as `f32`", to.span));
    };
    let dtype = it.dtype_named(name, to.span)?;
    it.cast(x, dtype, span).map(Bound::Tensor)
}
