//! Calls: of functions, which are made once for each kind of arguments, and of blocks, whose
//! weights become weights of the caller.

use std::collections::BTreeMap;
use std::rc::Rc;

use ir::ops::Call as CallOp;
use ir::{Origin, Real, Role, Type, Value};

use super::bind::{Bindings, key};
use super::bound::{Bound, Extra, ExtraKind};
use super::frame::Frame;
use super::primitives::PRIMITIVES;
use super::{Instance, Lower, Outputs, Reported, Result};
use crate::ast::{Call, Expr, Function, FunctionKind, Name};
use crate::diagnostic::Diagnostic;
use crate::source::{SPEC, Span};

impl<'a> Lower<'a> {
    pub(super) fn call(&mut self, call: &'a Call, span: Span) -> Result<Bound> {
        let source = self.frame().source;
        if let Some(index) = self.program.function(&call.callee.text, source) {
            return self.call_function(index, call, span);
        }
        let Some(primitive) = PRIMITIVES.iter().find(|it| it.name == call.callee.text) else {
            return Err(self.unknown_function(&call.callee));
        };
        self.check_label(call, FunctionKind::Plain)?;
        let args = self.arrange(call, primitive.params, primitive.n_required)?;
        (primitive.lower)(self, &args, span)
    }

    fn unknown_function(&mut self, name: &Name) -> Reported {
        let functions = self.program.functions.iter().map(|it| it.function.name.text.as_str());
        let known = functions.chain(PRIMITIVES.iter().map(|it| it.name));
        let mut diagnostic =
            Diagnostic::error("E0203", format!("no function is called `{}`", name.text))
                .at(name.span, "unknown")
                .did_you_mean(name.span, &name.text, known);
        if !self.program.stems.contains_key(&crate::source::PRELUDE) {
            diagnostic = diagnostic.note("the functions of the prelude need `use prelude`");
        }
        self.fault(diagnostic)
    }

    fn check_label(&mut self, call: &Call, kind: FunctionKind) -> Result<()> {
        match &call.label {
            Some(label) if kind != FunctionKind::Block => {
                Err(self.wrong("E0207", "only the use of a block has a name", label.span))
            }
            _ => Ok(()),
        }
    }

    fn call_function(&mut self, index: usize, call: &'a Call, span: Span) -> Result<Bound> {
        let definition = self.program.functions[index];
        let function = definition.function;
        self.check_label(call, function.kind)?;
        if function.kind == FunctionKind::Model {
            return Err(self.wrong("E0207", "a model is not called", call.callee.span));
        }
        if function.kind == FunctionKind::Block && !self.frame().has_weights() {
            let message =
                "blocks are called in blocks, layers and models, where weights have a place";
            return Err(self.wrong("E0207", message, call.callee.span));
        }
        let bindings = self.bindings((definition.source, function), call)?;
        self.calls.push(span);
        let result = match function.kind {
            FunctionKind::Inline => self.expand(function, bindings),
            _ => self.call_instance(index, function, bindings, call),
        };
        self.calls.pop();
        result
    }

    fn expand(&mut self, function: &'a Function, bindings: Bindings) -> Result<Bound> {
        self.deeper(function.name.span, |it| it.run(function, bindings.frame))
    }

    /// The value of a function in a frame of its own.
    pub(super) fn run(&mut self, function: &'a Function, frame: Frame) -> Result<Bound> {
        self.now.frames.push(frame.clone());
        let value = self.value_of(&function.body, &function.name);
        let value = match (&function.result, value) {
            (Some(declared), Ok(bound)) => {
                let span = function.body.last().map_or(function.name.span, |it| it.span);
                self.conform(&frame, bound, declared, span)
            }
            (_, value) => value,
        };
        self.now.frames.pop();
        value
    }

    fn call_instance(
        &mut self,
        index: usize,
        function: &'a Function,
        bindings: Bindings,
        call: &'a Call,
    ) -> Result<Bound> {
        let mut operands: Vec<Value> = bindings.tensors.iter().map(|it| it.1).collect();
        let instance = self.instance(index, function, bindings)?;
        let label = call.label.as_ref().unwrap_or(&call.callee);
        if function.kind == FunctionKind::Block {
            self.claim_label(label)?;
        }
        for extra in &instance.extras {
            let name = format!("{}.{}", label.text, extra.name);
            operands.push(self.extra(Extra { name, ..extra.clone() }, label.span)?);
        }
        let op = CallOp { function: instance.name.clone() };
        let values = self.op_all(op, &operands, call.callee.span)?;
        Ok(together(values.into_iter().map(Bound::Tensor).collect()))
    }

