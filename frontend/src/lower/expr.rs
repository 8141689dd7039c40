//! Expressions. What the compiler knows it computes; the rest becomes nodes.

use ir::ops::{Binary as BinaryOp, BinaryFn, Cast, Constant, Gather, Unary as UnaryOp, UnaryFn};
use ir::{DType, Value};

use super::bound::{Bound, Word};
use super::{Lower, Result, shown};
use crate::ast::{Binary, Expr, ExprKind, If, Unary};
use crate::diagnostic::Diagnostic;
use crate::source::Span;

impl<'a> Lower<'a> {
    /// What an expression means.
    pub(super) fn expr(&mut self, expr: &'a Expr) -> Result<Bound> {
        self.deeper(expr.span, |it| it.expr_at_depth(expr))
    }

    fn expr_at_depth(&mut self, expr: &'a Expr) -> Result<Bound> {
        match &expr.kind {
            ExprKind::Number(number) => Ok(Bound::Number(*number)),
            ExprKind::Text(text) => Ok(Bound::Text(text.clone())),
            ExprKind::Name(name) => self.look_up(name, expr.span),
            ExprKind::Unary(op, operand) => self.unary(*op, operand),
            ExprKind::Binary(op, sides) => self.binary(*op, &sides.0, &sides.1, expr.span),
            ExprKind::Tuple(members) => {
                Ok(Bound::Tuple(members.iter().map(|it| self.expr(it)).collect::<Result<_>>()?))
            }
            ExprKind::Call(call) => self.call(call, expr.span),
            ExprKind::Index(index) => self.index(&index.0, &index.1, expr.span),
            ExprKind::If(choice) => self.choice(choice, expr.span),
            ExprKind::Scan(scan) => self.scan(scan, expr.span),
            ExprKind::Axis(_) => {
                let message = "an axis is not a value";
                let diagnostic = Diagnostic::error("E0306", message).at(expr.span, "an axis");
                Err(self
                    .fault(diagnostic.note("`extent(E)` is its length, `iota(E)` its positions")))
            }
            ExprKind::List(_) | ExprKind::Rest => {
                Err(self.wrong("E0306", "this is not a value", expr.span))
            }
        }
    }

    /// The tensor of an expression; a number becomes one without axes.
    pub(super) fn tensor(&mut self, expr: &'a Expr) -> Result<Value> {
        let bound = self.expr(expr)?;
        self.as_tensor(bound, DType::F32, expr.span)
    }

    /// A number takes the element type of what it meets.
    fn as_tensor(&mut self, bound: Bound, dtype: DType, span: Span) -> Result<Value> {
        match bound {
            Bound::Tensor(value) => Ok(value),
            Bound::Number(number) => {
                let whole = number.fract() == 0.0 && number.abs() <= f64::from(i32::MAX);
                let dtype = if dtype == DType::I32 && whole { dtype } else { DType::F32 };
                self.op(Constant::scalar(dtype, number), &[], span)
            }
            Bound::Truth(truth) => {
                self.op(Constant::scalar(DType::Bool, f64::from(truth)), &[], span)
            }
            other => {
                let message = format!("a tensor is wanted here, not {}", other.describe());
                Err(self.wrong("E0306", message, span))
            }
        }
    }

    fn dtype(&self, bound: &Bound) -> DType {
        match bound {
            Bound::Tensor(value) => self.ty(*value).dtype,
            _ => DType::F32,
        }
    }

    /// Two operands, each taking its element type from the other if it is a number.
    pub(super) fn both(&mut self, a: &'a Expr, b: &'a Expr) -> Result<(Value, Value)> {
        let (left, right) = (self.expr(a)?, self.expr(b)?);
        self.both_bound((left, a.span), (right, b.span))
    }

    pub(super) fn both_bound(
        &mut self,
        a: (Bound, Span),
        b: (Bound, Span),
    ) -> Result<(Value, Value)> {
        let (for_a, for_b) = (self.dtype(&b.0), self.dtype(&a.0));
        Ok((self.as_tensor(a.0, for_a, a.1)?, self.as_tensor(b.0, for_b, b.1)?))
    }

