//! The words of a text of rules.

use super::RuleError;

/// The longest text that is read.
const MAX_BYTES: usize = 1 << 20;

/// A word with its place.
#[derive(Clone, Debug)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind<'a>,
    pub(super) line: usize,
    pub(super) column: usize,
}

/// What a word is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind<'a> {
    Name(&'a str),
    Number(f64),
    Quoted(&'a str),
    Sign(&'a str),
    Comment(&'a str),
}

const SIGNS: [&str; 12] = ["=>", "..", "(", ")", "[", "]", ",", ":", "=", "+", "*", "/"];

/// The words of `text`.
pub(super) fn lex(text: &str) -> Result<Vec<Token<'_>>, RuleError> {
    if MAX_BYTES < text.len() {
        return Err(RuleError {
            line: 1,
            column: 1,
            code: "too-long",
            message: format!("rules of more than {MAX_BYTES} bytes"),
        });
    }
    let mut tokens = Vec::new();
    for (i, line) in text.lines().enumerate() {
        lex_line(i + 1, line, &mut tokens)?;
    }
    Ok(tokens)
}

fn lex_line<'a>(line: usize, text: &'a str, tokens: &mut Vec<Token<'a>>) -> Result<(), RuleError> {
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let column = text[..text.len() - rest.len()].chars().count() + 1;
        let Some((kind, len)) = word(rest) else {
            let message = match rest.chars().next() {
                Some('"') => "this text is not closed".to_owned(),
                first => format!("`{}` means nothing here", first.unwrap_or(' ')),
            };
            return Err(RuleError { line, column, code: "character", message });
        };
        tokens.push(Token { kind, line, column });
        rest = rest[len..].trim_start();
    }
    Ok(())
}

/// The word that `rest` begins with, and its bytes.
fn word(rest: &str) -> Option<(Kind<'_>, usize)> {
    if let Some(comment) = rest.strip_prefix("//") {
        return Some((Kind::Comment(comment.trim()), rest.len()));
    }
    if let Some(inner) = rest.strip_prefix('"') {
        let end = inner.find('"')?;
        return Some((Kind::Quoted(&inner[..end]), end + 2));
    }
    if let Some(sign) = SIGNS.iter().find(|it| rest.starts_with(**it)) {
        return Some((Kind::Sign(sign), sign.len()));
    }
    let first = rest.chars().next()?;
    if first.is_ascii_digit() {
        let end = number_len(rest);
        return Some((Kind::Number(rest[..end].parse().ok()?), end));
    }
    if first == '-' {
        return Some((Kind::Sign(&rest[..1]), 1));
    }
    let len = name_len(rest);
    (0 < len).then(|| (Kind::Name(&rest[..len]), len))
}

/// Digits, a point, digits and an exponent.
fn number_len(text: &str) -> usize {
    let bytes = text.as_bytes();
    let digits = |from: usize| bytes[from..].iter().take_while(|it| it.is_ascii_digit()).count();
    let mut end = digits(0);
    if bytes.get(end) == Some(&b'.') && bytes.get(end + 1).is_some_and(u8::is_ascii_digit) {
        end += 1 + digits(end + 1);
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'-' | b'+')));
        let exponent = bytes.get(end + 1 + sign..).map_or(0, |_| digits(end + 1 + sign));
        end += if exponent == 0 { 0 } else { 1 + sign + exponent };
    }
    end
}

/// A letter or `_`, then letters, digits, `_`, `-` before a letter, and `::`.
fn name_len(text: &str) -> usize {
    let bytes = text.as_bytes();
    let is_letter =
        |i: usize| bytes.get(i).is_some_and(|it| it.is_ascii_alphabetic() || *it == b'_');
    let mut end = 0;
    loop {
        end += match bytes.get(end) {
            Some(_) if is_letter(end) => 1,
            Some(it) if 0 < end && it.is_ascii_digit() => 1,
            Some(b'-') if 0 < end && is_letter(end + 1) => 1,
            Some(b':') if 0 < end && bytes.get(end + 1) == Some(&b':') && is_letter(end + 2) => 2,
            _ => return end,
        };
    }
}
