//! Which launches may not run at once.

use crate::{Base, Launch, Place, Plan};

/// Whether one of two launches writes what the other touches.
pub fn conflict(plan: &Plan, earlier: &Launch, later: &Launch) -> bool {
    let meets = |writer: &Launch, other: &Launch| {
        let mut touched = other.reads.iter().chain(&other.writes);
        touched.any(|it| writer.writes.iter().any(|written| overlap(plan, it, written)))
    };
    meets(earlier, later) || meets(later, earlier)
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
