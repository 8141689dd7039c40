//! Takes a product axis apart.

use super::{Variants, replace_axis, same_extent};
use crate::{
    Axis, Example, Link, Mismatch, Rules, Run, Scope, Tensor, Type, Value, Visit, grad::Grad,
    ops::Merge,
};

/// The same elements, with `axis` read as the axes `into`, the last of which varies fastest.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Split {
    /// The axis.
    pub axis: Axis,
    /// What it becomes.
    pub into: Vec<Axis>,
}

impl Variants for Split {}

impl Rules for Split {
    fn name(&self) -> &'static str {
        "split"
    }

    fn attributes(&mut self, visit: &mut dyn Visit) {
        visit.attribute("axis", &mut self.axis);
        visit.attribute("into", &mut self.into);
    }

    fn infer(&self, operands: &[Type], scope: Scope<'_>) -> Result<Vec<Type>, Mismatch> {
        let [x] = operands else { return Err("takes one operand".into()) };
        let whole = Axis::product(&self.into).ok_or("a part is missing or is a concatenation")?;
        same_extent(scope, &self.axis, &whole)?;
        Ok(vec![replace_axis(x, &self.axis, &self.into)?])
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
        let back = Merge { axes: self.into.clone(), into: self.axis.clone() };
        vec![upstream[0].map(|it| grad.add(back, &[it]))]
    }

    fn links(&self) -> Vec<Link> {
        Link::parts(&self.into, &self.axis).into_iter().map(Link::turned).collect()
    }

    fn examples(&self) -> Vec<Example> {
        let into = vec![Axis::atom("B"), Axis::atom("C")];
        let named = Split { axis: Axis::product(&into).unwrap_or_default(), into: into.clone() };
        let counted = Split { axis: Axis::atom("D"), into };
        let axes = [("A", 2), ("B", 2), ("C", 3), ("D", 6)];
        vec![
            Example::new(named, &axes, &["f32[A, B*C]"]),
            Example::new(counted, &axes, &["f32[D, A]"]),
        ]
    }
}
