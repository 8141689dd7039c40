//! Sums and maxima along axes.

use super::{Variants, offset, repeated, strides_along};
use crate::{
    Attribute, Axis, Example, Mismatch, Rules, Run, Scope, Tensor, Type, Value, Visit, grad::Grad,
    ops::BinaryFn, tensor::each_index,
};

/// How elements are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum ReduceKind {
    /// Their sum; 0 for none.
    #[default]
    Sum,
    /// The largest; minus infinity for none.
    Max,
}

impl ReduceKind {
    /// Every kind with its name in the text form.
    pub const ALL: [(ReduceKind, &'static str); 2] =
        [(ReduceKind::Sum, "sum"), (ReduceKind::Max, "max")];

    /// What the result starts from.
    pub fn identity(self) -> f64 {
        match self {
            ReduceKind::Sum => 0.0,
            ReduceKind::Max => f64::NEG_INFINITY,
        }
    }

    /// The function that joins two elements.
    pub fn function(self) -> BinaryFn {
        match self {
            ReduceKind::Sum => BinaryFn::Add,
            ReduceKind::Max => BinaryFn::Max,
        }
    }
}

impl Attribute for ReduceKind {
    fn print(&self) -> String {
        Self::ALL[*self as usize].1.to_owned()
    }

    fn parse(&mut self, text: &str) -> Result<(), String> {
        let found = Self::ALL.iter().find(|it| it.1 == text);
        *self = found.ok_or_else(|| format!("`{text}` is neither sum nor max"))?.0;
        Ok(())
    }
}

/// Joins all elements along the axes `over`, which disappear.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Reduce {
    /// The axes to join along.
    pub over: Vec<Axis>,
    /// How.
    pub kind: ReduceKind,
}

impl Variants for Reduce {}

impl Rules for Reduce {
    fn name(&self) -> &'static str {
        "reduce"
    }

    fn attributes(&mut self, visit: &mut dyn Visit) {
        visit.attribute("over", &mut self.over);
        visit.attribute("kind", &mut self.kind);
    }

    fn infer(&self, operands: &[Type], _: Scope<'_>) -> Result<Vec<Type>, Mismatch> {
        let [x] = operands else { return Err("takes one operand".into()) };
        if let Some(axis) = self.over.iter().find(|it| x.position(it).is_none()) {
            return Err(format!("no axis `{axis}` in {x}"));
        }
        if let Some(axis) = repeated(&self.over) {
            return Err(format!("`{axis}` is named twice"));
        }
        if !x.dtype.is_float() {
            return Err(format!("{x} is not a float"));
        }
        let axes: Vec<Axis> = x.axes.iter().filter(|it| !self.over.contains(it)).cloned().collect();
        Ok(vec![Type::new(x.dtype.value_type(), axes)])
    }

    fn eval(&self, operands: &[&Tensor], results: &[Type], run: Run<'_>) -> Vec<Tensor> {
        let (x, join) = (operands[0], self.kind.function());
        let outer = strides_along(x, &results[0].axes);
        let inner = strides_along(x, &self.over);
        let along = run.sizes.shape(&self.over);
        vec![Tensor::from_fn(results[0].clone(), run.sizes, |index| {
            let base = offset(index, &outer);
            let mut total = self.kind.identity();
            each_index(&along, |it| total = join.apply(total, x.data[base + offset(it, &inner)]));
            total
        })]
    }

    fn gradient(
        &self,
        grad: &mut Grad<'_>,
        operands: &[Value],
        results: &[Value],
        upstream: &[Option<Value>],
    ) -> Vec<Option<Value>> {
        let Some(upstream) = upstream[0] else { return vec![None] };
        let share = match self.kind {
            ReduceKind::Sum => upstream,
            ReduceKind::Max => {
                let is_max = grad.binary(BinaryFn::Equal, operands[0], results[0]);
                grad.keep(is_max, upstream)
            }
        };
        vec![Some(grad.fit(share, operands[0]))]
    }

    fn examples(&self) -> Vec<Example> {
        let axes = [("A", 2), ("B", 3), ("C", 2)];
        let reduce = |kind, over: &[&str]| {
            let over = over.iter().map(|&it| Axis::atom(it)).collect();
            Example::new(Reduce { over, kind }, &axes, &["f32[A, B, C]"])
        };
        vec![
            reduce(ReduceKind::Sum, &["B"]),
            reduce(ReduceKind::Sum, &["C", "A"]),
            reduce(ReduceKind::Max, &["C"]),
        ]
    }
}
