//! The model: the entry of the module, whose weights are all the weights there are.

use ir::{DType, Module, Role, Type};

use super::bound::{Bound, Extra};

use super::frame::Frame;
use super::{Lower, Reported, Result};
use crate::ast::{Expr, ExprKind, FunctionKind, ValueDecl};
use crate::diagnostic::Diagnostic;
use crate::program::Definition;

/// A parameter of the entry that a checkpoint gives.
pub(crate) struct Weight {
    pub(crate) name: String,
    pub(crate) ty: Type,
    /// For a bank: the number of the layer that each of its parts belongs to.
    pub(crate) layers: Option<Vec<usize>>,
}

impl From<Extra> for Weight {
    fn from(extra: Extra) -> Weight {
        Weight { name: extra.name, ty: extra.ty, layers: extra.layers }
    }
}

/// A lowered spec.
pub(crate) struct Lowered {
    pub(crate) module: Module,
    pub(crate) weights: Vec<Weight>,
}

impl<'a> Lower<'a> {
    /// The module of a model, or all that is wrong with it.
    pub(crate) fn model(
        mut self,
        definition: Definition<'a>,
    ) -> std::result::Result<Lowered, Vec<Diagnostic>> {
        self.declare_axes();
        self.declare_values();
        let entry = self.entry(definition);
        self.check_other_blocks();
        match entry {
            Ok(weights) if self.faults.is_empty() => {
                self.module.prune();
                Ok(Lowered { module: self.module, weights })
            }
            _ => Err(self.faults),
        }
    }

    /// The values of the spec, in order, with their settings.
    fn declare_values(&mut self) {
        for decl in &self.program.values {
            let bound = self.declared(decl).unwrap_or(Bound::Unknown);
            self.values.insert(decl.name.text.clone(), bound);
        }
    }

    fn declared(&mut self, decl: &'a ValueDecl) -> Result<Bound> {
        let name = &decl.name.text;
        let bound = match self.expr(&decl.value)? {
            Bound::Number(number) => match self.settings.number(name) {
                Ok(set) => Bound::Number(set.unwrap_or(number)),
                Err(fault) => return Err(self.fault(fault.at(decl.name.span, "declared here"))),
            },
            Bound::Text(text) => Bound::Text(self.settings.text(name).map_or(text, str::to_owned)),
            other => {
                let message = format!("a value is a number or a text, not {}", other.describe());
                return Err(self.wrong("E0306", message, decl.value.span));
            }
        };
        Ok(bound)
    }

    fn entry(&mut self, definition: Definition<'a>) -> Result<Vec<Weight>> {
        let function = definition.function;
        let frame = Frame::new(definition.source, FunctionKind::Model);
        let inputs = self.inputs(definition)?;
        let made =
            self.build(&function.name.text, None, &inputs, Role::Input, &mut |it, values| {
                let mut frame = frame.clone();
                let names = inputs.iter().map(|it| it.0.clone());
                frame.names = names.zip(values.iter().map(|it| Bound::Tensor(*it))).collect();
                let bound = it.run(function, frame)?;
                it.outputs(bound, &function.name)
            })?;
        Ok(made.extras.into_iter().map(Weight::from).collect())
    }

    /// Lowers the blocks that no call has reached, for what is wrong with them.
    fn check_other_blocks(&mut self) {
        let n_functions = self.module.functions.len();
        for (index, definition) in self.program.functions.iter().enumerate() {
            let key = format!("{index} ");
            let is_block = definition.function.kind == FunctionKind::Block;
            if is_block && !self.instances.keys().any(|it| it.starts_with(&key)) {
                // Whatever stands in the way has been reported, or needs a caller to decide it.
                let _ = self.check_block(*definition);
            }
        }
        self.module.functions.truncate(n_functions);
    }

    fn check_block(&mut self, definition: Definition<'a>) -> Result<()> {
        let mut frame = Frame::new(definition.source, FunctionKind::Block);
        let mut inputs = Vec::new();
        for param in &definition.function.params {
            let name = param.name.text.clone();
            let Some(shape) = &param.shape else {
                let bound = self.known_for(param, None)?;
                frame.names.push((name, bound));
                continue;
            };
            let axes = shape.iter().map(|it| self.bound_axis(&frame, it)?.ok_or(Reported));
            let axes = axes.collect::<Result<Vec<_>>>()?;
            inputs.push((name, self.sound(Type::new(DType::F32, axes), param.name.span)?));
        }
        self.make(definition.function, &inputs, frame).map(drop)
    }

    /// The inputs, which are indices unless they say otherwise.
    fn inputs(&mut self, definition: Definition<'a>) -> Result<Vec<(String, Type)>> {
        let mut inputs = Vec::new();
        for param in &definition.function.params {
            let dtype = self.wanted_type(param)?.unwrap_or(DType::I32);
            let Some(shape) = &param.shape else {
                let message = format!("an input needs its axes: `{}[S]`", param.name.text);
                return Err(self.wrong("E0302", message, param.name.span));
            };
            let axes = shape.iter().map(|it| self.input_axis(it)).collect::<Result<Vec<_>>>()?;
            let ty = self.sound(Type::new(dtype, axes), param.name.span)?;
            inputs.push((param.name.text.clone(), ty));
        }
        Ok(inputs)
    }

    fn input_axis(&mut self, expr: &'a Expr) -> Result<ir::Axis> {
        match expr.kind {
            ExprKind::Rest => {
                let reported: Reported =
                    self.wrong("E0302", "a model says all of its axes", expr.span);
                Err(reported)
            }
            _ => self.axis(expr),
        }
    }
}
