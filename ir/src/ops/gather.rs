//! Looks rows up in a table.

use super::{Variants, accumulator, offset, strides_along};
use crate::{
    Axes, Axis, Cost, DType, Example, Function, Mismatch, Node, Param, Role, Rules, Run, Scope,
    Tensor, Type, Value, Visit,
    grad::Grad,
    op::bytes_moved,
    ops::{Op, ScatterAdd},
};

/// `gather table index`: for each element of `index`, the part of `table` at that place along
/// `axis`. Axes that both have are the same index. The result has the axes of `index`, then what is
/// left of those of `table`. A place outside the table reads as zero.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Gather {
    /// The axis of the table that the index counts along.
    pub axis: Axis,
}

impl Gather {
    /// The place that `node` of `function` takes along the first axis of a table, if it is one
    /// place, known and within: the result lies in one piece there, such as the weight of one
    /// layer in that of all.
    pub fn known_place(axes: &Axes, function: &Function, node: &Node) -> Option<u64> {
        let Op::Gather(gather) = &node.op else { return None };
        let [table, index] = node.operands[..] else { return None };
        let Op::Constant(place) = &function.maker(index)?.op else { return None };
        let ty = function.ty(table);
        let is_first = place.axes.is_empty() && ty.axes.first() == Some(&gather.axis);
        // A weight is read as it is stored, whatever its elements are read as.
        let is_weight =
            |(value, param): (Value, &Param)| value == table && param.role == Role::Weight;
        let same_type = function.ty(node.result()).dtype == ty.dtype
            || function.param_values().zip(&function.params).any(is_weight);
        let place = place.values.first()?.0;
        let within = 0.0 <= place && place < axes.fixed(&gather.axis)? as f64;
        (is_first && same_type && within).then_some(place as u64)
    }
}

impl Variants for Gather {}

impl Rules for Gather {
    fn name(&self) -> &'static str {
        "gather"
    }

    fn attributes(&mut self, visit: &mut dyn Visit) {
        visit.attribute("axis", &mut self.axis);
    }

    fn infer(&self, operands: &[Type], _: Scope<'_>) -> Result<Vec<Type>, Mismatch> {
        let [table, index] = operands else { return Err("takes a table and an index".into()) };
        if table.position(&self.axis).is_none() || index.position(&self.axis).is_some() {
            return Err(format!("`{}` must be an axis of {table} and not of {index}", self.axis));
        }
        if index.dtype != DType::I32 {
            return Err(format!("the index is {index}, not i32"));
        }
        let new = |it: &&Axis| **it != self.axis && index.position(it).is_none();
        let rest = table.axes.iter().filter(new);
        let axes: Vec<Axis> = index.axes.iter().chain(rest).cloned().collect();
        let float = table.dtype.is_float();
        let dtype = if float { accumulator(&[table]) } else { table.dtype };
        let result = Type::new(dtype, axes);
        match result.repeated_atom() {
            Some(atom) => Err(format!("`{atom}` would stand twice in {result}; rename one")),
            None => Ok(vec![result]),
        }
    }

    fn eval(&self, operands: &[&Tensor], results: &[Type], run: Run<'_>) -> Vec<Tensor> {
        let (table, index) = (operands[0], operands[1]);
        let at = table.ty.position(&self.axis).expect("the table's axis");
        let (extent, stride) = (table.shape[at], table.strides()[at]);
        let in_table = strides_along(table, &results[0].axes);
        let in_index = strides_along(index, &results[0].axes);
        vec![Tensor::from_fn(results[0].clone(), run.sizes, |it| {
            let row = index.data[offset(it, &in_index)];
            let inside = 0.0 <= row && row < extent as f64;
            if inside { table.data[offset(it, &in_table) + row as usize * stride] } else { 0.0 }
        })]
    }

    fn gradient(
        &self,
        grad: &mut Grad<'_>,
        operands: &[Value],
        _: &[Value],
        upstream: &[Option<Value>],
    ) -> Vec<Option<Value>> {
        let Some(upstream) = upstream[0] else { return vec![None, None] };
        let into = grad.ty(operands[0]).axes.clone();
        let op = ScatterAdd { axis: self.axis.clone(), into };
        vec![Some(grad.add(op, &[upstream, operands[1]])), None]
    }

    /// Nothing is computed.
    fn cost(&self, operands: &[Type], results: &[Type], size: &dyn Fn(&Axis) -> u64) -> Cost {
        Cost { flops: 0, bytes: bytes_moved(operands, results, size) }
    }

    fn examples(&self) -> Vec<Example> {
        let gather = Gather { axis: Axis::atom("V") };
        let axes = [("V", 4), ("A", 3), ("B", 2)];
        vec![
            Example::new(gather.clone(), &axes, &["f32[V, B]", "i32[A]"]),
            Example::new(gather, &axes, &["f32[A, V]", "i32[A]"]),
        ]
    }
}
