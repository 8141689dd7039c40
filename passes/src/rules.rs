//! Rewrite rules as text: what is looked for, what takes its place, and when that holds.
//!
//! ```text
//! // Two transposes are one.
//! exact rewrite transpose-twice: transpose(transpose(x, to = a), to = b) => transpose(x, to = b)
//!   where constant(a)
//! fuse bias: y + b as product where y is product, weight(b), type(result) = type(y)
//! ```
//!
//! The manual has the grammar (`docs/passes.md`). A rule says nothing of associativity: sums are
//! matched as they stand, in either order of the two operands.

mod check;
mod lex;
mod parse;

pub(crate) use check::attributes_of;

use std::fmt;

use ir::{Op, Real};

/// Rules in the order of their text.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// The rules.
    pub list: Vec<Rule>,
    /// What tells them from other rules: a digest of each text that was read.
    pub identity: String,
}

/// What a rewrite keeps; chosen before anything is rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Every bit.
    Exact,
    /// The same sums in another order.
    Reassociates,
}

/// One rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// The comment before it.
    pub about: String,
    /// What it keeps.
    pub class: Class,
    /// What is looked for.
    pub pattern: Pattern,
    /// What becomes of it.
    pub action: Action,
    /// What has to hold besides.
    pub premises: Vec<Premise>,
}

/// What becomes of a match.
#[derive(Clone, Debug)]
pub enum Action {
    /// This takes its place.
    Rewrite(Pattern),
    /// It becomes a function of its own, of the origin `fused::KIND`.
    Fuse(String),
}

/// An expression over variables.
#[derive(Clone, Debug, PartialEq)]
pub enum Pattern {
    /// Any value; the same one wherever the name stands.
    Var(String),
    /// A constant of which every element is this number.
    Number(Real),
    /// An op of this name.
    Apply {
        /// The op with default attributes, which tells its name.
        op: Op,
        /// What is said of its attributes.
        attributes: Vec<(String, Word)>,
        /// Its operands.
        operands: Vec<Pattern>,
    },
    /// A call of a function of this origin.
    Call {
        /// Such as `prelude::rms_norm`.
        origin: String,
        /// Its operands.
        operands: Vec<Pattern>,
    },
    /// A constant of the type of a variable.
    Fill(Real, String),
}

/// What stands for an attribute, or is compared with one, in the form that the graph prints.
#[derive(Clone, Debug, PartialEq)]
pub enum Word {
    /// This very text.
    Literal(String),
    /// Any text; the same one wherever the name stands.
    Var(String),
    /// Axes, each named by a variable; behind any others where `open`.
    Axes {
        /// Whether others may stand before.
        open: bool,
        /// The variables.
        axes: Vec<String>,
    },
    /// The axes of a value.
    AxesOf(String),
    /// The type of a value.
    TypeOf(String),
    /// The element type of a value.
    DTypeOf(String),
    /// The number that every element of a value is.
    NumberOf(String),
}

/// What has to hold of a match.
#[derive(Clone, Debug, PartialEq)]
pub enum Premise {
    /// The value is a weight, or weights laid end to end.
    Weight(String),
    /// The value is a layer of a weight that may be stored in another form.
    Open(String),
    /// Every element of the value is one number, which is known.
    Constant(String),
    /// The value is what a fused function of this kind gives.
    Is(String, String),
    /// All axes of the first are axes of the second.
    Within(String, String),
    /// Both are the same.
    Equal(Word, Word),
}

/// Why a text is no rules, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleError {
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
    /// Which mistake it is.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
}

/// The value that the pattern as a whole stands for, in premises.
pub const RESULT: &str = "result";

/// The name of an attribute that may be anything.
pub(crate) const ANY: &str = "_";

impl Rules {
    /// Those that come with the compiler.
    ///
    /// # Panics
    ///
    /// Never: a test reads them.
    pub fn standard() -> Rules {
        let texts = [
            include_str!("../rules/views.rules"),
            include_str!("../rules/products.rules"),
            include_str!("../rules/norms.rules"),
            include_str!("../rules/sums.rules"),
        ];
        let read = |it: &str| Rules::parse(it).expect("the rules that come along can be read").list;
        Rules { list: texts.iter().flat_map(|it| read(it)).collect(), identity: String::new() }
    }

    /// Reads and checks rules.
    ///
    /// # Errors
    ///
    /// The first mistake in the text.
    pub fn parse(text: &str) -> Result<Rules, RuleError> {
        let rules = parse::parse(text)?;
        check::check(&rules)?;
        let list = rules.into_iter().map(|it| it.rule).collect();
        Ok(Rules { list, identity: digest(text) })
    }

    /// These and then `more`.
    ///
    /// # Errors
    ///
    /// The name of a rule that both have.
    pub fn with(mut self, more: Rules) -> Result<Rules, String> {
        if let Some(it) = more.list.iter().find(|it| self.get(&it.name).is_some()) {
            return Err(format!("there is a rule `{}` already", it.name));
        }
        self.list.extend(more.list);
        self.identity += &more.identity;
        Ok(self)
    }

    /// The rules of a class.
    pub(crate) fn of(&self, class: Class) -> Vec<&Rule> {
        self.list.iter().filter(|it| it.class == class).collect()
    }

    /// The rule of that name.
    pub fn get(&self, name: &str) -> Option<&Rule> {
        self.list.iter().find(|it| it.name == name)
    }
}

/// FNV-1a of 64 bits.
fn digest(text: &str) -> String {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", text.bytes().fold(0xcbf2_9ce4_8422_2325, step))
}

impl Pattern {
    /// How many ops stand above its deepest variable.
    pub(crate) fn depth(&self) -> usize {
        match self {
            Pattern::Var(_) | Pattern::Fill(..) => 0,
            _ => 1 + self.operands().iter().map(Pattern::depth).max().unwrap_or(0),
        }
    }

    /// The name of the op that it begins with.
    pub(crate) fn op(&self) -> Option<&'static str> {
        match self {
            Pattern::Apply { op, .. } => Some(op.rules().name()),
            Pattern::Call { .. } => Some("call"),
            Pattern::Number(_) => Some("constant"),
            Pattern::Var(_) | Pattern::Fill(..) => None,
        }
    }

    /// The operands of an op or of a call.
    pub(crate) fn operands(&self) -> &[Pattern] {
        match self {
            Pattern::Apply { operands, .. } | Pattern::Call { operands, .. } => operands,
            Pattern::Var(_) | Pattern::Number(_) | Pattern::Fill(..) => &[],
        }
    }
}

impl Rule {
    /// Its class and what it does, in a word each.
    pub fn kind(&self) -> (&'static str, &'static str) {
        let class = match self.class {
            Class::Exact => "exact",
            Class::Reassociates => "reassociates",
        };
        (class, if let Action::Fuse(_) = self.action { "fuse" } else { "rewrite" })
    }
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {} [{}]", self.line, self.column, self.message, self.code)
    }
}

impl std::error::Error for RuleError {}

#[cfg(test)]
mod tests;