    fn unary(&mut self, op: Unary, operand: &'a Expr) -> Result<Bound> {
        match (op, self.expr(operand)?) {
            (Unary::Minus, Bound::Number(number)) => Ok(Bound::Number(-number)),
            (Unary::Not, Bound::Truth(truth)) => Ok(Bound::Truth(!truth)),
            (op, bound) => {
                let function = if op == Unary::Minus { UnaryFn::Neg } else { UnaryFn::Not };
                let value = self.as_tensor(bound, DType::F32, operand.span)?;
                Ok(Bound::Tensor(self.op(UnaryOp { function }, &[value], operand.span)?))
            }
        }
    }

    /// A function of one number, on a number or each element of a tensor.
    pub(super) fn pointwise(&mut self, function: UnaryFn, operand: &'a Expr) -> Result<Bound> {
        match self.expr(operand)? {
            Bound::Number(number) => self.finite(function.apply(number), operand.span),
            bound => {
                let value = self.as_tensor(bound, DType::F32, operand.span)?;
                Ok(Bound::Tensor(self.op(UnaryOp { function }, &[value], operand.span)?))
            }
        }
    }

    pub(super) fn finite(&mut self, number: f64, span: Span) -> Result<Bound> {
        match number.is_finite() {
            true => Ok(Bound::Number(number)),
            false => Err(self.wrong("E0104", "this comes to no finite number", span)),
        }
    }

    fn binary(&mut self, op: Binary, a: &'a Expr, b: &'a Expr, span: Span) -> Result<Bound> {
        let left = match self.expr(a) {
            Ok(left) => left,
            Err(reported) => {
                // What is wrong with the other side is told as well.
                self.expr(b)?;
                return Err(reported);
            }
        };
        if let (Bound::Word(word), Binary::Equal | Binary::NotEqual) = (&left, op) {
            let same = self.word(b, &word.of)?.text == word.text;
            return Ok(Bound::Truth(same == (op == Binary::Equal)));
        }
        let right = self.expr(b)?;
        match (&left, &right) {
            (Bound::Number(x), Bound::Number(y)) => self.known_numbers(op, *x, *y, span),
            (Bound::Text(x), Bound::Text(y)) if matches!(op, Binary::Equal | Binary::NotEqual) => {
                Ok(Bound::Truth((x == y) == (op == Binary::Equal)))
            }
            (Bound::Truth(x), Bound::Truth(y)) if matches!(op, Binary::And | Binary::Or) => {
                Ok(Bound::Truth(if op == Binary::And { *x && *y } else { *x || *y }))
            }
            _ => {
                let (x, y) = self.both_bound((left, a.span), (right, b.span))?;
                Ok(Bound::Tensor(self.apply(op, x, y, span)?))
            }
        }
    }

    fn known_numbers(&mut self, op: Binary, x: f64, y: f64, span: Span) -> Result<Bound> {
        match op {
            Binary::Add => self.finite(x + y, span),
            Binary::Subtract => self.finite(x - y, span),
            Binary::Multiply => self.finite(x * y, span),
            Binary::Divide => self.finite(x / y, span),
            Binary::Equal => Ok(Bound::Truth(x == y)),
            Binary::NotEqual => Ok(Bound::Truth(x != y)),
            Binary::Less => Ok(Bound::Truth(x < y)),
            Binary::LessEqual => Ok(Bound::Truth(x <= y)),
            Binary::Greater => Ok(Bound::Truth(x > y)),
            Binary::GreaterEqual => Ok(Bound::Truth(x >= y)),
            Binary::And | Binary::Or | Binary::Becomes | Binary::Range | Binary::Concat => {
                Err(self.no_such_operation(op, span))
            }
        }
    }

    fn no_such_operation(&mut self, op: Binary, span: Span) -> super::Reported {
        self.wrong("E0306", format!("`{}` does not join such values", op.symbol()), span)
    }

