//! Sums of products over named axes: every matrix product there is.

use super::{Variants, accumulator, repeated};
use crate::{
    Axis, Cost, Example, Mismatch, Rules, Run, Scope, Sizes, Tensor, Type, Value, Visit,
    grad::Grad,
    op::{bytes_moved, elements},
    tensor::each_index,
};

/// Multiplies two values by name and sums over the axes `over`, which both have. The result has the
/// axes that are left of the first operand, then those that are left of the second alone. It is
/// `f32` (`f64` if an operand is), whatever the operands are stored in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Contract {
    /// The axes to sum over.
    pub over: Vec<Axis>,
}

impl Variants for Contract {}

/// The axes of a contraction by what they do.
pub(crate) struct Parts {
    /// In both operands and in the result.
    pub(crate) batch: Vec<Axis>,
    /// In the first operand and the result.
    pub(crate) rows: Vec<Axis>,
    /// In the second operand and the result.
    pub(crate) columns: Vec<Axis>,
}

impl Contract {
    /// Sorts the axes of the operands.
    pub(crate) fn parts(&self, x: &Type, y: &Type) -> Parts {
        let free = |it: &&Axis| !self.over.contains(it);
        let (batch, rows) =
            x.axes.iter().filter(free).cloned().partition(|it| y.position(it).is_some());
        let columns = y.axes.iter().filter(free).filter(|it| x.position(it).is_none()).cloned();
        Parts { batch, rows, columns: columns.collect() }
    }
}

impl Rules for Contract {
    fn name(&self) -> &'static str {
        "contract"
    }

    fn attributes(&mut self, visit: &mut dyn Visit) {
        visit.attribute("over", &mut self.over);
    }

    fn infer(&self, operands: &[Type], _: Scope<'_>) -> Result<Vec<Type>, Mismatch> {
        let [x, y] = operands else { return Err("takes two operands".into()) };
        for axis in &self.over {
            if let Some(lacking) = [x, y].into_iter().find(|it| it.position(axis).is_none()) {
                return Err(format!("no axis `{axis}` in {lacking}, against {}", {
                    if lacking == x { y } else { x }
                }));
            }
        }
        if let Some(axis) = repeated(&self.over) {
            return Err(format!("`{axis}` is named twice"));
        }
        if !x.dtype.is_float() || !y.dtype.is_float() {
            return Err(format!("{x} against {y}: both must be floats"));
        }
        let left = x.axes.iter().filter(|it| !self.over.contains(it)).cloned();
        let axes: Vec<Axis> = left.chain(self.parts(x, y).columns).collect();
        let result = Type::new(accumulator(&[x, y]), axes);
        match result.repeated_atom() {
            Some(atom) => Err(format!("`{atom}` would stand twice in {result}; rename one")),
            None => Ok(vec![result]),
        }
    }

    fn eval(&self, operands: &[&Tensor], results: &[Type], run: Run<'_>) -> Vec<Tensor> {
        let (x, y) = (operands[0], operands[1]);
        let Parts { batch, rows, columns } = self.parts(&x.ty, &y.ty);
        let xs = arrange(x, &[&batch, &rows, &self.over], run.sizes);
        let ys = arrange(y, &[&batch, &columns, &self.over], run.sizes);
        let count = |axes: &[Axis]| run.sizes.shape(axes).iter().product::<usize>();
        let (m, n, k) = (count(&rows), count(&columns), count(&self.over));
        let mut data = vec![0.0; count(&batch) * m * n];
        for (i, out) in data.iter_mut().enumerate() {
            let (b, i, j) = (i / (m * n), i / n % m, i % n);
            *out = dot(&xs[(b * m + i) * k..][..k], &ys[(b * n + j) * k..][..k]);
        }
        let computed = [batch, rows, columns].concat();
        let product = Tensor::new(Type::new(results[0].dtype, computed), run.sizes, data);
        let data = arrange(&product, &[&results[0].axes], run.sizes);
        vec![Tensor::new(results[0].clone(), run.sizes, data)]
    }

    fn gradient(
        &self,
        grad: &mut Grad<'_>,
        operands: &[Value],
        _: &[Value],
        upstream: &[Option<Value>],
    ) -> Vec<Option<Value>> {
        let Some(upstream) = upstream[0] else { return vec![None, None] };
        let (x, y) = (operands[0], operands[1]);
        let Parts { rows, columns, .. } = self.parts(&grad.ty(x).clone(), &grad.ty(y).clone());
        let dx = grad.add(Contract { over: columns }, &[upstream, y]);
        let dy = grad.add(Contract { over: rows }, &[upstream, x]);
        vec![Some(grad.fit(dx, x)), Some(grad.fit(dy, y))]
    }

    fn cost(&self, operands: &[Type], results: &[Type], size: &dyn Fn(&Axis) -> u64) -> Cost {
        let terms = self.over.iter().map(size).fold(2, u64::saturating_mul);
        Cost {
            flops: elements(&results[0], size).saturating_mul(terms),
            bytes: bytes_moved(operands, results, size),
        }
    }

    fn examples(&self) -> Vec<Example> {
        let over =
            |names: &[&str]| Contract { over: names.iter().map(|&it| Axis::atom(it)).collect() };
        let axes = [("A", 2), ("B", 3), ("C", 4), ("D", 2)];
        vec![
            Example::new(over(&["B"]), &axes, &["f32[A, B]", "f32[C, B]"]),
            Example::new(over(&["B"]), &axes, &["f32[B, D, A]", "f32[D, C, B]"]),
            Example::new(over(&["A", "C"]), &axes, &["f32[C, B, A]", "f32[A, C]"]),
            Example::new(over(&[]), &axes, &["f32[A]", "f32[C, A]"]),
        ]
    }
}

/// The elements of `x` with its axes in the order of `groups`.
fn arrange(x: &Tensor, groups: &[&[Axis]], sizes: &Sizes) -> Vec<f64> {
    let axes = groups.concat();
    if axes == x.ty.axes {
        return x.data.clone();
    }
    let strides = super::strides_along(x, &axes);
    let mut data = Vec::with_capacity(x.data.len());
    each_index(&sizes.shape(&axes), |index| data.push(x.data[super::offset(index, &strides)]));
    data
}

/// Four partial sums, so that the compiler may use vectors; always the same four.
fn dot(x: &[f64], y: &[f64]) -> f64 {
    let (xs, ys) = (x.chunks_exact(4), y.chunks_exact(4));
    let rest: f64 = xs.remainder().iter().zip(ys.remainder()).map(|(a, b)| a * b).sum();
    let mut sums = [0.0; 4];
    for (a, b) in xs.zip(ys) {
        for lane in 0..4 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums[0] + sums[1] + (sums[2] + sums[3]) + rest
}
