//! Adds rows into a table: the gradient of a look-up.

use super::{Variants, accumulator, offset};
use crate::{
    Axis, DType, Example, Mismatch, Rules, Run, Scope, Tensor, Type, Value, Visit,
    grad::Grad,
    ops::Gather,
    tensor::{each_index, strides},
};

/// `scatter_add rows index`: a table with the axes `into`, zero but for each row added at the place
/// along `axis` that `index` tells. A place outside the table is lost.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct ScatterAdd {
    /// The axis of the table that the index counts along.
    pub axis: Axis,
    /// The axes of the table.
    pub into: Vec<Axis>,
}

impl Variants for ScatterAdd {}

impl Rules for ScatterAdd {
    fn name(&self) -> &'static str {
        "scatter_add"
    }

    fn attributes(&mut self, visit: &mut dyn Visit) {
        visit.attribute("axis", &mut self.axis);
        visit.attribute("into", &mut self.into);
    }

    fn infer(&self, operands: &[Type], scope: Scope<'_>) -> Result<Vec<Type>, Mismatch> {
        let [rows, index] = operands else { return Err("takes rows and an index".into()) };
        let result = Type::new(accumulator(&[rows]), self.into.clone());
        if result.position(&self.axis).is_none() || rows.position(&self.axis).is_some() {
            return Err(format!("`{}` must be an axis of {result} and not of {rows}", self.axis));
        }
        if index.dtype != DType::I32 || !rows.dtype.is_float() {
            return Err(format!("{rows} and {index} must be floats and i32"));
        }
        let known = |it: &&Axis| **it == self.axis || rows.position(it).is_some();
        if let Some(axis) = result.axes.iter().find(|it| !known(it)) {
            return Err(format!("no axis `{axis}` in {rows}"));
        }
        if let Some(axis) = index.axes.iter().find(|it| rows.position(it).is_none()) {
            return Err(format!("no axis `{axis}` of the index in {rows}"));
        }
        let bound = self.into.iter().find(|it| scope.axes.bound(it).is_none());
        match bound.or(result.repeated_atom().map(|_| &self.axis)) {
            Some(axis) => Err(format!("`{axis}` is not declared, or stands twice")),
            None => Ok(vec![result]),
        }
    }

    fn eval(&self, operands: &[&Tensor], results: &[Type], run: Run<'_>) -> Vec<Tensor> {
        let (rows, index) = (operands[0], operands[1]);
        let shape = run.sizes.shape(&self.into);
        let table_strides = strides(&shape);
        let at = results[0].position(&self.axis).expect("the table's axis");
        let place = |axis: &Axis| results[0].position(axis).map_or(0, |it| table_strides[it]);
        let in_table: Vec<usize> = rows.ty.axes.iter().map(place).collect();
        let in_index = super::strides_along(index, &rows.ty.axes);
        let mut data = vec![0.0; shape.iter().product()];
        let mut next = rows.data.iter();
        each_index(&rows.shape, |it| {
            let (row, add) = (index.data[offset(it, &in_index)], next.next().unwrap_or(&0.0));
            if 0.0 <= row && row < shape[at] as f64 {
                data[offset(it, &in_table) + row as usize * table_strides[at]] += add;
            }
        });
        vec![Tensor { ty: results[0].clone(), shape, data }]
    }

    fn gradient(
        &self,
        grad: &mut Grad<'_>,
        operands: &[Value],
        _: &[Value],
        upstream: &[Option<Value>],
    ) -> Vec<Option<Value>> {
        let Some(upstream) = upstream[0] else { return vec![None, None] };
        let back = grad.add(Gather { axis: self.axis.clone() }, &[upstream, operands[1]]);
        vec![Some(grad.fit(back, operands[0])), None]
    }

    fn examples(&self) -> Vec<Example> {
        let axes = [("V", 4), ("A", 3), ("B", 2)];
        let op = |into: &[&str]| ScatterAdd {
            axis: Axis::atom("V"),
            into: into.iter().map(|&it| Axis::atom(it)).collect(),
        };
        vec![
            Example::new(op(&["V", "B"]), &axes, &["f32[A, B]", "i32[A]"]),
            Example::new(op(&["A", "V"]), &axes, &["f32[A]", "i32[A]"]),
        ]
    }
}
