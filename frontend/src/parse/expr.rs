//! Expressions. One grammar serves values, axes and source tensors, so that a mistake is told by
//! the checker, in the words of its context.

use nom::Parser;
use nom::combinator::{cut, opt};
use nom::sequence::preceded;

use super::body::body;
use super::tokens::{
    Fault, Parsed, Tokens, axis, committed, list, name, nested, symbol, text, too_deep,
};
use crate::ast::{Arg, Binary, Call, Expr, ExprKind, If, Scan, Stmt, StmtKind, Unary};
use crate::lex::Kind;
use crate::source::Span;

/// Expressions may have this many levels, chains of operators included.
pub(super) const MOST_HEIGHT: u8 = 200;

pub(crate) fn expr(input: Tokens<'_>) -> Parsed<'_, Expr> {
    binary(input, 0)
}

/// Operands joined by operators that bind at least so tightly.
fn binary(input: Tokens<'_>, least: u8) -> Parsed<'_, Expr> {
    let (mut rest, mut left) = unary(input)?;
    while let Some((op, power)) = operator(rest).filter(|it| least <= it.1) {
        let (after, right) = binary(rest.skip(1), power + 1).map_err(committed)?;
        let span = left.span.to(right.span);
        let height = left.height.max(right.height);
        left = tall(rest, height, ExprKind::Binary(op, Box::new((left, right))), span)?;
        rest = after;
    }
    Ok((rest, left))
}

fn operator(input: Tokens<'_>) -> Option<(Binary, u8)> {
    let found = input.peek(0);
    Binary::ALL.iter().find(|it| it.1 == found).map(|&(op, _, power)| (op, power))
}

/// An expression one level above its parts, unless that is too high.
fn tall<'a>(
    input: Tokens<'a>,
    parts: u8,
    kind: ExprKind,
    span: Span,
) -> Result<Expr, nom::Err<Fault>> {
    if parts >= MOST_HEIGHT {
        return Err(input.fail(too_deep(span)));
    }
    Ok(Expr { kind, span, height: parts + 1 })
}

fn unary(input: Tokens<'_>) -> Parsed<'_, Expr> {
    let op = match input.peek(0) {
        "-" => Unary::Minus,
        "not" => Unary::Not,
        _ => return postfix(input),
    };
    let (rest, operand) = nested(unary).parse(input.skip(1))?;
    let height = operand.height;
    let expr = tall(input, height, ExprKind::Unary(op, Box::new(operand)), input.span_to(rest))?;
    Ok((rest, expr))
}

/// An operand with its indices. A `[` that begins a line begins a statement.
fn postfix(input: Tokens<'_>) -> Parsed<'_, Expr> {
    let (mut rest, mut base) = operand(input)?;
    while rest.peek(0) == "[" && !rest.starts_line() {
        let (after, indices) = nested(list("[", expr, "]")).parse(rest)?;
        let height = base.height.max(highest(&indices));
        let kind = ExprKind::Index(Box::new((base, indices)));
        base = tall(rest, height, kind, input.span_to(after))?;
        rest = after;
    }
    Ok((rest, base))
}

fn operand(input: Tokens<'_>) -> Parsed<'_, Expr> {
    match (input.kind(0), input.peek(0)) {
        (Some(Kind::Number), _) => number(input),
        (Some(Kind::Text), _) => text.map(|it| leaf(ExprKind::Text(it.text), it.span)).parse(input),
        (Some(Kind::Axis), it) => {
            Ok((input.skip(1), leaf(ExprKind::Axis(it.into()), input.here())))
        }
        (_, "if") => nested(choice).parse(input),
        (_, "scan") => nested(scan).parse(input),
        (_, "(") => nested(grouped).parse(input),
        (_, "[") => nested(listed).parse(input),
        (_, "..") => Ok((input.skip(1), leaf(ExprKind::Rest, input.here()))),
        (Some(Kind::Name), _) => name_or_call(input),
        _ => input.expected("an expression"),
    }
}

pub(crate) fn leaf(kind: ExprKind, span: Span) -> Expr {
    Expr { kind, span, height: 1 }
}

fn number(input: Tokens<'_>) -> Parsed<'_, Expr> {
    let value = input.peek(0).parse().unwrap_or(f64::INFINITY);
    if f64::is_infinite(value) {
        let message = "this number is too large";
        let diagnostic = crate::Diagnostic::error("E0104", message).at(input.here(), "");
        return Err(input.fail(diagnostic));
    }
    Ok((input.skip(1), leaf(ExprKind::Number(value), input.here())))
}

/// `(a)` is `a`; `(a, b)` is a tuple.
fn grouped(input: Tokens<'_>) -> Parsed<'_, Expr> {
    let (rest, mut members) = list("(", expr, ")")(input)?;
    let span = input.span_to(rest);
    if members.is_empty() {
        return input.skip(1).expected("an expression");
    }
    let height = highest(&members);
    if members.len() == 1 {
        let inner = members.remove(0);
        return Ok((rest, Expr { span, ..inner }));
    }
    Ok((rest, tall(input, height, ExprKind::Tuple(members), span)?))
}

fn listed(input: Tokens<'_>) -> Parsed<'_, Expr> {
    let (rest, members) = list("[", expr, "]")(input)?;
    let height = highest(&members);
    Ok((rest, tall(input, height, ExprKind::List(members), input.span_to(rest))?))
}

/// A name, or a call if `(` follows on the same line.
fn name_or_call(input: Tokens<'_>) -> Parsed<'_, Expr> {
    let (rest, callee) = name(input)?;
    let (rest, label) = opt(preceded(symbol("as"), cut(name))).parse(rest)?;
    if label.is_none() && (rest.peek(0) != "(" || rest.starts_line()) {
        return Ok((rest, leaf(ExprKind::Name(callee.text), callee.span)));
    }
    let (after, args) = nested(list("(", arg, ")")).parse(rest)?;
    let height = args.iter().map(|it| it.value.height).max().unwrap_or(0);
    let call = ExprKind::Call(Box::new(Call { callee, label, args }));
    Ok((after, tall(rest, height, call, input.span_to(after))?))
}

fn arg(input: Tokens<'_>) -> Parsed<'_, Arg> {
    let is_named = input.kind(0) == Some(Kind::Name) && input.peek(1) == "=";
    if !is_named {
        return expr.map(|value| Arg { name: None, value }).parse(input);
    }
    let (rest, name) = name(input)?;
    let (rest, value) = expr(rest.skip(1))?;
    Ok((rest, Arg { name: Some(name), value }))
}

/// `if condition { ... } else { ... }`
fn choice(input: Tokens<'_>) -> Parsed<'_, Expr> {
    let (rest, condition) = expr(input.skip(1))?;
    let (rest, then) = body(rest)?;
    let (rest, _) = symbol("else")(rest)?;
    let (rest, otherwise) = match rest.peek(0) {
        "if" => nested(choice).map(|it| vec![value_of(it)]).parse(rest)?,
        _ => body(rest)?,
    };
    let height = condition.height.max(deepest(&then)).max(deepest(&otherwise));
    let kind = ExprKind::If(Box::new(If { condition, then, otherwise }));
    Ok((rest, tall(input, height, kind, input.span_to(rest))?))
}

/// `scan S { ... }`
fn scan(input: Tokens<'_>) -> Parsed<'_, Expr> {
    let (rest, over) = axis(input.skip(1)).map_err(committed)?;
    let (rest, body) = body(rest).map_err(committed)?;
    let height = deepest(&body);
    let kind = ExprKind::Scan(Box::new(Scan { over, body }));
    Ok((rest, tall(input, height, kind, input.span_to(rest))?))
}

fn value_of(expr: Expr) -> Stmt {
    Stmt { span: expr.span, kind: StmtKind::Value(expr) }
}

fn highest(exprs: &[Expr]) -> u8 {
    exprs.iter().map(|it| it.height).max().unwrap_or(0)
}

/// The height of the highest expression in a body. Layers nest by their own limit.
fn deepest(body: &[Stmt]) -> u8 {
    let heights = body.iter().map(|it| match &it.kind {
        StmtKind::Let(_, value) | StmtKind::Set(_, value) | StmtKind::Value(value) => value.height,
        StmtKind::Params(_) | StmtKind::Axes(_) | StmtKind::Layers(_) => 0,
    });
    heights.max().unwrap_or(0)
}
