//! The syntax tree to `ir`: names, axes and types are resolved and checked on the way.
//!
//! A generic function is lowered once for each distinct set of argument types and compile-time
//! arguments. Each function is lowered twice: first to learn which weights and which values from
//! around it it takes, then with those as its parameters.

mod axes;
mod bind;
mod body;
mod bound;
mod call;
mod expr;
mod frame;
mod layers;
mod model;
mod primitives;
mod scan;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use ir::ops::Constant;
use ir::{Axis, Line, Module, Op, Origin, Role, Type, Value};

use crate::diagnostic::Diagnostic;
use crate::program::Program;
use crate::settings::Settings;
use crate::source::{PRELUDE, Sources, Span};
use bound::{Bound, Extra, ExtraKind};
use frame::Frame;
pub(crate) use model::Weight;

/// Expressions, bodies and calls may lie within each other this deeply, functions counted in.
const MOST_DEPTH: usize = 250;
/// Expressions that may be lowered in all, so that functions that double each other come to an end.
const MOST_WORK: usize = 200_000;

/// The outputs of a function by name.
type Outputs = Vec<(String, Value)>;

/// The mark that a fault has been reported.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reported;

pub(crate) type Result<T> = std::result::Result<T, Reported>;

/// A function of the module, made from one of the spec.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    name: ir::Name,
    extras: Vec<Extra>,
}

/// The function that is being built.
struct Building {
    function: ir::Function,
    frames: Vec<Frame>,
    extras: Extras,
    /// Labels of blocks and stacks so far, which must differ.
    labels: BTreeSet<String>,
    /// How many calls lead to it.
    calls: usize,
    /// Loop bodies that the first of the two runs made, for the second to take up.
    bodies: VecDeque<Rc<Instance>>,
}

enum Extras {
    Learn(Vec<Extra>),
    Known(Vec<(Extra, Value)>),
}

pub(crate) struct Lower<'a> {
    program: &'a Program<'a>,
    sources: &'a Sources,
    settings: &'a Settings,
    module: Module,
    values: BTreeMap<String, Bound>,
    instances: BTreeMap<String, Option<Rc<Instance>>>,
    /// Instances being made, which must not need themselves.
    open: Vec<String>,
    now: Building,
    depth: usize,
    work: usize,
    /// Where the functions being lowered are called from, outermost first.
    calls: Vec<Span>,
    faults: Vec<Diagnostic>,
}

impl Building {
    fn new(stem: &str, origin: Option<Origin>, bodies: VecDeque<Rc<Instance>>) -> Building {
        let mut function = ir::Function::new(stem);
        function.origin = origin;
        let (frames, labels) = (Vec::new(), BTreeSet::new());
        let extras = Extras::Learn(Vec::new());
        Building { function, frames, extras, labels, calls: 0, bodies }
    }
}

