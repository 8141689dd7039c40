//! Tokens to the syntax tree, with nom over the tokens. Parsing never fails: it gives what it could
//! read and what was wrong with the rest.

mod body;
mod expr;
mod item;
mod tokens;

use std::cell::RefCell;

use crate::ast::{Item, Spec};
use crate::diagnostic::Diagnostic;
use crate::lex::{Kind, lex};
use item::{ITEMS, item};
pub(crate) use tokens::RESERVED;
use tokens::Tokens;

/// Reads a text. The tree is whole only if there are no diagnostics.
pub fn parse(source: u16, text: &str) -> (Spec, Vec<Diagnostic>) {
    let (mut all, faults) = lex(source, text);
    all.retain(|it| it.kind != Kind::Comment);
    let log = RefCell::new(faults);
    let items = items(Tokens { source, text, all: &all, at: 0, depth: 0, log: &log });
    (Spec { items }, log.into_inner())
}

fn items(input: Tokens<'_>) -> Vec<Item> {
    let (mut rest, mut items) = (input, Vec::new());
    while rest.first().is_some() {
        match item(rest) {
            Ok((after, one)) => {
                items.push(one);
                rest = after;
            }
            Err(fault) => {
                let at = rest.report_fault(fault);
                rest = Tokens { at: at.max(rest.at + 1), ..rest };
                while rest.first().is_some() && !begins_item(rest) && rest.peek(0) != "axis" {
                    rest = rest.skip(1);
                }
            }
        }
    }
    items
}

/// Whether an item surely begins here: its word leads a line and what follows fits. A body may hold
/// axes of its own, so `axis` says nothing.
fn begins_item(input: Tokens<'_>) -> bool {
    let word = input.peek(0);
    let follows = match word {
        "axis" => false,
        "train" => input.peek(1) == "{",
        "tokenizer" => input.kind(1) == Some(Kind::Text),
        _ => input.kind(1) == Some(Kind::Name) && !RESERVED.contains(&input.peek(1)),
    };
    follows && ITEMS.contains(&word) && input.starts_line()
}
