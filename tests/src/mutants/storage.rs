//! Wrong numbers of few bits.

use ir::{
    DType, Op, Real,
    ops::{BinaryFn::Mul, Cast, Constant},
};

use super::{At, Mutant, by, rule};

/// Whether the node rounds to 16 bits.
fn narrows(at: &At<'_>) -> bool {
    matches!(at.op, Op::Cast(Cast { dtype: DType::BF16 | DType::F16 }))
}

/// See the module.
pub(super) const ALL: &[Mutant] = &[
    rule("rounding dropped", |at| {
        let inner = at.maker(*at.x.first()?)?;
        let widens = matches!(at.op, Op::Cast(Cast { dtype: DType::F32 }));
        let narrow = matches!(inner.op, Op::Cast(Cast { dtype: DType::BF16 | DType::F16 }));
        (widens && narrow && at.f.ty(inner.operands[0]).dtype == DType::F32)
            .then(|| inner.operands.clone())
    }),
    // Towards zero rather than to the nearest.
    rule("truncated, not rounded", |at| {
        if !narrows(at) {
            return None;
        }
        let less = at.constant(1.0 - 1.0 / 512.0);
        let smaller = at.binary(Mul, at.x[0], less)?;
        at.put(at.op.clone(), &smaller)
    }),
    rule("rounded to another type", |at| match at.op {
        Op::Cast(Cast { dtype: DType::BF16 }) => {
            let other = at.put(Cast { dtype: DType::F16 }, at.x)?;
            let wide = at.put(Cast { dtype: DType::F32 }, &other)?;
            at.put(at.op.clone(), &wide)
        }
        _ => None,
    }),
    by(
        "fold",
        "inline",
        rule("tables of too few bits", |at| match at.op {
            Op::Constant(it) if 1 < it.values.len() && it.dtype == DType::F32 => {
                let round = |it: &Real| Real(DType::BF16.round(it.0));
                let values = it.values.iter().map(round).collect();
                at.put(Constant { values, ..it.clone() }, &[])
            }
            _ => None,
        }),
    ),
    by(
        "cache",
        "incremental",
        rule("stored at another scale", |at| {
            if !narrows(at) {
                return None;
            }
            let two = at.constant(2.0);
            let scaled = at.binary(Mul, at.x[0], two)?;
            at.put(at.op.clone(), &scaled)
        }),
    ),
];
