//! What a model's work amounts to, from its graph and its plan.

use ir::{Module, Role, StepAxes};
use plan::{Base, Callee, Launch, Plan};
use runtime::Costs;

/// The costs of one step of `module`; bytes of weights are known only once they are bound.
pub(crate) fn of(module: &Module, axes: &StepAxes) -> Costs {
    let flops = |new: usize, past: usize, last: usize| {
        // What an encoder does is not counted: it reads its text just once.
        let given = axes.extents(new, past, last, 0);
        let Ok(sizes) = module.axes.sizes(&given) else { return 0 };
        module.cost(module.entry(), &|axis| sizes.of(axis) as u64).flops
    };
    let one = flops(1, 0, 0);
    let pair = flops(1, 1, 0).saturating_sub(one);
    let elements = |ty: &ir::Type| -> u64 {
        let sizes = ty.axes.iter().map(|it| module.axes.fixed(it).unwrap_or(0) as u64);
        sizes.fold(1, u64::saturating_mul)
    };
    let weights = module.entry().params.iter().filter(|it| it.role == Role::Weight);
    Costs {
        parameters: weights.map(|it| elements(&it.ty)).fold(0, u64::saturating_add),
        position_flops: one.saturating_sub(pair),
        pair_flops: pair,
        head_flops: flops(1, 0, 1).saturating_sub(one),
        step_bytes: 0,
    }
}

/// The banks that a step reads as a whole: all but those that are only looked up.
pub(crate) fn streamed_banks(plan: &Plan) -> Vec<usize> {
    let looks_up = |it: &Launch| {
        matches!(it.callee, Callee::Kernel(_)) && plan.callee_name(it.callee) == "gather"
    };
    let streams = plan.launches().into_iter().filter(|it| !looks_up(it));
    let banks = streams.flat_map(|it| &it.reads).filter_map(|it| match &it.base {
        Base::Weight(bank, _) => Some(*bank),
        _ => None,
    });
    let mut found: Vec<usize> = banks.collect();
    found.sort_unstable();
    found.dedup();
    found
}
