//! Where threads have to wait for each other.

use plan::{Launch, Plan, Step};

/// Puts a barrier before each launch that touches what a launch since the last barrier wrote, or
/// writes what one read. There is one before a loop and one at the end of each of its steps, so
/// that launches between two barriers follow each other directly.
pub(crate) fn insert(plan: &mut Plan) {
    let steps = std::mem::take(&mut plan.steps);
    plan.steps = with_barriers(plan, steps, &mut Vec::new());
}

fn with_barriers(plan: &Plan, steps: Vec<Step>, open: &mut Vec<Launch>) -> Vec<Step> {
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
                if !open.is_empty() {
                    result.push(Step::Barrier);
                    open.clear();
                }
                let mut steps = with_barriers(plan, steps, open);
                steps.push(Step::Barrier);
                open.clear();
                result.push(Step::Loop { id, axis, reverse, steps });
            }
        }
    }
    result
}
