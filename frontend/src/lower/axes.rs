//! Declarations and expressions of axes.

use ir::{Axis, Extent as Size};

use super::bound::Bound;
use super::{Lower, Result};
use crate::ast::{AxisDecl, Binary, Expr, ExprKind, Extent};
use crate::diagnostic::Diagnostic;
use crate::settings::MOST_EXTENT;

impl<'a> Lower<'a> {
    /// Declares the axes of the spec, with their settings.
    pub(super) fn declare_axes(&mut self) {
        for decl in &self.program.axes {
            let size = match self.settings.extent(&decl.name.text) {
                Ok(Some(size)) => Ok(self.resized(decl, size)),
                Ok(None) => self.extent(decl),
                Err(fault) => Err(self.fault(fault.at(decl.name.span, "declared here"))),
            };
            if let Ok(size) = size {
                self.module.axes.declare(decl.name.text.as_str(), size);
            }
        }
    }

    /// The extent of a declaration that a setting gives another number.
    fn resized(&mut self, decl: &'a AxisDecl, size: usize) -> Size {
        match decl.extent {
            Extent::AtMost(_) => Size::Runtime { max: size },
            Extent::Is(_) => {
                let set = self.settings.choices(&decl.name.text);
                let choices =
                    match set.map_err(|it| self.fault(it.at(decl.name.span, "declared here"))) {
                        Ok(Some(choices)) => choices,
                        Ok(None) | Err(_) => self.choices(decl).unwrap_or_default(),
                    };
                Size::Fixed { size, choices: choices.into_iter().filter(|it| *it < size).collect() }
            }
        }
    }

    /// Declares an axis of a body. The same declaration, wherever it stands, is the same axis.
    pub(super) fn declare_local_axis(&mut self, decl: &'a AxisDecl) -> Result<()> {
        let (name, span) = (&decl.name.text, decl.name.span);
        let size = self.extent(decl)?;
        if matches!(size, Size::Runtime { .. }) || !decl.elastic.is_empty() {
            let message = "an axis of a body is as long as others are";
            return Err(self.wrong("E0304", message, span));
        }
        let stem = format!("{name}.");
        let same = self.module.axes.iter().find(|(it, decl)| {
            (it.as_str() == name || it.as_str().starts_with(&stem)) && decl.extent == size
        });
        let is_global = |it: &str| self.program.axes.iter().any(|decl| decl.name.text == it);
        let same = same.map(|it| it.0.clone()).filter(|it| !is_global(it.as_str()));
        let atom = match same {
            Some(atom) => atom,
            None => self.module.axes.fresh(name),
        };
        self.module.axes.declare(&atom, size);
        self.frame().axes.insert(name.clone(), Axis::atom(&atom));
        Ok(())
    }

    fn extent(&mut self, decl: &'a AxisDecl) -> Result<Size> {
        match &decl.extent {
            Extent::AtMost(bound) => Ok(Size::Runtime { max: self.size(bound)? }),
            Extent::Is(expr) if decl.elastic.is_empty() && is_axis(expr) => {
                Ok(Size::Like(self.axis(expr)?))
            }
            Extent::Is(expr) => {
                let size = self.size(expr)?;
                let choices = self.choices(decl)?;
                let falls =
                    std::iter::once(&size).chain(&choices).zip(&choices).all(|(a, b)| b < a);
                if !falls {
                    let message =
                        format!("the choices of `{}` must fall from its extent", decl.name.text);
                    return Err(self.wrong("E0304", message, decl.name.span));
                }
                Ok(Size::Fixed { size, choices })
            }
        }
    }

    fn choices(&mut self, decl: &'a AxisDecl) -> Result<Vec<usize>> {
        decl.elastic.iter().map(|it| self.size(it)).collect()
    }

    /// The whole number that an extent comes to.
    pub(super) fn size(&mut self, expr: &'a Expr) -> Result<usize> {
        let size = match &expr.kind {
            ExprKind::Number(number) if number.fract() == 0.0 && *number >= 0.0 => {
                Some(*number as usize)
            }
            ExprKind::Axis(_) => {
                let axis = self.axis(expr)?;
                match self.module.axes.fixed(&axis) {
                    Some(size) => Some(size),
                    None => {
                        let message = format!("the extent of `{axis}` is known only when running");
                        return Err(self.wrong("E0304", message, expr.span));
                    }
                }
            }
            ExprKind::Binary(op, sides) => {
                let (a, b) = (self.size(&sides.0)?, self.size(&sides.1)?);
                match op {
                    Binary::Add => a.checked_add(b),
                    Binary::Subtract => a.checked_sub(b),
                    Binary::Multiply => a.checked_mul(b),
                    Binary::Divide if b != 0 && a % b == 0 => Some(a / b),
                    _ => None,
                }
            }
            _ => None,
        };
        match size.filter(|it| (1..=MOST_EXTENT).contains(it)) {
            Some(size) => Ok(size),
            None => Err(self.wrong("E0304", "an extent is a whole number above 0", expr.span)),
        }
    }

    /// An axis: a name, a product, a concatenation, or a parameter that was given one.
    pub(super) fn axis(&mut self, expr: &'a Expr) -> Result<Axis> {
        match &expr.kind {
            ExprKind::Axis(name) => self.look_up_axis(name, expr.span),
            ExprKind::Name(name) => match self.look_up(name, expr.span)? {
                Bound::Axis(axis) => Ok(axis),
                other => Err(self.not_an_axis(expr, other.describe())),
            },
            ExprKind::Binary(op @ (Binary::Multiply | Binary::Concat), sides) => {
                let parts = [self.axis(&sides.0)?, self.axis(&sides.1)?];
                match op {
                    Binary::Concat => Ok(Axis::concat(&parts)),
                    _ => match Axis::product(&parts) {
                        Some(product) => Ok(product),
                        None => Err(self.not_an_axis(expr, "a product of a concatenation")),
                    },
                }
            }
            ExprKind::Number(_) => Err(self.not_an_axis(expr, "a number")),
            _ => Err(self.not_an_axis(expr, "something else")),
        }
    }

    fn not_an_axis(&mut self, expr: &Expr, found: &str) -> super::Reported {
        let diagnostic = Diagnostic::error("E0302", format!("an axis is wanted here, not {found}"))
            .at(expr.span, "not an axis")
            .note("axes are named: `axis N = 4`, then `N`, `N*M` or `N | M`");
        self.fault(diagnostic)
    }

    /// One axis or several in brackets.
    pub(super) fn axes(&mut self, expr: &'a Expr) -> Result<Vec<Axis>> {
        match &expr.kind {
            ExprKind::List(members) => members.iter().map(|it| self.axis(it)).collect(),
            _ => Ok(vec![self.axis(expr)?]),
        }
    }

    /// The two sides of `from -> to`.
    pub(super) fn change(&mut self, expr: &'a Expr) -> Result<(&'a Expr, &'a Expr)> {
        match &expr.kind {
            ExprKind::Binary(Binary::Becomes, sides) => Ok((&sides.0, &sides.1)),
            _ => {
                let message = "a change of axes is wanted here, such as `K*P -> [K, P]`";
                Err(self.wrong("E0302", message, expr.span))
            }
        }
    }
}

/// Whether an extent names axes alone, and so is as long as they are, whatever they become.
fn is_axis(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Axis(_) => true,
        ExprKind::Binary(Binary::Multiply | Binary::Concat, sides) => {
            is_axis(&sides.0) && is_axis(&sides.1)
        }
        _ => false,
    }
}
