//! The language of the specs: text to `ir`, and what there is to say about it on the way.
//!
//! [`parse`] gives the tree of one text, [`format`] its one true layout.
//! Nothing here reads a file, and nothing that a text holds can make it panic, loop or overflow.

pub mod ast;
mod diagnostic;
mod explain;
mod format;
#[cfg(test)]
mod fuzz;
mod lex;
mod parse;
mod source;
mod suggest;

pub use diagnostic::{Diagnostic, Label, Severity, Suggestion, line_column};
pub use explain::{codes, explain};
pub use format::format;
pub use lex::{MOST_BYTES, MOST_TOKENS};
pub use parse::parse;
pub use source::{Source, Sources, Span};

/// More findings in one text than this are not told.
pub const MOST_DIAGNOSTICS: usize = 100;
