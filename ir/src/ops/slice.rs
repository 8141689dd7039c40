//! Keeps a run of elements along an axis.

use super::{Variants, offset, replace_axis};
use crate::{
    Axis, Example, Link, Mismatch, Rules, Run, Scope, Tensor, Type, Value, Visit, grad::Grad,
    ops::Pad,
};

/// The elements of `axis` that begin where the axes `after`, laid end to end, stop, or the last
/// ones if `last` is true. There are as many as `into` is long.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Slice {
    /// The axis to cut.
    pub axis: Axis,
    /// What is skipped at its beginning.
    pub after: Vec<Axis>,
    /// Whether to count from the end instead; `after` is empty then.
    pub last: bool,
    /// What is kept.
    pub into: Axis,
}

impl Variants for Slice {}

impl Rules for Slice {
    fn name(&self) -> &'static str {
        "slice"
    }

    fn attributes(&mut self, visit: &mut dyn Visit) {
        visit.attribute("axis", &mut self.axis);
        visit.attribute("after", &mut self.after);
        visit.attribute("last", &mut self.last);
        visit.attribute("into", &mut self.into);
    }

    fn infer(&self, operands: &[Type], scope: Scope<'_>) -> Result<Vec<Type>, Mismatch> {
        let [x] = operands else { return Err("takes one operand".into()) };
        fits(scope, &self.axis, &self.after, self.last, &self.into)?;
        Ok(vec![replace_axis(x, &self.axis, std::slice::from_ref(&self.into))?])
    }

    fn eval(&self, operands: &[&Tensor], results: &[Type], run: Run<'_>) -> Vec<Tensor> {
        let x = operands[0];
        let at = x.ty.position(&self.axis).expect("the axis to cut");
        let start = start(run, &self.axis, &self.after, self.last, &self.into);
        let strides = x.strides();
        vec![Tensor::from_fn(results[0].clone(), run.sizes, |index| {
            x.data[offset(index, &strides) + start * strides[at]]
        })]
    }

    fn gradient(
        &self,
        grad: &mut Grad<'_>,
        _: &[Value],
        _: &[Value],
        upstream: &[Option<Value>],
    ) -> Vec<Option<Value>> {
        let (axis, into) = (self.into.clone(), self.axis.clone());
        let back = Pad { axis, after: self.after.clone(), last: self.last, into, ..Pad::default() };
        vec![upstream[0].map(|it| grad.add(back, &[it]))]
    }

    fn links(&self) -> Vec<Link> {
        let found =
            if self.last { Vec::new() } else { Link::segment(&self.into, &self.axis, &self.after) };
        found.into_iter().map(Link::turned).collect()
    }

    fn examples(&self) -> Vec<Example> {
        let [a, b, c] = ["A", "B", "C"].map(Axis::atom);
        let axis = Axis::concat([&a, &b]);
        let second = Slice { axis, after: vec![a], last: false, into: b.clone() };
        let tail = Slice { axis: c, after: Vec::new(), last: true, into: b };
        let axes = [("A", 2), ("B", 3), ("C", 4), ("D", 2)];
        vec![
            Example::new(second, &axes, &["f32[D, A | B]"]),
            Example::new(tail, &axes, &["f32[C, D]"]),
        ]
    }
}

/// Whether `part` fits into `whole` behind `after`, as far as extents are known when compiling. A
/// part of a run-time axis must itself be declared at run time, where the run is checked.
pub(super) fn fits(
    scope: Scope<'_>,
    whole: &Axis,
    after: &[Axis],
    last: bool,
    part: &Axis,
) -> Result<(), Mismatch> {
    if last && !after.is_empty() {
        return Err("`after` and `last` exclude each other".into());
    }
    if !last && whole.begins_with(after.iter().chain([part])) {
        return Ok(());
    }
    let skipped = after.iter().map(|it| scope.axes.fixed(it)).sum::<Option<usize>>();
    match (scope.axes.fixed(whole), skipped, scope.axes.fixed(part)) {
        (Some(whole_size), Some(skipped), Some(part_size)) if whole_size < skipped + part_size => {
            Err(format!("`{part}` behind {after:?} reaches beyond `{whole}`"))
        }
        (Some(_), Some(_), Some(_)) => Ok(()),
        (Some(whole), Some(skipped), None) if has_room(scope, whole, skipped, part) => Ok(()),
        _ if last && scope.axes.bound(whole).is_some() && scope.axes.bound(part).is_some() => {
            Ok(())
        }
        _ => Err(format!("`{part}` is not known to lie within `{whole}`")),
    }
}

/// Whether a part whose extent is known when running lies within `whole` even at its longest.
fn has_room(scope: Scope<'_>, whole: usize, skipped: usize, part: &Axis) -> bool {
    let longest = scope.axes.bound(part).and_then(|it| it.checked_add(skipped));
    longest.is_some_and(|it| it <= whole)
}

/// Where `part` begins in `whole`.
pub(super) fn start(run: Run<'_>, whole: &Axis, after: &[Axis], last: bool, part: &Axis) -> usize {
    match last {
        true => run.sizes.of(whole).saturating_sub(run.sizes.of(part)),
        false => after.iter().map(|it| run.sizes.of(it)).sum(),
    }
}
