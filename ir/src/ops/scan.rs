//! A loop along an axis, with values carried from one step to the next: layers and recurrences.

use super::Variants;
use crate::{
    Axis, Example, Function, Mismatch, Name, Role, Rules, Run, Scope, Tensor, Type, Value, Visit,
    eval::eval_function,
    grad::Grad,
    ops::{BinaryFn, Op, UnaryFn},
};

/// Runs `body` once for each place along `axis`.
///
/// The operands are `carries` values that each step hands to the next, then `banked` values whose
/// first axis is `axis` and of which each step takes its own part, then values that all steps
/// share; the body takes them in that order. Its first outputs are the next carries, and each
/// further one is laid out along `axis`. The results are the last carries and those banks.
///
/// A run of equal layers is such a loop over the layers with its parameters banked; a recurrence
/// over positions is one over the sequence.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Scan {
    /// The function of one step.
    pub body: Name,
    /// The axis to run along, an atom.
    pub axis: Axis,
    /// How many operands are carried.
    pub carries: usize,
    /// How many are banked.
    pub banked: usize,
    /// Whether to begin at the far end.
    pub reverse: bool,
}

impl Scan {
    /// The type of one step's part of a bank.
    fn part(&self, bank: &Type) -> Result<Type, Mismatch> {
        match bank.axes.split_first() {
            Some((first, rest)) if *first == self.axis => Ok(Type::new(bank.dtype, rest)),
            _ => Err(format!("the first axis of {bank} is not `{}`", self.axis)),
        }
    }

    /// The type of a bank of `part`.
    fn bank(&self, part: &Type) -> Type {
        Type::new(part.dtype, [std::slice::from_ref(&self.axis), &part.axes].concat())
    }

    fn check_operands(&self, operands: &[Type], body: &Function) -> Result<(), Mismatch> {
        let n = operands.len();
        if body.params.len() != n {
            return Err(format!("@{} takes {} operands, not {n}", self.body, body.params.len()));
        }
        let end = self.carries.checked_add(self.banked).filter(|it| *it <= n);
        let end =
            end.ok_or_else(|| format!("{n} operands are fewer than are carried and banked"))?;
        let banks = self.carries..end;
        for (i, (operand, param)) in operands.iter().zip(&body.params).enumerate() {
            let part = if banks.contains(&i) { self.part(operand)? } else { operand.clone() };
            if !param.ty.accepts(&part) {
                return Err(format!(
                    "@{} takes {} as %{}, not {part}",
                    self.body, param.ty, param.name
                ));
            }
        }
        Ok(())
    }
}

impl Variants for Scan {}

