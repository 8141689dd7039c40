//! Scales of the least squared error.

use super::{Amax, Mismatch, decode_rows};
use crate::DType;

/// What the largest magnitude of those that share a scale is multiplied with, in turn. Below 1 it
/// is cut off for a finer step; 1.5 is NVFP4's "four over six", which has no gap between 4 and 6
/// to round the largest elements into.
pub(super) const FACTORS: [f32; 17] =
    [1.0, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.05, 1.1, 1.15, 1.2, 1.25, 1.3, 1.4, 1.5, 1.6, 1.7];

/// The magnitudes by which to scale: of those near `plain`, the ones that lose least. The squared
/// error of an element of each column counts as `weights` say, the same for all if they are none.
/// `write` makes bytes of values by such magnitudes.
pub(super) fn fitted(
    dtype: DType,
    values: &[f32],
    weights: &[f32],
    plain: Amax,
    write: &dyn Fn(&Amax) -> Result<Vec<u8>, Mismatch>,
) -> Result<Amax, Mismatch> {
    let mut best = plain.clone();
    let mut least = vec![f64::INFINITY; plain.found.len()];
    let mut read = vec![0.0; values.len()];
    for factor in FACTORS {
        let mut trial = plain.clone();
        trial.found.iter_mut().for_each(|it| *it *= factor);
        decode_rows(dtype, plain.columns, &write(&trial)?, &mut read)?;
        let errors = errors(&plain, values, &read, weights);
        for (i, error) in errors.into_iter().enumerate() {
            if error < least[i] {
                (least[i], best.found[i]) = (error, trial.found[i]);
            }
        }
    }
    Ok(best)
}

/// The weighted squared error of those that share a scale.
fn errors(amax: &Amax, values: &[f32], read: &[f32], weights: &[f32]) -> Vec<f64> {
    let mut errors = vec![0.0; amax.found.len()];
    let rows = values.chunks_exact(amax.columns).zip(read.chunks_exact(amax.columns));
    for (row, (values, read)) in rows.enumerate() {
        let blocks = values.chunks_exact(amax.wide).zip(read.chunks_exact(amax.wide));
        for (block, (values, read)) in blocks.enumerate() {
            let weights = weights.chunks_exact(amax.wide).nth(block);
            let square = |(a, b): (&f32, &f32)| (a - b) * (a - b);
            let squares = values.iter().zip(read).map(square);
            let error: f32 = match weights {
                Some(weights) => squares.zip(weights).map(|(it, weight)| it * weight).sum(),
                None => squares.sum(),
            };
            errors[amax.place(row, block)] += f64::from(error);
        }
    }
    errors
}
