//! What the machine itself can do: the measure of what a model reaches.

#![expect(unsafe_code, reason = "the arithmetic peak is that of vector instructions")]

use std::fs;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::pool::Pool;

/// Seconds that `work` takes.
pub(crate) fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

/// The middle one, or the mean of the middle two; 0 of none.
pub(crate) fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => sorted[middle],
        _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}

/// Bytes a second at which the threads can read `bytes`, each its own part from front to back. Read
/// are the weights themselves, as often as it takes to forget how the threads were woken up.
pub(crate) fn bandwidth(pool: &mut Pool, bytes: &[u8]) -> f64 {
    const PASSES: usize = 3;
    let time = seconds(|| {
        pool.run(&|thread, threads| {
            let at = |thread: usize| bytes.len() / threads * thread;
            for _ in 0..PASSES {
                black_box(fold(black_box(&bytes[at(thread)..at(thread + 1)])));
            }
        });
    });
    (PASSES * bytes.len()) as f64 / time
}

/// Touches every byte, in enough independent chains to wait for nothing but memory.
fn fold(bytes: &[u8]) -> [u64; 16] {
    let mut lanes = [0; 16];
    let (blocks, _) = bytes.as_chunks::<128>();
    for block in blocks {
        let (words, _) = block.as_chunks::<8>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane ^= u64::from_ne_bytes(*word);
        }
    }
    lanes
}

/// Floating-point operations a second, in `f32`, that the threads can do on what is in registers.
pub(crate) fn arithmetic_peak(pool: &mut Pool) -> f64 {
    const ROUNDS: u64 = 2_000_000;
    let flops = AtomicU64::new(0);
    let time = seconds(|| {
        pool.run(&|_, _| {
            flops.fetch_add(multiply_add(ROUNDS), Ordering::Relaxed);
        });
    });
    flops.into_inner() as f64 / time
}

/// Multiplies and adds for a while; how many operations that were.
fn multiply_add(rounds: u64) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the CPU has the instructions.
        return unsafe { wide::avx512(rounds) };
    } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the CPU has the instructions.
        return unsafe { wide::avx2(rounds) };
    }
    let mut sums = [0.0f32; 64];
    for _ in 0..rounds / 4 {
        sums.iter_mut().for_each(|it| *it = *it * 0.5 + 1.0);
    }
    black_box(sums);
    2 * 64 * (rounds / 4)
}

#[cfg(target_arch = "x86_64")]
mod wide {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    /// Enough to keep two units of a latency of four or five busy.
    const CHAINS: usize = 12;

    #[target_feature(enable = "avx512f")]
    pub(super) fn avx512(rounds: u64) -> u64 {
        let (half, one) = (_mm512_set1_ps(0.5), _mm512_set1_ps(1.0));
        let mut sums = [one; CHAINS];
        for _ in 0..rounds {
            sums.iter_mut().for_each(|it| *it = _mm512_fmadd_ps(*it, half, one));
        }
        black_box(sums);
        2 * 16 * CHAINS as u64 * rounds
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn avx2(rounds: u64) -> u64 {
        let (half, one) = (_mm256_set1_ps(0.5), _mm256_set1_ps(1.0));
        let mut sums = [one; CHAINS];
        for _ in 0..rounds {
            sums.iter_mut().for_each(|it| *it = _mm256_fmadd_ps(*it, half, one));
        }
        black_box(sums);
        2 * 8 * CHAINS as u64 * rounds
    }
}

/// Where the cores of the first two threads lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Placement {
    /// Nanoseconds that a cache line takes from one to the other.
    pub(crate) nanoseconds: f64,
}

impl Placement {
    /// Cores under one last-level cache take 20 to 40 ns, others 100 and more. `None` with fewer
    /// than two threads.
    pub(crate) fn measure(pool: &mut Pool) -> Option<Placement> {
        const TURNS: u64 = 1000;
        if pool.threads() < 2 {
            return None;
        }
        let batch = || {
            let turn = AtomicU64::new(0);
            let time = seconds(|| pool.run(&|thread, _| play(&turn, thread as u64, TURNS)));
            time * 1e9 / TURNS as f64
        };
        let batches: Vec<f64> = std::iter::repeat_with(batch).take(25).collect();
        Some(Placement { nanoseconds: median(&batches) })
    }

    /// In words.
    pub(crate) fn name(self) -> &'static str {
        if self.nanoseconds < 70.0 { "same cache" } else { "apart" }
    }
}

/// The first two threads increment in turns.
fn play(turn: &AtomicU64, thread: u64, turns: u64) {
    let mut mine = thread;
    while thread < 2 && mine < turns {
        if turn.load(Ordering::Acquire) == mine {
            turn.store(mine + 1, Ordering::Release);
            mine += 2;
        } else {
            std::hint::spin_loop();
        }
    }
}

/// The most memory that this process ever had resident, in bytes.
pub(crate) fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn the_machine_can_do_something() {
        let mut pool = Pool::new(Some(2)).unwrap();
        assert!(1e6 < bandwidth(&mut pool, &vec![1; 1 << 20]));
        assert!(1e6 < arithmetic_peak(&mut pool));
        assert!(Placement::measure(&mut pool).is_some_and(|it| 0.0 < it.nanoseconds));
        assert!(1 << 20 < peak_memory().unwrap());
    }
}
