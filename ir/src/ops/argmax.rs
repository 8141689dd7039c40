//! Where the largest element is.

use super::{Variants, offset, strides_along};
use crate::{
    Axis, DType, Example, Mismatch, Rules, Run, Scope, Tensor, Type, Value, Visit, grad::Grad,
};

/// The place of the largest element along an axis; of equals, the first.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct ArgMax {
    /// Along which axis.
    pub axis: Axis,
}

impl Variants for ArgMax {}

impl Rules for ArgMax {
    fn name(&self) -> &'static str {
        "argmax"
    }

    fn attributes(&mut self, visit: &mut dyn Visit) {
        visit.attribute("axis", &mut self.axis);
    }

    fn infer(&self, operands: &[Type], _: Scope<'_>) -> Result<Vec<Type>, Mismatch> {
        let [x] = operands else { return Err("takes one operand".into()) };
        if x.position(&self.axis).is_none() || !x.dtype.is_float() {
            return Err(format!("no axis `{}` in {x}, or not a float", self.axis));
        }
        let axes: Vec<Axis> = x.axes.iter().filter(|it| **it != self.axis).cloned().collect();
        Ok(vec![Type::new(DType::I32, axes)])
    }

    fn eval(&self, operands: &[&Tensor], results: &[Type], run: Run<'_>) -> Vec<Tensor> {
        let x = operands[0];
        let outer = strides_along(x, &results[0].axes);
        let step = strides_along(x, std::slice::from_ref(&self.axis))[0];
        let extent = run.sizes.of(&self.axis);
        vec![Tensor::from_fn(results[0].clone(), run.sizes, |index| {
            let at = |i: usize| x.data[offset(index, &outer) + i * step];
            (1..extent).fold(0, |best, i| if at(best) < at(i) { i } else { best }) as f64
        })]
    }

    fn gradient(
        &self,
        _: &mut Grad<'_>,
        _: &[Value],
        _: &[Value],
        _: &[Option<Value>],
    ) -> Vec<Option<Value>> {
        vec![None]
    }

    fn examples(&self) -> Vec<Example> {
        let op = ArgMax { axis: Axis::atom("B") };
        vec![Example::new(op, &[("A", 2), ("B", 4)], &["f32[A, B]"])]
    }
}
