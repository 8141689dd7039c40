//! Second moments of what weights are multiplied with: which errors of a weight make up for each
//! other.

use std::sync::Mutex;

/// Positions that are added at a time.
const POSITIONS: usize = 8;
/// Rows of sums that are added to at a time: what is read of the positions serves all of them.
const ROWS: usize = 4;

/// Sums over positions of the products of any two of so many numbers.
#[derive(Clone, Debug)]
pub(super) struct Moments {
    columns: usize,
    /// Row by row, of which there are whole [`ROWS`]; those up to the diagonal count.
    sums: Vec<f32>,
}

impl Moments {
    /// Of no positions yet.
    pub(super) fn new(columns: usize) -> Moments {
        Moments { columns, sums: vec![0.0; columns.next_multiple_of(ROWS) * columns] }
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
            for (i, sums) in self.sums.chunks_exact_mut(ROWS * n).enumerate() {
                let (first, second) = eight.split_at(POSITIONS / 2 * n);
                add_products(sums, first, n, i * ROWS);
                add_products(sums, second, n, i * ROWS);
            }
        }
    }
}

/// Adds to [`ROWS`] rows of sums, the first of which is that of number `first`, the products of
/// these numbers at each of four positions with the numbers up to the last of them.
fn add_products(sums: &mut [f32], positions: &[f32], columns: usize, first: usize) {
    let len = (first + ROWS).min(columns);
    let [a, b, c, d] = [0, 1, 2, 3].map(|at| &positions[at * columns..][..len]);
    // Rows that only fill up the last ones have no numbers.
    let of_row = |i: usize| [a, b, c, d].map(|it| it.get(first + i).copied().unwrap_or(0.0));
    let factors = [0, 1, 2, 3].map(of_row);
    let (front, back) = sums.split_at_mut(2 * columns);
    let ((r, s), (t, u)) = (front.split_at_mut(columns), back.split_at_mut(columns));
    let [r, s, t, u] = [r, s, t, u].map(|it| &mut it[..len]);
    for j in 0..len {
        let sum = |f: [f32; 4]| (f[0] * a[j] + f[1] * b[j]) + (f[2] * c[j] + f[3] * d[j]);
        r[j] += sum(factors[0]);
        s[j] += sum(factors[1]);
        t[j] += sum(factors[2]);
        u[j] += sum(factors[3]);
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
        for n in [1, 3, 4, 6] {
            let positions: Vec<f32> = (0..11 * n).map(|it| (it % 7) as f32).collect();
            let mut moments = Moments::new(n);
            moments.add(&positions);
            for (i, j) in (0..n).flat_map(|i| (0..n).map(move |j| (i, j))) {
                let wanted: f32 = positions.chunks(n).map(|it| it[i] * it[j]).sum();
                assert_eq!(moments.at(i, j), wanted, "{i} {j} of {n}");
            }
        }
    }
}
