//! Where threads have to wait for each other.

use crate::plan::{Base, Launch, Place, Plan, Step};

/// Puts a barrier before each launch that touches what a launch since the last barrier wrote, or
/// writes what one read. Every step of a loop ends with a barrier.
pub(crate) fn insert(plan: &mut Plan) {
    let steps = std::mem::take(&mut plan.steps);
    let mut open = Vec::new();
    plan.steps = with_barriers(plan, steps, &mut open);
}

fn with_barriers(plan: &Plan, steps: Vec<Step>, open: &mut Vec<Launch>) -> Vec<Step> {
    let mut result = Vec::new();
    for step in steps {
        match step {
            Step::Barrier => {}
            Step::Launch(launch) => {
                if open.iter().any(|it| conflict(plan, it, &launch)) {
                    result.push(Step::Barrier);
                    open.clear();
                }
                open.push(launch.clone());
                result.push(Step::Launch(launch));
            }
            Step::Loop { id, axis, reverse, steps } => {
                let mut steps = with_barriers(plan, steps, open);
                steps.push(Step::Barrier);
                open.clear();
                result.push(Step::Loop { id, axis, reverse, steps });
            }
        }
    }
    result
}

fn conflict(plan: &Plan, earlier: &Launch, later: &Launch) -> bool {
    let touched = |it: &Launch| it.reads.iter().chain([&it.writes]).cloned().collect::<Vec<_>>();
    touched(later).iter().any(|it| overlap(plan, it, &earlier.writes))
        || touched(earlier).iter().any(|it| overlap(plan, it, &later.writes))
}

/// Whether two places may share memory.
fn overlap(plan: &Plan, a: &Place, b: &Place) -> bool {
    match (&a.base, &b.base) {
        (Base::Arena(i), Base::Arena(j)) => {
            let (a, b) = (&plan.buffers[*i], &plan.buffers[*j]);
            a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes
        }
        (Base::State(i), Base::State(j)) | (Base::Output(i), Base::Output(j)) => i == j,
        _ => false,
    }
}
