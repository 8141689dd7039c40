//! Checks of `ssd`: steps of one and of many positions, in one piece and in several, odd sizes.

use super::{Random, compare, find, outputs};
use kernels_cpu::Kernel;
use std::ops::Range;

/// Errors grow with the positions that a state remembers.
const LIMIT: f64 = 64.0;

#[derive(Clone, Copy, Debug)]
struct Sizes {
    s: usize,
    groups: usize,
    heads: usize,
    d: usize,
    n: usize,
}

impl Sizes {
    fn all_heads(&self) -> usize {
        self.groups * self.heads
    }

    /// Elements of a position of `y` and `x`.
    fn row(&self) -> usize {
        self.all_heads() * self.d
    }
}

const SIZES: [Sizes; 12] = {
    let base = Sizes { s: 1, groups: 2, heads: 3, d: 5, n: 7 };
    [
        base,
        Sizes { d: 16, n: 16, ..base },
        Sizes { s: 9, n: 33, ..base },
        Sizes { s: 90, n: 23, ..base },
        Sizes { s: 0, n: 16, ..base },
        Sizes { s: 16, n: 16, ..base },
        Sizes { s: 63, groups: 1, heads: 2, d: 16, n: 32 },
        Sizes { s: 64, groups: 3, heads: 1, d: 8, n: 48 },
        Sizes { s: 65, n: 16, ..base },
        Sizes { s: 150, groups: 2, heads: 4, d: 20, n: 32 },
        Sizes { s: 200, groups: 1, heads: 1, d: 1, n: 16 },
        Sizes { s: 300, groups: 1, heads: 2, d: 80, n: 128 },
    ]
};

pub(crate) fn ssd(kernels: &'static [Kernel]) -> f64 {
    let mut worst = 0.0;
    for sizes in SIZES {
        let problem = Problem::new(sizes);
        let before = problem.state.clone();
        let (y, state) = problem.run(kernels, 0..sizes.s, &before);
        problem.check(&mut worst, &y, &state);
    }
    worst
}

/// A sequence in several steps, of which each begins with the state that the one before left.
pub(crate) fn steps(kernels: &'static [Kernel]) -> f64 {
    let mut worst = 0.0;
    for sizes in [
        Sizes { s: 40, groups: 2, heads: 2, d: 20, n: 7 },
        Sizes { s: 170, groups: 2, heads: 3, d: 24, n: 32 },
    ] {
        let problem = Problem::new(sizes);
        for step in [1, 7, 70] {
            let (mut all, mut state) = (Vec::new(), problem.state.clone());
            for from in (0..sizes.s).step_by(step) {
                let positions = from..(from + step).min(sizes.s);
                let (y, after) = problem.run(kernels, positions, &state);
                all.extend(y);
                state = after;
            }
            problem.check(&mut worst, &all, &state);
        }
    }
    worst
}

struct Problem {
    sizes: Sizes,
    x: Vec<f32>,
    dt: Vec<f32>,
    a: Vec<f32>,
    b: Vec<f32>,
    c: Vec<f32>,
    state: Vec<f32>,
}

impl Problem {
    fn new(sizes: Sizes) -> Problem {
        let mut random = Random::new((sizes.s * 100 + sizes.n) as u64);
        let (s, all, shared) = (sizes.s, sizes.all_heads(), sizes.groups * sizes.n);
        let mut between = |count, least: f32, most: f32| -> Vec<f32> {
            let floats = random.floats(count);
            floats.iter().map(|it| least + (it + 1.0) / 2.0 * (most - least)).collect()
        };
        // From states that remember everything to such that forget at once.
        let rates = between(all, -4.0, 4.0).iter().map(|it| -it.exp()).collect();
        Problem {
            sizes,
            x: between(s * sizes.row(), -1.0, 1.0),
            dt: between(s * all, 0.0, 0.5),
            a: rates,
            b: between(s * shared, -1.0, 1.0),
            c: between(s * shared, -1.0, 1.0),
            state: between(sizes.row() * sizes.n, -1.0, 1.0),
        }
    }

    /// The kernel on some positions, from a state on; gives outputs and the state after them.
    fn run(
        &self,
        kernels: &'static [Kernel],
        positions: Range<usize>,
        state: &[f32],
    ) -> (Vec<f32>, Vec<f32>) {
        let Sizes { groups, heads, d, n, .. } = self.sizes;
        let count = positions.len() * self.sizes.row();
        let mut before = vec![f32::NAN; count];
        before.extend(state);
        let shape = (1, before.len(), before.len());
        let mut out = outputs(find(kernels, "ssd"), &before, shape, |out| {
            let from = |of: &[f32], row: usize| of[positions.start * row..].as_ptr() as u64;
            let state = out[count..].as_mut_ptr() as u64;
            let x = from(&self.x, self.sizes.row());
            let dt = from(&self.dt, self.sizes.all_heads());
            let [b, c] = [&self.b, &self.c].map(|it| from(it, groups * n));
            let mut args = vec![out.as_mut_ptr() as u64, x, dt, self.a.as_ptr() as u64, b, c];
            args.push(state);
            args.extend([positions.len(), groups, heads, d, n, 0].map(|it| it as u64));
            args
        });
        let state = out.split_off(count);
        (out, state)
    }

    /// Compares all outputs and the last state with the recurrence.
    fn check(&self, worst: &mut f64, y: &[f32], state: &[f32]) {
        let sizes = self.sizes;
        for row in 0..sizes.row() {
            let mut want: Vec<[f64; 2]> = self.state[row * sizes.n..][..sizes.n]
                .iter()
                .map(|it| [f64::from(*it), f64::from(it.abs())])
                .collect();
            for position in 0..sizes.s {
                let [sum, scale] = self.step(row, position, &mut want);
                let got = y[position * sizes.row() + row];
                let what = format!("ssd {sizes:?} at {position}, {row}");
                compare(worst, LIMIT, got, sum, scale, &what);
            }
            for (at, [want, scale]) in want.into_iter().enumerate() {
                let what = format!("ssd {sizes:?}, state {row}, {at}");
                compare(worst, LIMIT, state[row * sizes.n + at], want, scale, &what);
            }
        }
    }

    /// The recurrence for a row, with the magnitudes that were added up.
    fn step(&self, row: usize, position: usize, state: &mut [[f64; 2]]) -> [f64; 2] {
        let sizes = self.sizes;
        let head = row / sizes.d;
        let shared = (position * sizes.groups + head / sizes.heads) * sizes.n;
        let dt = f64::from(self.dt[position * sizes.all_heads() + head]);
        let decay = (dt * f64::from(self.a[head])).exp();
        let x = f64::from(self.x[position * sizes.row() + row]) * dt;
        let mut sums = [0.0, 0.0];
        for (at, [state, scale]) in state.iter_mut().enumerate() {
            let (b, c) = (f64::from(self.b[shared + at]), f64::from(self.c[shared + at]));
            *state = *state * decay + x * b;
            *scale = *scale * decay + (x * b).abs();
            sums = [sums[0] + *state * c, sums[1] + *scale * c.abs()];
        }
        sums
    }
}
