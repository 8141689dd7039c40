//! Changes the element type.

use super::Variants;
use crate::{DType, Example, Mismatch, Rules, Run, Scope, Tensor, Type, Value, Visit, grad::Grad};

/// Rounds each element to another type: to nearest even, and towards zero into `i32`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cast {
    /// The new type.
    pub dtype: DType,
}

impl Default for Cast {
    fn default() -> Cast {
        Cast { dtype: DType::F32 }
    }
}

impl Variants for Cast {}

impl Rules for Cast {
    fn name(&self) -> &'static str {
        "cast"
    }

    fn attributes(&mut self, visit: &mut dyn Visit) {
        visit.attribute("dtype", &mut self.dtype);
    }

    fn infer(&self, operands: &[Type], _: Scope<'_>) -> Result<Vec<Type>, Mismatch> {
        let [x] = operands else { return Err("takes one operand".into()) };
        if self.dtype != self.dtype.value_type() {
            return Err(format!("{} is a storage format", self.dtype));
        }
        Ok(vec![x.with_dtype(self.dtype)])
    }

    fn eval(&self, operands: &[&Tensor], results: &[Type], _: Run<'_>) -> Vec<Tensor> {
        // A change of the number itself is part of the meaning; rounding of reals is not.
        let whole = !self.dtype.is_float();
        let convert = |&it: &f64| if whole { self.dtype.round(it) } else { it };
        let data = operands[0].data.iter().map(convert).collect();
        vec![Tensor { ty: results[0].clone(), shape: operands[0].shape.clone(), data }]
    }

    fn gradient(
        &self,
        grad: &mut Grad<'_>,
        operands: &[Value],
        _: &[Value],
        upstream: &[Option<Value>],
    ) -> Vec<Option<Value>> {
        let smooth = self.dtype.is_float() && grad.ty(operands[0]).dtype.is_float();
        vec![upstream[0].filter(|_| smooth).map(|it| grad.fit(it, operands[0]))]
    }

    fn examples(&self) -> Vec<Example> {
        let cast = |dtype, from| Example::new(Cast { dtype }, &[("A", 5)], &[from]);
        vec![cast(DType::F64, "f32[A]"), cast(DType::BF16, "f32[A]"), cast(DType::I32, "f32[A]")]
    }
}
