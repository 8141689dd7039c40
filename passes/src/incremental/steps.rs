//! What the step form promises: fed with a sequence chunk by chunk, it gives what the whole model
//! gives at once.

use std::collections::BTreeMap;

use ir::{Axis, Module, Name, Role, Sizes, Tensor, Type};

use crate::{
    Cx, Fault, Noise,
    check::{run, same_numbers},
};

/// Runs the whole, then the steps: one position at a time, and in random chunks.
pub(super) fn make_the_whole(
    before: &Module,
    after: &Module,
    cx: &Cx,
    noise: &mut Noise,
) -> Result<(), Fault> {
    let axis = Axis::atom(cx.option("axis"));
    let mut extents = noise.extents(before);
    let sizes = before.axes.sizes(&extents).map_err(Fault::new)?;
    let arguments = noise.arguments(before, &sizes);
    let whole = run(before, &arguments, &sizes, false)?;
    let n = sizes.of(&axis);
    for chunks in [vec![1; n], chunks_of(n, noise)] {
        let mut steps = Steps { before, after, axis: &axis, states: BTreeMap::new() };
        let mut past = 0;
        for chunk in chunks {
            extents.insert(cx.option("axis").into(), chunk);
            extents.insert(cx.option("past").into(), past);
            let sizes = after.axes.sizes(&extents).map_err(Fault::new)?;
            let outputs = steps.take(&arguments, &sizes, past)?;
            let is_last = past + chunk == n;
            steps.compare(&whole, &outputs, &sizes, past, is_last)?;
            past += chunk;
        }
    }
    Ok(())
}

/// Random numbers from 1 that make `n` together.
fn chunks_of(n: usize, noise: &mut Noise) -> Vec<usize> {
    let (mut chunks, mut left) = (Vec::new(), n);
    while 0 < left {
        chunks.push(1 + noise.below(left));
        left -= chunks[chunks.len() - 1];
    }
    chunks
}

/// A sequence on its way through the step form.
struct Steps<'a> {
    before: &'a Module,
    after: &'a Module,
    axis: &'a Axis,
    /// What the last step left.
    states: BTreeMap<Name, Tensor>,
}

impl Steps<'_> {
    /// Takes the positions behind `past`, of which `sizes` says how many there are.
    fn take(
        &mut self,
        arguments: &[Tensor],
        sizes: &Sizes,
        past: usize,
    ) -> Result<Vec<Tensor>, Fault> {
        let given: BTreeMap<&Name, &Tensor> =
            self.before.entry().params.iter().map(|it| &it.name).zip(arguments).collect();
        let mut arguments = Vec::new();
        for param in &self.after.entry().params {
            arguments.push(match (self.states.remove(&param.name), given.get(&param.name)) {
                (Some(state), _) => Tensor { ty: param.ty.clone(), ..state },
                (None, Some(whole)) => self.part(whole, &param.ty, sizes, past)?,
                (None, None) => Tensor::from_fn(param.ty.clone(), sizes, |_| 0.0),
            });
        }
        let outputs = run(self.after, &arguments, sizes, false)?;
        let names = self.after.entry().outputs.iter().map(|it| &it.name);
        for (name, output) in names.zip(&outputs) {
            if self.is_state(name) {
                self.states.insert(name.clone(), output.clone());
            }
        }
        Ok(outputs)
    }

    fn is_state(&self, name: &Name) -> bool {
        let mut params = self.after.entry().params.iter();
        params.any(|it| it.role == Role::State && it.name == *name)
    }

    /// The positions of `whole` that a value of type `ty` has in the step behind `past`.
    fn part(&self, whole: &Tensor, ty: &Type, sizes: &Sizes, past: usize) -> Result<Tensor, Fault> {
        let is_within =
            |it: &&Axis| *it != self.axis && it.atoms().any(|it| Axis::from(it) == *self.axis);
        if let Some(axis) = ty.axes.iter().find(is_within) {
            return Err(Fault::new(format!("`{axis}` of {ty} can not be cut into steps")));
        }
        let strides = whole.strides();
        let start = ty.position(self.axis).map_or(0, |at| past * strides[at]);
        let element = |index: &[usize]| {
            let at: usize = index.iter().zip(&strides).map(|(i, stride)| i * stride).sum();
            whole.data[start + at]
        };
        Ok(Tensor::from_fn(ty.clone(), sizes, element))
    }

    /// Compares the outputs of a step with its part of the whole. An output without positions, or a
    /// state, is that of the last step.
    fn compare(
        &self,
        whole: &[Tensor],
        outputs: &[Tensor],
        sizes: &Sizes,
        past: usize,
        is_last: bool,
    ) -> Result<(), Fault> {
        for ((output, whole), new) in self.before.entry().outputs.iter().zip(whole).zip(outputs) {
            if !is_last && whole.ty.position(self.axis).is_none() {
                continue;
            }
            let old = self.part(whole, &whole.ty, sizes, past)?;
            same_numbers(output.name.as_str(), &old, new, 1e-9).map_err(|why| {
                let (axis, n) = (self.axis, sizes.of(self.axis));
                let at = format!("in the {n} positions from {past}, {why}");
                Fault::new(format!("the model is not causal in `{axis}`: {at}"))
            })?;
        }
        Ok(())
    }
}
