//! Waiting for other threads without asking the kernel.

use std::hint;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long a waiting thread holds on to its core before it offers it to others.
const SPIN: Duration = Duration::from_micros(20);

/// How often the clock is read while spinning.
const TURNS_BETWEEN_LOOKS: u32 = 64;

/// The patience of one wait: spins first, then yields, so that a machine with fewer free cores than
/// threads still gets on.
#[derive(Default)]
pub(crate) struct Wait {
    turns: u32,
    since: Option<Instant>,
}

impl Wait {
    /// Lets a moment pass; says for how long the wait has lasted, roughly.
    pub(crate) fn turn(&mut self) -> Duration {
        self.turns += 1;
        if self.turns < TURNS_BETWEEN_LOOKS {
            hint::spin_loop();
            return Duration::ZERO;
        }
        let waited = self.since.get_or_insert_with(Instant::now).elapsed();
        if waited < SPIN {
            self.turns = 0;
        } else {
            self.turns -= 1;
            thread::yield_now();
        }
        waited
    }
}

/// A counter with a cache line (and its neighbour, which is fetched with it) of its own.
#[repr(align(128))]
#[derive(Default)]
pub(crate) struct Line(pub(crate) AtomicU64);

/// Where threads meet. Each counts its own arrivals in its own line and reads those of the others,
/// so a meeting costs one transfer of a line between cores, and nothing is ever reset.
pub(crate) struct Barrier(Box<[Line]>);

impl Barrier {
    /// For `threads` threads.
    pub(crate) fn new(threads: usize) -> Barrier {
        Barrier((0..threads).map(|_| Line::default()).collect())
    }

    /// Waits until every thread has called this as often as `thread` has. What each wrote before
    /// can be read by all after.
    pub(crate) fn wait(&self, thread: usize) {
        let Some(Line(own)) = self.0.get(thread) else { return };
        let arrivals = own.load(Ordering::Relaxed) + 1;
        own.store(arrivals, Ordering::Release);
        for Line(other) in &self.0 {
            let mut wait = Wait::default();
            while other.load(Ordering::Acquire) < arrivals {
                wait.turn();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_passes_before_all_have_come() {
        for threads in 1..=4 {
            let barrier = Barrier::new(threads);
            let count = AtomicU64::new(0);
            thread::scope(|scope| {
                for thread in 0..threads {
                    let (barrier, count) = (&barrier, &count);
                    scope.spawn(move || {
                        for round in 1..=2000 {
                            count.fetch_add(1, Ordering::Relaxed);
                            barrier.wait(thread);
                            assert_eq!(count.load(Ordering::Relaxed), round * threads as u64);
                            barrier.wait(thread);
                        }
                    });
                }
            });
        }
    }
}
