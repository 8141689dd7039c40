//! Statements, in order. A faulty one binds its names to nothing known, so that the rest of the
//! body is still checked.

use ir::{DType, Type};

use super::bound::{Bound, Extra, ExtraKind};
use super::{Lower, Reported, Result};
use crate::ast::{Expr, ExprKind, FunctionKind, Name, Param, Stmt, StmtKind};
use crate::source::Span;

impl<'a> Lower<'a> {
    /// The value of a body, if it has one.
    pub(super) fn body(&mut self, body: &'a [Stmt]) -> Result<Option<Bound>> {
        let mut value = Ok(None);
        for (position, statement) in body.iter().enumerate() {
            match &statement.kind {
                StmtKind::Value(expr) if position + 1 == body.len() => {
                    value = value.and(self.expr(expr).map(Some));
                }
                // What it hands on may be all that is wanted of a recurrence.
                StmtKind::Value(expr) if matches!(expr.kind, ExprKind::Scan(_)) => {
                    if let Err(reported) = self.expr(expr) {
                        value = Err(reported);
                    }
                }
                StmtKind::Value(expr) => {
                    let message = "only the last line of a body may be a value without a name";
                    value = Err(self.wrong("E0207", message, expr.span));
                }
                kind => {
                    if let Err(reported) = self.statement(kind, statement.span) {
                        value = Err(reported);
                    }
                }
            }
        }
        value
    }

    fn statement(&mut self, kind: &'a StmtKind, span: Span) -> Result<()> {
        match kind {
            StmtKind::Params(params) => self.weights(params, span),
            StmtKind::Axes(decls) => {
                decls.iter().map(|it| self.declare_local_axis(it)).fold(Ok(()), Result::and)
            }
            StmtKind::Let(names, value) => self.binding(names, value),
            StmtKind::Set(name, value) => self.update(name, value),
            StmtKind::Layers(layers) => self.layers(layers, span),
            StmtKind::Value(_) => Ok(()),
        }
    }

    fn binding(&mut self, names: &'a [Name], value: &'a Expr) -> Result<()> {
        let bound = self.expr(value).and_then(|it| self.apart(names, it, value.span));
        let failed = bound.as_ref().err().copied();
        let parts = bound.unwrap_or_else(|_| vec![Bound::Unknown; names.len()]);
        for (name, part) in names.iter().zip(parts) {
            self.bind(&name.text, part);
        }
        failed.map_or(Ok(()), Err)
    }

    /// One value for each name.
    fn apart(&mut self, names: &[Name], bound: Bound, span: Span) -> Result<Vec<Bound>> {
        let parts = match bound {
            Bound::Tuple(parts) if names.len() > 1 => parts,
            one => vec![one],
        };
        if parts.len() != names.len() {
            let message = format!("{} names for {} values", names.len(), parts.len());
            return Err(self.wrong("E0401", message, span));
        }
        Ok(parts)
    }

    fn update(&mut self, name: &'a Name, value: &'a Expr) -> Result<()> {
        if !self.frame().is_layer {
            let message = format!("`{0}` can not be set here; write `let {0} = ...`", name.text);
            return Err(self.wrong("E0207", message, name.span));
        }
        // After a fault the name keeps its value, which has the same type.
        let bound = self.expr(value)?;
        self.bind(&name.text, bound);
        Ok(())
    }

    fn weights(&mut self, params: &'a [Param], span: Span) -> Result<()> {
        if !self.frame().has_weights() {
            let message = "only blocks, layers and models have parameters";
            return Err(self.wrong("E0207", message, span));
        }
        params.iter().map(|it| self.weight(it)).fold(Ok(()), Result::and)
    }

    fn weight(&mut self, param: &'a Param) -> Result<()> {
        let (name, span) = (&param.name.text, param.name.span);
        let value = self.weight_type(param).and_then(|ty| {
            let layers = None;
            self.extra(Extra { kind: ExtraKind::Weight, name: name.clone(), ty, layers }, span)
        });
        let failed = value.as_ref().err().copied();
        self.bind(name, value.map_or(Bound::Unknown, Bound::Tensor));
        failed.map_or(Ok(()), Err)
    }

    fn weight_type(&mut self, param: &'a Param) -> Result<Type> {
        let span = param.name.span;
        let Some(shape) = &param.shape else {
            let message = format!("a parameter needs its axes: `{}[E]`", param.name.text);
            return Err(self.wrong("E0302", message, span));
        };
        if param.default.is_some() || param.dtype.as_ref().is_some_and(|it| it.text != "f32") {
            let message = "a parameter is f32 and has no default: a checkpoint gives it";
            return Err(self.wrong("E0207", message, span));
        }
        let axes = shape.iter().map(|it| self.axis(it)).collect::<Result<Vec<_>>>()?;
        self.sound(Type::new(DType::F32, axes), span)
    }

    /// The type, unless an atom stands in it twice.
    pub(super) fn sound(&mut self, ty: Type, span: Span) -> Result<Type> {
        match ty.repeated_atom() {
            Some(atom) => {
                let message =
                    format!("`{atom}` stands twice in `{ty}`; declare another axis like it");
                Err(self.wrong("E0301", message, span))
            }
            None => Ok(ty),
        }
    }

    /// The value that a body must have.
    pub(super) fn value_of(&mut self, body: &'a [Stmt], owner: &Name) -> Result<Bound> {
        match self.body(body)? {
            Some(bound) => Ok(bound),
            None => {
                let message = format!("`{}` has no value; its last line should be one", owner.text);
                Err(self.wrong("E0207", message, owner.span))
            }
        }
    }

    /// Whether this is the body of the kind of function that may hold layers.
    pub(super) fn may_hold_layers(&mut self, span: Span) -> Result<()> {
        let frame = self.frame();
        match frame.kind {
            FunctionKind::Block | FunctionKind::Model if !frame.is_layer => Ok(()),
            _ => {
                let message = "layers stand in a block or a model, and not in other layers";
                let reported: Reported = self.wrong("E0207", message, span);
                Err(reported)
            }
        }
    }
}
