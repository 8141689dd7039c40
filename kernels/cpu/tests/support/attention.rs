//! Checks of `attention`: prompts, continued prompts and single tokens, masks and odd sizes.

use super::{Random, compare, find, outputs};
use kernels_cpu::Kernel;
use std::ops::Range;

#[derive(Clone, Copy, Debug)]
struct Problem {
    s: usize,
    t: usize,
    heads: usize,
    group: usize,
    p: usize,
    pv: usize,
    causal: bool,
    window: usize,
}

impl Problem {
    fn keys(&self, i: usize) -> Range<usize> {
        let position = (self.t + i) as i64 - self.s as i64;
        let end = if self.causal { position + 1 } else { self.t as i64 };
        let start = if self.window == 0 { 0 } else { position + 1 - self.window as i64 };
        start.clamp(0, end.max(0)) as usize..end.max(0) as usize
    }
}

const PROBLEMS: [Problem; 14] = {
    let base = Problem { s: 1, t: 1, heads: 3, group: 3, p: 64, pv: 64, causal: true, window: 0 };
    [
        base,
        Problem { t: 300, ..base },
        Problem { t: 300, window: 37, ..base },
        Problem { t: 129, heads: 2, group: 7, p: 33, pv: 20, ..base },
        Problem { t: 40, heads: 5, group: 1, p: 16, pv: 8, causal: false, ..base },
        Problem { t: 200, heads: 1, group: 4, p: 128, pv: 128, ..base },
        Problem { s: 2, t: 2, ..base },
        Problem { s: 7, t: 200, ..base },
        Problem { s: 100, t: 100, ..base },
        Problem { s: 150, t: 170, heads: 2, group: 2, p: 40, pv: 24, ..base },
        Problem { s: 300, t: 300, heads: 1, window: 50, ..base },
        Problem { s: 60, t: 260, heads: 2, group: 1, causal: false, ..base },
        Problem { s: 3, t: 9, heads: 1, group: 100, p: 5, pv: 3, ..base },
        // The first two queries come before the first key.
        Problem { s: 5, t: 3, ..base },
    ]
};

pub(crate) fn attention(kernels: &'static [Kernel]) -> f64 {
    PROBLEMS.iter().enumerate().fold(0.0, |worst: f64, (index, problem)| {
        // Both orders of a cache: by position, and by head.
        (0..3)
            .fold(worst, |worst, stored| worst.max(check(kernels, problem, index % 2 == 0, stored)))
    })
}

/// Numbers up to `most` in the type that the word `stored` means, with their bytes.
fn cache(random: &mut Random, count: usize, most: f32, stored: u64) -> (Vec<u8>, Vec<f32>) {
    let mut bytes = Vec::new();
    let mut value = |it: f32| match stored {
        0 => {
            bytes.extend(it.to_ne_bytes());
            it
        }
        1 => {
            bytes.extend(half::f16::from_f32(it).to_ne_bytes());
            half::f16::from_f32(it).to_f32()
        }
        _ => {
            bytes.extend(half::bf16::from_f32(it).to_ne_bytes());
            half::bf16::from_f32(it).to_f32()
        }
    };
    let values = random.floats(count).iter().map(|it| value(it * most)).collect();
    (bytes, values)
}

fn check(kernels: &'static [Kernel], problem: &Problem, by_position: bool, stored: u64) -> f64 {
    let Problem { s, t, heads, group, p, pv, causal, window } = *problem;
    let mut random = Random::new((s * 7 + t) as u64);
    let q_stride = heads * group * p + 4;
    let out_stride = heads * group * pv + 6;
    let strides =
        |width: usize| if by_position { (heads * width, width) } else { (width, t * width) };
    let ((k_stride, k_head), (v_stride, v_head)) = (strides(p), strides(pv));
    let (_, q) = cache(&mut random, s * q_stride, 3.0, 0);
    let (k_bytes, k) = cache(&mut random, t * heads * p, 3.0, stored);
    let (v_bytes, v) = cache(&mut random, t * heads * pv, 1.0, stored);
    let scale = 1.0 / (p as f64).sqrt();
    let before = vec![f32::NAN; s * out_stride];
    let shape = (s, heads * group * pv, out_stride);
    let got = outputs(find(kernels, "attention"), &before, shape, |out| {
        let (out, q) = (out.as_ptr() as u64, q.as_ptr() as u64);
        let (k, v) = (k_bytes.as_ptr() as u64, v_bytes.as_ptr() as u64);
        let mut args = vec![out, out_stride as u64, q, q_stride as u64, k, k_stride as u64];
        args.extend([k_head as u64, v, v_stride as u64, v_head as u64]);
        args.extend([s, t, heads, group, p, pv].map(|it| it as u64));
        args.extend([scale.to_bits(), u64::from(causal), window as u64, stored, 0]);
        args
    });
    let mut worst = 0.0;
    for (i, head) in (0..s).flat_map(|i| (0..heads * group).map(move |head| (i, head))) {
        let keys = problem.keys(i);
        let (kv, q) = (head / group, &q[i * q_stride + head * p..][..p]);
        let score = |j: usize| -> f64 {
            let k = &k[j * k_stride + kv * k_head..][..p];
            q.iter().zip(k).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum::<f64>() * scale
        };
        let scores: Vec<f64> = keys.clone().map(score).collect();
        let most = scores.iter().fold(f64::NEG_INFINITY, |a, b| a.max(*b));
        let weights: Vec<f64> = scores.iter().map(|it| (it - most).exp()).collect();
        let total: f64 = weights.iter().sum::<f64>().max(1e-30);
        for c in 0..pv {
            let value = |j: usize| f64::from(v[j * v_stride + kv * v_head + c]);
            let products = keys.clone().zip(&weights).map(|(j, w)| w / total * value(j));
            let (sum, scale) =
                products.fold((0.0, 1e-3), |(sum, all), it| (sum + it, all + it.abs()));
            let got = got[i * out_stride + head * pv + c];
            let what = format!("{problem:?}, stored as {stored}, at {i}, {head}, {c}");
            compare(&mut worst, 32.0, got, sum, scale, &what);
        }
    }
    worst
}
