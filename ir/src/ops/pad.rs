//! Lays an axis into a longer one.

use super::{Variants, offset, replace_axis, slice};
use crate::{
    Axis, Example, Link, Mismatch, Rules, Run, Scope, Tensor, Type, Value, Visit,
    grad::Grad,
    op::Real,
    ops::Slice,
    tensor::{each_index, strides},
};

/// The elements of `axis` within the longer axis `into`, behind the axes `after` laid end to end,
/// or at its end if `last` is true; `value` everywhere else.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Pad {
    /// The axis to lay out.
    pub axis: Axis,
    /// What comes before it.
    pub after: Vec<Axis>,
    /// Whether to count from the end instead; `after` is empty then.
    pub last: bool,
    /// The longer axis.
    pub into: Axis,
    /// What fills the rest.
    pub value: Real,
}

impl Variants for Pad {}

impl Rules for Pad {
    fn name(&self) -> &'static str {
        "pad"
    }

    fn attributes(&mut self, visit: &mut dyn Visit) {
        visit.attribute("axis", &mut self.axis);
        visit.attribute("after", &mut self.after);
        visit.attribute("last", &mut self.last);
        visit.attribute("into", &mut self.into);
        visit.attribute("value", &mut self.value);
    }

    fn infer(&self, operands: &[Type], scope: Scope<'_>) -> Result<Vec<Type>, Mismatch> {
        let [x] = operands else { return Err("takes one operand".into()) };
        slice::fits(scope, &self.into, &self.after, self.last, &self.axis)?;
        Ok(vec![replace_axis(x, &self.axis, std::slice::from_ref(&self.into))?])
    }

    fn eval(&self, operands: &[&Tensor], results: &[Type], run: Run<'_>) -> Vec<Tensor> {
        let x = operands[0];
        let shape = run.sizes.shape(&results[0].axes);
        let at = results[0].position(&self.into).expect("the longer axis");
        let strides = strides(&shape);
        let start = slice::start(run, &self.into, &self.after, self.last, &self.axis);
        let mut data = vec![self.value.0; shape.iter().product()];
        let mut next = x.data.iter();
        each_index(&x.shape, |it| {
            data[offset(it, &strides) + start * strides[at]] = *next.next().unwrap_or(&0.0);
        });
        vec![Tensor { ty: results[0].clone(), shape, data }]
    }

    fn gradient(
        &self,
        grad: &mut Grad<'_>,
        _: &[Value],
        _: &[Value],
        upstream: &[Option<Value>],
    ) -> Vec<Option<Value>> {
        let (axis, into) = (self.into.clone(), self.axis.clone());
        let back = Slice { axis, after: self.after.clone(), last: self.last, into };
        vec![upstream[0].map(|it| grad.add(back, &[it]))]
    }

    fn links(&self) -> Vec<Link> {
        if self.last { Vec::new() } else { Link::segment(&self.axis, &self.into, &self.after) }
    }

    fn examples(&self) -> Vec<Example> {
        let [a, b, c] = ["A", "B", "C"].map(Axis::atom);
        let into = Axis::concat([&a, &b]);
        let behind = Pad { axis: b.clone(), after: vec![a], into, value: Real(0.5), last: false };
        let tail = Pad { axis: b, last: true, into: c, ..Pad::default() };
        let axes = [("A", 2), ("B", 3), ("C", 4), ("D", 2)];
        vec![Example::new(behind, &axes, &["f32[D, B]"]), Example::new(tail, &axes, &["f32[B, D]"])]
    }
}
