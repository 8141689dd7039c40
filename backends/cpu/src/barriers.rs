//! Where threads have to wait for each other.

use ir::{Axes, Axis};

use plan::{Launch, Plan, Step};

/// Puts a barrier before each launch that touches what a launch since the last barrier wrote, or
/// writes what one read. Every step of a loop ends with a barrier.
pub(crate) fn insert(plan: &mut Plan, axes: &Axes) {
    let steps = std::mem::take(&mut plan.steps);
    let mut open = Vec::new();
    plan.steps = with_barriers(plan, &|it| axes.fixed(it), steps, &mut open);
}

fn with_barriers(
    plan: &Plan,
    fixed: &dyn Fn(&Axis) -> Option<usize>,
    steps: Vec<Step>,
    open: &mut Vec<Launch>,
) -> Vec<Step> {
    let mut result = Vec::new();
    for step in steps {
        match step {
            Step::Barrier => {}
            Step::Launch(launch) => {
                if open.iter().any(|it| plan::conflict(plan, it, &launch)) {
                    result.push(Step::Barrier);
                    open.clear();
                }
                open.push(launch.clone());
                result.push(Step::Launch(launch));
            }
            Step::Loop { id, axis, reverse, steps } => {
                let mut steps = with_barriers(plan, fixed, steps, open);
                steps.push(Step::Barrier);
                open.clear();
                // A loop that may run no step at all leaves the launches before it open.
                let may_be_empty = fixed(&axis).is_none_or(|it| it == 0);
                result.push(Step::Loop { id, axis, reverse, steps });
                if may_be_empty {
                    result.push(Step::Barrier);
                }
            }
        }
    }
    result
}
