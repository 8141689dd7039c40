//! Rounding that makes up for its own errors: what a matrix gives for a text changes least, and not
//! each of its numbers by itself.
//!
//! With `h` the second moments of what the matrix is multiplied with, the error of a row `e` costs
//! `e h e'`. Of `h = u d u'` with `u` unit upper triangular, that is the sum of `d[k]` times the
//! squares of `e[k] + sum over j < k of e[j] u[j][k]`. Columns are rounded one after the other,
//! each to the number nearest to the weight plus that sum (GPTQ, arXiv 2210.17323, in the form
//! without an inverse of QuIP, arXiv 2307.13304). What is used most comes first. Scales are
//! settled before, by the squares of the errors weighted with the diagonal of `h`.

use ir::storage::{Beside, Encoding, Mismatch, encode_beside, put};

use super::moments::Moments;

/// What is added to the diagonal, as a share of its mean: what the text did not show.
const DAMPING: f64 = 0.01;
/// Rows that are rounded at a time.
const ROWS: usize = 16;

/// How columns make up for each other.
pub(super) struct Feedback {
    /// The columns in the order in which they are rounded.
    order: Vec<usize>,
    /// How much the squared error of each column costs by itself.
    weights: Vec<f32>,
    /// For each column in that order, a row: what the errors of those before it add to it.
    shares: Vec<f32>,
}

impl Feedback {
    /// For what has these moments.
    pub(super) fn new(moments: &Moments) -> Feedback {
        let n = moments.columns();
        let weights: Vec<f32> = (0..n).map(|i| moments.at(i, i)).collect();
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|a, b| weights[*b].total_cmp(&weights[*a]).then(a.cmp(b)));
        let mean = weights.iter().map(|it| f64::from(*it)).sum::<f64>() / n.max(1) as f64;
        let damping = (DAMPING * mean).max(f64::MIN_POSITIVE);
        let mut h = vec![0.0; n * n];
        for (i, row) in h.chunks_exact_mut(n).enumerate() {
            for (j, it) in row.iter_mut().enumerate() {
                *it = f64::from(moments.at(order[i], order[j]));
            }
            row[i] += damping;
        }
        factor(&mut h, n, damping);
        let share = |at: usize| h[at % n * n + at / n] as f32;
        let shares = (0..n * n).map(|at| if at % n < at / n { share(at) } else { 0.0 }).collect();
        Feedback { order, weights, shares }
    }

    /// The bytes of a matrix in a format, of which `whole` is the largest magnitude in others that
    /// share a scale with it.
    ///
    /// # Errors
    ///
    /// When its rows are not whole blocks, or not as long as what the moments are of.
    pub(super) fn round(
        &self,
        encoding: Encoding,
        values: &[f32],
        whole: f32,
    ) -> Result<Vec<u8>, Mismatch> {
        let (n, dtype) = (self.order.len(), encoding.dtype);
        let beside = Beside { weights: &self.weights, whole };
        let mut bytes = encode_beside(encoding.fit(), n, values, &beside)?;
        let row = bytes.len() / (values.len() / n.max(1)).max(1);
        if put(dtype, &mut bytes.clone()[..row], 0, 0.0).is_none() {
            return Ok(bytes);
        }
        let bands = bytes.chunks_mut(ROWS * row).zip(values.chunks(ROWS * n));
        for (bytes, values) in bands {
            self.round_rows(encoding, bytes, row, values);
        }
        Ok(bytes)
    }

    /// At most [`ROWS`] rows, of so many bytes each.
    fn round_rows(&self, encoding: Encoding, bytes: &mut [u8], row: usize, values: &[f32]) {
        let n = self.order.len();
        let mut errors: Vec<[f32; ROWS]> = Vec::with_capacity(n);
        for (k, &column) in self.order.iter().enumerate() {
            let fed = combined(&self.shares[k * n..][..k], &errors);
            let mut own = [0.0; ROWS];
            let rows = bytes.chunks_exact_mut(row).zip(values.chunks_exact(n));
            for (i, (bytes, values)) in rows.enumerate() {
                let wanted = values[column];
                let found = put(encoding.dtype, bytes, column, wanted + fed[i]).unwrap_or(wanted);
                own[i] = wanted - found;
            }
            errors.push(own);
        }
    }
}

/// The sum of `errors`, each times its share.
fn combined(shares: &[f32], errors: &[[f32; ROWS]]) -> [f32; ROWS] {
    let mut sums = [0.0; ROWS];
    for (share, errors) in shares.iter().zip(errors) {
        sums.iter_mut().zip(errors).for_each(|(sum, it)| *sum += share * it);
    }
    sums
}

