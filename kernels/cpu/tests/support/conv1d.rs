//! Checks of `conv1d`: windows of all widths, steps shorter and longer than they, ragged channels.

use super::{Random, compare, find, outputs};
use kernels_cpu::Kernel;

pub(crate) fn conv1d(kernels: &'static [Kernel]) -> f64 {
    let mut worst = 0.0;
    for (index, width) in [1, 2, 4, 5, 8, 11, 17].into_iter().enumerate() {
        for s in [1, 2, 4, 37] {
            for c in [5, 16, 40 + 50 * index] {
                check(kernels, (s, c, width), &mut worst);
            }
        }
    }
    check(kernels, (0, 7, 3), &mut worst);
    worst
}

/// Runs one step on a random state. Outputs and state are rows of one matrix.
fn check(kernels: &'static [Kernel], (s, c, width): (usize, usize, usize), worst: &mut f64) {
    let mut random = Random::new((s * 100 + c * 10 + width) as u64);
    let mut before = vec![f32::NAN; s * c];
    before.extend(random.floats(width * c));
    let (x, w, b) = (random.floats(s * c), random.floats(c * width), random.floats(c));
    let got = outputs(find(kernels, "conv1d"), &before, (s + width, c, c), |out| {
        let state = out[s * c..].as_mut_ptr() as u64;
        let [x, w, b] = [&x, &w, &b].map(|it| it.as_ptr() as u64);
        vec![out.as_mut_ptr() as u64, x, w, b, state, s as u64, c as u64, width as u64]
    });
    let inputs: Vec<f32> = before[s * c..].iter().chain(&x).copied().collect();
    for (row, channel) in (0..s).flat_map(|row| (0..c).map(move |channel| (row, channel))) {
        let product = |tap: usize| {
            let input = inputs[(row + 1 + tap) * c + channel];
            f64::from(input) * f64::from(w[channel * width + tap])
        };
        let bias = f64::from(b[channel]);
        let (sum, scale) = (0..width)
            .map(product)
            .fold((bias, bias.abs()), |(sum, all), it| (sum + it, all + it.abs()));
        let what = format!("conv1d {s}x{c}, {width} wide, at ({row}, {channel})");
        compare(worst, 16.0, got[row * c + channel], sum, scale, &what);
    }
    assert_eq!(got[s * c..], inputs[s * c..], "conv1d: the state holds the last inputs");
}
