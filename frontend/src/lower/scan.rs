//! Recurrences: a body that runs for each place along an axis and hands values on.

use ir::ops::Scan as ScanOp;
use ir::{Axis, Type};

use super::bound::{Bound, ExtraKind};
use super::call::together;
use super::frame::{Around, Frame};
use super::layers::Carries;
use super::{Lower, Result};
use crate::ast::{FunctionKind, Name, Scan};
use crate::source::Span;

impl<'a> Lower<'a> {
    /// The loop of a recurrence. Values around it that have the axis are seen without it, a place
    /// at a time; the names that the body sets are handed on and keep what the last step left; the
    /// value of the body is laid out along the axis.
    pub(super) fn scan(&mut self, scan: &'a Scan, span: Span) -> Result<Bound> {
        let axis = self.look_up_axis(&scan.over.text, scan.over.span)?;
        if axis.as_atom().is_none() {
            let message = format!("`{axis}` is not one axis; a recurrence runs along one");
            return Err(self.wrong("E0304", message, scan.over.span));
        }
        let carries = self.carries([scan.body.as_slice()])?;
        let frame = self.step_frame(&carries, &axis);
        let owner = Name { text: "scan".into(), span };
        let stem = format!("{}.step", self.now.function.name);
        let step = self.step(&stem, &carries, frame, &mut |it, types| {
            let value = it.body(&scan.body)?;
            let mut outputs = it.handed_on(&carries, types)?;
            if let Some(value) = value {
                outputs.extend(it.outputs(value, &owner)?);
            }
            Ok(outputs)
        })?;
        let mut operands: Vec<ir::Value> = carries.iter().map(|it| it.1).collect();
        for part in self.around(&step, ExtraKind::Part, span)? {
            let rest = self.ty(part).axes.iter().filter(|it| **it != axis).cloned();
            let order: Vec<Axis> = std::iter::once(axis.clone()).chain(rest).collect();
            operands.push(self.in_order(part, &order, span)?);
        }
        let banked = operands.len() - carries.len();
        operands.extend(self.around(&step, ExtraKind::Capture, span)?);
        let (body, n_carries) = (step.name.clone(), carries.len());
        let op = ScanOp { body, axis, carries: n_carries, banked, reverse: false };
        let mut values = self.op_all(op, &operands, span)?;
        let along = values.split_off(n_carries);
        self.set_carries(&carries, &values);
        Ok(together(along.into_iter().map(Bound::Tensor).collect()))
    }

    /// What a step sees of the body around it.
    fn step_frame(&mut self, carries: &Carries, axis: &Axis) -> Frame {
        let mut frame = self.inner_frame(carries);
        for seen in frame.around.values_mut() {
            if let Around::Tensor(ty) = seen
                && let Some(at) = ty.position(axis)
            {
                let mut axes = ty.axes.clone();
                axes.remove(at);
                *seen = Around::Part(Type::new(ty.dtype, axes));
            }
        }
        // A step has no weights of its own: all steps share those around it.
        frame.kind = FunctionKind::Plain;
        frame
    }
}
