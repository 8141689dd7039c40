//! The language of the specs: text to `ir`, and what there is to say about it on the way.
//!
//! [`parse`] gives the tree of one text, [`format`] its one true layout, [`compile`] the module of
//! a spec with the maps of its weights. Nothing here reads a file, and nothing that a text holds
//! can make it panic, loop or overflow.

pub mod ast;
mod compile;
mod diagnostic;
mod explain;
mod format;
#[cfg(test)]
mod fuzz;
mod lex;
mod lower;
mod parse;
mod program;
mod settings;
mod source;
mod suggest;
#[cfg(test)]
mod tests;
mod weights;

pub use compile::{Compiled, check, compile};
pub use diagnostic::{Diagnostic, Label, Severity, Suggestion, line_column};
pub use explain::{codes, explain};
pub use format::format;
pub use lex::{MOST_BYTES, MOST_TOKENS};
pub use parse::parse;
pub use settings::{Settings, rewrite};
pub use source::{PRELUDE, SPEC, Source, Sources, Span};
pub use suggest::nearest;
pub use weights::{Change, ParamRule, TensorSource, WeightMap, fits};

/// More findings in one text than this are not told.
pub const MOST_DIAGNOSTICS: usize = 100;
