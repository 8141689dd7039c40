//! Stacks of layers. Equal layers are one loop over banks of weights; layers of several kinds are
//! calls of the few distinct functions, each with its part of the banks.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use ir::ops::{Call as CallOp, Constant, Gather, Scan};
use ir::{Axis, DType, Extent, Role, Type, Value};

use super::bound::{Bound, Extra, ExtraKind};
use super::frame::{Around, Frame};
use super::{Instance, Lower, Outputs, Result, shown};
use crate::ast::{Branch, Expr, ExprKind, Layers, LayersBody, Name, Stmt, StmtKind};
use crate::diagnostic::Diagnostic;
use crate::source::Span;

/// There may be this many layers in a stack.
const MOST_LAYERS: usize = 4096;

/// The names that the layers hand on, with their values before the first.
pub(super) type Carries = Vec<(Name, Value)>;

impl<'a> Lower<'a> {
    pub(super) fn layers(&mut self, layers: &'a Layers, span: Span) -> Result<()> {
        self.may_hold_layers(span)?;
        let word = Name { text: "layers".into(), span };
        let label = layers.label.as_ref().unwrap_or(&word).clone();
        self.claim_label(&label)?;
        match &layers.body {
            LayersBody::Same(body) => self.equal_layers(&layers.over, body, &label),
            LayersBody::Pattern(branches) => self.pattern(&layers.over, branches, &label),
        }
    }

    /// One loop over an axis.
    fn equal_layers(&mut self, over: &'a Expr, body: &'a [Stmt], label: &Name) -> Result<()> {
        let axis = self.axis(over)?;
        let (Some(_), Some(n_layers)) = (axis.as_atom(), self.module.axes.fixed(&axis)) else {
            let message = format!("`{axis}` does not say how many layers there are");
            return Err(self.wrong("E0304", message, over.span));
        };
        if MOST_LAYERS < n_layers {
            let message = format!("{n_layers} layers, where a stack has {MOST_LAYERS} at most");
            return Err(self.wrong("E0304", message, over.span));
        }
        let carries = self.layer_carries([body], label)?;
        let step = self.layer_step(body, label, &carries)?;
        let mut operands: Vec<Value> = carries.iter().map(|it| it.1).collect();
        let banked = Self::weights_of(&step).count();
        for extra in Self::weights_of(&step) {
            let layers = (0..n_layers).collect();
            operands.push(self.bank(extra, label, &axis, layers)?);
        }
        operands.extend(self.around(&step, ExtraKind::Capture, label.span)?);
        let body = step.name.clone();
        let scan = Scan { body, axis, carries: carries.len(), banked, reverse: false };
        let values = self.op_all(scan, &operands, label.span)?;
        self.set_carries(&carries, &values);
        Ok(())
    }

    /// Calls in the order of the letters.
    fn pattern(&mut self, over: &'a Expr, branches: &'a [Branch], label: &Name) -> Result<()> {
        let letters = self.letters(over)?;
        let kinds = self.kinds(&letters, branches, over.span)?;
        let mut carries =
            self.layer_carries(branches.iter().map(|it| it.body.as_slice()), label)?;
        let mut steps: BTreeMap<usize, Rc<Instance>> = BTreeMap::new();
        for kind in kinds.iter().copied().collect::<BTreeSet<_>>() {
            let label = Name { text: label.text.clone(), ..branches[kind].letters.clone() };
            steps.insert(kind, self.layer_step(&branches[kind].body, &label, &carries)?);
        }
        let banks = self.banks(&steps, &kinds, label)?;
        for (layer, kind) in kinds.iter().enumerate() {
            let step = &steps[kind];
            let mut operands: Vec<Value> = carries.iter().map(|it| it.1).collect();
            for extra in Self::weights_of(step) {
                operands.push(self.part(&banks[&extra.name], layer, label.span)?);
            }
            operands.extend(self.around(step, ExtraKind::Capture, label.span)?);
            let values =
                self.op_all(CallOp { function: step.name.clone() }, &operands, label.span)?;
            carries.iter_mut().zip(values).for_each(|(carry, value)| carry.1 = value);
        }
        let values: Vec<Value> = carries.iter().map(|it| it.1).collect();
        self.set_carries(&carries, &values);
        Ok(())
    }

    fn letters(&mut self, over: &'a Expr) -> Result<Vec<char>> {
        let text = match &over.kind {
            ExprKind::Axis(_) => None,
            _ => match self.expr(over)? {
                Bound::Text(text) => Some(text),
                _ => None,
            },
        };
        let letters: Option<Vec<char>> = text.map(|it| it.chars().collect());
        match letters.filter(|it| (1..=MOST_LAYERS).contains(&it.len())) {
            Some(letters) => Ok(letters),
            None => {
                let message = "kinds of layers need a pattern: a text with a letter for each layer";
                Err(self.wrong("E0306", message, over.span))
            }
        }
    }