impl Rules for Scan {
    fn name(&self) -> &'static str {
        "scan"
    }

    fn attributes(&mut self, visit: &mut dyn Visit) {
        visit.attribute("body", &mut self.body);
        visit.attribute("axis", &mut self.axis);
        visit.attribute("carries", &mut self.carries);
        visit.attribute("banked", &mut self.banked);
        visit.attribute("reverse", &mut self.reverse);
    }

    fn infer(&self, operands: &[Type], scope: Scope<'_>) -> Result<Vec<Type>, Mismatch> {
        let body =
            scope.function(self.body.as_str()).ok_or(format!("no function @{}", self.body))?;
        if scope.axes.bound(&self.axis).is_none() || self.axis.as_atom().is_none() {
            return Err(format!("`{}` is not a declared atom", self.axis));
        }
        self.check_operands(operands, body)?;
        let outputs = body.output_types();
        if outputs.len() < self.carries {
            return Err(format!("@{} gives fewer outputs than are carried", self.body));
        }
        for (param, output) in body.params[..self.carries].iter().zip(&outputs) {
            if param.ty != *output {
                return Err(format!("carries {} but gives {output}", param.ty));
            }
        }
        let (carried, banked) = outputs.split_at(self.carries);
        Ok(carried.iter().cloned().chain(banked.iter().map(|it| self.bank(it))).collect())
    }

    fn eval(&self, operands: &[&Tensor], results: &[Type], run: Run<'_>) -> Vec<Tensor> {
        let body = run.module.function(self.body.as_str()).expect("a body");
        let steps = run.sizes.of(&self.axis);
        let mut carried: Vec<Tensor> =
            operands[..self.carries].iter().map(|&it| it.clone()).collect();
        for (carry, ty) in carried.iter_mut().zip(results) {
            carry.ty = ty.clone();
        }
        let mut banks: Vec<Tensor> = results[self.carries..]
            .iter()
            .map(|ty| Tensor::from_fn(ty.clone(), run.sizes, |_| 0.0))
            .collect();
        for i in 0..steps {
            let step = if self.reverse { steps - 1 - i } else { i };
            let parts: Vec<Tensor> =
                operands[self.carries..][..self.banked].iter().map(|it| part(it, step)).collect();
            let shared = &operands[self.carries + self.banked..];
            let arguments: Vec<&Tensor> =
                carried.iter().chain(&parts).chain(shared.iter().copied()).collect();
            let mut outputs = eval_function(body, &arguments, run);
            for (bank, output) in banks.iter_mut().zip(outputs.drain(self.carries..)) {
                let n = output.data.len();
                bank.data[step * n..][..n].copy_from_slice(&output.data);
            }
            carried = outputs;
        }
        carried.into_iter().chain(banks).collect()
    }

    fn gradient(
        &self,
        grad: &mut Grad<'_>,
        operands: &[Value],
        results: &[Value],
        upstream: &[Option<Value>],
    ) -> Vec<Option<Value>> {
        let Some(backward) = self.backward(grad) else { return vec![None; operands.len()] };
        let upstream = grad.fill(results, upstream);
        let (carried, rest) = operands.split_at(self.carries);
        let (banked, shared) = rest.split_at(self.banked);
        let n_carries = carried.iter().filter(|&&it| grad.is_float(it)).count();
        // First the carries that each step found, by running forward again.
        let saving = Scan { body: backward.saving, ..self.clone() };
        let saved = grad.add_all(saving, operands).split_off(self.carries);
        // Then the steps in the other direction, adding up what the shared operands get.
        let floats: Vec<Value> = shared.iter().filter(|&&it| grad.is_float(it)).copied().collect();
        let zeros: Vec<Value> = floats.into_iter().map(|it| grad.zeros(it)).collect();
        let scan = Scan {
            body: backward.step,
            axis: self.axis.clone(),
            carries: n_carries + zeros.len(),
            banked: saved.len() + banked.len() + upstream.len() - n_carries,
            reverse: !self.reverse,
        };
        let (last, banks) = upstream.split_at(n_carries);
        let arguments = [last, &zeros, &saved, banked, banks, shared].concat();
        let mut gradients = grad.add_all(scan, &arguments);
        let of_banks = gradients.split_off(n_carries + zeros.len());
        let of_shared = gradients.split_off(n_carries);
        grad.to_floats(operands, [gradients, of_banks, of_shared].concat())
    }

    fn examples(&self) -> Vec<Example> {
        let operands = ["f32[A]", "f32[L, A, B]", "f32[L, B]", "f32[B]"];
        let scan = |reverse| Scan {
            body: "step".into(),
            axis: Axis::atom("L"),
            carries: 1,
            banked: 2,
            reverse,
        };
        let example = |reverse| {
            let mut example =
                Example::new(scan(reverse), &[("A", 2), ("B", 3), ("L", 3)], &operands);
            example.functions = vec![example_step(&example)];
            example
        };
        vec![example(false), example(true)]
    }
}

/// The functions that a gradient of a loop runs.
struct Backward {
    /// Gives the carries that came in as banks.
    saving: Name,
    /// One step backward.
    step: Name,
}

