//! Lays operands end to end.

use super::{Variants, offset, promote};
use crate::{
    Axis, Example, Link, Mismatch, Rules, Run, Scope, Tensor, Type, Value, Visit,
    grad::Grad,
    ops::Slice,
    tensor::{each_index, strides},
};

/// Operand `i` has the axis `parts[i]`; the result has their concatenation in its place.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Concat {
    /// The axis of each operand.
    pub parts: Vec<Axis>,
}

impl Concat {
    /// The axis that the parts make.
    pub fn whole(&self) -> Axis {
        Axis::concat(&self.parts)
    }
}

impl Variants for Concat {}

impl Rules for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }

    fn attributes(&mut self, visit: &mut dyn Visit) {
        visit.attribute("parts", &mut self.parts);
    }

    fn infer(&self, operands: &[Type], _: Scope<'_>) -> Result<Vec<Type>, Mismatch> {
        if operands.len() != self.parts.len() || operands.is_empty() {
            return Err(format!("{} parts for {} operands", self.parts.len(), operands.len()));
        }
        let whole = [self.whole()];
        let placed = operands.iter().zip(&self.parts).map(|(ty, part)| {
            let at = ty.position(part).ok_or_else(|| format!("no axis `{part}` in {ty}"))?;
            let mut axes = ty.axes.clone();
            axes.splice(at..=at, whole.clone());
            Ok(axes)
        });
        let placed: Vec<Vec<Axis>> = placed.collect::<Result<_, Mismatch>>()?;
        if let Some(i) = placed.iter().position(|it| *it != placed[0]) {
            return Err(format!("{} against {}", operands[0], operands[i]));
        }
        let result = Type::new(promote(operands)?, placed[0].clone());
        match result.repeated_atom() {
            Some(atom) => Err(format!("`{atom}` would stand twice in {result}")),
            None => Ok(vec![result]),
        }
    }

    fn eval(&self, operands: &[&Tensor], results: &[Type], run: Run<'_>) -> Vec<Tensor> {
        let shape = run.sizes.shape(&results[0].axes);
        let at = results[0].position(&self.whole()).expect("the concatenation");
        let strides = strides(&shape);
        let mut data = vec![0.0; shape.iter().product()];
        let mut start = 0;
        for x in operands {
            let mut next = x.data.iter();
            each_index(&x.shape, |it| {
                data[offset(it, &strides) + start * strides[at]] = *next.next().unwrap_or(&0.0);
            });
            start += x.shape[at];
        }
        vec![Tensor { ty: results[0].clone(), shape, data }]
    }

    fn gradient(
        &self,
        grad: &mut Grad<'_>,
        operands: &[Value],
        _: &[Value],
        upstream: &[Option<Value>],
    ) -> Vec<Option<Value>> {
        let Some(upstream) = upstream[0] else { return vec![None; operands.len()] };
        let cut = |(i, &operand): (usize, &Value)| {
            let (after, into) = (self.parts[..i].to_vec(), self.parts[i].clone());
            let part =
                grad.add(Slice { axis: self.whole(), after, last: false, into }, &[upstream]);
            Some(grad.fit(part, operand))
        };
        operands.iter().enumerate().map(cut).collect()
    }

    fn links(&self) -> Vec<Link> {
        let whole = self.whole();
        let link = |(operand, part): (usize, &Axis)| {
            let link = Link::segment(part, &whole, &self.parts[..operand]).pop();
            link.map(|it| Link { operand, ..it })
        };
        self.parts.iter().enumerate().filter_map(link).collect()
    }

    fn examples(&self) -> Vec<Example> {
        let parts = ["A", "B"].map(Axis::atom).to_vec();
        let axes = [("A", 2), ("B", 3), ("C", 2)];
        vec![Example::new(Concat { parts }, &axes, &["f32[C, A]", "f32[C, B]"])]
    }
}