    /// The branch of each layer.
    fn kinds(&mut self, letters: &[char], branches: &[Branch], span: Span) -> Result<Vec<usize>> {
        let mut kinds = Vec::new();
        for letter in letters {
            match branches.iter().position(|it| it.letters.text.contains(*letter)) {
                Some(kind) => kinds.push(kind),
                None => {
                    let message = format!("no kind of layer is called `{letter}`");
                    let all: Vec<&str> = branches.iter().map(|it| &*it.letters.text).collect();
                    let note = format!("there are: {}", all.join(", "));
                    let diagnostic = Diagnostic::error("E0402", message).at(span, "").note(note);
                    return Err(self.fault(diagnostic));
                }
            }
        }
        Ok(kinds)
    }

    /// The names that the layers set, of which there must be one.
    fn layer_carries(
        &mut self,
        bodies: impl IntoIterator<Item = &'a [Stmt]>,
        label: &Name,
    ) -> Result<Carries> {
        let carries = self.carries(bodies)?;
        if carries.is_empty() {
            let message = "these layers hand nothing on; set a name: `x = block(x)`";
            return Err(self.wrong("E0207", message, label.span));
        }
        Ok(carries)
    }

    /// The names that some body sets, each of which has a value by now.
    pub(super) fn carries(
        &mut self,
        bodies: impl IntoIterator<Item = &'a [Stmt]>,
    ) -> Result<Carries> {
        let mut carries: Carries = Vec::new();
        for statement in bodies.into_iter().flatten() {
            let StmtKind::Set(name, _) = &statement.kind else { continue };
            if carries.iter().any(|it| it.0.text == name.text) {
                continue;
            }
            match self.look_up(&name.text, name.span)? {
                Bound::Tensor(value) => carries.push((name.clone(), value)),
                other => {
                    let message = format!("layers hand on tensors, not {}", other.describe());
                    return Err(self.wrong("E0306", message, name.span));
                }
            }
        }
        Ok(carries)
    }

    pub(super) fn set_carries(&mut self, carries: &Carries, values: &[Value]) {
        for ((name, _), value) in carries.iter().zip(values) {
            self.bind(&name.text, Bound::Tensor(*value));
        }
    }

    /// The function of one layer.
    fn layer_step(
        &mut self,
        body: &'a [Stmt],
        label: &Name,
        carries: &Carries,
    ) -> Result<Rc<Instance>> {
        let frame = self.inner_frame(carries);
        self.step(&label.text, carries, frame, &mut |it, types| {
            if it.body(body)?.is_some() {
                let span = body.last().map_or(carries[0].0.span, |it| it.span);
                let message = "layers hand values on by names: `x = ...`";
                return Err(it.wrong("E0207", message, span));
            }
            it.handed_on(carries, types)
        })
    }

    /// The function of one turn, whose outputs `outputs` makes in `frame`, given the types that
    /// are handed on. The second run of the function around it takes up what the first one made.
    pub(super) fn step(
        &mut self,
        stem: &str,
        carries: &Carries,
        frame: Frame,
        outputs: &mut dyn FnMut(&mut Self, &[Type]) -> Result<Outputs>,
    ) -> Result<Rc<Instance>> {
        if matches!(self.now.extras, super::Extras::Known(_))
            && let Some(made) = self.now.bodies.pop_front()
        {
            return Ok(made);
        }
        let types: Vec<Type> = carries.iter().map(|it| self.ty(it.1).clone()).collect();
        let names = carries.iter().map(|it| it.0.text.clone());
        let inputs: Vec<(String, Type)> = names.zip(types.iter().cloned()).collect();
        let made = self.build(stem, None, &inputs, Role::Value, &mut |it, values| {
            let mut frame = frame.clone();
            let named = inputs.iter().map(|it| it.0.clone());
            frame.names = named.zip(values.iter().map(|it| Bound::Tensor(*it))).collect();
            it.now.frames.push(frame);
            let outputs = outputs(it, &types);
            it.now.frames.pop();
            outputs
        })?;
        let made = Rc::new(made);
        self.now.bodies.push_back(made.clone());
        Ok(made)
    }

    /// What a layer sees of the body around it.
    pub(super) fn inner_frame(&mut self, carries: &Carries) -> Frame {
        let mut inner = self.frame().clone();
        for seen in inner.around.values_mut() {
            if let Around::Part(ty) = seen {
                *seen = Around::Tensor(ty.clone());
            }
        }
        let names = std::mem::take(&mut inner.names);
        for (name, bound) in names {
            let seen = match bound {
                Bound::Tensor(value) => Around::Tensor(self.ty(value).clone()),
                known => Around::Known(known),
            };
            inner.around.insert(name, seen);
        }
        inner.around.retain(|name, _| carries.iter().all(|it| it.0.text != *name));
        inner.is_layer = true;
        inner
    }