/// Puts in place of what is above the diagonal of `h`, `n` rows of `n`, what is above that of `u`
/// in `h = u d u'`. No element of `d` becomes less than `least`.
fn factor(h: &mut [f64], n: usize, least: f64) {
    let mut scaled = vec![0.0; n];
    let mut d = vec![0.0; n];
    for j in (0..n).rev() {
        let (above, row) = h.split_at_mut(j * n);
        let after = j + 1..n;
        for k in after.clone() {
            scaled[k] = row[k] * d[k];
        }
        d[j] = (row[j] - dot(&row[after.clone()], &scaled[after.clone()])).max(least);
        for above in above.chunks_exact_mut(n) {
            above[j] = (above[j] - dot(&above[after.clone()], &scaled[after.clone()])) / d[j];
        }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut lanes = [0.0; 8];
    let (a, rest_a) = a.as_chunks::<8>();
    let (b, rest_b) = b.as_chunks::<8>();
    for (a, b) in a.iter().zip(b) {
        for i in 0..8 {
            lanes[i] += a[i] * b[i];
        }
    }
    let rest: f64 = rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum();
    lanes.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod mutants;

#[cfg(test)]
mod tests {
    use super::*;
    use ir::storage::{decode_rows, encode};

    /// Numbers from -1 to 1.
    pub(super) fn noise(seed: u32, n: usize) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 1.0
        };
        (0..n).map(|_| next()).collect()
    }

    /// Positions whose numbers depend on each other.
    pub(super) fn positions(n: usize, count: usize) -> Vec<f32> {
        let (own, shared) = (noise(1, n * count), noise(2, count));
        let at = |i: usize| own[i] * (1.0 + (i % n) as f32 / 8.0) + 3.0 * shared[i / n];
        (0..n * count).map(at).collect()
    }

    /// The squared change of what a matrix gives for `positions`.
    fn loss(positions: &[f32], n: usize, a: &[f32], b: &[f32]) -> f64 {
        let mut sum = 0.0;
        for x in positions.chunks(n) {
            for (a, b) in a.chunks(n).zip(b.chunks(n)) {
                let terms = a.iter().zip(b).zip(x);
                sum += f64::from(terms.map(|((a, b), x)| (a - b) * x).sum::<f32>()).powi(2);
            }
        }
        sum
    }

    #[test]
    fn u_and_d_make_up_the_moments() {
        let mut u = [4.0, 2.0, 1.0, 2.0, 5.0, 3.0, 1.0, 3.0, 6.0];
        factor(&mut u, 3, 1e-9);
        let u = |i: usize, j: usize| u[3 * i + j];
        assert!((u(0, 2) - 1.0 / 6.0).abs() < 1e-12 && (u(1, 2) - 3.0 / 6.0).abs() < 1e-12);
        assert!((u(0, 1) - 1.5 / 3.5).abs() < 1e-12);
    }

    #[test]
    fn what_a_matrix_gives_changes_less() {
        let n = 64;
        let (positions, values) = (positions(n, 200), noise(3, 20 * n));
        let mut moments = Moments::new(n);
        moments.add(&positions);
        let feedback = Feedback::new(&moments);
        let formats = ["nvfp4", "fp8-row", "fp8", "mxfp4", "mxfp8", "q8_0", "q4_0"];
        for name in formats {
            let encoding = Encoding::from_name(name).unwrap();
            let read = |bytes: &[u8]| {
                let mut read = vec![0.0; values.len()];
                decode_rows(encoding.dtype, n, bytes, &mut read).unwrap();
                loss(&positions, n, &values, &read)
            };
            let plain = read(&encode(encoding, n, &values).unwrap());
            let fitted = read(&encode(encoding.fit(), n, &values).unwrap());
            let calibrated = read(&feedback.round(encoding, &values, 0.0).unwrap());
            assert!(calibrated < 0.75 * plain, "{name}: {plain} {fitted} {calibrated}");
        }
    }

    #[test]
    fn what_has_no_scales_or_no_moments_is_rounded_plainly() {
        let (values, none) = (noise(4, 96), Feedback::new(&Moments::new(32)));
        for name in ["bf16", "q8_0"] {
            let encoding = Encoding::from_name(name).unwrap();
            let bytes = none.round(encoding, &values, 0.0).unwrap();
            let mut read = vec![0.0; 96];
            decode_rows(encoding.dtype, 32, &bytes, &mut read).unwrap();
            assert!(loss(&[1.0; 32], 32, &values, &read) < 1e-3, "{name}");
        }
        assert!(none.round(Encoding::from_name("q8_0").unwrap(), &values[1..], 0.0).is_err());
    }
}
