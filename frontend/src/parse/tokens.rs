//! Tokens as an input of nom, and the parsers of single ones.

use std::cell::RefCell;

use nom::error::{ErrorKind, ParseError};
use nom::{Err, IResult, Parser};

use crate::ast::Name;
use crate::diagnostic::Diagnostic;
use crate::lex::{Kind, Token};
use crate::source::Span;

/// Brackets, operators of one operand and branches may nest this deeply.
pub(super) const MOST_NESTED: u8 = 48;

/// Words that begin or join parts of a body, and so name nothing.
pub(crate) const RESERVED: [&str; 11] =
    ["param", "let", "axis", "layers", "scan", "if", "else", "and", "or", "not", "as"];

/// The tokens still to be read.
#[derive(Clone, Copy)]
pub(crate) struct Tokens<'a> {
    pub(crate) source: u16,
    pub(crate) text: &'a str,
    pub(crate) all: &'a [Token],
    pub(crate) at: usize,
    pub(crate) depth: u8,
    /// What is wrong with the parts that were skipped.
    pub(crate) log: &'a RefCell<Vec<Diagnostic>>,
}

pub(crate) type Parsed<'a, T> = IResult<Tokens<'a>, T, Fault>;

/// Why a parser gave up: what it would have liked at a token, or a finding of its own.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) at: usize,
    /// A symbol or word of the language, or a description, which has a space.
    pub(crate) expected: &'static str,
    pub(crate) diagnostic: Option<Box<Diagnostic>>,
}

impl<'a> ParseError<Tokens<'a>> for Fault {
    fn from_error_kind(input: Tokens<'a>, _: ErrorKind) -> Fault {
        Fault { at: input.at, expected: "something else", diagnostic: None }
    }

    fn append(_: Tokens<'a>, _: ErrorKind, other: Fault) -> Fault {
        other
    }

    fn or(self, other: Fault) -> Fault {
        if other.at < self.at { self } else { other }
    }
}

impl<'a> Tokens<'a> {
    pub(crate) fn first(self) -> Option<Token> {
        self.all.get(self.at).copied()
    }

    /// The text of the token at a distance; empty past the end.
    pub(crate) fn peek(self, distance: usize) -> &'a str {
        self.all.get(self.at + distance).map_or("", |it| it.text(self.text))
    }

    pub(crate) fn kind(self, distance: usize) -> Option<Kind> {
        self.all.get(self.at + distance).map(|it| it.kind)
    }

    pub(crate) fn skip(self, n_tokens: usize) -> Tokens<'a> {
        Tokens { at: (self.at + n_tokens).min(self.all.len()), ..self }
    }

    pub(crate) fn starts_line(self) -> bool {
        self.first().is_none_or(|it| self.at == 0 || it.lines_before > 0)
    }

    /// The place of the next token, or of the end of the text.
    pub(crate) fn here(self) -> Span {
        let end = self.text.len() as u32;
        self.first()
            .map_or(Span { source: self.source, start: end, end }, |it| it.span(self.source))
    }

    /// From the next token to the last one that `rest` has behind it.
    pub(crate) fn span_to(self, rest: Tokens<'a>) -> Span {
        let here = self.here();
        match rest.at.checked_sub(1).filter(|it| self.at <= *it) {
            Some(last) => here.to(self.all[last].span(self.source)),
            None => Span { end: here.start, ..here },
        }
    }

    pub(crate) fn expected<T>(self, expected: &'static str) -> Parsed<'a, T> {
        Err(Err::Error(Fault { at: self.at, expected, diagnostic: None }))
    }

    /// A failure with a finding of its own.
    pub(crate) fn fail(self, diagnostic: Diagnostic) -> Err<Fault> {
        let diagnostic = Some(Box::new(diagnostic));
        Err::Failure(Fault { at: self.at, expected: "", diagnostic })
    }

    pub(crate) fn report(self, diagnostic: Diagnostic) {
        let mut log = self.log.borrow_mut();
        if log.len() < crate::MOST_DIAGNOSTICS {
            log.push(diagnostic);
        }
    }

    /// Reports why the part that began here could not be read, and says at which token that was.
    pub(crate) fn report_fault(self, fault: Err<Fault>) -> usize {
        let (Err::Error(fault) | Err::Failure(fault)) = fault else { return self.at };
        let at = Tokens { at: fault.at, ..self };
        let diagnostic = match fault.diagnostic {
            Some(diagnostic) => *diagnostic,
            None if fault.expected.contains(' ') => at.unexpected(fault.expected),
            None => at.unexpected(&format!("`{}`", fault.expected)),
        };
        self.report(diagnostic);
        fault.at
    }

    /// "expected `,`, found `]`"
    pub(crate) fn unexpected(self, expected: &str) -> Diagnostic {
        let found = match self.first() {
            Some(token) => format!("`{}`", token.text(self.text)),
            None => "the end of the text".into(),
        };
        let diagnostic = Diagnostic::error("E0103", format!("expected {expected}, found {found}"));
        let diagnostic = diagnostic.at(self.here(), format!("expected {expected}"));
        if RESERVED.contains(&self.peek(0)) {
            return diagnostic.note(format!("`{}` is a word of the language", self.peek(0)));
        }
        diagnostic
    }
}

