//! Codecs of few bits that are wrong: NVFP4 by its definition, written once more in the plainest
//! way, with one mistake each. What `ir::storage` writes equals the definition, and no
//! mistake does.

use ir::storage::{Encoding, encode, small::E2M1, small::E4M3};

/// What may be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mistake {
    None,
    NibblesSwapped,
    ScaleInverted,
    BlocksOfColumns,
    BlocksOfThirtyTwo,
    TiesAway,
    Truncated,
    SignDropped,
    LargestNotMagnitude,
    ScaleOfTheNeighbour,
    DividedByWhatWasNotRounded,
    NoScaleOfTheMatrix,
    ReachOfE5M2,
}

use Mistake::*;

pub(super) const MISTAKES: [Mistake; 12] = [
    NibblesSwapped,
    ScaleInverted,
    BlocksOfColumns,
    BlocksOfThirtyTwo,
    TiesAway,
    Truncated,
    SignDropped,
    LargestNotMagnitude,
    ScaleOfTheNeighbour,
    DividedByWhatWasNotRounded,
    NoScaleOfTheMatrix,
    ReachOfE5M2,
];

/// The code of E2M1 for a number: the nearest, of two as near the even one.
fn code_of_four(value: f32, mistake: Mistake) -> u8 {
    let distance = |code: u8| (E2M1.decode(code) - value.abs().min(6.0)).abs();
    let better = |a: &u8, b: &u8| {
        let tie = if mistake == TiesAway { b.cmp(a) } else { (a % 2).cmp(&(b % 2)) };
        distance(*a).total_cmp(&distance(*b)).then(tie)
    };
    let nearest = (0..8).min_by(better).unwrap_or(0);
    let below = (0..8).rev().find(|it| E2M1.decode(*it) <= value.abs()).unwrap_or(0);
    let code = if mistake == Truncated { below } else { nearest };
    let is_negative = value.is_sign_negative() && mistake != SignDropped;
    code | u8::from(is_negative) << 3
}

/// The largest magnitude of the block that an element is in.
fn amax(values: &[f32], columns: usize, [row, column]: [usize; 2], mistake: Mistake) -> f32 {
    let size = |it: f32| if mistake == LargestNotMagnitude { it.max(0.0) } else { it.abs() };
    let wide = if mistake == BlocksOfThirtyTwo { 32 } else { 16 };
    let (rows, start) = (values.len() / columns, column / wide * wide);
    let start = if mistake == ScaleOfTheNeighbour { (start + wide) % columns } else { start };
    let places: Vec<usize> = match mistake {
        BlocksOfColumns => (row / 16 * 16..(row / 16 * 16 + 16).min(rows))
            .map(|it| it * columns + column)
            .collect(),
        _ => (start..start + wide).map(|it| row * columns + it).collect(),
    };
    places.into_iter().map(|it| size(values[it])).fold(0.0, f32::max)
}

/// NVFP4 by its definition, with a mistake.
fn nvfp4(values: &[f32], columns: usize, mistake: Mistake) -> Vec<u8> {
    let most = values.iter().fold(0.0f32, |most, it| most.max(it.abs()));
    let reach = if mistake == ReachOfE5M2 { 57344.0 * 6.0 } else { 448.0 * 6.0 };
    let encoding = if mistake == NoScaleOfTheMatrix { 1.0 } else { reach / most };
    let decoding = 1.0 / encoding;
    let mut bytes = Vec::new();
    for row in 0..values.len() / columns {
        let head = if mistake == ScaleInverted { encoding } else { decoding };
        bytes.extend(head.to_le_bytes());
        for block in 0..columns / 16 {
            let amax = amax(values, columns, [row, 16 * block], mistake);
            let exact = amax * (encoding * (1.0 / 6.0));
            let scale = E4M3.encode(exact);
            bytes.push(scale);
            let rounded =
                if mistake == DividedByWhatWasNotRounded { exact } else { E4M3.decode(scale) };
            let factor = 1.0 / (rounded * decoding);
            let code =
                |i: usize| code_of_four(values[row * columns + 16 * block + i] * factor, mistake);
            let pair = |i: usize| match mistake {
                NibblesSwapped => code(2 * i) << 4 | code(2 * i + 1),
                _ => code(2 * i) | code(2 * i + 1) << 4,
            };
            bytes.extend((0..8).map(pair));
        }
    }
    bytes
}

/// Numbers with signs, ties, and blocks of different size.
fn values(n: usize) -> Vec<f32> {
    let wave = |i: usize| (i as f32 * 0.77).sin() * (1.0 + (i / 16 % 5) as f32);
    // With 21 for the largest of all, a block with 6 for its largest is divided by exactly 1.
    let tie = |i: usize| 6.0 - 0.25 * i as f32;
    let mut values: Vec<f32> = (0..n).map(|i| if i < 16 { tie(i) } else { wave(i) }).collect();
    values[n - 1] = 21.0;
    values
}

#[test]
fn wrong_codecs_are_caught() {
    let (columns, values) = (64, values(64 * 32));
    let encoding = Encoding::from_name("nvfp4").expect("a format");
    let written = encode(encoding, columns, &values).expect("whole blocks");
    assert!(written == nvfp4(&values, columns, None), "the definition");
    for mistake in MISTAKES {
        assert!(written != nvfp4(&values, columns, mistake), "{mistake:?}");
    }
}
