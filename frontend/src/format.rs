//! The one true layout of a spec. Line breaks stay where the author put them; spaces, indentation,
//! blank lines and the alignment of comments are ours. Only white space ever changes.

use std::collections::BTreeSet;

use crate::ast::{Binary, Expr, ExprKind, Item, LayersBody, Spec, Stmt, StmtKind};
use crate::diagnostic::Diagnostic;
use crate::lex::{Kind, Token, lex};
use crate::parse::{RESERVED, parse};
use crate::source::SPEC;

/// A text in its layout, or why it cannot be read.
pub fn format(text: &str) -> Result<String, Vec<Diagnostic>> {
    let (spec, faults) = parse(SPEC, text);
    if !faults.is_empty() {
        return Err(faults);
    }
    let (tokens, _) = lex(SPEC, text);
    let lines = lines(&tokens);
    let mut layout = Layout { text, starts: starts(&spec), open: Vec::new(), behind: [None; 2] };
    let written: Vec<Line> = lines.iter().map(|it| layout.line(it)).collect();
    Ok(join(&written))
}

/// A line as written: code, comment, and whether a blank line stands before it.
struct Line {
    after_blank: bool,
    code: String,
    comment: String,
}

/// The tokens of each line.
fn lines(tokens: &[Token]) -> Vec<&[Token]> {
    let mut lines: Vec<&[Token]> = tokens.chunk_by(|_, it| it.lines_before == 0).collect();
    lines.retain(|it| !it.is_empty());
    lines
}

/// Comments are not aligned behind code that is wider.
const MOST_ALIGNED: usize = 120;

/// Lines to text. Comments behind the code of neighbouring lines begin in one column.
fn join(lines: &[Line]) -> String {
    let mut text = String::new();
    for run in lines.chunk_by(|left, right| has_both(left) && has_both(right) && !right.after_blank)
    {
        let widths = run.iter().map(|it| it.code.chars().count());
        let width = widths.filter(|it| *it <= MOST_ALIGNED).max().unwrap_or(0);
        for line in run {
            if line.after_blank && !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&line.code);
            if has_both(line) {
                let gap = width.saturating_sub(line.code.chars().count()) + 2;
                text.extend(std::iter::repeat_n(' ', gap));
            }
            text.push_str(&line.comment);
            text.push('\n');
        }
    }
    text
}

fn has_both(line: &Line) -> bool {
    !line.code.trim().is_empty() && !line.comment.is_empty()
}

/// A bracket that is open.
#[derive(Clone, Copy)]
struct Open {
    /// Whether lines in it stand further right: the first bracket that a line leaves open does it.
    indents: bool,
    /// Braces of a path, `.{a, b}`, which hold no spaces.
    tight: bool,
}

struct Layout<'a> {
    text: &'a str,
    /// Where statements begin, which stand apart on a line that has several.
    starts: BTreeSet<u32>,
    open: Vec<Open>,
    /// The last two tokens that are not comments, the newer last.
    behind: [Option<Token>; 2],
}

impl<'a> Layout<'a> {
    fn line(&mut self, tokens: &[Token]) -> Line {
        let (code, comment) = match tokens.split_last() {
            Some((last, code)) if last.kind == Kind::Comment => (code, last.text(self.text)),
            _ => (tokens, ""),
        };
        let after_open = self.behind[1].is_some_and(|it| is_open(self.word(it)));
        let before_close = code.first().is_some_and(|it| is_close(self.word(*it)));
        let n_lines = tokens.first().map_or(0, |it| it.lines_before);
        let indent = "  ".repeat(self.level(code));
        let code = self.code(code);
        let indent = if code.is_empty() && comment.is_empty() { "" } else { &indent };
        Line {
            after_blank: n_lines > 1 && !after_open && !before_close,
            code: format!("{indent}{code}"),
            comment: comment.trim_end().into(),
        }
    }

