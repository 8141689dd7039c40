//! Text to rules. Nests to a bounded depth, so that no text runs out of stack.

use ir::{
    Op, Real,
    ops::{BinaryFn, Call, UnaryFn},
};

use super::{
    Action, Class, Pattern, Premise, Rule, RuleError, Word,
    lex::{Kind, Token, lex},
};

/// The deepest that expressions nest.
const MAX_DEPTH: usize = 64;

/// A rule and where its name stands.
pub(super) struct Placed {
    pub(super) rule: Rule,
    pub(super) line: usize,
    pub(super) column: usize,
}

/// Every rule of `text`.
pub(super) fn parse(text: &str) -> Result<Vec<Placed>, RuleError> {
    let mut parser = Parser { tokens: lex(text)?, next: 0, depth: 0, about: String::new() };
    parser.skip_comments();
    let mut rules = Vec::new();
    while parser.peek().is_some() {
        rules.push(parser.rule()?);
    }
    Ok(rules)
}

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    next: usize,
    depth: usize,
    /// The comments just before the next word, in words.
    about: String,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<Kind<'a>> {
        self.tokens.get(self.next).map(|it| it.kind)
    }

    fn advance(&mut self) {
        self.next += 1;
        self.skip_comments();
    }

    fn skip_comments(&mut self) {
        self.about.clear();
        while let Some(Kind::Comment(text)) = self.peek() {
            self.about += if self.about.is_empty() { "" } else { " " };
            self.about += text;
            self.next += 1;
        }
    }

    fn error<T>(&self, code: &'static str, message: impl Into<String>) -> Result<T, RuleError> {
        let at = self.tokens.get(self.next).or(self.tokens.last());
        let (line, column) = at.map_or((1, 1), |it| (it.line, it.column));
        Err(RuleError { line, column, code, message: message.into() })
    }

    fn take(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Some(Kind::Sign(it) | Kind::Name(it)) if it == sign);
        if found {
            self.advance();
        }
        found
    }

    fn expect(&mut self, sign: &str) -> Result<(), RuleError> {
        if self.take(sign) { Ok(()) } else { self.error("expected", format!("expected `{sign}`")) }
    }

    fn name(&mut self, what: &str) -> Result<String, RuleError> {
        let Some(Kind::Name(name)) = self.peek() else {
            return self.error("expected", format!("expected {what}"));
        };
        self.advance();
        Ok(name.to_owned())
    }

    fn rule(&mut self) -> Result<Placed, RuleError> {
        let about = std::mem::take(&mut self.about);
        let fuses = self.take("fuse");
        let reassociates = !fuses && self.take("reassociates");
        if !fuses && !reassociates && !self.take("exact") {
            return self.error("expected", "expected `exact`, `reassociates` or `fuse`");
        }
        if !fuses {
            self.expect("rewrite")?;
        }
        let class = if reassociates { Class::Reassociates } else { Class::Exact };
        let (line, column) = self.tokens.get(self.next).map_or((1, 1), |it| (it.line, it.column));
        let name = self.name("the name of the rule")?;
        self.expect(":")?;
        let pattern = self.sum()?;
        let action = if fuses {
            self.expect("as")?;
            Action::Fuse(self.name("the kind of function")?)
        } else {
            self.expect("=>")?;
            Action::Rewrite(self.sum()?)
        };
        let mut premises = Vec::new();
        if self.take("where") {
            premises.push(self.premise()?);
            while self.take(",") {
                premises.push(self.premise()?);
            }
        }
        Ok(Placed { rule: Rule { name, about, class, pattern, action, premises }, line, column })
    }

    fn sum(&mut self) -> Result<Pattern, RuleError> {
        self.depth += 1;
        if MAX_DEPTH < self.depth {
            return self.error("too-deep", "this nests too deeply");
        }
        let mut left = self.product()?;
        loop {
            let function = match self.peek() {
                Some(Kind::Sign("+")) => BinaryFn::Add,
                Some(Kind::Sign("-")) => BinaryFn::Sub,
                _ => break,
            };
            self.advance();
            left = apply(Op::binary(function), vec![left, self.product()?]);
        }
        self.depth -= 1;
        Ok(left)
    }

    fn product(&mut self) -> Result<Pattern, RuleError> {
        let mut left = self.factor()?;
        loop {
            let function = match self.peek() {
                Some(Kind::Sign("*")) => BinaryFn::Mul,
                Some(Kind::Sign("/")) => BinaryFn::Div,
                _ => return Ok(left),
            };
            self.advance();
            left = apply(Op::binary(function), vec![left, self.factor()?]);
        }
    }

    fn factor(&mut self) -> Result<Pattern, RuleError> {
        match self.peek() {
            Some(Kind::Sign("-")) => {
                self.advance();
                if let Some(Kind::Number(number)) = self.peek() {
                    self.advance();
                    return Ok(Pattern::Number(Real(-number)));
                }
                let inner = self.atom()?;
                Ok(apply(Op::unary(UnaryFn::Neg), vec![inner]))
            }
            _ => self.atom(),
        }
    }

    fn atom(&mut self) -> Result<Pattern, RuleError> {
        match self.peek() {
            Some(Kind::Number(number)) => {
                self.advance();
                Ok(Pattern::Number(Real(number)))
            }
            Some(Kind::Sign("(")) => {
                self.advance();
                let inner = self.sum()?;
                self.expect(")")?;
                Ok(inner)
            }
            Some(Kind::Name(name)) => {
                self.advance();
                if self.take("(") { self.application(name) } else { Ok(Pattern::Var(name.into())) }
            }
            _ => self.error("expected", "expected a value"),
        }
    }

    /// What stands between the brackets of `name(...)`.
    fn application(&mut self, name: &str) -> Result<Pattern, RuleError> {
        if name == "fill" {
            return self.fill();
        }
        let (mut operands, mut attributes) = (Vec::new(), Vec::new());
        while !self.take(")") {
            let attribute = matches!(
                self.tokens.get(self.next..self.next + 2),
                Some([Token { kind: Kind::Name(_), .. }, Token { kind: Kind::Sign("="), .. }])
            );
            if attribute {
                let name = self.name("an attribute")?;
                self.expect("=")?;
                attributes.push((name, self.word()?));
            } else {
                operands.push(self.sum()?);
            }
            if !self.take(",") {
                self.expect(")")?;
                break;
            }
        }
        let op = Op::all().into_iter().find(|it| it.rules().name() == name);
        match op.filter(|it| !matches!(it, Op::Call(Call { .. }))) {
            Some(op) => Ok(Pattern::Apply { op, attributes, operands }),
            None if attributes.is_empty() => {
                let is_path = name.contains("::");
                let origin = if is_path { name.into() } else { format!("prelude::{name}") };
                Ok(Pattern::Call { origin, operands })
            }
            None => self.error("unknown", format!("there is no op `{name}`, which has attributes")),
        }
    }

    /// `1, x)`.
    fn fill(&mut self) -> Result<Pattern, RuleError> {
        let Some(Kind::Number(number)) = self.peek() else {
            return self.error("expected", "expected a number");
        };
        self.advance();
        self.expect(",")?;
        let like = self.name("a variable")?;
        self.expect(")")?;
        Ok(Pattern::Fill(Real(number), like))
    }

    fn word(&mut self) -> Result<Word, RuleError> {
        match self.peek() {
            Some(Kind::Quoted(text)) => {
                self.advance();
                Ok(Word::Literal(text.to_owned()))
            }
            Some(Kind::Number(number)) => {
                self.advance();
                Ok(Word::Literal(format!("{number:?}")))
            }
            Some(Kind::Sign("[")) => {
                self.advance();
                self.axes()
            }
            Some(Kind::Name(name)) => {
                self.advance();
                if self.take("(") { self.property(name) } else { Ok(Word::Var(name.to_owned())) }
            }
            _ => self.error("expected", "expected a name, `[axes]` or a text in quotes"),
        }
    }

    /// What follows `[`.
    fn axes(&mut self) -> Result<Word, RuleError> {
        let open = self.take("..");
        let mut axes = Vec::new();
        if open && !self.take(",") {
            self.expect("]")?;
            return Ok(Word::Axes { open, axes });
        }
        while !self.take("]") {
            axes.push(self.name("the name of an axis")?);
            if !self.take(",") {
                self.expect("]")?;
                break;
            }
        }
        Ok(Word::Axes { open, axes })
    }

    /// What follows `axes(`.
    fn property(&mut self, name: &str) -> Result<Word, RuleError> {
        let property: fn(String) -> Word = match name {
            "axes" => Word::AxesOf,
            "type" => Word::TypeOf,
            "dtype" => Word::DTypeOf,
            "number" => Word::NumberOf,
            _ => return self.error("unknown", format!("a value has no `{name}`")),
        };
        let of = self.name("a variable")?;
        self.expect(")")?;
        Ok(property(of))
    }

    fn premise(&mut self) -> Result<Premise, RuleError> {
        let Some(Kind::Name(name)) = self.peek() else { return self.comparison() };
        let follows = self.tokens.get(self.next + 1).map(|it| it.kind);
        match (name, follows) {
            (_, Some(Kind::Name("is"))) => {
                self.advance();
                self.advance();
                Ok(Premise::Is(name.to_owned(), self.name("a kind of function")?))
            }
            ("weight" | "open" | "constant" | "within", Some(Kind::Sign("("))) => {
                self.advance();
                self.advance();
                let of = self.name("a variable")?;
                let premise = match name {
                    "weight" => Premise::Weight(of),
                    "open" => Premise::Open(of),
                    "constant" => Premise::Constant(of),
                    _ => {
                        self.expect(",")?;
                        Premise::Within(of, self.name("a variable")?)
                    }
                };
                self.expect(")")?;
                Ok(premise)
            }
            _ => self.comparison(),
        }
    }

    fn comparison(&mut self) -> Result<Premise, RuleError> {
        let left = self.word()?;
        self.expect("=")?;
        Ok(Premise::Equal(left, self.word()?))
    }
}

fn apply(op: Op, operands: Vec<Pattern>) -> Pattern {
    Pattern::Apply { op, attributes: Vec::new(), operands }
}
