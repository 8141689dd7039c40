//! Where intermediate values lie: those that are never alive at once share memory.

use crate::plan::{Base, Launch, Place, Plan, Step};

const ALIGN: u64 = 64;

/// When a buffer is in use, counted in launches from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// The first launch that touches it.
    pub first: usize,
    /// The last one before its memory may be another's.
    pub last: usize,
}

/// Gives every buffer its offset: in the order in which they come alive, each the lowest gap that
/// no living buffer reaches into.
pub fn assign(plan: &mut Plan) {
    let lives = lives(plan);
    let mut order: Vec<usize> = (0..plan.buffers.len()).filter(|&it| lives[it].is_some()).collect();
    order.sort_by_key(|&it| (lives[it].map(|life| life.first), it));
    let mut placed: Vec<usize> = Vec::new();
    for &i in &order {
        let life = lives[i].expect("only used buffers are ordered");
        let overlaps = |&&other: &&usize| {
            lives[other].is_some_and(|it| it.first <= life.last && life.first <= it.last)
        };
        let mut taken: Vec<(u64, u64)> = placed
            .iter()
            .filter(overlaps)
            .map(|&it| (plan.buffers[it].offset, plan.buffers[it].offset + plan.buffers[it].bytes))
            .collect();
        taken.sort_unstable();
        let bytes = plan.buffers[i].bytes;
        plan.buffers[i].offset = lowest_gap(&taken, bytes);
        placed.push(i);
    }
    let ends = placed.iter().map(|&it| plan.buffers[it].offset + plan.buffers[it].bytes);
    plan.arena_bytes = ends.max().unwrap_or(0).next_multiple_of(ALIGN);
}

/// The first room of `bytes` between the taken ranges, which are in order.
fn lowest_gap(taken: &[(u64, u64)], bytes: u64) -> u64 {
    let mut at = 0u64;
    for &(from, to) in taken {
        if at + bytes <= from {
            return at;
        }
        at = at.max(to.next_multiple_of(ALIGN));
    }
    at
}

/// When each buffer of `plan` is in use; `None` for one that nothing touches. The launches of a
/// loop are counted once.
pub fn lives(plan: &Plan) -> Vec<Option<Life>> {
    let mut lives = vec![None; plan.buffers.len()];
    let mut now = 0;
    let mut loops = Vec::new();
    visit(&plan.steps, &mut now, &mut lives, &mut loops);
    // What a loop fills part by part for those after it, it must not share with its other steps.
    for (begin, end) in loops {
        for life in lives.iter_mut().flatten() {
            if begin <= life.first && life.first <= end && end < life.last {
                life.first = begin;
            }
        }
    }
    lives
}

/// Notes when each buffer is first and last touched, and from when to when each loop runs, inner
/// loops first.
fn visit(
    steps: &[Step],
    now: &mut usize,
    lives: &mut [Option<Life>],
    loops: &mut Vec<(usize, usize)>,
) {
    for step in steps {
        match step {
            Step::Barrier => {}
            Step::Launch(launch) => {
                *now += 1;
                for buffer in buffers(launch) {
                    let life = lives[buffer].get_or_insert(Life { first: *now, last: *now });
                    life.last = *now;
                }
            }
            Step::Loop { steps, .. } => {
                let begin = *now;
                visit(steps, now, lives, loops);
                // What was there before the loop is needed by its every step.
                for life in lives.iter_mut().flatten() {
                    if life.first <= begin && begin < life.last {
                        life.last = *now;
                    }
                }
                loops.push((begin + 1, *now));
            }
        }
    }
}

/// The buffers that a launch touches.
fn buffers(launch: &Launch) -> impl Iterator<Item = usize> {
    launch.reads.iter().chain(&launch.writes).filter_map(|it: &Place| match it.base {
        Base::Arena(i) => Some(i),
        _ => None,
    })
}