    /// An operator on tensors.
    fn apply(&mut self, op: Binary, x: Value, y: Value, span: Span) -> Result<Value> {
        let (function, swapped, negated) = match op {
            Binary::Add => (BinaryFn::Add, false, false),
            Binary::Subtract => (BinaryFn::Sub, false, false),
            Binary::Multiply => (BinaryFn::Mul, false, false),
            Binary::Divide => (BinaryFn::Div, false, false),
            Binary::And => (BinaryFn::And, false, false),
            Binary::Or => (BinaryFn::Or, false, false),
            Binary::Equal => (BinaryFn::Equal, false, false),
            Binary::NotEqual => (BinaryFn::Equal, false, true),
            Binary::Less => (BinaryFn::Less, false, false),
            Binary::LessEqual => (BinaryFn::LessEqual, false, false),
            Binary::Greater => (BinaryFn::Less, true, false),
            Binary::GreaterEqual => (BinaryFn::LessEqual, true, false),
            Binary::Becomes | Binary::Range | Binary::Concat => {
                return Err(self.no_such_operation(op, span));
            }
        };
        let operands = if swapped { [y, x] } else { [x, y] };
        let value = self.op(BinaryOp { function }, &operands, span)?;
        match negated {
            true => self.op(UnaryOp { function: UnaryFn::Not }, &[value], span),
            false => Ok(value),
        }
    }

    /// One of the words: written as such, or the value of a name that was given one.
    pub(super) fn word(&mut self, expr: &'a Expr, of: &std::rc::Rc<[String]>) -> Result<Word> {
        let ExprKind::Name(name) = &expr.kind else {
            return Err(self.unknown_word(expr.span, "this", of));
        };
        if of.contains(name) {
            return Ok(Word { text: name.clone(), of: of.clone() });
        }
        if !self.is_bound(name) {
            return Err(self.unknown_word(expr.span, name, of));
        }
        match self.look_up(name, expr.span)? {
            Bound::Word(word) if of.contains(&word.text) => Ok(Word { of: of.clone(), ..word }),
            _ => Err(self.unknown_word(expr.span, name, of)),
        }
    }

    fn unknown_word(&mut self, span: Span, name: &str, of: &[String]) -> super::Reported {
        let all: Vec<String> = of.iter().map(|it| format!("`{it}`")).collect();
        let message = format!("`{name}` is none of {}", all.join(", "));
        let diagnostic = Diagnostic::error("E0402", message).at(span, "");
        self.fault(diagnostic.did_you_mean(span, name, of.iter().map(String::as_str)))
    }

    /// `table[index]`: rows of a table, counted along the first axis that the index has not.
    fn index(&mut self, base: &'a Expr, indices: &'a [Expr], span: Span) -> Result<Bound> {
        let table = self.tensor(base)?;
        let [index] = indices else {
            return Err(self.wrong("E0401", "one index is taken at a time", span));
        };
        let bound = self.expr(index)?;
        let index = self.as_tensor(bound, DType::I32, index.span)?;
        let has = self.ty(index).axes.clone();
        let Some(axis) = self.ty(table).axes.iter().find(|it| !has.contains(it)).cloned() else {
            let message = format!("no axis of {} is left to look along", shown(&has));
            return Err(self.wrong("E0301", message, span));
        };
        Ok(Bound::Tensor(self.op(Gather { axis }, &[table, index], span)?))
    }

    /// A choice that the compiler makes. The other side is not even looked at.
    fn choice(&mut self, choice: &'a If, span: Span) -> Result<Bound> {
        let truth = match self.expr(&choice.condition)? {
            Bound::Truth(truth) => truth,
            other => {
                let message =
                    format!("a condition is known when compiling; this is {}", other.describe());
                let diagnostic = Diagnostic::error("E0403", message).at(choice.condition.span, "");
                let note = "`where(condition, a, b)` chooses for each element when running";
                return Err(self.fault(diagnostic.note(note)));
            }
        };
        let (n_names, is_layer) = (self.frame().names.len(), self.frame().is_layer);
        self.frame().is_layer = false;
        let value = self.body(if truth { &choice.then } else { &choice.otherwise });
        self.frame().names.truncate(n_names);
        self.frame().is_layer = is_layer;
        match value? {
            Some(bound) => Ok(bound),
            None => Err(self.wrong("E0207", "this branch has no value", span)),
        }
    }

    /// The same elements as another type; nothing if they are that already.
    pub(super) fn cast(&mut self, value: Value, dtype: DType, span: Span) -> Result<Value> {
        match self.ty(value).dtype == dtype {
            true => Ok(value),
            false => self.op(Cast { dtype }, &[value], span),
        }
    }
}
