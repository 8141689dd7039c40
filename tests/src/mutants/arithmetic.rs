//! Wrong algebra.

use ir::{
    Op,
    ops::{
        BinaryFn::{Add, Div, Less, Max, Mul, Sub},
        Reduce, ReduceKind, UnaryFn,
    },
};

use super::{Mutant, rule};

/// See the module.
pub(super) const ALL: &[Mutant] = &[
    rule("difference swapped", |at| if at.is(Sub) { at.swapped() } else { None }),
    rule("quotient swapped", |at| if at.is(Div) { at.swapped() } else { None }),
    rule("comparison swapped", |at| if at.is(Less) { at.swapped() } else { None }),
    rule("choice swapped", |at| match at.op {
        Op::Select(_) => at.put(at.op.clone(), &[at.x[0], at.x[2], at.x[1]]),
        _ => None,
    }),
    rule("sign dropped", |at| match at.op.as_unary() {
        Some(UnaryFn::Neg) => Some(vec![at.x[0]]),
        _ => None,
    }),
    rule("scale inverted", |at| {
        let scale = at.number(*at.x.get(1)?).filter(|it| it.abs() != 1.0)?;
        if at.is(Mul) && scale != 0.0 { at.binary(Div, at.x[0], at.x[1]) } else { None }
    }),
    rule("scale dropped", |at| {
        at.number(*at.x.get(1)?).filter(|it| *it != 1.0)?;
        at.is(Mul).then(|| vec![at.x[0]])
    }),
    // What is added to is a parameter of the layer.
    rule("residual dropped", |at| {
        let is_residual = at.is(Add) && at.f.as_param(at.x[0]).is_some();
        (is_residual && at.f.ty(at.x[0]) == at.f.ty(at.x[1])).then(|| vec![at.x[1]])
    }),
    // Right but for rounding, so not exact.
    rule("product regrouped", |at| {
        let inner = at.maker(*at.x.first()?).filter(|it| it.op == Op::binary(Mul) && at.is(Mul))?;
        let right = at.binary(Mul, inner.operands[1], at.x[1])?;
        at.binary(Mul, inner.operands[0], right[0])
    }),
    // A fast formula of the same curve.
    rule("erf by tanh", |at| match at.op.as_unary() {
        Some(UnaryFn::Erf) => {
            let slope = at.constant(std::f64::consts::FRAC_2_SQRT_PI);
            let scaled = at.binary(Mul, at.x[0], slope)?;
            at.put(Op::unary(UnaryFn::Tanh), &scaled)
        }
        _ => None,
    }),
    rule("square of relu not squared", |at| {
        let is_relu = at.maker(*at.x.first()?)?.op == Op::binary(Max);
        let is_square = at.is(Mul) && at.x[0] == at.x[1];
        (is_square && is_relu).then(|| vec![at.x[0]])
    }),
    rule("maximum for sum", |at| match at.op {
        Op::Reduce(it) if it.kind == ReduceKind::Sum => {
            at.put(Reduce { kind: ReduceKind::Max, ..it.clone() }, at.x)
        }
        _ => None,
    }),
    // The same in real numbers.
    rule("softmax without maximum", |at| {
        let maker = at.maker(*at.x.get(1)?)?;
        let is_max = matches!(maker.op, Op::Reduce(it) if it.kind == ReduceKind::Max);
        (at.is(Sub) && is_max && maker.operands == [at.x[0]]).then(|| vec![at.x[0]])
    }),
    // An unlike pair of functions with the same operand.
    rule("equal parts of unlike ops", |at| match at.op.as_unary() {
        Some(UnaryFn::Sin) => at.put(Op::unary(UnaryFn::Cos), at.x),
        _ => None,
    }),
];
