//! Calibrated rounding that is wrong: its definition, written once more in the plainest way, with
//! one mistake each. What `Feedback` writes equals the definition, and no mistake does.

use ir::storage::{Beside, Encoding, encode_beside, put};

use super::{
    DAMPING, Feedback,
    tests::{noise, positions},
};
use crate::precision::moments::Moments;

/// What may be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    None,
    ErrorsTakenAway,
    ErrorsOfWhatWasFed,
    NothingFed,
    FedByMomentsThemselves,
    LeastUsedFirst,
    AsTheyStand,
    MomentsNotInOrder,
    Undamped,
    ScalesOfEqualWeight,
    ErrorsOfTheRowBefore,
}

use Mistake::*;

const MISTAKES: [Mistake; 10] = [
    ErrorsTakenAway,
    ErrorsOfWhatWasFed,
    NothingFed,
    FedByMomentsThemselves,
    LeastUsedFirst,
    AsTheyStand,
    MomentsNotInOrder,
    Undamped,
    ScalesOfEqualWeight,
    ErrorsOfTheRowBefore,
];

/// The columns, those that are used most first.
fn order(weights: &[f32], mistake: Mistake) -> Vec<usize> {
    let mut order: Vec<usize> = (0..weights.len()).collect();
    match mistake {
        AsTheyStand => {}
        LeastUsedFirst => order.sort_by(|a, b| weights[*a].total_cmp(&weights[*b])),
        _ => order.sort_by(|a, b| weights[*b].total_cmp(&weights[*a])),
    }
    order
}

/// The `u` of `h = u d u'`: `h` in that order, damped.
fn factor(moments: &Moments, order: &[usize], mistake: Mistake) -> Vec<Vec<f64>> {
    let n = order.len();
    let place = |i: usize| if mistake == MomentsNotInOrder { i } else { order[i] };
    let mean = (0..n).map(|i| f64::from(moments.at(i, i))).sum::<f64>() / n as f64;
    let damping = if mistake == Undamped { 0.0 } else { DAMPING * mean };
    let h = |i: usize, j: usize| {
        f64::from(moments.at(place(i), place(j))) + if i == j { damping } else { 0.0 }
    };
    if mistake == FedByMomentsThemselves {
        return (0..n).map(|i| (0..n).map(|j| h(i, j) / h(j, j)).collect()).collect();
    }
    let (mut u, mut d) = (vec![vec![0.0; n]; n], vec![0.0; n]);
    for j in (0..n).rev() {
        d[j] = h(j, j) - (j + 1..n).map(|k| u[j][k] * u[j][k] * d[k]).sum::<f64>();
        for i in 0..j {
            let known: f64 = (j + 1..n).map(|k| u[i][k] * d[k] * u[j][k]).sum();
            u[i][j] = (h(i, j) - known) / d[j];
        }
    }
    u
}

/// A matrix rounded by the definition, with a mistake.
fn rounded(moments: &Moments, encoding: Encoding, values: &[f32], mistake: Mistake) -> Vec<u8> {
    let n = moments.columns();
    let weights: Vec<f32> = (0..n).map(|i| moments.at(i, i)).collect();
    let order = order(&weights, mistake);
    let u = factor(moments, &order, mistake);
    let equal = vec![1.0; n];
    let weights = if mistake == ScalesOfEqualWeight { &equal } else { &weights };
    let beside = Beside { weights, ..Beside::default() };
    let mut bytes = encode_beside(encoding.fit(), n, values, &beside).expect("whole blocks");
    let row = bytes.len() / (values.len() / n);
    let mut errors = vec![0.0f32; n];
    for (bytes, values) in bytes.chunks_mut(row).zip(values.chunks(n)) {
        let before = errors.clone();
        for k in 0..n {
            let share = |j: usize| match mistake {
                NothingFed => 0.0,
                _ => u[j][k] as f32,
            };
            let own = if mistake == ErrorsOfTheRowBefore { &before } else { &errors };
            let fed = (0..k).fold(0.0, |sum, j| sum + share(j) * own[j]);
            let fed = if mistake == ErrorsTakenAway { -fed } else { fed };
            let wanted = values[order[k]];
            let found = put(encoding.dtype, bytes, order[k], wanted + fed).expect("codes");
            let aimed = if mistake == ErrorsOfWhatWasFed { wanted + fed } else { wanted };
            errors[k] = aimed - found;
        }
    }
    bytes
}

#[test]
fn wrong_roundings_are_caught() {
    let n = 64;
    let mut moments = Moments::new(n);
    moments.add(&positions(n, 200));
    let (feedback, values) = (Feedback::new(&moments), noise(3, 20 * n));
    for name in ["nvfp4", "fp8-row", "q4_0"] {
        let encoding = Encoding::from_name(name).expect("a format");
        let found = feedback.round(encoding, &values, 0.0).expect("whole blocks");
        assert!(found == rounded(&moments, encoding, &values, None), "{name}: the definition");
        for mistake in MISTAKES {
            assert!(found != rounded(&moments, encoding, &values, mistake), "{name}: {mistake:?}");
        }
    }
}
