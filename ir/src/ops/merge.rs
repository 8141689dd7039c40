//! Reads neighbouring axes as one.

use super::{Variants, same_extent};
use crate::{
    Axis, Example, Link, Mismatch, Rules, Run, Scope, Tensor, Type, Value, Visit, grad::Grad,
    ops::Split,
};

/// The same elements, with the neighbouring `axes` read as the one axis `into`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Merge {
    /// The axes, in the order in which they stand.
    pub axes: Vec<Axis>,
    /// What they become.
    pub into: Axis,
}

impl Variants for Merge {}

impl Rules for Merge {
    fn name(&self) -> &'static str {
        "merge"
    }

    fn attributes(&mut self, visit: &mut dyn Visit) {
        visit.attribute("axes", &mut self.axes);
        visit.attribute("into", &mut self.into);
    }

    fn infer(&self, operands: &[Type], scope: Scope<'_>) -> Result<Vec<Type>, Mismatch> {
        let [x] = operands else { return Err("takes one operand".into()) };
        let whole = Axis::product(&self.axes).ok_or("a part is missing or is a concatenation")?;
        same_extent(scope, &whole, &self.into)?;
        let n = self.axes.len();
        let Some(at) = x.axes.windows(n).position(|it| it == self.axes) else {
            return Err(format!("{:?} do not stand side by side in {x}", self.axes));
        };
        let mut axes = x.axes.clone();
        axes.splice(at..at + n, [self.into.clone()]);
        let result = Type::new(x.dtype.value_type(), axes);
        match result.repeated_atom() {
            Some(atom) => Err(format!("`{atom}` would stand twice in {result}")),
            None => Ok(vec![result]),
        }
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
        let back = Split { axis: self.into.clone(), into: self.axes.clone() };
        vec![upstream[0].map(|it| grad.add(back, &[it]))]
    }

    fn links(&self) -> Vec<Link> {
        Link::parts(&self.axes, &self.into)
    }

    fn examples(&self) -> Vec<Example> {
        let parts = vec![Axis::atom("B"), Axis::atom("C")];
        let named = Merge { into: Axis::product(&parts).unwrap_or_default(), axes: parts.clone() };
        let counted = Merge { axes: parts, into: Axis::atom("D") };
        let axes = [("A", 2), ("B", 2), ("C", 3), ("D", 6)];
        vec![
            Example::new(named, &axes, &["f32[A, B, C]"]),
            Example::new(counted, &axes, &["f32[B, C, A]"]),
        ]
    }
}