impl Scan {
    /// Makes the functions of the backward loop; `None` when nothing has a gradient.
    fn backward(&self, grad: &mut Grad<'_>) -> Option<Backward> {
        let of_body = grad.of_function(&self.body)?;
        let body = grad.module().function(self.body.as_str())?.clone();
        let saving = grad.define(format!("{}.saving", self.body), |module, it| {
            let params: Vec<Value> =
                body.params.iter().map(|p| it.param(&p.name, Role::Value, p.ty.clone())).collect();
            let outputs = it.inline(None, module.scope(), &body, &params);
            let carried = outputs[..self.carries].iter().chain(&params[..self.carries]);
            for (i, &value) in carried.enumerate() {
                it.output(format!("carry.{i}"), value);
            }
        });
        let step = grad.define(format!("{}.back", self.body), |module, it| {
            self.backward_step(module.scope(), &body, &of_body, it);
        });
        Some(Backward { saving, step })
    }

    /// Takes the gradients of the carries and of the shared values so far, then what the forward
    /// step took and the gradients of its banks; gives the gradients of the incoming carries, the
    /// shared sums and the gradients of the banked parts.
    fn backward_step(&self, scope: Scope<'_>, body: &Function, of_body: &Name, it: &mut Function) {
        let floats = |range: std::ops::Range<usize>| {
            body.params[range].iter().filter(|p| p.ty.dtype.is_float()).map(|p| p.ty.clone())
        };
        let (n, banks) = (body.params.len(), self.carries + self.banked);
        let outputs = body.output_types();
        let mut take = |stem: &str, types: Vec<Type>| -> Vec<Value> {
            let name = |i| format!("{stem}.{i}");
            types
                .into_iter()
                .enumerate()
                .map(|(i, ty)| it.param(name(i), Role::Value, ty))
                .collect()
        };
        let d_carries = take("d_carry", floats(0..self.carries).collect());
        let sums = take("sum", floats(banks..n).collect());
        let forward = take("x", body.params[..banks].iter().map(|p| p.ty.clone()).collect());
        let float_banks = outputs[self.carries..].iter().filter(|ty| ty.dtype.is_float());
        let d_banks = take("d_bank", float_banks.cloned().collect());
        let shared = take("shared", body.params[banks..].iter().map(|p| p.ty.clone()).collect());
        let arguments = [forward, shared, d_carries.clone(), d_banks].concat();
        let call = super::Call { function: of_body.clone() };
        let mut gradients = it.add_all(scope, call, &arguments);
        let of_shared = gradients.split_off(gradients.len() - sums.len());
        let of_banks = gradients.split_off(d_carries.len());
        let add = Op::binary(BinaryFn::Add);
        let totals: Vec<Value> = sums
            .iter()
            .zip(&of_shared)
            .map(|(&a, &b)| it.add(scope, add.clone(), &[a, b]))
            .collect();
        for (i, &value) in gradients.iter().chain(&totals).chain(&of_banks).enumerate() {
            it.output(format!("d.{i}"), value);
        }
    }
}

/// One step's part of a bank.
fn part(bank: &Tensor, step: usize) -> Tensor {
    let shape = bank.shape[1..].to_vec();
    let n: usize = shape.iter().product();
    let ty = Type::new(bank.ty.dtype, &bank.ty.axes[1..]);
    Tensor { ty, shape, data: bank.data[step * n..][..n].to_vec() }
}

/// `h = tanh(w h' + b) ; y = h s`, small enough for finite differences.
fn example_step(example: &Example) -> Function {
    let scope = Scope { axes: &example.axes, functions: &[] };
    let ty = |text: &str| Type::parse(text).expect("a type");
    let mut step = Function::new("step");
    let h = step.param("h", Role::Value, ty("f32[A]"));
    let w = step.param("w", Role::Value, ty("f32[A, B]"));
    let b = step.param("b", Role::Value, ty("f32[B]"));
    let s = step.param("s", Role::Value, ty("f32[B]"));
    let over = |name| super::Contract { over: vec![Axis::atom(name)] };
    let wide = step.add(scope, over("A"), &[h, w]);
    let shifted = step.add(scope, Op::binary(BinaryFn::Add), &[wide, b]);
    let bent = step.add(scope, Op::unary(UnaryFn::Tanh), &[shifted]);
    let scaled = step.add(scope, Op::binary(BinaryFn::Mul), &[bent, s]);
    let next = step.add(scope, over("B"), &[w, scaled]);
    step.output("h", next);
    step.output("y", scaled);
    step
}
