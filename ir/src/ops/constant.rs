//! Numbers known when compiling.

use super::Variants;
use crate::{
    Axis, DType, Example, Mismatch, Rules, Run, Scope, Tensor, Type, Value, Visit, grad::Grad,
    op::Real,
};

/// A value of given elements. One number alone stands for every element.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Constant {
    /// The element type.
    pub dtype: DType,
    /// The axes.
    pub axes: Vec<Axis>,
    /// One number, or as many as there are elements.
    pub values: Vec<Real>,
}

impl Constant {
    /// A scalar.
    pub fn scalar(dtype: DType, value: f64) -> Constant {
        Constant::fill(Type::scalar(dtype), value)
    }

    /// A value all of whose elements are `value`.
    pub fn fill(ty: Type, value: f64) -> Constant {
        Constant { dtype: ty.dtype, axes: ty.axes, values: vec![Real(value)] }
    }
}

impl Default for Constant {
    fn default() -> Constant {
        Constant::scalar(DType::F32, 0.0)
    }
}

impl Variants for Constant {}

impl Rules for Constant {
    fn name(&self) -> &'static str {
        "constant"
    }

    fn attributes(&mut self, visit: &mut dyn Visit) {
        visit.attribute("dtype", &mut self.dtype);
        visit.attribute("axes", &mut self.axes);
        visit.attribute("values", &mut self.values);
    }

    fn infer(&self, operands: &[Type], scope: Scope<'_>) -> Result<Vec<Type>, Mismatch> {
        let [] = operands else { return Err("takes no operand".into()) };
        let ty = Type::new(self.dtype, self.axes.clone());
        if self.values.len() != 1 {
            let mut sizes = self.axes.iter().map(|it| scope.axes.fixed(it));
            let elements = sizes.try_fold(1usize, |product, it| product.checked_mul(it?));
            if elements != Some(self.values.len()) {
                return Err(format!("{} numbers do not make {ty}", self.values.len()));
            }
        }
        if self.dtype != self.dtype.value_type() || ty.repeated_atom().is_some() {
            return Err(format!("{ty} can not be a constant"));
        }
        Ok(vec![ty])
    }

    fn eval(&self, _: &[&Tensor], results: &[Type], run: Run<'_>) -> Vec<Tensor> {
        let shape = run.sizes.shape(&results[0].axes);
        let n = shape.iter().product();
        let data = match self.values.as_slice() {
            [one] => vec![one.0; n],
            many => many.iter().map(|it| it.0).collect(),
        };
        vec![Tensor { ty: results[0].clone(), shape, data }]
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
        let axes = vec![Axis::atom("A")];
        let table = Constant { dtype: DType::F32, axes, values: vec![Real(0.5), Real(-1e-9)] };
        vec![Example::new(table, &[("A", 2)], &[]), Example::new(Constant::default(), &[], &[])]
    }
}
