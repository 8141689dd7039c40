//! The recurrence of Mamba-2 (Dao and Gu 2024): for each position in turn, and each head,
//! `state = state * exp(dt a) + (x dt) b^T`, then `y = state c`.
//!
//! `x[s, groups, heads, d]`, `dt[s, groups, heads]`, `a[groups, heads]`, `b[s, groups, n]` and
//! `c[s, groups, n]`, which the heads of a group share, `y` as `x`, and `state[groups, heads, d,
//! n]`, which is read and written. `dt >= 0` and `a <= 0`, so that nothing grows.
#![expect(unsafe_code, reason = "operands are raw pointers given by the caller of a kernel")]

mod prompt;
mod token;

use crate::simd::Simd;

pub(crate) const ARGS: &[&str] =
    &["y", "x", "dt", "a", "b", "c", "state", "s", "groups", "heads", "d", "n", "scratch"];

/// The argument words: see [`crate::Kernel`]. All are contiguous.
#[repr(C)]
#[derive(Clone, Copy)]
struct Args {
    y: *mut f32,
    x: *const f32,
    dt: *const f32,
    a: *const f32,
    b: *const f32,
    c: *const f32,
    state: *mut f32,
    s: usize,
    groups: usize,
    heads: usize,
    d: usize,
    n: usize,
    scratch: *mut f32,
}

impl Args {
    /// Where the rows `[n]` of `b` and `c` begin for a position and a group.
    fn shared(&self, position: usize, group: usize) -> usize {
        (position * self.groups + group) * self.n
    }

    /// Where the rows `[d]` of `x` and `y` begin for a position and a head of all groups.
    fn own(&self, position: usize, head: usize) -> usize {
        (position * self.groups * self.heads + head) * self.d
    }

    /// # Safety
    /// The position and the head exist.
    unsafe fn dt(&self, position: usize, head: usize) -> f32 {
        unsafe { *self.dt.add(position * self.groups * self.heads + head) }
    }
}

/// Bytes of scratch of a thread.
pub(crate) fn scratch(args: &[u64]) -> usize {
    let [d, n] = [10, 11].map(|at| args[at] as usize);
    (prompt::scratch(d, n) * size_of::<f32>()).next_multiple_of(64)
}

/// # Safety
/// `args` points to the words that [`ARGS`] names; see [`crate::Kernel::run`].
pub(crate) unsafe extern "C" fn run<S: Simd>(args: *const u64, thread: u64, threads: u64) {
    let (s, a) = unsafe { (S::assume(), *args.cast::<Args>()) };
    unsafe {
        if prompt::is_faster(a.s, a.n) {
            prompt::run(s, &a, thread, threads);
        } else {
            token::run(s, &a, thread, threads);
        }
    }
}
