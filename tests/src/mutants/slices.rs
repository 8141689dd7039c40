//! Wrong cuts.

use ir::{Op, ops::BinaryFn::Less};

use super::{Mutant, attention::heads_taken_flat, by, rule};

/// See the module.
pub(super) const ALL: &[Mutant] = &[
    by(
        "slice",
        "",
        // The width before the cut.
        rule("norm over the full width", |at| match at.op {
            Op::ExtentOf(_) => Some(vec![at.constant(6.0)]),
            _ => None,
        }),
    ),
    // The first heads of all, not those of each group.
    by("slice", "", rule("heads cut flat", heads_taken_flat)),
    by(
        "slice",
        "",
        rule("cut value dropped", |at| {
            let is_product = at.is(ir::ops::BinaryFn::Mul) && at.f.ty(at.x[0]).axes.len() == 4;
            is_product.then(|| vec![at.x[0]])
        }),
    ),
    by(
        "mask",
        "",
        rule("the other places masked", |at| if at.is(Less) { at.swapped() } else { None }),
    ),
];