impl<'a> Lower<'a> {
    pub(crate) fn new(
        program: &'a Program<'a>,
        sources: &'a Sources,
        settings: &'a Settings,
    ) -> Lower<'a> {
        Lower {
            program,
            sources,
            settings,
            module: Module::default(),
            values: BTreeMap::new(),
            instances: BTreeMap::new(),
            open: Vec::new(),
            now: Building::new("_", None, VecDeque::new()),
            depth: 0,
            work: 0,
            calls: Vec::new(),
            faults: Vec::new(),
        }
    }

    /// Reports a fault, with the call that leads to it if it lies in another file.
    fn fault(&mut self, mut diagnostic: Diagnostic) -> Reported {
        if let (Some(first), Some(call)) = (diagnostic.labels.first(), self.calls.last())
            && first.span.source != call.source
        {
            diagnostic = diagnostic.at(*call, "in this call");
        }
        if self.faults.len() < crate::MOST_DIAGNOSTICS && !self.faults.contains(&diagnostic) {
            self.faults.push(diagnostic);
        }
        Reported
    }

    /// Reports a fault at one place.
    fn wrong(&mut self, code: &'static str, message: impl Into<String>, span: Span) -> Reported {
        self.fault(Diagnostic::error(code, message).at(span, ""))
    }

    /// Goes one level deeper, unless that is too deep or too much.
    fn deeper<T>(&mut self, span: Span, inner: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.work += 1;
        if self.depth == MOST_DEPTH || self.work > MOST_WORK {
            return Err(self.wrong("E0205", "this calls itself, or is too much to compile", span));
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    /// Adds an op with one result.
    fn op(&mut self, op: impl Into<Op>, operands: &[Value], span: Span) -> Result<Value> {
        Ok(self.op_all(op, operands, span)?[0])
    }

    fn op_all(&mut self, op: impl Into<Op>, operands: &[Value], span: Span) -> Result<Vec<Value>> {
        let op = op.into();
        let name = op.rules().name();
        let line = self.line(span);
        match self.now.function.try_add_at(line.as_ref(), self.module.scope(), op, operands) {
            Ok(values) => Ok(values),
            Err(why) => Err(self.wrong("E0305", format!("`{name}`: {why}"), span)),
        }
    }

    /// The line of a place, or of the call that leads from it into the prelude.
    fn line(&self, span: Span) -> Option<Line> {
        let calls = self.calls[self.now.calls..].iter().rev();
        let place = std::iter::once(&span).chain(calls).find(|it| it.source != PRELUDE)?;
        let source = self.sources.get(place.source)?;
        let before = source.text.get(..place.start as usize)?;
        let number = 1 + before.matches('\n').count() as u32;
        Some(Line { file: source.file().into(), number })
    }

    fn ty(&self, value: Value) -> &Type {
        self.now.function.ty(value)
    }

    /// A weight or a captured value of the function being built. In the first run a constant stands
    /// in for it.
    fn extra(&mut self, extra: Extra, span: Span) -> Result<Value> {
        match &mut self.now.extras {
            Extras::Known(known) => {
                let found =
                    known.iter().find(|(it, _)| it.kind == extra.kind && it.name == extra.name);
                let found = found.map(|it| it.1);
                found.ok_or_else(|| {
                    self.wrong("E0205", "this differs from one run to the next", span)
                })
            }
            Extras::Learn(list) => {
                let known = list.iter().any(|it| it.kind == extra.kind && it.name == extra.name);
                if known && extra.kind == ExtraKind::Weight {
                    let message = format!("there is a weight `{}` already", extra.name);
                    return Err(self.wrong("E0202", message, span));
                }
                let stand_in = Constant::fill(extra.ty.clone(), 0.0);
                if !known {
                    list.push(extra);
                }
                self.op(stand_in, &[], span)
            }
        }
    }

    /// Builds a function of the module: twice, as the file says at its top.
    fn build(
        &mut self,
        stem: &str,
        origin: Option<Origin>,
        inputs: &[(String, Type)],
        role: Role,
        body: &mut dyn FnMut(&mut Self, &[Value]) -> Result<Outputs>,
    ) -> Result<Instance> {
        let learning = Building::new(stem, origin.clone(), VecDeque::new());
        let (learned, outcome) = self.within(learning, inputs, None, role, body);
        outcome?;
        let Extras::Learn(mut extras) = learned.extras else { return Err(Reported) };
        extras.sort_by_key(|it| it.kind);
        let knowing = Building::new(stem, origin, learned.bodies);
        let (known, outcome) = self.within(knowing, inputs, Some(&extras), role, body);
        let mut function = known.function;
        for (name, value) in outcome? {
            function.output(name, value);
        }
        function.name = self.module.fresh(stem);
        let name = function.name.clone();
        self.module.functions.push(function);
        Ok(Instance { name, extras })
    }

    /// Runs `body` with another function as the one being built.
    fn within(
        &mut self,
        mut building: Building,
        inputs: &[(String, Type)],
        extras: Option<&[Extra]>,
        role: Role,
        body: &mut dyn FnMut(&mut Self, &[Value]) -> Result<Outputs>,
    ) -> (Building, Result<Outputs>) {
        let function = &mut building.function;
        let values: Vec<Value> = inputs
            .iter()
            .map(|(name, ty)| function.param(name.as_str(), role, ty.clone()))
            .collect();
        let role = if role == Role::Input { Role::Weight } else { role };
        if let Some(extras) = extras {
            let mut param = |it: &Extra| function.param(it.param_name(), role, it.ty.clone());
            let known = extras.iter().map(|it| (it.clone(), param(it))).collect();
            building.extras = Extras::Known(known);
        }
        building.calls = self.calls.len();
        let outer = std::mem::replace(&mut self.now, building);
        let outcome = body(self, &values);
        (std::mem::replace(&mut self.now, outer), outcome)
    }
}

impl Extra {
    /// Its name among the parameters. A prime keeps captures apart from weights.
    fn param_name(&self) -> String {
        match self.kind {
            ExtraKind::Weight => self.name.clone(),
            ExtraKind::Part | ExtraKind::Capture => format!("{}'", self.name),
        }
    }
}

/// The axes of a type as messages show them.
fn shown(axes: &[Axis]) -> String {
    let axes: Vec<String> = axes.iter().map(Axis::to_string).collect();
    format!("[{}]", axes.join(", "))
}
