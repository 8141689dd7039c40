//! Checks of the kernels that work on rows.

use super::{FORMATS, Random, call, compare, find, outputs, weights};
use kernels_cpu::{Kernel, pack};

const WIDTHS: [usize; 6] = [1, 15, 16, 50, 96, 577];

/// Rows of a packed table are the very values of the storage format.
pub(crate) fn gather(kernels: &'static [Kernel]) -> f64 {
    let (n, k, m) = (37, 512, 11);
    for dtype in FORMATS {
        let mut random = Random::new(7);
        let (bytes, values) = weights(&mut random, dtype, n, k);
        let mut packed = vec![0; pack::packed_bytes(dtype, n, k).unwrap()];
        pack::pack(dtype, n, k, &bytes, &mut packed).unwrap();
        let index: Vec<i32> = (0..m).map(|_| (random.bits() % n as u64) as i32).collect();
        let stride = k + 2;
        let before = vec![f32::NAN; m * stride];
        let out = outputs(find(kernels, "gather"), &before, (m, k, stride), |out| {
            let (out, w, index) =
                (out.as_mut_ptr() as u64, packed.as_ptr() as u64, index.as_ptr() as u64);
            vec![out, stride as u64, w, dtype as u64, n as u64, k as u64, index, m as u64]
        });
        for (row, &index) in index.iter().enumerate() {
            let want = &values[index as usize * k..][..k];
            assert_eq!(&out[row * stride..][..k], want, "gather {dtype}");
        }
    }
    0.0
}

/// A matrix `[5, k]` with rows `k + 3` apart.
struct Matrix {
    k: usize,
    stride: usize,
    x: Vec<f32>,
}

const ROWS: usize = 5;

impl Matrix {
    fn new(random: &mut Random, k: usize) -> Matrix {
        let x = random.floats(ROWS * (k + 3)).iter().map(|it| 4.0 * it + 1.0).collect();
        Matrix { k, stride: k + 3, x }
    }

    fn row(&self, row: usize) -> Vec<f64> {
        self.x[row * self.stride..][..self.k].iter().map(|it| f64::from(*it)).collect()
    }

    /// Runs a kernel whose words are `y`, `x` with strides, then these.
    fn run(&self, kernel: &Kernel, more: &[u64]) -> Vec<f32> {
        let before = vec![f32::NAN; self.x.len()];
        outputs(kernel, &before, (ROWS, self.k, self.stride), |y| {
            let stride = self.stride as u64;
            let mut args = vec![y.as_mut_ptr() as u64, stride, self.x.as_ptr() as u64, stride];
            args.extend(more);
            args
        })
    }
}

pub(crate) fn rms_norm(kernels: &'static [Kernel]) -> f64 {
    let mut worst = 0.0;
    for k in WIDTHS {
        let mut random = Random::new(k as u64);
        let matrix = Matrix::new(&mut random, k);
        let weight = random.floats(k);
        let more = [weight.as_ptr() as u64, ROWS as u64, k as u64, 1e-5_f64.to_bits()];
        let y = matrix.run(find(kernels, "rms_norm"), &more);
        for row in 0..ROWS {
            let x = matrix.row(row);
            let square = x.iter().map(|it| it * it).sum::<f64>() / k as f64;
            for (i, x) in x.iter().enumerate() {
                let want = x / (square + 1e-5).sqrt() * f64::from(weight[i]);
                let got = y[row * matrix.stride + i];
                compare(&mut worst, 8.0, got, want, want.abs(), "rms_norm");
            }
        }
    }
    worst
}

/// Bit for bit the sum and then its norm, wherever the sum goes.
pub(crate) fn add_norm(kernels: &'static [Kernel]) -> f64 {
    for k in WIDTHS {
        let mut random = Random::new(k as u64);
        let [a, b] = [(); 2].map(|()| random.floats(ROWS * k));
        let weight = random.floats(k);
        let last = [weight.as_ptr() as u64, ROWS as u64, k as u64, 1e-5_f64.to_bits()];
        let sum: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
        let mut want = vec![f32::NAN; sum.len()];
        let (y, x) = (want.as_mut_ptr() as u64, sum.as_ptr() as u64);
        let words = [&[y, k as u64, x, k as u64][..], &last].concat();
        call(find(kernels, "rms_norm"), &words, 1);
        for threads in [1, 3] {
            for place in ["apart", "over a", "nowhere"] {
                let (mut a, mut y, mut apart) = (a.clone(), want.clone(), want.clone());
                y.fill(f32::NAN);
                let to = match place {
                    "apart" => apart.as_mut_ptr(),
                    "over a" => a.as_mut_ptr(),
                    _ => std::ptr::null_mut(),
                };
                let operands = [a.as_mut_ptr(), b.as_ptr().cast_mut()];
                let words = [y.as_mut_ptr(), to].into_iter().chain(operands);
                let words: Vec<u64> = words.map(|it| it as u64).chain(last).collect();
                call(find(kernels, "add_norm"), &words, threads);
                assert_eq!(y, want, "add_norm of {k}, sum {place}");
                let given = if place == "apart" { &apart } else { &a };
                assert!(place == "nowhere" || *given == sum, "add_norm of {k}, sum {place}");
            }
        }
    }
    0.0
}

pub(crate) fn layer_norm(kernels: &'static [Kernel]) -> f64 {
    let mut worst = 0.0;
    for k in WIDTHS {
        let mut random = Random::new(k as u64);
        let matrix = Matrix::new(&mut random, k);
        let (weight, bias) = (random.floats(k), random.floats(k));
        let (weights, biases) = (weight.as_ptr() as u64, bias.as_ptr() as u64);
        let more = [weights, biases, ROWS as u64, k as u64, 1e-5_f64.to_bits()];
        let y = matrix.run(find(kernels, "layer_norm"), &more);
        for row in 0..ROWS {
            let x = matrix.row(row);
            let mean = x.iter().sum::<f64>() / k as f64;
            let square = x.iter().map(|it| (it - mean).powi(2)).sum::<f64>() / k as f64;
            for (i, x) in x.iter().enumerate() {
                let scale = f64::from(weight[i]) / (square + 1e-5).sqrt();
                let want = (x - mean) * scale + f64::from(bias[i]);
                let magnitude = (x.abs() + mean.abs()) * scale.abs() + f64::from(bias[i]).abs();
                let got = y[row * matrix.stride + i];
                compare(&mut worst, 8.0, got, want, magnitude, "layer_norm");
            }
        }
    }
    worst
}

pub(crate) fn softmax(kernels: &'static [Kernel]) -> f64 {
    let mut worst = 0.0;
    for k in WIDTHS {
        let mut matrix = Matrix::new(&mut Random::new(k as u64), k);
        // Differences from none to far beyond what an exponential can show.
        for (i, x) in matrix.x.iter_mut().enumerate() {
            *x *= (i / matrix.stride * 10) as f32;
        }
        let y = matrix.run(find(kernels, "softmax"), &[ROWS as u64, k as u64]);
        for row in 0..ROWS {
            let x = matrix.row(row);
            let most = x.iter().fold(f64::NEG_INFINITY, |a, b| a.max(*b));
            let total: f64 = x.iter().map(|it| (it - most).exp()).sum();
            for (i, x) in x.iter().enumerate() {
                let want = (x - most).exp() / total;
                let got = y[row * matrix.stride + i];
                // The argument itself is rounded; below the normal numbers zero is right.
                let scale = want * (1.0 + (x - most).abs()) + f64::from(f32::MIN_POSITIVE) * 1e7;
                compare(&mut worst, 8.0, got, want, scale, "softmax");
            }
        }
    }
    worst
}
