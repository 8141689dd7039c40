//! Second moments of what weights are multiplied with: which errors of a weight make up for each
//! other.

use std::sync::Mutex;

/// Positions that are added at a time.
const POSITIONS: usize = 8;

/// Sums over positions of the products of any two of so many numbers.
#[derive(Clone, Debug)]
pub(super) struct Moments {
    columns: usize,
    /// Row by row; only those up to the diagonal are kept.
    sums: Vec<f32>,
}

impl Moments {
    /// Of no positions yet.
    pub(super) fn new(columns: usize) -> Moments {
        Moments { columns, sums: vec![0.0; columns * columns] }
    }

    /// Bytes that those of so many columns take.
    pub(super) fn bytes(columns: usize) -> usize {
        columns.saturating_mul(columns).saturating_mul(4)
    }

    /// How many numbers there are at a position.
    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// The sum of the products of two of them.
    pub(super) fn at(&self, i: usize, j: usize) -> f32 {
        self.sums[i.max(j) * self.columns + i.min(j)]
    }

    /// Adds positions that follow each other.
    pub(super) fn add(&mut self, positions: &[f32]) {
        let n = self.columns;
        for eight in positions.chunks(POSITIONS * n) {
            let mut padded = Vec::new();
            let eight = if eight.len() == POSITIONS * n {
                eight
            } else {
                padded.extend_from_slice(eight);
                padded.resize(POSITIONS * n, 0.0);
                &padded
            };
            for (i, sums) in self.sums.chunks_exact_mut(n).enumerate() {
                add_products(&mut sums[..=i], eight, n, i);
            }
        }
    }
}

/// Adds to `sums` the products of number `i` of each position with the numbers up to it.
fn add_products(sums: &mut [f32], positions: &[f32], columns: usize, i: usize) {
    let len = sums.len();
    let row = |at: usize| &positions[at * columns..][..len];
    for half in [0, POSITIONS / 2] {
        let [a, b, c, d] = [half, half + 1, half + 2, half + 3].map(row);
        let [fa, fb, fc, fd] = [a[i], b[i], c[i], d[i]];
        for j in 0..len {
            sums[j] += (fa * a[j] + fb * b[j]) + (fc * c[j] + fd * d[j]);
        }
    }
}

/// Adds what a step gave to each, on all cores.
pub(super) fn add_all(work: Vec<(&mut Moments, &[f32])>) {
    in_parallel(work, |(moments, positions)| moments.add(positions));
}

/// Does `what` to each of `work`, on all cores.
pub(super) fn in_parallel<T: Send>(work: Vec<T>, what: impl Fn(T) + Sync) {
    let work = Mutex::new(work);
    std::thread::scope(|threads| {
        for _ in 0..runtime::default_threads() {
            threads.spawn(|| {
                while let Some(it) = work.lock().ok().and_then(|mut it| it.pop()) {
                    what(it);
                }
            });
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_summed_over_positions() {
        let positions: Vec<f32> = (0..11 * 3).map(|it| (it % 7) as f32).collect();
        let mut moments = Moments::new(3);
        moments.add(&positions);
        for i in 0..3 {
            for j in 0..3 {
                let wanted: f32 = positions.chunks(3).map(|it| it[i] * it[j]).sum();
                assert_eq!(moments.at(i, j), wanted);
            }
        }
    }
}