    fn word(&self, token: Token) -> &'a str {
        token.text(self.text)
    }

    /// How far right a line stands: once for each bracket around it, and once more if it goes on
    /// with an expression of the line before.
    fn level(&self, code: &[Token]) -> usize {
        let n_closed = code.iter().take_while(|it| is_close(self.word(**it))).count();
        let n_open = self.open.len().saturating_sub(n_closed);
        let level = self.open[..n_open].iter().filter(|it| it.indents).count();
        let Some(first) = code.first().filter(|_| self.behind[1].is_some()) else { return level };
        let follows = self.behind[1].is_some_and(|it| joins(self.word(it)));
        let goes_on = joins(self.word(*first)) && !self.starts.contains(&first.start);
        level + usize::from(follows || goes_on)
    }

    fn code(&mut self, tokens: &[Token]) -> String {
        let (mut code, n_open) = (String::new(), self.open.len());
        let mut lowest = n_open;
        for (position, &token) in tokens.iter().enumerate() {
            if position > 0 {
                code.push_str(self.space(token));
            }
            code.push_str(self.word(token));
            self.track(token);
            lowest = lowest.min(self.open.len());
        }
        for open in self.open.iter_mut().skip(lowest + 1) {
            open.indents = false;
        }
        code
    }

    fn track(&mut self, token: Token) {
        let word = self.word(token);
        if is_open(word) {
            let is_path = self.starts.contains(&token.start)
                || self.behind[1].is_some_and(|it| self.word(it) == ".");
            let tight = word == "{" && is_path;
            self.open.push(Open { indents: true, tight });
        } else if is_close(word) {
            self.open.pop();
        }
        self.behind = [self.behind[1], Some(token)];
    }

    /// What stands between the token behind and the next one of its line.
    fn space(&self, next: Token) -> &'static str {
        let Some(last) = self.behind[1] else { return "" };
        let (left, right) = (self.word(last), self.word(next));
        let is_tight = self.open.last().is_some_and(|it| it.tight);
        match (left, right) {
            ("{", "}") => "",
            ("{", _) | (_, "}") if is_tight => "",
            ("{", _) | (_, "}") => " ",
            (":" | "else", _) => " ",
            _ if self.starts.contains(&next.start) => "  ",
            (_, "," | ":" | "." | ")" | "]") | ("(" | "[" | ".", _) => "",
            (",", _) => " ",
            (_, "..") | ("..", _) => "",
            ("layers", "[") => "",
            (_, "(" | "[") if ends_operand(last, left) => "",
            ("-", _) if self.is_unary_minus() => "",
            ("*", _) if self.is_axis_product(next) => "",
            (_, "*") if last.kind == Kind::Axis => "",
            (_, "*") if self.starts_axis_after(next) => "",
            _ => " ",
        }
    }

    /// Whether the `-` behind has no left operand.
    fn is_unary_minus(&self) -> bool {
        let [before, minus] = self.behind;
        minus.is_some_and(|it| self.starts.contains(&it.start))
            || !before.is_some_and(|it| ends_operand(it, self.word(it)))
    }

    /// Whether the `*` behind joins axes, of which one side is enough to tell.
    fn is_axis_product(&self, next: Token) -> bool {
        next.kind == Kind::Axis || self.behind[0].is_some_and(|it| it.kind == Kind::Axis)
    }

    /// Whether an axis follows a `*`.
    fn starts_axis_after(&self, star: Token) -> bool {
        let after = self.text[star.end as usize..].trim_start();
        after.starts_with(|it: char| it.is_ascii_uppercase())
    }
}

fn is_open(word: &str) -> bool {
    matches!(word, "(" | "[" | "{")
}

fn is_close(word: &str) -> bool {
    matches!(word, ")" | "]" | "}")
}

/// Whether the word stands between two operands.
fn joins(word: &str) -> bool {
    word == "=" || Binary::ALL.iter().any(|it| it.1 == word && it.0 != Binary::Range)
}

