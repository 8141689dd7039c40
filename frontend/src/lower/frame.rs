//! What is in scope in one body, and finding it.

use std::collections::BTreeMap;

use ir::{Axis, Type};

use super::bound::{Bound, Extra, ExtraKind};
use super::{Lower, Reported, Result};
use crate::ast::FunctionKind;
use crate::diagnostic::Diagnostic;
use crate::source::Span;

/// The scope of one body. An expanded `inline fn` has one of its own.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    /// The file, whose functions come first.
    pub(super) source: u16,
    pub(super) kind: FunctionKind,
    /// Whether this is the body of a layer, where names may be set.
    pub(super) is_layer: bool,
    /// Later ones hide earlier ones.
    pub(super) names: Vec<(String, Bound)>,
    /// Axes that the parameters bound or the body declared.
    pub(super) axes: BTreeMap<String, Axis>,
    /// What `..` stands for.
    pub(super) rest: Option<Vec<Axis>>,
    /// What a layer sees of the body around it.
    pub(super) around: BTreeMap<String, Around>,
}

/// Something around a layer.
#[derive(Clone, Debug)]
pub(super) enum Around {
    /// Becomes a parameter of the layer once it is used.
    Tensor(Type),
    /// The same for the part that a step of a recurrence gets.
    Part(Type),
    Known(Bound),
}

impl Frame {
    pub(super) fn new(source: u16, kind: FunctionKind) -> Frame {
        Frame {
            source,
            kind,
            is_layer: false,
            names: Vec::new(),
            axes: BTreeMap::new(),
            rest: None,
            around: BTreeMap::new(),
        }
    }

    /// Whether weights may be declared here.
    pub(super) fn has_weights(&self) -> bool {
        matches!(self.kind, FunctionKind::Block | FunctionKind::Model)
    }
}

impl<'a> Lower<'a> {
    pub(super) fn frame(&mut self) -> &mut Frame {
        if self.now.frames.is_empty() {
            self.now.frames.push(Frame::new(crate::source::SPEC, FunctionKind::Plain));
        }
        let last = self.now.frames.len() - 1;
        &mut self.now.frames[last]
    }

    pub(super) fn bind(&mut self, name: &str, bound: Bound) {
        self.frame().names.push((name.to_owned(), bound));
    }

    /// Whether the name means something here.
    pub(super) fn is_bound(&mut self, name: &str) -> bool {
        let frame = self.frame();
        let is_local = frame.names.iter().any(|it| it.0 == name) || frame.around.contains_key(name);
        is_local || self.values.contains_key(name)
    }

    /// What a name means: what the body bound last, what is around the layer, a value of the spec.
    pub(super) fn look_up(&mut self, name: &str, span: Span) -> Result<Bound> {
        let frame = self.frame();
        let local = frame.names.iter().rev().find(|it| it.0 == name).map(|it| it.1.clone());
        let around = frame.around.get(name).cloned();
        match (local, around) {
            (Some(Bound::Unknown), _) => Err(Reported),
            (Some(bound), _) => Ok(bound),
            (None, Some(Around::Known(bound))) => Ok(bound),
            (None, Some(Around::Tensor(ty))) => self.taken(ExtraKind::Capture, name, ty, span),
            (None, Some(Around::Part(ty))) => self.taken(ExtraKind::Part, name, ty, span),
            (None, None) => match self.values.get(name) {
                Some(Bound::Unknown) => Err(Reported),
                Some(bound) => Ok(bound.clone()),
                None => Err(self.unknown_name(name, span)),
            },
        }
    }

    /// A value from around the layer or step.
    fn taken(&mut self, kind: ExtraKind, name: &str, ty: Type, span: Span) -> Result<Bound> {
        let extra = Extra { kind, name: name.into(), ty, layers: None };
        Ok(Bound::Tensor(self.extra(extra, span)?))
    }

    fn unknown_name(&mut self, name: &str, span: Span) -> Reported {
        let values: Vec<String> = self.values.keys().cloned().collect();
        let frame = self.frame();
        let locals = frame.names.iter().map(|it| it.0.clone());
        let known: Vec<String> = locals.chain(frame.around.keys().cloned()).chain(values).collect();
        let diagnostic = Diagnostic::error("E0201", format!("nothing is called `{name}` here"));
        let diagnostic = diagnostic.at(span, "unknown");
        self.fault(diagnostic.did_you_mean(span, name, known.iter().map(String::as_str)))
    }

    /// The axis of a name: of the body or, if it knows none, of the spec.
    pub(super) fn look_up_axis(&mut self, name: &str, span: Span) -> Result<Axis> {
        if let Some(axis) = self.frame().axes.get(name) {
            return Ok(axis.clone());
        }
        if self.program.axes.iter().any(|it| it.name.text == name) {
            // One whose declaration was faulty is not in the table, and has been reported.
            return self.module.axes.get(name).map(|_| Axis::atom(name)).ok_or(Reported);
        }
        let known: Vec<String> = self.frame().axes.keys().cloned().collect();
        let known = known.iter().map(String::as_str);
        let known = known.chain(self.program.axes.iter().map(|it| it.name.text.as_str()));
        let diagnostic = Diagnostic::error("E0303", format!("no axis is called `{name}`"))
            .at(span, "unknown")
            .did_you_mean(span, name, known);
        Err(self.fault(diagnostic))
    }
}
