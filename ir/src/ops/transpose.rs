//! Puts axes in another order.

use super::{Variants, offset, strides_along};
use crate::{Axis, Example, Mismatch, Rules, Run, Scope, Tensor, Type, Value, Visit, grad::Grad};

/// The same elements by name, laid out with the axes in the order `to`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Transpose {
    /// Every axis, in the new order.
    pub to: Vec<Axis>,
}

impl Variants for Transpose {}

impl Rules for Transpose {
    fn name(&self) -> &'static str {
        "transpose"
    }

    fn attributes(&mut self, visit: &mut dyn Visit) {
        visit.attribute("to", &mut self.to);
    }

    fn infer(&self, operands: &[Type], _: Scope<'_>) -> Result<Vec<Type>, Mismatch> {
        let [x] = operands else { return Err("takes one operand".into()) };
        let (mut old, mut new) = (x.axes.clone(), self.to.clone());
        old.sort();
        new.sort();
        if old != new {
            return Err(format!("{:?} are not the axes of {x}", self.to));
        }
        Ok(vec![Type::new(x.dtype.value_type(), self.to.clone())])
    }

    fn eval(&self, operands: &[&Tensor], results: &[Type], run: Run<'_>) -> Vec<Tensor> {
        let x = operands[0];
        let strides = strides_along(x, &self.to);
        let element = |index: &[usize]| x.data[offset(index, &strides)];
        vec![Tensor::from_fn(results[0].clone(), run.sizes, element)]
    }

    fn gradient(
        &self,
        grad: &mut Grad<'_>,
        operands: &[Value],
        _: &[Value],
        upstream: &[Option<Value>],
    ) -> Vec<Option<Value>> {
        vec![upstream[0].map(|it| grad.fit(it, operands[0]))]
    }

    fn examples(&self) -> Vec<Example> {
        let to = ["C", "A", "B"].map(Axis::atom).to_vec();
        vec![Example::new(Transpose { to }, &[("A", 2), ("B", 3), ("C", 2)], &["f32[A, B, C]"])]
    }
}