fn ends_operand(token: Token, word: &str) -> bool {
    match token.kind {
        Kind::Name => !RESERVED.contains(&word),
        Kind::Symbol => is_close(word),
        Kind::Axis | Kind::Number | Kind::Text | Kind::Comment => true,
    }
}

/// Where the statements, branches and weight rules of a spec begin.
fn starts(spec: &Spec) -> BTreeSet<u32> {
    let mut starts = BTreeSet::new();
    for item in &spec.items {
        match item {
            Item::Function(function) => in_body(&function.body, &mut starts),
            Item::Weights(weights) => starts.extend(weights.rules.iter().map(|it| it.span.start)),
            Item::Train(settings) => starts.extend(settings.iter().map(|it| it.name.span.start)),
            Item::Use(_) | Item::Axes(_) | Item::Values(_) | Item::Tokenizer(_) => {}
        }
    }
    starts
}

fn in_body(body: &[Stmt], starts: &mut BTreeSet<u32>) {
    for statement in body {
        starts.insert(statement.span.start);
        match &statement.kind {
            StmtKind::Let(_, value) | StmtKind::Set(_, value) | StmtKind::Value(value) => {
                in_expr(value, starts);
            }
            StmtKind::Layers(layers) => match &layers.body {
                LayersBody::Same(body) => in_body(body, starts),
                LayersBody::Pattern(branches) => {
                    for branch in branches {
                        starts.insert(branch.letters.span.start);
                        in_body(&branch.body, starts);
                    }
                }
            },
            StmtKind::Params(_) | StmtKind::Axes(_) => {}
        }
    }
}

fn in_expr(expr: &Expr, starts: &mut BTreeSet<u32>) {
    match &expr.kind {
        ExprKind::Unary(_, operand) => in_expr(operand, starts),
        ExprKind::Binary(_, sides) => {
            in_expr(&sides.0, starts);
            in_expr(&sides.1, starts);
        }
        ExprKind::List(members) | ExprKind::Tuple(members) => {
            members.iter().for_each(|it| in_expr(it, starts));
        }
        ExprKind::Call(call) => call.args.iter().for_each(|it| in_expr(&it.value, starts)),
        ExprKind::Index(index) => {
            in_expr(&index.0, starts);
            index.1.iter().for_each(|it| in_expr(it, starts));
        }
        ExprKind::If(choice) => {
            in_expr(&choice.condition, starts);
            in_body(&choice.then, starts);
            in_body(&choice.otherwise, starts);
        }
        ExprKind::Scan(scan) => in_body(&scan.body, starts),
        ExprKind::Number(_)
        | ExprKind::Text(_)
        | ExprKind::Name(_)
        | ExprKind::Axis(_)
        | ExprKind::Rest => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let once = format(text).unwrap();
        assert_eq!(once, expected);
        assert_eq!(format(&once).unwrap(), once);
    }

    #[test]
    fn spaces_and_indentation() {
        check(
            "axis  E=576,K = 3 // width\naxis LONG=4//x\n\n\n\nblock a( x [ S,E ] ){\n\nparam q[K * P,E]\nlet h=f( x,mask=none )\n*-2\nx+h}",
            "axis E = 576, K = 3  // width\naxis LONG = 4        //x\n\nblock a(x[S, E]) {\n  param q[K*P, E]\n  let h = f(x, mask = none)\n    * -2\n  x + h }\n",
        );
    }

    #[test]
    fn statements_on_one_line_stand_apart() {
        check(
            "block m(x[S]) { param up[F] x - f(x)[1] }\nweights hf { layers[l].a.{ b,c } = split(\"q\",0 .. R) }",
            "block m(x[S]) { param up[F]  x - f(x)[1] }\nweights hf { layers[l].a.{b, c} = split(\"q\", 0..R) }\n",
        );
    }

    #[test]
    fn what_cannot_be_read_is_not_touched() {
        assert_eq!(format("axis E == 3").unwrap_err()[0].code, "E0103");
    }
}
