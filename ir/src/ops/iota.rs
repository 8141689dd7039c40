//! Positions along an axis.

use super::Variants;
use crate::{
    Axis, DType, Example, Mismatch, Rules, Run, Scope, Tensor, Type, Value, Visit, grad::Grad,
};

/// The position of each element along an axis: 0, 1, 2 and so on, or, for a window of a longer
/// axis, counted from the beginning of that one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Iota {
    /// Along which axis.
    pub axis: Axis,
}

impl Variants for Iota {}

impl Rules for Iota {
    fn name(&self) -> &'static str {
        "iota"
    }

    fn attributes(&mut self, visit: &mut dyn Visit) {
        visit.attribute("axis", &mut self.axis);
    }

    fn infer(&self, operands: &[Type], scope: Scope<'_>) -> Result<Vec<Type>, Mismatch> {
        let [] = operands else { return Err("takes no operand".into()) };
        if scope.axes.bound(&self.axis).is_none() {
            return Err(format!("`{}` is not declared", self.axis));
        }
        Ok(vec![Type::new(DType::I32, [self.axis.clone()])])
    }

    fn eval(&self, _: &[&Tensor], results: &[Type], run: Run<'_>) -> Vec<Tensor> {
        let origin = run.sizes.origin(&self.axis);
        vec![Tensor::from_fn(results[0].clone(), run.sizes, |index| (origin + index[0]) as f64)]
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
        vec![Example::new(Iota { axis: Axis::atom("A") }, &[("A", 4)], &[])]
    }
}
