//! Bodies: statements in braces, read to the end even where some of them are wrong.

use nom::Parser;
use nom::branch::alt;
use nom::combinator::{cut, map, opt};
use nom::sequence::preceded;

use super::expr::{expr, leaf};
use super::tokens::{
    Fault, Parsed, Tokens, any_word, axis, commas, committed, list, name, nested, symbol, text,
};
use crate::ast::{
    AxisDecl, Branch, Expr, ExprKind, Extent, Layers, LayersBody, Param, Stmt, StmtKind,
};
use crate::lex::Kind;

/// `{ statements }`
pub(crate) fn body(input: Tokens<'_>) -> Parsed<'_, Vec<Stmt>> {
    nested(braces(statement, |it| it.peek(0) == "}")).parse(input)
}

/// Members in braces, or up to where `ends` says; a wrong one is reported and skipped. A missing
/// brace is noticed at the next item of the file.
pub(crate) fn braces<'a, T>(
    mut member: impl Parser<Tokens<'a>, Output = T, Error = Fault>,
    ends: impl Fn(Tokens<'a>) -> bool,
) -> impl FnMut(Tokens<'a>) -> Parsed<'a, Vec<T>> {
    move |input| {
        let (rest, opened) = symbol("{")(input)?;
        let (rest, members) = members(rest, &mut member, &ends);
        if rest.peek(0) != "}" {
            let diagnostic = rest.unexpected("`}`").at(opened, "opened here");
            rest.report(diagnostic);
            return Ok((rest, members));
        }
        Ok((rest.skip(1), members))
    }
}

fn members<'a, T>(
    input: Tokens<'a>,
    member: &mut impl Parser<Tokens<'a>, Output = T, Error = Fault>,
    ends: &impl Fn(Tokens<'a>) -> bool,
) -> (Tokens<'a>, Vec<T>) {
    let (mut rest, mut members) = (input, Vec::new());
    while rest.first().is_some() && !ends(rest) && !super::begins_item(rest) {
        match member.parse(rest) {
            Ok((after, one)) => {
                members.push(one);
                rest = after;
            }
            Err(fault) => {
                let at = rest.report_fault(fault);
                rest = resume(rest, at.max(rest.at + 1), ends);
            }
        }
    }
    (rest, members)
}

/// Where reading goes on after a fault: at the next line that is in no bracket opened since the
/// broken statement began, at a line that surely begins a statement, or at the end of the body.
fn resume<'a>(from: Tokens<'a>, fault: usize, ends: &impl Fn(Tokens<'a>) -> bool) -> Tokens<'a> {
    let (mut at, mut open, mut braces) = (from, 0_i32, 0_i32);
    while at.first().is_some() {
        let is_free = open <= 0 && braces <= 0;
        let is_start =
            at.starts_line() && (is_free || matches!(at.peek(0), "let" | "param" | "layers" | "}"));
        let is_end = (braces <= 0 && (ends(at) || at.peek(0) == "}")) || super::begins_item(at);
        if fault <= at.at && (is_start && braces <= 0 || is_end) {
            return at;
        }
        match at.peek(0) {
            "(" | "[" => open += 1,
            ")" | "]" => open -= 1,
            "{" => braces += 1,
            "}" => braces -= 1,
            _ => {}
        }
        at = at.skip(1);
    }
    at
}

fn statement(input: Tokens<'_>) -> Parsed<'_, Stmt> {
    let (rest, kind) = match input.peek(0) {
        "param" => map(commas(param), StmtKind::Params).parse(input.skip(1)),
        "axis" => map(commas(axis_decl), StmtKind::Axes).parse(input.skip(1)),
        "let" => binding(input.skip(1)),
        "layers" => map(layers, StmtKind::Layers).parse(input.skip(1)),
        _ if input.kind(0) == Some(Kind::Name) && input.peek(1) == "=" => update(input),
        _ => map(expr, StmtKind::Value).parse(input),
    }
    .map_err(|it| begun(input, it))?;
    Ok((rest, Stmt { kind, span: input.span_to(rest) }))
}

/// A statement that cannot even begin says so.
fn begun(input: Tokens<'_>, error: nom::Err<Fault>) -> nom::Err<Fault> {
    match error {
        nom::Err::Error(fault) if fault.at == input.at => {
            nom::Err::Error(Fault { expected: "a statement", ..fault })
        }
        other => other,
    }
}

fn binding(input: Tokens<'_>) -> Parsed<'_, StmtKind> {
    let (rest, names) = commas(name)(input)?;
    let (rest, value) = preceded(symbol("="), expr).parse(rest)?;
    Ok((rest, StmtKind::Let(names, value)))
}

fn update(input: Tokens<'_>) -> Parsed<'_, StmtKind> {
    map((name, preceded(symbol("="), expr)), |(name, value)| StmtKind::Set(name, value))
        .parse(input)
}

/// `x[S, E]: i32 = default`
pub(crate) fn param(input: Tokens<'_>) -> Parsed<'_, Param> {
    let (rest, own) = name(input)?;
    let (rest, shape) = opt(list("[", expr, "]")).parse(rest)?;
    let (rest, dtype) = opt(preceded(symbol(":"), cut(any_word))).parse(rest)?;
    let (rest, default) = opt(preceded(symbol("="), cut(expr))).parse(rest)?;
    Ok((rest, Param { name: own, shape, dtype, default }))
}

/// `E = 576 elastic { 512 }`, `S <= 8192`
pub(crate) fn axis_decl(input: Tokens<'_>) -> Parsed<'_, AxisDecl> {
    let is = map(preceded(symbol("="), cut(expr)), Extent::Is);
    let at_most = map(preceded(symbol("<="), cut(expr)), Extent::AtMost);
    let mut elastic = opt(preceded(symbol("elastic"), cut(list("{", expr, "}"))));
    let (rest, name) = axis(input)?;
    let (rest, extent) = alt((at_most, is)).parse(rest)?;
    let (rest, elastic) = elastic.parse(rest)?;
    Ok((rest, AxisDecl { name, extent, elastic: elastic.unwrap_or_default() }))
}

/// `L as encoder { ... }`, after its word.
fn layers(input: Tokens<'_>) -> Parsed<'_, Layers> {
    let (rest, over) = over(input)?;
    let (rest, label) = opt(preceded(symbol("as"), cut(name))).parse(rest)?;
    let (rest, body) = match begins_branch(rest.skip(1)) {
        true => nested(braces(branch, |it| it.peek(0) == "}")).map(LayersBody::Pattern).parse(rest),
        false => body.map(LayersBody::Same).parse(rest),
    }
    .map_err(committed)?;
    Ok((rest, Layers { over, label, body }))
}

/// What layers repeat over: an axis, a text, or the name of a value.
fn over(input: Tokens<'_>) -> Parsed<'_, Expr> {
    let axis = map(axis, |it| leaf(ExprKind::Axis(it.text), it.span));
    let text = map(text, |it| leaf(ExprKind::Text(it.text), it.span));
    let name = map(name, |it| leaf(ExprKind::Name(it.text), it.span));
    let (rest, over) = opt(alt((axis, text, name))).parse(input)?;
    match over {
        Some(over) => Ok((rest, over)),
        None => input.expected("an axis or a pattern in quotes"),
    }
}

fn begins_branch(input: Tokens<'_>) -> bool {
    matches!(input.kind(0), Some(Kind::Axis | Kind::Text | Kind::Name)) && input.peek(1) == ":"
}

/// `M: x = mamba(x)`
fn branch(input: Tokens<'_>) -> Parsed<'_, Branch> {
    let (rest, letters) = alt((axis, text, name)).parse(input)?;
    let (rest, _) = symbol(":")(rest)?;
    let ends = |it: Tokens<'_>| it.peek(0) == "}" || begins_branch(it);
    let (rest, body) = members(rest, &mut statement, &ends);
    Ok((rest, Branch { letters, body }))
}
