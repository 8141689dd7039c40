//! Gives an axis another name.

use super::{Variants, replace_axis, same_extent};
use crate::{
    Axis, Example, Link, Mismatch, Rules, Run, Scope, Tensor, Type, Value, Visit, grad::Grad,
};

/// The same elements, with `axis` known as `into`, which is as long.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Rename {
    /// The axis.
    pub axis: Axis,
    /// Its new name.
    pub into: Axis,
}

impl Variants for Rename {}

impl Rules for Rename {
    fn name(&self) -> &'static str {
        "rename"
    }

    fn attributes(&mut self, visit: &mut dyn Visit) {
        visit.attribute("axis", &mut self.axis);
        visit.attribute("into", &mut self.into);
    }

    fn infer(&self, operands: &[Type], scope: Scope<'_>) -> Result<Vec<Type>, Mismatch> {
        let [x] = operands else { return Err("takes one operand".into()) };
        same_extent(scope, &self.axis, &self.into)?;
        Ok(vec![replace_axis(x, &self.axis, std::slice::from_ref(&self.into))?])
    }

    fn eval(&self, operands: &[&Tensor], results: &[Type], run: Run<'_>) -> Vec<Tensor> {
        vec![Tensor::new(results[0].clone(), run.sizes, operands[0].data.clone())]
    }

    fn gradient(
        &self,
        grad: &mut Grad<'_>,
        _: &[Value],
        _: &[Value],
        upstream: &[Option<Value>],
    ) -> Vec<Option<Value>> {
        let back = Rename { axis: self.into.clone(), into: self.axis.clone() };
        vec![upstream[0].map(|it| grad.add(back, &[it]))]
    }

    fn links(&self) -> Vec<Link> {
        match self.axis.atoms().count() == self.into.atoms().count() {
            true => Link::into_whole(&self.axis, &self.into, 0).into_iter().collect(),
            false => Vec::new(),
        }
    }

    fn examples(&self) -> Vec<Example> {
        let op = Rename { axis: Axis::atom("A"), into: Axis::atom("C") };
        vec![Example::new(op, &[("A", 2), ("B", 3), ("C", 2)], &["f32[A, B]"])]
    }
}
