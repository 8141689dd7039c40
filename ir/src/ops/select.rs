//! Takes each element from one of two operands.

use super::{Variants, broadcast, pointwise, promote};
use crate::{DType, Example, Mismatch, Rules, Run, Scope, Tensor, Type, Value, grad::Grad};

/// `condition ? x : y`, by name like other pointwise ops. The branch not taken has no effect.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Select;

impl Variants for Select {}

impl Rules for Select {
    fn name(&self) -> &'static str {
        "select"
    }

    fn infer(&self, operands: &[Type], _: Scope<'_>) -> Result<Vec<Type>, Mismatch> {
        let [condition, _, _] = operands else { return Err("takes three operands".into()) };
        if condition.dtype != DType::Bool {
            return Err(format!("the condition is {}, not bool", condition.dtype));
        }
        Ok(vec![Type::new(promote(&operands[1..])?, broadcast(operands)?)])
    }

    fn eval(&self, operands: &[&Tensor], results: &[Type], run: Run<'_>) -> Vec<Tensor> {
        let choose = |it: &[f64]| if it[0] == 0.0 { it[2] } else { it[1] };
        vec![pointwise(operands, &results[0], run, choose)]
    }

    fn gradient(
        &self,
        grad: &mut Grad<'_>,
        operands: &[Value],
        _: &[Value],
        upstream: &[Option<Value>],
    ) -> Vec<Option<Value>> {
        let Some(upstream) = upstream[0] else { return vec![None; 3] };
        let zero = grad.number(0.0);
        let dx = grad.add(Select, &[operands[0], upstream, zero]);
        let dy = grad.add(Select, &[operands[0], zero, upstream]);
        vec![None, Some(grad.fit(dx, operands[1])), Some(grad.fit(dy, operands[2]))]
    }

    fn examples(&self) -> Vec<Example> {
        let operands = ["bool[A]", "f32[A, B]", "f32[B]"];
        vec![Example::new(Select, &[("A", 3), ("B", 2)], &operands)]
    }
}
