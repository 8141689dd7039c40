//! Wrong norms.

use ir::{
    Axis, Extent, Op,
    ops::{
        BinaryFn::{Add, Div, Mul, Sub},
        ExtentOf,
    },
};

use super::{At, Mutant, rule};

/// The maker of the second operand, if that is the length of an axis.
fn over_extent(at: &At<'_>) -> Option<ExtentOf> {
    match at.maker(*at.x.get(1)?)?.op {
        Op::ExtentOf(it) if at.is(Div) => Some(it),
        _ => None,
    }
}

/// See the module.
pub(super) const ALL: &[Mutant] = &[
    rule("eps dropped", |at| {
        let eps = at.number(*at.x.get(1)?)?;
        (at.is(Add) && 0.0 < eps && eps < 1e-3).then(|| vec![at.x[0]])
    }),
    rule("sum for mean", |at| over_extent(at).map(|_| vec![at.x[0]])),
    // As a norm of a sliced axis that divides by all of it.
    rule("mean over another width", |at| {
        let extent = over_extent(at)?;
        let others = at.scope.axes.iter().filter(|(name, decl)| {
            Axis::atom(*name) != extent.axis && matches!(decl.extent, Extent::Fixed { .. })
        });
        let other = Axis::atom(others.map(|it| it.0).next()?);
        let width = at.f.add(at.scope, ExtentOf { axis: other }, &[]);
        at.binary(Div, at.x[0], width)
    }),
    rule("variance of a sample", |at| {
        over_extent(at)?;
        let one = at.constant(1.0);
        let fewer = at.binary(Sub, at.x[1], one)?;
        at.binary(Div, at.x[0], fewer[0])
    }),
    rule("mean not subtracted", |at| {
        let mean = at.maker(*at.x.get(1)?)?;
        (at.is(Sub) && mean.op == Op::binary(Div)).then(|| vec![at.x[0]])
    }),
    // Whoever folds the weight into the next product must not leave it out elsewhere.
    rule("norm weight dropped", |at| {
        let is_vector = |it: &ir::Value| at.f.as_param(*it).is_some_and(|p| p.ty.axes.len() == 1);
        (at.is(Mul) && at.x.get(1).is_some_and(is_vector)).then(|| vec![at.x[0]])
    }),
    rule("norm weight plus one", |at| {
        let is_vector = |it: &ir::Value| at.f.as_param(*it).is_some_and(|p| p.ty.axes.len() == 1);
        if !at.is(Mul) || !at.x.get(1).is_some_and(is_vector) {
            return None;
        }
        let one = at.constant(1.0);
        let more = at.binary(Add, at.x[1], one)?;
        at.binary(Mul, at.x[0], more[0])
    }),
];
