//! Text to tokens, with nom over the characters.

use nom::branch::alt;
use nom::bytes::complete::{tag, take_till, take_while, take_while1};
use nom::character::complete::{digit1, one_of};
use nom::combinator::{opt, recognize, value};
use nom::{IResult, Parser};

use crate::diagnostic::Diagnostic;
use crate::source::Span;

/// No text may have more bytes.
pub const MOST_BYTES: usize = 1 << 20;
/// No text may have more tokens.
pub const MOST_TOKENS: usize = 100_000;

/// What a token is. Words are told apart by their first letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A word that begins with a small letter or `_`.
    Name,
    /// A word that begins with a capital.
    Axis,
    Number,
    /// With its quotes.
    Text,
    Symbol,
    /// To the end of the line; parsers never see it.
    Comment,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) start: u32,
    pub(crate) end: u32,
    /// Ends of line between the token before and this one, at most 2: none, a new line, a blank
    /// line.
    pub(crate) lines_before: u8,
}

impl Token {
    pub(crate) fn text(self, source: &str) -> &str {
        &source[self.start as usize..self.end as usize]
    }

    pub(crate) fn span(self, source: u16) -> Span {
        Span { source, start: self.start, end: self.end }
    }
}

const SYMBOLS: [&str; 23] = [
    "->", "<=", ">=", "==", "!=", "..", "(", ")", "[", "]", "{", "}", ",", ":", ".", "=", "<", ">",
    "+", "-", "*", "/", "|",
];

/// All tokens of a text, comments among them, and what was wrong with the characters.
pub(crate) fn lex(source: u16, text: &str) -> (Vec<Token>, Vec<Diagnostic>) {
    let (mut tokens, mut faults) = (Vec::new(), Vec::new());
    if text.len() > MOST_BYTES {
        faults.push(too_large(source, format!("{} bytes", text.len()), MOST_BYTES));
        return (tokens, faults);
    }
    let mut rest = text;
    loop {
        let lines_before = skip_blank(&mut rest);
        let start = (text.len() - rest.len()) as u32;
        if rest.is_empty() {
            return (tokens, faults);
        }
        if tokens.len() == MOST_TOKENS || faults.len() == crate::MOST_DIAGNOSTICS {
            faults.push(too_large(source, format!("more than {MOST_TOKENS} tokens"), MOST_TOKENS));
            return (tokens, faults);
        }
        match token(rest) {
            Ok((after, kind)) => {
                let end = (text.len() - after.len()) as u32;
                let token = Token { kind, start, end, lines_before };
                if kind == Kind::Text && !is_closed(token.text(text)) {
                    faults.push(unclosed(token.span(source), token.text(text)));
                }
                tokens.push(token);
                rest = after;
            }
            Err(_) => {
                let after = rest.trim_start_matches(|it| !may_begin_token(it));
                let end = (text.len() - after.len()) as u32;
                faults.push(unknown(
                    Span { source, start, end },
                    &text[start as usize..end as usize],
                ));
                rest = after;
            }
        }
    }
}

/// Skips white space and says how many line ends it held, at most 2.
fn skip_blank(rest: &mut &str) -> u8 {
    let after = rest.trim_start();
    let blank = &rest[..rest.len() - after.len()];
    *rest = after;
    blank.matches('\n').take(2).count() as u8
}

fn token(text: &str) -> IResult<&str, Kind> {
    alt((
        value(Kind::Comment, (tag("//"), take_till(|it| it == '\n'))),
        value(Kind::Number, number),
        word,
        value(Kind::Text, alt((quoted('"'), quoted('\'')))),
        symbol,
    ))
    .parse(text)
}

fn number(text: &str) -> IResult<&str, &str> {
    let fraction = opt((tag("."), digit1));
    let exponent = opt((one_of("eE"), opt(one_of("+-")), digit1));
    recognize((digit1, fraction, exponent)).parse(text)
}

fn word(text: &str) -> IResult<&str, Kind> {
    let (rest, word) = take_while1(|it: char| it.is_ascii_alphanumeric() || it == '_')(text)?;
    let capital = word.starts_with(|it: char| it.is_ascii_uppercase());
    Ok((rest, if capital { Kind::Axis } else { Kind::Name }))
}

/// A text that ends with its quote or, wrongly, with its line.
fn quoted<'a>(quote: char) -> impl Fn(&'a str) -> IResult<&'a str, &'a str> {
    move |text| {
        let inside = take_while(move |it| it != quote && it != '\n');
        recognize((
            nom::character::complete::char(quote),
            inside,
            opt(nom::character::complete::char(quote)),
        ))
        .parse(text)
    }
}

fn symbol(text: &str) -> IResult<&str, Kind> {
    match SYMBOLS.iter().find(|it| text.starts_with(**it)) {
        Some(symbol) => Ok((&text[symbol.len()..], Kind::Symbol)),
        None => Err(nom::Err::Error(nom::error::Error::new(text, nom::error::ErrorKind::Tag))),
    }
}

fn is_closed(text: &str) -> bool {
    text.len() >= 2 && text.as_bytes().first() == text.as_bytes().last()
}

fn may_begin_token(it: char) -> bool {
    it.is_ascii_alphanumeric() || it.is_whitespace() || "_\"'()[]{},:.=<>+-*/|".contains(it)
}

fn unclosed(span: Span, text: &str) -> Diagnostic {
    let quote = &text[..1];
    let end = Span { start: span.end, ..span };
    Diagnostic::error("E0102", "this text has no closing quote")
        .at(span, "begins here and runs to the end of the line")
        .suggest(end, quote, "close it")
}

fn unknown(span: Span, text: &str) -> Diagnostic {
    let shown: String = text.chars().take(8).collect();
    let diagnostic =
        Diagnostic::error("E0101", format!("`{}` has no meaning here", shown.escape_debug()))
            .at(span, "");
    match text {
        ";" => diagnostic.suggest(span, "", "statements need no `;`"),
        "#" => diagnostic.suggest(span, "//", "comments begin with `//`"),
        "×" | "·" => diagnostic.suggest(span, "*", "products are written with `*`"),
        _ => diagnostic,
    }
}

fn too_large(source: u16, found: String, most: usize) -> Diagnostic {
    Diagnostic::error("E0106", format!("the text is too large: {found}, and {most} are the most"))
        .at(Span { source, start: 0, end: 0 }, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> String {
        let (tokens, _) = lex(0, text);
        tokens.iter().map(|it| format!("{:?}:{} ", it.kind, it.text(text))).collect()
    }

    #[test]
    fn ranges_are_not_fractions() {
        assert_eq!(kinds("0..R 1.5e-3"), "Number:0 Symbol:.. Axis:R Number:1.5e-3 ");
    }

    #[test]
    fn comments_and_texts_end_with_their_lines() {
        assert_eq!(kinds("a // b\n'*'"), "Name:a Comment:// b Text:'*' ");
        assert_eq!(lex(0, "\"abc\nd").1[0].code, "E0102");
    }

    #[test]
    fn strange_characters_are_reported_in_runs() {
        let (tokens, faults) = lex(0, "a §§ b ; c");
        assert_eq!((tokens.len(), faults.len()), (3, 2));
        assert_eq!(faults[1].suggestion.as_ref().unwrap().replacement, "");
    }
}