    /// What the next turn gets for each name: the same type as this one got.
    pub(super) fn handed_on(&mut self, carries: &Carries, types: &[Type]) -> Result<Outputs> {
        let mut outputs = Vec::new();
        for ((name, _), ty) in carries.iter().zip(types) {
            let Bound::Tensor(value) = self.look_up(&name.text, name.span)? else {
                let message = format!("`{}` is a tensor before the layer", name.text);
                return Err(self.wrong("E0306", message, name.span));
            };
            let found = self.ty(value).clone();
            if found.dtype != ty.dtype || found.axes.len() != ty.axes.len() {
                let (from, to) = (shown(&ty.axes), shown(&found.axes));
                let message = format!("this turns `{}` from {from} to {to}", name.text);
                return Err(self.wrong("E0301", message, name.span));
            }
            let value = self.in_order(value, &ty.axes, name.span)?;
            outputs.push((name.text.clone(), value));
        }
        Ok(outputs)
    }

    /// The values of one kind that the turns take from around them.
    pub(super) fn around(
        &mut self,
        step: &Instance,
        kind: ExtraKind,
        span: Span,
    ) -> Result<Vec<Value>> {
        let mut values = Vec::new();
        for extra in step.extras.iter().filter(|it| it.kind == kind) {
            match self.look_up(&extra.name, span)? {
                Bound::Tensor(value) => values.push(value),
                _ => return Err(super::Reported),
            }
        }
        Ok(values)
    }

    /// The weight of a layer for all layers that have it, along their axis.
    fn bank(
        &mut self,
        extra: &Extra,
        label: &Name,
        axis: &Axis,
        layers: Vec<usize>,
    ) -> Result<Value> {
        if extra.layers.is_some() {
            let message = "a block in layers can not have layers of its own";
            return Err(self.wrong("E0207", message, label.span));
        }
        let axes = [std::slice::from_ref(axis), &extra.ty.axes].concat();
        let ty = self.sound(Type::new(extra.ty.dtype, axes), label.span)?;
        let name = format!("{}.{}", label.text, extra.name);
        let layers = Some(layers);
        self.extra(Extra { kind: ExtraKind::Weight, name, ty, layers }, label.span)
    }

    /// The banks of a pattern by the paths of their weights. Kinds of layers that share a path
    /// share its bank.
    fn banks(
        &mut self,
        steps: &BTreeMap<usize, Rc<Instance>>,
        kinds: &[usize],
        label: &Name,
    ) -> Result<BTreeMap<String, Bank>> {
        let mut users: Vec<(&Extra, BTreeSet<usize>)> = Vec::new();
        for (kind, step) in steps {
            for extra in Self::weights_of(step) {
                match users.iter_mut().find(|it| it.0.name == extra.name) {
                    Some((first, _)) if first.ty != extra.ty => {
                        let message = format!(
                            "layers of several kinds share the weight `{}`, but not its shape",
                            extra.name
                        );
                        return Err(self.wrong("E0301", message, label.span));
                    }
                    Some((_, kinds)) => drop(kinds.insert(*kind)),
                    None => users.push((extra, BTreeSet::from([*kind]))),
                }
            }
        }
        let mut banks = BTreeMap::new();
        for (extra, users) in users {
            let layers: Vec<usize> =
                (0..kinds.len()).filter(|it| users.contains(&kinds[*it])).collect();
            let axis = self.bank_axis(extra, label, layers.len());
            let value = self.bank(extra, label, &axis, layers.clone())?;
            banks.insert(extra.name.clone(), Bank { value, axis, layers });
        }
        Ok(banks)
    }

    /// The axis of the layers that use a block, such as `layers.mamba`.
    fn bank_axis(&mut self, extra: &Extra, label: &Name, n_layers: usize) -> Axis {
        let block = extra.name.split('.').next().unwrap_or_default();
        let stem = format!("{}.{block}", label.text);
        let size = Extent::Fixed { size: n_layers, choices: Vec::new() };
        let known = self.module.axes.get(&stem).is_some_and(|it| it.extent == size);
        let name = if known { stem.as_str().into() } else { self.module.axes.fresh(&stem) };
        self.module.axes.declare(&name, size);
        Axis::atom(&name)
    }

    /// The part of a bank that belongs to a layer.
    fn part(&mut self, bank: &Bank, layer: usize, span: Span) -> Result<Value> {
        let place = bank.layers.iter().position(|it| *it == layer).unwrap_or_default();
        let index = self.op(Constant::scalar(DType::I32, place as f64), &[], span)?;
        self.op(Gather { axis: bank.axis.clone() }, &[bank.value, index], span)
    }
}

/// The weights of one path for all layers that have it.
struct Bank {
    value: Value,
    axis: Axis,
    layers: Vec<usize>,
}
