//! Weights computed wrongly of weights.

use ir::{
    Op, Value,
    ops::{BinaryFn::Mul, Constant},
};

use super::{At, Mistake, Mutant, by, rule};

const BEFORE: &str = "inline{except=prelude::rms_norm}";

/// A rule that lies of sums in another order.
const fn lie(name: &'static str, text: &'static str) -> Mutant {
    Mutant { name, of: "absorb", before: BEFORE, mistake: Mistake::Rule(text) }
}

/// A mistake at a node that `absorb` leaves.
const fn wrong(name: &'static str, it: fn(&mut At<'_>) -> Option<Vec<Value>>) -> Mutant {
    by("absorb", BEFORE, rule(name, it))
}

/// See the module.
pub(super) const ALL: &[Mutant] = &[
    lie(
        "absorb: weight nowhere",
        "reassociates rewrite lie: rms_norm(x, g) => rms_norm(x, fill(1, g)) where weight(g)",
    ),
    lie(
        "absorb: weight lost",
        "reassociates rewrite lie:
           contract(rms_norm(x, g), w, over = a) => contract(rms_norm(x, fill(1, g)), w, over = a)
           where open(w), weight(g)",
    ),
    lie(
        "absorb: weight twice",
        "reassociates rewrite lie:
           contract(rms_norm(x, g), w, over = a)
             => contract(rms_norm(x, fill(1, g)), (w * g) * g, over = a)
           where open(w), weight(g), axes(g) = a",
    ),
    lie(
        "absorb: added to the weight",
        "reassociates rewrite lie:
           contract(rms_norm(x, g), w, over = a)
             => contract(rms_norm(x, fill(1, g)), w + g, over = a)
           where open(w), weight(g), axes(g) = a",
    ),
    // The weight of one layer's norm in another layer's product.
    wrong("absorb: of another layer", |at| {
        let &[w, g] = at.x else { return None };
        let layer = at.maker(g).filter(|it| at.is(Mul) && matches!(it.op, Op::Gather(_)))?;
        let is_second = at.number(layer.operands[1]) == Some(1.0);
        let first = is_second.then_some(Constant::scalar(ir::DType::I32, 0.0))?;
        let first = at.put(first, &[])?[0];
        let other = at.put(layer.op, &[layer.operands[0], first])?[0];
        at.binary(Mul, w, other)
    }),
    // Of two products one goes without.
    wrong("absorb: into one of two", |at| {
        let &[w, g] = at.x else { return None };
        let is_param = |it: Value, name: &str| at.f.as_param(it).is_some_and(|it| it.name == *name);
        (at.is(Mul) && is_param(w, "k") && is_param(g, "all")).then(|| vec![w])
    }),
];
