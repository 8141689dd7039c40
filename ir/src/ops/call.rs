//! Runs another function.

use super::Variants;
use crate::{
    Example, Function, Mismatch, Name, Role, Rules, Run, Scope, Tensor, Type, Value, Visit,
    eval::eval_function,
    grad::Grad,
    ops::{BinaryFn, Op},
};

/// The outputs of `function` for the operands. An `f32` parameter takes an operand of any narrower
/// storage.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Call {
    /// Which function.
    pub function: Name,
}

impl Variants for Call {}

impl Rules for Call {
    fn name(&self) -> &'static str {
        "call"
    }

    fn attributes(&mut self, visit: &mut dyn Visit) {
        visit.attribute("function", &mut self.function);
    }

    fn infer(&self, operands: &[Type], scope: Scope<'_>) -> Result<Vec<Type>, Mismatch> {
        let name = &self.function;
        let function = scope.function(name.as_str()).ok_or(format!("no function @{name}"))?;
        let params: Vec<Type> = function.params.iter().map(|it| it.ty.clone()).collect();
        if params.len() != operands.len() {
            return Err(format!("@{name} takes {} operands, not {}", params.len(), operands.len()));
        }
        match params.iter().zip(operands).position(|(param, it)| !param.accepts(it)) {
            Some(i) => Err(format!(
                "@{name} takes {} as %{}, not {}",
                params[i], function.params[i].name, operands[i]
            )),
            None => Ok(function.output_types()),
        }
    }

    fn eval(&self, operands: &[&Tensor], _: &[Type], run: Run<'_>) -> Vec<Tensor> {
        let function = run.module.function(self.function.as_str()).expect("a function");
        eval_function(function, operands, run)
    }

    fn gradient(
        &self,
        grad: &mut Grad<'_>,
        operands: &[Value],
        results: &[Value],
        upstream: &[Option<Value>],
    ) -> Vec<Option<Value>> {
        let Some(function) = grad.of_function(&self.function) else {
            return vec![None; operands.len()];
        };
        let upstream = grad.fill(results, upstream);
        let gradients = grad.add_all(Call { function }, &[operands, &upstream].concat());
        grad.to_floats(operands, gradients)
    }

    fn examples(&self) -> Vec<Example> {
        let mut example = Example::new(
            Call { function: "square".into() },
            &[("A", 2), ("B", 3)],
            &["f32[A, B]", "f32[B]"],
        );
        let mut square = Function::new("square");
        let scope = Scope { axes: &example.axes, functions: &[] };
        let x = square.param("x", Role::Value, example.operands[0].clone());
        let y = square.param("y", Role::Value, example.operands[1].clone());
        let xy = square.add(scope, Op::binary(BinaryFn::Mul), &[x, y]);
        let square_of = square.add(scope, Op::binary(BinaryFn::Mul), &[xy, xy]);
        square.output("square", square_of);
        square.output("product", xy);
        example.functions = vec![square];
        vec![example]
    }
}
