//! The threads of a step: all run the same task, each its share.

#![expect(unsafe_code, reason = "threads outlive the tasks they are lent")]

use std::cell::UnsafeCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::Fault;
use crate::barrier::{Barrier, Wait};
use crate::cores::{Affinity, affinity, cores, default_threads, pin, set_affinity};

/// The most threads that can be asked for.
pub const MAX_THREADS: usize = 1024;

/// How long a worker stays awake for the next step; waking it up takes longer than sampling does.
const AWAKE: Duration = Duration::from_millis(1);

/// What threads do: called with the thread's number and how many there are.
pub type Task<'a> = dyn Fn(usize, usize) + Sync + 'a;

/// Threads that run tasks together; the caller is thread 0.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Where the caller could run before it was pinned.
    unpinned: Option<Affinity>,
}

struct Shared {
    barrier: Barrier,
    /// How many tasks have been begun.
    begun: AtomicU64,
    stop: AtomicBool,
    /// Written by thread 0 while all others wait for `begun` to grow, read only after it grew.
    task: UnsafeCell<*const Task<'static>>,
}

// SAFETY: `task` is handed over by `begun`, as said there, and what it points to is `Sync`.
unsafe impl Send for Shared {}
// SAFETY: the same.
unsafe impl Sync for Shared {}

impl Pool {
    /// Starts the threads: as many as pay unless told otherwise. They are pinned when there is a
    /// core for each and none is left over; otherwise some other process may want the same cores.
    pub fn new(threads: Option<usize>) -> Result<Pool, Fault> {
        let threads = threads.unwrap_or_else(default_threads);
        if !(1..=MAX_THREADS).contains(&threads) {
            let message = format!("{threads} threads cannot be had");
            let help = format!("ask for 1 to {MAX_THREADS}");
            return Err(Fault::new("R0603", message).help(help));
        }
        let shared = Arc::new(Shared {
            barrier: Barrier::new(threads),
            begun: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            task: UnsafeCell::new(&|_, _| ()),
        });
        let mut pool = Pool { shared, workers: Vec::new(), unpinned: None };
        let cores: &[usize] = if threads == cores().len() { cores() } else { &[] };
        for thread in 1..threads {
            pool.workers.push(start(&pool.shared, thread, threads, cores.get(thread).copied())?);
        }
        if let (Some(&core), true) = (cores.first(), 1 < threads) {
            pool.unpinned = Some(affinity());
            pin(core);
        }
        Ok(pool)
    }

    /// How many threads there are.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `task` on every thread and waits for all. A panic in a task ends the process, since the
    /// others would wait for it forever.
    pub fn run(&mut self, task: &Task<'_>) {
        // SAFETY: the threads are done with the task before this function returns.
        let lent = unsafe { std::mem::transmute::<*const Task<'_>, *const Task<'static>>(task) };
        // SAFETY: the workers wait for `begun`, and `self` is borrowed by this call alone.
        unsafe { *self.shared.task.get() = lent };
        self.shared.begun.fetch_add(1, Ordering::Release);
        self.workers.iter().for_each(|it| it.thread().unpark());
        // SAFETY: `task` is alive.
        unsafe { perform(lent, 0, self.threads()) };
        self.shared.barrier.wait(0);
    }

    /// Where the threads of a task may meet in its middle.
    pub(crate) fn barrier(&self) -> &Barrier {
        &self.shared.barrier
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.begun.fetch_add(1, Ordering::Release);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker that panicked has ended the process already.
            let _ = worker.join();
        }
        if let Some(affinity) = &self.unpinned {
            set_affinity(affinity);
        }
    }
}

fn start(
    shared: &Arc<Shared>,
    thread: usize,
    threads: usize,
    core: Option<usize>,
) -> Result<JoinHandle<()>, Fault> {
    let shared = Arc::clone(shared);
    let work = move || {
        core.into_iter().for_each(pin);
        let mut done = 0;
        while let Some(task) = shared.next(done) {
            done += 1;
            // SAFETY: `run` keeps the task alive until all have met at the barrier.
            unsafe { perform(task, thread, threads) };
            shared.barrier.wait(thread);
        }
    };
    let refused = |error| Fault::new("R0402", format!("cannot start thread {thread}: {error}"));
    thread::Builder::new().name(format!("treen-{thread}")).spawn(work).map_err(refused)
}

impl Shared {
    /// Waits for the task after the first `done`; `None` when there will be no more.
    fn next(&self, done: u64) -> Option<*const Task<'static>> {
        let mut wait = Wait::default();
        while self.begun.load(Ordering::Acquire) == done {
            if AWAKE < wait.turn() {
                thread::park();
            }
        }
        // SAFETY: thread 0 does not write again before this thread has passed the barrier.
        (!self.stop.load(Ordering::Relaxed)).then(|| unsafe { *self.task.get() })
    }
}

/// Runs a task.
///
/// # Safety
/// `task` is alive.
unsafe fn perform(task: *const Task<'static>, thread: usize, threads: usize) {
    let end = EndOfProcess;
    // SAFETY: the caller says that `task` is alive.
    unsafe { (*task)(thread, threads) };
    std::mem::forget(end);
}

/// Dropped only by a panic in a task.
struct EndOfProcess;

impl Drop for EndOfProcess {
    fn drop(&mut self) {
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_runs_every_task_once() {
        for threads in 1..=4 {
            let mut pool = Pool::new(Some(threads)).unwrap();
            let runs: Vec<AtomicU64> = (0..threads).map(|_| AtomicU64::new(0)).collect();
            for _ in 0..500 {
                pool.run(&|thread, of| {
                    assert_eq!(of, threads);
                    runs[thread].fetch_add(1, Ordering::Relaxed);
                });
            }
            assert!(runs.iter().all(|it| it.load(Ordering::Relaxed) == 500));
        }
    }

    #[test]
    fn workers_wake_from_sleep() {
        let mut pool = Pool::new(Some(3)).unwrap();
        let runs = AtomicU64::new(0);
        for _ in 0..3 {
            thread::sleep(4 * AWAKE);
            pool.run(&|_, _| {
                runs.fetch_add(1, Ordering::Relaxed);
            });
        }
        assert_eq!(runs.into_inner(), 9);
    }

    #[test]
    fn impossible_numbers_of_threads_are_refused() {
        assert_eq!(Pool::new(Some(0)).err().unwrap().code, "R0603");
        assert_eq!(Pool::new(Some(MAX_THREADS + 1)).err().unwrap().code, "R0603");
    }
}
