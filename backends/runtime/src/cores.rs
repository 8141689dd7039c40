//! The cores that this process may use, and keeping a thread on one of them.

#![expect(unsafe_code, reason = "the affinity calls of the kernel take a plain structure")]

use std::collections::BTreeSet;
use std::fs;
use std::sync::OnceLock;
use std::thread;

/// What the process was allowed to use when this was first asked: later the asking thread may be
/// pinned.
struct Allowed {
    cores: Vec<usize>,
    threads: usize,
}

fn allowed() -> &'static Allowed {
    static ALLOWED: OnceLock<Allowed> = OnceLock::new();
    ALLOWED.get_or_init(|| {
        let cores = one_for_each_core(cpus(&affinity()));
        let quota = thread::available_parallelism().map_or(1, usize::from);
        Allowed { threads: quota.min(cores.len()).max(1), cores }
    })
}

/// One CPU for each physical core.
pub(crate) fn cores() -> &'static [usize] {
    &allowed().cores
}

/// As many threads as pay: the physical cores, or fewer where a quota says so.
pub fn default_threads() -> usize {
    allowed().threads
}

/// The CPUs that a thread may run on.
#[derive(Clone, Copy)]
pub(crate) struct Affinity(libc::cpu_set_t);

/// Where the calling thread may run.
pub(crate) fn affinity() -> Affinity {
    // SAFETY: all zeros is an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is as large as said. On failure it stays empty.
    unsafe { libc::sched_getaffinity(0, size_of_val(&set), &mut set) };
    Affinity(set)
}

/// Where the calling thread may run from now on. A refusal only costs speed, so it is no fault.
pub(crate) fn set_affinity(affinity: &Affinity) {
    // SAFETY: the set is as large as said.
    unsafe { libc::sched_setaffinity(0, size_of_val(&affinity.0), &affinity.0) };
}

/// Keeps the calling thread on `cpu`.
pub(crate) fn pin(cpu: usize) {
    // SAFETY: all zeros is an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    if cpu < 8 * size_of_val(&set) {
        // SAFETY: `cpu` is inside the set.
        unsafe { libc::CPU_SET(cpu, &mut set) };
        set_affinity(&Affinity(set));
    }
}

fn cpus(affinity: &Affinity) -> Vec<usize> {
    // SAFETY: every number asked for is inside the set.
    (0..8 * size_of_val(&affinity.0))
        .filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &affinity.0) })
        .collect()
}

/// Leaves one CPU of those that share a core: a second thread there takes as much as it gives.
fn one_for_each_core(cpus: Vec<usize>) -> Vec<usize> {
    if fs::read_to_string("/sys/devices/system/cpu/smt/active").is_ok_and(|it| it.trim() == "0") {
        return cpus;
    }
    let mut seen = BTreeSet::new();
    let first_of_core = |cpu: &usize| {
        let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
        fs::read_to_string(path).map_or(true, |siblings| seen.insert(siblings))
    };
    cpus.into_iter().filter(first_of_core).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_core_and_a_thread_for_it() {
        assert!(!cores().is_empty());
        assert!((1..=cores().len()).contains(&default_threads()));
    }

    #[test]
    fn a_pinned_thread_can_be_let_go() {
        let (before, threads) = (affinity(), default_threads());
        pin(cores()[0]);
        assert_eq!(cpus(&affinity()), [cores()[0]]);
        assert_eq!(default_threads(), threads);
        set_affinity(&before);
        assert_eq!(cpus(&affinity()), cpus(&before));
    }
}
