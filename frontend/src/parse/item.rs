//! What stands at the top level of a file.

use nom::Parser;
use nom::branch::alt;
use nom::combinator::{map, opt};
use nom::sequence::preceded;

use super::body::{axis_decl, body, braces, param};
use super::expr::expr;
use super::tokens::{Parsed, Tokens, any_word, commas, committed, list, name, symbol, text};
use crate::ast::{Function, FunctionKind, Item, Segment, Setting, ValueDecl, WeightRule, Weights};
use crate::lex::Kind;

/// The words that begin an item.
pub(crate) const ITEMS: [&str; 10] =
    ["use", "axis", "value", "fn", "inline", "block", "model", "weights", "tokenizer", "train"];

pub(crate) fn item(input: Tokens<'_>) -> Parsed<'_, Item> {
    let after = input.skip(1);
    match input.peek(0) {
        "use" => map(name, Item::Use).parse(after),
        "axis" => map(commas(axis_decl), Item::Axes).parse(after),
        "value" => map(commas(value), Item::Values).parse(after),
        "fn" => function(FunctionKind::Plain, after),
        "inline" => preceded(symbol("fn"), |it| function(FunctionKind::Inline, it)).parse(after),
        "block" => function(FunctionKind::Block, after),
        "model" => function(FunctionKind::Model, after),
        "weights" => map(weights, Item::Weights).parse(after),
        "tokenizer" => map(text, Item::Tokenizer).parse(after),
        "train" => map(braces(setting, |it| it.peek(0) == "}"), Item::Train).parse(after),
        _ => misplaced(input),
    }
}

fn misplaced(input: Tokens<'_>) -> Parsed<'_, Item> {
    let diagnostic = input.unexpected("an item");
    let diagnostic = diagnostic.note(format!("items begin with one of: {}", ITEMS.join(", ")));
    let word = input.peek(0);
    Err(input.fail(match input.kind(0) {
        Some(Kind::Name) => diagnostic.did_you_mean(input.here(), word, ITEMS),
        _ => diagnostic,
    }))
}

fn value(input: Tokens<'_>) -> Parsed<'_, ValueDecl> {
    map((name, preceded(symbol("="), expr)), |(name, value)| ValueDecl { name, value }).parse(input)
}

fn setting(input: Tokens<'_>) -> Parsed<'_, Setting> {
    map((name, preceded(symbol("="), expr)), |(name, value)| Setting { name, value }).parse(input)
}

fn function(kind: FunctionKind, input: Tokens<'_>) -> Parsed<'_, Item> {
    let (rest, name) = name(input)?;
    let (rest, params) = list("(", param, ")")(rest)?;
    let (rest, result) = opt(preceded(symbol("->"), expr)).parse(rest)?;
    let (rest, body) = body(rest).map_err(committed)?;
    Ok((rest, Item::Function(Function { kind, name, params, result, body })))
}

fn weights(input: Tokens<'_>) -> Parsed<'_, Weights> {
    let rules = braces(weight_rule, |it: Tokens<'_>| it.peek(0) == "}");
    map((name, rules), |(format, rules)| Weights { format, rules }).parse(input)
}

fn weight_rule(input: Tokens<'_>) -> Parsed<'_, WeightRule> {
    let (rest, path) = path(input)?;
    let (rest, source) = preceded(symbol("="), expr).parse(rest)?;
    Ok((rest, WeightRule { path, source, span: input.span_to(rest) }))
}

/// `layers[l].attention.{q, k}`. Parameters and stacks may be called like words of the language.
fn path(input: Tokens<'_>) -> Parsed<'_, Vec<Segment>> {
    let (mut rest, first) = path_names(input)?;
    let mut path = vec![first];
    loop {
        let (after, segment) = match rest.peek(0) {
            "[" => {
                let (after, layer) = preceded(symbol("["), name).parse(rest)?;
                (symbol("]")(after)?.0, Segment::Layer(layer))
            }
            "." => path_names(rest.skip(1))?,
            _ => return Ok((rest, path)),
        };
        path.push(segment);
        rest = after;
    }
}

fn path_names(input: Tokens<'_>) -> Parsed<'_, Segment> {
    let group = map(list("{", name, "}"), Segment::Group);
    alt((group, map(any_word, Segment::Name))).parse(input)
}
