//! Speed of the kernels on the shapes of a small language model (SmolLM2-135M), against what this
//! machine can do: `cargo run --release -p kernels-cpu --example bench`. Best of several runs.
#![expect(clippy::print_stdout, reason = "the figures are the purpose")]
#![expect(unsafe_code, reason = "kernels are called")]

#[path = "../tests/support/mod.rs"]
#[expect(dead_code, reason = "only its problems are used here")]
mod support;

use ir::DType;
use kernels_cpu::{Isa, Kernel, kernels_for, pack};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use support::{Random, find, lines, weights, words};

const THREADS: u64 = 2;

/// Seconds that `work(thread)` takes on all threads, best of `repeats`.
fn best(repeats: u64, work: impl Fn(u64) + Sync) -> f64 {
    let arrived = AtomicU64::new(0);
    let wait = |round: u64| {
        arrived.fetch_add(1, Ordering::AcqRel);
        while arrived.load(Ordering::Acquire) < round * THREADS {
            std::hint::spin_loop();
        }
    };
    let run = |thread| {
        (1..=repeats).fold(f64::INFINITY, |best, repeat| {
            wait(2 * repeat - 1);
            let start = Instant::now();
            work(thread);
            wait(2 * repeat);
            best.min(start.elapsed().as_secs_f64())
        })
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..THREADS).map(|it| scope.spawn(move || run(it))).collect();
        others.into_iter().map(|it| it.join().unwrap()).fold(run(0), f64::min)
    })
}

/// What the machine can do.
struct Peak {
    flops: f64,
    bytes: f64,
}

fn measure_peak() -> Peak {
    let data = vec![1_u64; 128 << 17];
    let sum = |thread: u64| {
        let share = data.len() / THREADS as usize;
        let mine = &data[share * thread as usize..][..share];
        let mut sums = [0_u64; 16];
        for line in mine.as_chunks::<16>().0 {
            for (sum, word) in sums.iter_mut().zip(line) {
                *sum = sum.wrapping_add(*word);
            }
        }
        std::hint::black_box(sums);
    };
    let bytes = size_of_val(&data[..]) as f64 / best(10, sum);
    const ROUNDS: u64 = 1_000_000;
    let flops = best(10, |_| unsafe { multiply_add(ROUNDS) });
    Peak { flops: (ROUNDS * THREADS * 12 * 8 * 2) as f64 / flops, bytes }
}

/// Twelve independent chains of multiply-adds of eight lanes.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn multiply_add(rounds: u64) {
    use std::arch::x86_64::*;
    let (a, b) = (_mm256_set1_ps(0.5), std::hint::black_box(_mm256_set1_ps(1.0)));
    let mut sums = [b; 12];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm256_fmadd_ps(*sum, a, b);
        }
    }
    std::hint::black_box(sums);
}

#[cfg(not(target_arch = "x86_64"))]
unsafe fn multiply_add(rounds: u64) {
    let (a, b) = (0.5, std::hint::black_box(1.0_f32));
    let mut sums = [b; 12 * 8];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = *sum * a + b;
        }
    }
    std::hint::black_box(sums);
}

/// Best seconds of a kernel.
fn time(kernel: &Kernel, args: &[u64], repeats: u64) -> f64 {
    let (words, _scratch) = words(kernel, args, THREADS);
    best(repeats, |thread| unsafe {
        (kernel.run)(words[thread as usize].as_ptr(), thread, THREADS);
    })
}