    /// Takes a label of a block or a stack, which names its weights.
    pub(super) fn claim_label(&mut self, label: &Name) -> Result<()> {
        if self.now.labels.insert(label.text.clone()) {
            return Ok(());
        }
        let message = format!("`{}` is used twice here, so its weights need two names", label.text);
        let note = format!("name the second use: `{} as second(...)`", label.text);
        Err(self.fault(Diagnostic::error("E0202", message).at(label.span, "again here").note(note)))
    }

    /// The function of the module for these kinds of arguments.
    fn instance(
        &mut self,
        index: usize,
        function: &'a Function,
        bindings: Bindings,
    ) -> Result<Rc<Instance>> {
        let inputs: Vec<(String, Type)> = bindings
            .tensors
            .iter()
            .map(|(name, value)| (name.clone(), computed(self.ty(*value))))
            .collect();
        let types: Vec<Type> = inputs.iter().map(|it| it.1.clone()).collect();
        let key = key(index, &bindings.frame, &types);
        if let Some(made) = self.instances.get(&key) {
            return made.clone().ok_or(Reported);
        }
        if self.open.contains(&key) {
            let message = format!("`{}` calls itself", function.name.text);
            return Err(self.wrong("E0205", message, function.name.span));
        }
        self.open.push(key.clone());
        let made = self.deeper(function.name.span, |it| it.make(function, &inputs, bindings.frame));
        self.open.pop();
        let made = made.map(Rc::new);
        self.instances.insert(key, made.as_ref().ok().cloned());
        made
    }

    pub(super) fn make(
        &mut self,
        function: &'a Function,
        inputs: &[(String, Type)],
        frame: Frame,
    ) -> Result<Instance> {
        let origin = self.origin(function, &frame);
        // The plain names are left to the functions of the spec.
        let stem = match frame.source {
            SPEC => function.name.text.clone(),
            _ => origin.function.replace("::", "."),
        };
        self.build(&stem, Some(origin), inputs, Role::Value, &mut |it, values| {
            let mut frame = frame.clone();
            for ((name, _), value) in inputs.iter().zip(values) {
                frame.names.retain(|it| it.0 != *name);
                frame.names.push((name.clone(), Bound::Tensor(*value)));
            }
            let bound = it.run(function, frame)?;
            it.outputs(bound, &function.name)
        })
    }

    /// The outputs of a function whose value this is.
    pub(super) fn outputs(&mut self, bound: Bound, owner: &Name) -> Result<Outputs> {
        let parts = match bound {
            Bound::Tuple(parts) => parts,
            one => vec![one],
        };
        let n_parts = parts.len();
        let named = parts.into_iter().enumerate().map(|(position, part)| {
            let name = if n_parts == 1 { "out".into() } else { format!("out{position}") };
            match part {
                Bound::Tensor(value) => Ok((name, value)),
                other => {
                    let message = format!("the value of `{}` is {}", owner.text, other.describe());
                    Err(self.wrong("E0306", message, owner.span))
                }
            }
        });
        named.collect()
    }

    fn origin(&self, function: &Function, frame: &Frame) -> Origin {
        let stem = self.program.stems.get(&frame.source).map_or("", String::as_str);
        let (mut numbers, mut options) = (BTreeMap::new(), BTreeMap::new());
        for (name, bound) in &frame.names {
            let option = match bound {
                Bound::Number(number) => {
                    numbers.insert(name.clone(), Real(*number));
                    continue;
                }
                Bound::Word(word) => word.text.clone(),
                Bound::Axis(axis) => axis.to_string(),
                Bound::Truth(truth) => truth.to_string(),
                Bound::Text(_) | Bound::Tensor(_) | Bound::Tuple(_) | Bound::Unknown => continue,
            };
            options.insert(name.clone(), option);
        }
        Origin { function: format!("{stem}::{}", function.name.text), numbers, options }
    }

    /// The weights among the extras of a function.
    pub(super) fn weights_of(instance: &Instance) -> impl Iterator<Item = &Extra> {
        instance.extras.iter().filter(|it| it.kind == ExtraKind::Weight)
    }
}

/// What a function is made for: storage formats are read as `f32`.
fn computed(ty: &Type) -> Type {
    ty.with_dtype(ty.dtype.value_type())
}

/// One value, or several.
pub(super) fn together(mut values: Vec<Bound>) -> Bound {
    match values.len() {
        1 => values.remove(0),
        _ => Bound::Tuple(values),
    }
}

/// What a primitive does with its arguments.
pub(super) type LowerPrimitive =
    for<'a> fn(&mut Lower<'a>, &[Option<&'a Expr>], Span) -> Result<Bound>;
