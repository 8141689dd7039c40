//! Checks of every kernel against a naive reference in `f64`, for one instruction set.
#![expect(unsafe_code, reason = "kernels are called")]

mod attention;
mod conv1d;
mod matmul;
mod rows;
mod ssd;

use ir::DType;
use ir::storage::{Encoding, decode, decode_rows, encode};
use kernels_cpu::Kernel;

/// A check: runs a kernel of the table on many problems and panics where it is wrong. Gives the
/// worst error, in units of `f32::EPSILON` times the sum of the magnitudes that were added up.
pub(crate) type Check = fn(&'static [Kernel]) -> f64;

/// Every check with its name.
pub(crate) const CHECKS: [(&str, Check); 15] = [
    ("matmul, few rows", matmul::few_rows),
    ("matmul, many rows", matmul::many_rows),
    ("matmul, every code", matmul::codes),
    ("matmul, empty", matmul::empty),
    ("matmul, parts", matmul::parts),
    ("matmul, tails", matmul::tails),
    ("gather", rows::gather),
    ("rms_norm", rows::rms_norm),
    ("add_norm", rows::add_norm),
    ("layer_norm", rows::layer_norm),
    ("softmax", rows::softmax),
    ("attention", attention::attention),
    ("conv1d", conv1d::conv1d),
    ("ssd", ssd::ssd),
    ("ssd, in steps", ssd::steps),
];

/// Every type that weights can have.
pub(crate) const FORMATS: [DType; 17] = [
    DType::F32,
    DType::F16,
    DType::BF16,
    DType::Q4_0,
    DType::Q4_1,
    DType::Q5_0,
    DType::Q5_1,
    DType::Q8_0,
    DType::Q4K,
    DType::Q5K,
    DType::Q6K,
    DType::F8E4M3,
    DType::F8E5M2,
    DType::F8Block,
    DType::MxFp8,
    DType::MxFp4,
    DType::NvFp4,
];

/// Pseudo-random numbers (xorshift).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Evenly from -1 to 1.
    pub(crate) fn float(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub(crate) fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.float()).collect()
    }
}

/// Random weights in a storage format, with their values.
pub(crate) fn weights(
    random: &mut Random,
    dtype: DType,
    n: usize,
    k: usize,
) -> (Vec<u8>, Vec<f32>) {
    let mut values = vec![0.0; n * k];
    if let Some(encoding) = small_floats(dtype) {
        let bytes = encode(encoding, k, &random.floats(n * k)).unwrap();
        decode_rows(dtype, k, &bytes, &mut values).unwrap();
        return (bytes, values);
    }
    let mut bytes: Vec<u8> = match dtype {
        DType::F32 => random.floats(n * k).iter().flat_map(|it| it.to_le_bytes()).collect(),
        DType::BF16 => random.floats(n * k).iter().flat_map(|it| bf16(*it)).collect(),
        _ => (0..dtype.bytes(n, k).unwrap()).map(|_| random.bits() as u8).collect(),
    };
    let halves: &[usize] = match dtype {
        DType::F16 | DType::Q4_0 | DType::Q5_0 | DType::Q8_0 => &[0],
        DType::Q4_1 | DType::Q5_1 | DType::Q4K | DType::Q5K => &[0, 2],
        DType::Q6K => &[208],
        _ => &[],
    };
    for block in bytes.chunks_exact_mut(dtype.block_bytes()) {
        for &at in halves {
            block[at..at + 2].copy_from_slice(&half::f16::from_f32(random.float()).to_le_bytes());
        }
    }
    decode(dtype, &bytes, &mut values).unwrap();
    (bytes, values)
}

/// How a format of small floats is written, of which not all bytes stand for numbers.
fn small_floats(dtype: DType) -> Option<Encoding> {
    let name = match dtype {
        DType::F8E4M3 => "fp8-row",
        DType::F8E5M2 => "fp8-row-e5m2",
        DType::F8Block => "fp8-1x128",
        DType::MxFp8 | DType::MxFp4 | DType::NvFp4 => dtype.name(),
        _ => return None,
    };
    Encoding::from_name(name)
}

fn bf16(value: f32) -> [u8; 2] {
    half::bf16::from_f32(value).to_le_bytes()
}

/// Scratch in lines of 64 bytes, as kernels want it.
#[derive(Clone)]
#[repr(align(64))]
pub(crate) struct Line {
    _bytes: [u8; 64],
}

/// Scratch for so many bytes.
pub(crate) fn lines(bytes: usize) -> Vec<Line> {
    vec![Line { _bytes: [255; 64] }; bytes.div_ceil(64)]
}

/// The words of each of so many threads, with scratch filled in, and that scratch.
pub(crate) fn words(kernel: &Kernel, args: &[u64], threads: u64) -> (Vec<Vec<u64>>, Vec<Line>) {
    assert!(kernel.args.len() <= args.len());
    let bytes = kernel.scratch_bytes(args);
    let scratch = lines(bytes * threads as usize);
    let words = (0..threads).map(|thread| {
        let mut args = args.to_vec();
        if let Some(at) = kernel.args.iter().position(|it| *it == "scratch") {
            args[at] = scratch.as_ptr() as u64 + bytes as u64 * thread;
        }
        args
    });
    (words.collect(), scratch)
}

/// Runs a kernel on so many threads. A `scratch` word is filled in here.
pub(crate) fn call(kernel: &Kernel, args: &[u64], threads: u64) {
    let (words, _scratch) = words(kernel, args, threads);
    std::thread::scope(|scope| {
        for (thread, args) in (0..).zip(&words) {
            scope.spawn(move || unsafe { (kernel.run)(args.as_ptr(), thread, threads) });
        }
    });
}

pub(crate) fn find(kernels: &'static [Kernel], name: &str) -> &'static Kernel {
    kernels.iter().find(|it| it.name == name).unwrap()
}

/// Runs a kernel that writes a matrix: checks that other thread counts give the same bits, and
/// that nothing is written between the rows.
pub(crate) fn outputs(
    kernel: &Kernel,
    before: &[f32],
    (rows, columns, stride): (usize, usize, usize),
    args: impl Fn(&mut [f32]) -> Vec<u64>,
) -> Vec<f32> {
    let run = |threads| {
        let mut out = before.to_vec();
        call(kernel, &args(&mut out), threads);
        out
    };
    let out = run(1);
    for threads in [2, 3] {
        let same = run(threads).iter().zip(&out).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same, "{}: {threads} threads give other bits", kernel.name);
    }
    for (at, (before, after)) in before.iter().zip(&out).enumerate() {
        let outside = columns <= at % stride || rows <= at / stride;
        let untouched = before.to_bits() == after.to_bits();
        assert!(!outside || untouched, "{}: wrote beyond a row", kernel.name);
    }
    out
}

/// Compares with the reference; `scale` is the sum of the magnitudes behind the value.
pub(crate) fn compare(worst: &mut f64, limit: f64, got: f32, want: f64, scale: f64, what: &str) {
    let error = (f64::from(got) - want).abs() / (f64::from(f32::EPSILON) * scale.max(1e-30));
    assert!(error <= limit, "{what}: got {got}, want {want}: {error:.1} units off");
    *worst = worst.max(error);
}