/// Packed tables that are used in turn, so that together they do not stay in a cache.
fn matmul(kernels: &'static [Kernel], peak: &Peak, dtype: DType, (m, n, k): (usize, usize, usize)) {
    let (bytes, _) = weights(&mut Random::new(1), dtype, n, k);
    let size = pack::packed_bytes(dtype, n, k).unwrap();
    let copies = if m <= 128 { (64_usize << 20).div_ceil(size) } else { 1 };
    let mut packed = lines(size * copies);
    let packed =
        unsafe { std::slice::from_raw_parts_mut(packed.as_mut_ptr().cast::<u8>(), size * copies) };
    let start = Instant::now();
    packed.chunks_exact_mut(size).for_each(|it| pack::pack(dtype, n, k, &bytes, it).unwrap());
    let packing = (size * copies) as f64 / start.elapsed().as_secs_f64();
    let (x, y) = (vec![1.0_f32; m * k], vec![0.0_f32; m * n]);
    let kernel = find(kernels, "matmul");
    let words = |copy: usize| {
        let (y, x, w) =
            (y.as_ptr() as u64, x.as_ptr() as u64, packed[copy * size..].as_ptr() as u64);
        let [m, n, k] = [m, n, k].map(|it| it as u64);
        vec![x, k, m, k, 1, 0, y, n, 0, 0, 1, 0, w, dtype as u64, n]
    };
    let args: Vec<_> = (0..copies).map(words).collect();
    let seconds = all_in_turn(kernel, &args, if copies == 1 { 40 } else { 15 });
    let (flops, stream) = ((2 * m * n * k) as f64 / seconds, size as f64 / seconds);
    println!(
        "  {:5} {m:3} x {n:5} x {k:4}  {:9.1} us  {:6.1} GFLOP/s {:3.0} %  {:5.1} GB/s {:3.0} %  packing {:4.1} GB/s",
        dtype.name(),
        seconds * 1e6,
        flops / 1e9,
        100.0 * flops / peak.flops,
        stream / 1e9,
        100.0 * stream / peak.bytes,
        packing / 1e9,
    );
}

/// With keys and values of `bytes` each.
fn attention(kernels: &'static [Kernel], peak: &Peak, s: u64, t: u64, bytes: u64) {
    let (heads, group, p) = (3, 3, 64);
    let mut random = Random::new(1);
    let q = random.floats((s * heads * group * p) as usize);
    let (k, out) = (random.floats((t * heads * p) as usize), q.clone());
    let words = [out.as_ptr(), q.as_ptr(), k.as_ptr()].map(|it| it as u64);
    let (row, cache) = (heads * group * p, heads * p);
    let args = vec![
        words[0],
        row,
        words[1],
        row,
        words[2],
        cache,
        p,
        words[2],
        cache,
        p,
        s,
        t,
        heads,
        group,
        p,
        p,
        0.125_f64.to_bits(),
        1,
        0,
        u64::from(bytes == 2),
        0,
    ];
    let seconds = time(find(kernels, "attention"), &args, 50);
    let seen = s * t - s * (s - 1) / 2;
    let flops = (4 * heads * group * p * seen) as f64 / seconds;
    println!(
        "  attention s = {s}, t = {t}, {bytes} bytes: {:.1} us  {:.1} GFLOP/s of what is seen, {:.0} %; cache {:.1} GB/s",
        seconds * 1e6,
        flops / 1e9,
        100.0 * flops / peak.flops,
        (2 * bytes * t * heads * p) as f64 / seconds / 1e9,
    );
}

/// Convolutions, of which each has its own memory, so that together they do not stay in a cache.
fn conv1d(kernels: &'static [Kernel], peak: &Peak, s: usize) {
    let (c, width) = (12288, 4);
    let floats = 2 * s * c + 2 * width * c + c;
    let memory = vec![0.5_f32; floats * (16_usize << 20).div_ceil(floats)];
    let copies: Vec<Vec<u64>> = memory
        .chunks_exact(floats)
        .map(|it| {
            let at = |floats: usize| it[floats..].as_ptr() as u64;
            let (y, x, w) = (at(0), at(s * c), at(2 * s * c));
            let (b, state) = (at(2 * s * c + width * c), at(2 * s * c + (width + 1) * c));
            vec![y, x, w, b, state, s as u64, c as u64, width as u64]
        })
        .collect();
    let seconds = all_in_turn(find(kernels, "conv1d"), &copies, 10);
    let stream = (4 * (2 * s + 3 * width) * c) as f64 / seconds;
    println!(
        "  conv1d s = {s}: {:.1} us  {:.1} GB/s {:.0} %",
        seconds * 1e6,
        stream / 1e9,
        100.0 * stream / peak.bytes
    );
}

