//! How long an axis is, as a number in the graph.

use super::Variants;
use crate::{
    Axis, DType, Example, Mismatch, Rules, Run, Scope, Tensor, Type, Value, Visit, grad::Grad,
};

/// The extent of an axis in this run, as `f32`: what a mean divides by, whatever slicing has left.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct ExtentOf {
    /// Of which axis.
    pub axis: Axis,
}

impl Variants for ExtentOf {}

impl Rules for ExtentOf {
    fn name(&self) -> &'static str {
        "extent"
    }

    fn attributes(&mut self, visit: &mut dyn Visit) {
        visit.attribute("axis", &mut self.axis);
    }

    fn infer(&self, operands: &[Type], scope: Scope<'_>) -> Result<Vec<Type>, Mismatch> {
        let [] = operands else { return Err("takes no operand".into()) };
        if scope.axes.bound(&self.axis).is_none() {
            return Err(format!("`{}` is not declared", self.axis));
        }
        Ok(vec![Type::scalar(DType::F32)])
    }

    fn eval(&self, _: &[&Tensor], results: &[Type], run: Run<'_>) -> Vec<Tensor> {
        let extent = run.sizes.of(&self.axis) as f64;
        vec![Tensor::new(results[0].clone(), run.sizes, vec![extent])]
    }

    fn gradient(
        &self,
        _: &mut Grad<'_>,
        _: &[Value],
        _: &[Value],
        _: &[Option<Value>],
    ) -> Vec<Option<Value>> {
        Vec::new()
    }

    fn examples(&self) -> Vec<Example> {
        vec![Example::new(ExtentOf { axis: Axis::atom("A") }, &[("A", 4)], &[])]
    }
}
