//! Checks of `matmul`, for every storage format.

use super::{FORMATS, Random, compare, find, outputs, weights};
use ir::DType;
use kernels_cpu::{Kernel, pack};

/// Every way that few rows of `x` take.
pub(crate) fn few_rows(kernels: &'static [Kernel]) -> f64 {
    let problems = (1..=8).flat_map(|m| [(m, 16), (m, 33), (m, 70)]);
    check(kernels, problems.collect())
}

/// Every height of tile, blocks of rows, and ragged last panels.
pub(crate) fn many_rows(kernels: &'static [Kernel]) -> f64 {
    let problems = (9..=20).map(|m| (m, 23 + 16 * (m % 4)));
    check(kernels, problems.chain([(67, 100), (200, 50)]).collect())
}

/// Nothing to multiply: no rows, no columns, or sums of nothing.
pub(crate) fn empty(kernels: &'static [Kernel]) -> f64 {
    check_problem(kernels, DType::F32, (0, 5, 7), 0);
    check_problem(kernels, DType::F32, (5, 0, 7), 0);
    check_problem(kernels, DType::F32, (1, 5, 0), 0);
    check_problem(kernels, DType::F32, (9, 5, 0), 0)
}

fn check(kernels: &'static [Kernel], problems: Vec<(usize, usize)>) -> f64 {
    let mut worst: f64 = 0.0;
    for dtype in FORMATS {
        let depths: &[usize] = match dtype.block_len() {
            1 => &[1, 37, 160, 700],
            32 => &[32, 96, 160, 288, 672],
            _ => &[256, 512, 768],
        };
        for (index, &(m, n)) in problems.iter().enumerate() {
            let k = depths[index % depths.len()];
            worst = worst.max(check_problem(kernels, dtype, (m, n, k), index as u64 % 2));
        }
    }
    worst
}

fn check_problem(
    kernels: &'static [Kernel],
    dtype: DType,
    (m, n, k): (usize, usize, usize),
    accumulate: u64,
) -> f64 {
    let mut random = Random::new((m * 1000 + n) as u64);
    let (bytes, w) = weights(&mut random, dtype, n, k);
    let mut packed = vec![0; pack::packed_bytes(dtype, n, k).unwrap()];
    pack::pack(dtype, n, k, &bytes, &mut packed).unwrap();
    let (x_stride, y_stride) = (k + 3, n + 5);
    let x = random.floats(m * x_stride);
    let mut before = random.floats(m * y_stride);
    if accumulate == 0 {
        before.fill(f32::NAN);
    }
    let kernel = find(kernels, "matmul");
    let y = outputs(kernel, &before, (m, n, y_stride), |y| {
        let (y, x, w) = (y.as_mut_ptr() as u64, x.as_ptr() as u64, packed.as_ptr() as u64);
        let [m, n, k, x_stride, y_stride] = [m, n, k, x_stride, y_stride].map(|it| it as u64);
        vec![y, y_stride, x, x_stride, w, dtype as u64, m, n, k, accumulate]
    });
    let mut worst = 0.0;
    for (row, column) in (0..m).flat_map(|row| (0..n).map(move |column| (row, column))) {
        let products =
            (0..k).map(|i| f64::from(x[row * x_stride + i]) * f64::from(w[column * k + i]));
        let (sum, scale) = products.fold((0.0, 0.0), |(sum, all), it| (sum + it, all + it.abs()));
        let at = row * y_stride + column;
        let before = if accumulate == 0 { 0.0 } else { f64::from(before[at]) };
        let what = format!("matmul {dtype} {m}x{n}x{k} at ({row}, {column})");
        compare(&mut worst, 16.0, y[at], before + sum, before.abs() + scale, &what);
    }
    worst
}