/// The recurrence of a Mamba-2 layer of Nemotron Nano 2 9B.
fn ssd(kernels: &'static [Kernel], peak: &Peak, s: usize) {
    let (groups, heads, d, n) = (8, 16, 80, 128);
    let (row, shared, all) = (groups * heads * d, groups * n, groups * heads);
    let copies = if s == 1 { 12 } else { 1 };
    let mut random = Random::new(1);
    let [x, b, c] = [s * row, s * shared, s * shared].map(|it| random.floats(it));
    let (y, dt, a) = (x.clone(), vec![0.05_f32; s * all], vec![-1.0_f32; all]);
    let state = vec![0.5_f32; copies * row * n];
    let kernel = find(kernels, "ssd");
    let args: Vec<Vec<u64>> = state
        .chunks_exact(row * n)
        .map(|state| {
            let mut args = [&y, &x, &dt, &a, &b, &c].map(|it| it.as_ptr() as u64).to_vec();
            args.push(state.as_ptr() as u64);
            args.extend([s, groups, heads, d, n, 0].map(|it| it as u64));
            args
        })
        .collect();
    let seconds = all_in_turn(kernel, &args, 10);
    let (flops, stream) = ((5 * s * row * n) as f64 / seconds, (8 * row * n) as f64 / seconds);
    println!(
        "  ssd s = {s}: {:.1} us  {:.1} GFLOP/s of the recurrence, {:.0} %; state {:.1} GB/s {:.0} %",
        seconds * 1e6,
        flops / 1e9,
        100.0 * flops / peak.flops,
        stream / 1e9,
        100.0 * stream / peak.bytes
    );
}

/// Best seconds of a call, when calls with these words follow each other.
fn all_in_turn(kernel: &Kernel, args: &[Vec<u64>], repeats: u64) -> f64 {
    let calls: Vec<_> = args.iter().map(|it| words(kernel, it, THREADS)).collect();
    let seconds = best(repeats, |thread| {
        for (words, _) in &calls {
            unsafe { (kernel.run)(words[thread as usize].as_ptr(), thread, THREADS) };
        }
    });
    seconds / args.len() as f64
}

fn main() {
    let peak = measure_peak();
    println!(
        "{THREADS} threads; 256-bit multiply-add {:.1} GFLOP/s, reading memory {:.1} GB/s",
        peak.flops / 1e9,
        peak.bytes / 1e9
    );
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    for isa in Isa::ALL {
        let Some(kernels) = kernels_for(isa) else { continue };
        println!("{isa:?}");
        for dtype in [DType::Q4_1, DType::Q8_0, DType::F32, DType::BF16, DType::Q4K] {
            if !wanted.is_empty() && !wanted.iter().any(|it| it == dtype.name()) {
                continue;
            }
            let widths = if dtype == DType::Q4K { [512, 1536] } else { [576, 1536] };
            for m in [1, 2, 4, 8, 128, 512] {
                for (n, k) in [(1536, widths[0]), (576, widths[1]), (49152, widths[0])] {
                    if n < 40000 || m < 128 {
                        matmul(kernels, &peak, dtype, (m, n, k));
                    }
                }
            }
        }
        for bytes in [4, 2] {
            attention(kernels, &peak, 512, 512, bytes);
            attention(kernels, &peak, 1, 512, bytes);
            attention(kernels, &peak, 1, 8192, bytes);
        }
        conv1d(kernels, &peak, 1);
        conv1d(kernels, &peak, 512);
        for s in [1, 4, 8, 16, 32, 64, 512] {
            ssd(kernels, &peak, s);
        }
    }
}