/// One level deeper, unless that is too deep.
pub(crate) fn nested<'a, T>(
    mut inner: impl Parser<Tokens<'a>, Output = T, Error = Fault>,
) -> impl FnMut(Tokens<'a>) -> Parsed<'a, T> {
    move |input| {
        if input.depth == MOST_NESTED {
            return Err(input.fail(too_deep(input.here())));
        }
        let (rest, output) = inner.parse(Tokens { depth: input.depth + 1, ..input })?;
        Ok((Tokens { depth: input.depth, ..rest }, output))
    }
}

pub(crate) fn too_deep(span: Span) -> Diagnostic {
    Diagnostic::error("E0105", "this is nested too deeply").at(span, "one level too many")
}

/// A symbol or a certain word.
pub(crate) fn symbol<'a>(symbol: &'static str) -> impl Fn(Tokens<'a>) -> Parsed<'a, Span> {
    move |input| match input.peek(0) == symbol {
        true => Ok((input.skip(1), input.here())),
        false => input.expected(symbol),
    }
}

fn word<'a>(kind: Kind, expected: &'static str) -> impl Fn(Tokens<'a>) -> Parsed<'a, Name> {
    move |input| {
        if input.kind(0) != Some(kind) || RESERVED.contains(&input.peek(0)) {
            return input.expected(expected);
        }
        Ok((input.skip(1), Name { text: input.peek(0).into(), span: input.here() }))
    }
}

/// A word that begins with a small letter and is not reserved.
pub(crate) fn name(input: Tokens<'_>) -> Parsed<'_, Name> {
    word(Kind::Name, "a name")(input)
}

/// A word that begins with a small letter, reserved or not.
pub(crate) fn any_word(input: Tokens<'_>) -> Parsed<'_, Name> {
    match input.kind(0) {
        Some(Kind::Name) => {
            Ok((input.skip(1), Name { text: input.peek(0).into(), span: input.here() }))
        }
        _ => input.expected("a name"),
    }
}

/// A word that begins with a capital.
pub(crate) fn axis(input: Tokens<'_>) -> Parsed<'_, Name> {
    word(Kind::Axis, "the name of an axis, which begins with a capital")(input)
}

/// A text, without its quotes.
pub(crate) fn text(input: Tokens<'_>) -> Parsed<'_, Name> {
    let (rest, name) = word(Kind::Text, "a text in quotes")(input)?;
    let quote = name.text.chars().next().unwrap_or('"');
    let inside = name.text.strip_prefix(quote).unwrap_or_default();
    // One without its closing quote has been reported.
    let text = inside.strip_suffix(quote).unwrap_or(inside).into();
    Ok((rest, Name { text, ..name }))
}

/// A bracketed list with commas between its members and, perhaps, after the last. Once it is open
/// there is no way back, and a missing bracket is told together with the open one.
pub(crate) fn list<'a, T>(
    open: &'static str,
    mut member: impl Parser<Tokens<'a>, Output = T, Error = Fault>,
    close: &'static str,
) -> impl FnMut(Tokens<'a>) -> Parsed<'a, Vec<T>> {
    move |input| {
        let (mut rest, opened) = symbol(open)(input)?;
        let mut members = Vec::new();
        while rest.peek(0) != close {
            let (after, one) = member.parse(rest).map_err(committed)?;
            members.push(one);
            rest = after;
            match rest.peek(0) {
                "," => rest = rest.skip(1),
                found if found == close => {}
                _ => return Err(rest.fail(unclosed(rest, close, opened))),
            }
        }
        Ok((rest.skip(1), members))
    }
}

fn unclosed(input: Tokens<'_>, close: &str, opened: Span) -> Diagnostic {
    input.unexpected(&format!("`,` or `{close}`")).at(opened, "opened here")
}

/// Members with commas between them.
pub(crate) fn commas<'a, T>(
    mut member: impl Parser<Tokens<'a>, Output = T, Error = Fault>,
) -> impl FnMut(Tokens<'a>) -> Parsed<'a, Vec<T>> {
    move |input| {
        let (mut rest, first) = member.parse(input)?;
        let mut members = vec![first];
        while rest.peek(0) == "," {
            let (after, one) = member.parse(rest.skip(1)).map_err(committed)?;
            members.push(one);
            rest = after;
        }
        Ok((rest, members))
    }
}

/// An error that no alternative may swallow.
pub(crate) fn committed(error: Err<Fault>) -> Err<Fault> {
    match error {
        Err::Error(fault) => Err::Failure(fault),
        other => other,
    }
}
