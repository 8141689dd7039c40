//! Floats of eight bits that are wrong, and wrong scales of them: the formats by their definition,
//! written once more in the plainest way, with one mistake each. What `ir::storage` writes equals
//! the definition, and no mistake does.

use ir::storage::{
    Encoding, encode,
    small::{E4M3, E5M2, Small},
};

/// What may be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    None,
    InfiniteBeyondTheLargest,
    LargestOf240,
    TiesAway,
    TiesToZero,
    Truncated,
    NothingBelowNormal,
    SignDropped,
    OtherSplitOfBits,
    ScaleInverted,
    ReachOfTheOther,
    LargestNotMagnitude,
    ScaleOfTheMatrix,
    ScaleOfTheNeighbour,
    ScaleOfTheRow,
    NoSquares,
    PowersUp,
    AnyScale,
    SharedExponentDown,
    SharedExponentOfTheLargest,
    SharedExponentOffByOne,
}

use Mistake::*;

pub(super) const MISTAKES: usize = ALL.len();

const ALL: [Mistake; 20] = [
    InfiniteBeyondTheLargest,
    LargestOf240,
    TiesAway,
    TiesToZero,
    Truncated,
    NothingBelowNormal,
    SignDropped,
    OtherSplitOfBits,
    ScaleInverted,
    ReachOfTheOther,
    LargestNotMagnitude,
    ScaleOfTheMatrix,
    ScaleOfTheNeighbour,
    ScaleOfTheRow,
    NoSquares,
    PowersUp,
    AnyScale,
    SharedExponentDown,
    SharedExponentOfTheLargest,
    SharedExponentOffByOne,
];

/// A format: its name, its floats, what shares a scale in columns and in rows (0 for all), and
/// whether scales are powers of two.
type Format = (&'static str, Small, [usize; 2], bool);

const FORMATS: [Format; 7] = [
    ("fp8-row", E4M3, [0, 1], false),
    ("fp8-row-e5m2", E5M2, [0, 1], false),
    ("fp8", E4M3, [0, 0], false),
    ("fp8-1x128", E4M3, [128, 1], false),
    ("fp8-block", E4M3, [128, 128], false),
    ("fp8-block-pow2", E4M3, [128, 128], true),
    ("mxfp8", E4M3, [32, 1], true),
];

fn other(kind: Small) -> Small {
    if kind == E4M3 { E5M2 } else { E4M3 }
}

/// The code of a number: the nearest, of two as near the even one, and the largest for all beyond.
fn code(kind: Small, value: f32, mistake: Mistake) -> u8 {
    let kind = if mistake == OtherSplitOfBits { other(kind) } else { kind };
    let most = if mistake == LargestOf240 { 240.0 } else { kind.max() };
    let size = value.abs();
    let codes = (0..128).filter(|it| kind.decode(*it) <= most);
    let distance = |code: u8| (f64::from(kind.decode(code)) - f64::from(size.min(most))).abs();
    let better = |a: &u8, b: &u8| {
        let tie = match mistake {
            TiesAway => b.cmp(a),
            TiesToZero => a.cmp(b),
            _ => (a % 2).cmp(&(b % 2)),
        };
        distance(*a).total_cmp(&distance(*b)).then(tie)
    };
    let below = |it: &u8| kind.decode(*it) <= size;
    let normal = if kind == E4M3 { 8 } else { 4 };
    let code = match mistake {
        InfiniteBeyondTheLargest if most < size => Some(0x7f),
        Truncated => codes.rev().find(below),
        _ => codes.min_by(better),
    };
    let code = code.unwrap_or(0);
    let code = if mistake == NothingBelowNormal && code < normal { 0 } else { code };
    code | u8::from(value.is_sign_negative() && mistake != SignDropped) << 7
}

/// The largest magnitude of what shares a scale with an element.
fn amax(
    values: &[f32],
    columns: usize,
    [row, column]: [usize; 2],
    shared: [usize; 2],
    mistake: Mistake,
) -> f32 {
    let rows = values.len() / columns;
    let [wide, tall] = match mistake {
        ScaleOfTheMatrix => [columns, rows],
        ScaleOfTheRow => [columns, shared[1]],
        NoSquares => [shared[0], 1],
        _ => shared,
    };
    let [wide, tall] = [(wide, columns), (tall, rows)].map(|(n, all)| if n == 0 { all } else { n });
    let start = column / wide * wide;
    let start = if mistake == ScaleOfTheNeighbour { (start + wide) % columns } else { start };
    let size = |it: f32| if mistake == LargestNotMagnitude { it.max(0.0) } else { it.abs() };
    let places = (row / tall * tall..(row / tall * tall + tall).min(rows))
        .flat_map(|row| (start..start + wide).map(move |column| row * columns + column));
    places.map(|it| size(values[it])).fold(0.0, f32::max)
}

/// Bytes of the scale that a block begins with, and what elements are multiplied with.
fn scale(kind: Small, amax: f32, powers: bool, mistake: Mistake) -> (Vec<u8>, f32) {
    let reach = if mistake == ReachOfTheOther { other(kind).max() } else { kind.max() };
    let exact = reach / amax;
    let scale = match (powers, mistake) {
        (false, _) | (_, AnyScale) => exact,
        (true, PowersUp) => exact.log2().ceil().exp2(),
        (true, _) => exact.log2().floor().exp2(),
    };
    let head = if mistake == ScaleInverted { scale } else { 1.0 / scale };
    (head.to_le_bytes().to_vec(), scale)
}

/// The same for MXFP8: a power of two that is no less than what the largest magnitude asks for.
fn shared_exponent(amax: f32, mistake: Mistake) -> (Vec<u8>, f32) {
    let power = match mistake {
        SharedExponentDown => (amax / E4M3.max()).log2().floor(),
        SharedExponentOfTheLargest => amax.log2().floor() - 8.0,
        SharedExponentOffByOne => (amax / E4M3.max()).log2().ceil() + 1.0,
        _ => (amax / E4M3.max()).log2().ceil(),
    };
    let sign = if mistake == ScaleInverted { -1.0 } else { 1.0 };
    (vec![(127.0 + sign * power) as u8], (-power).exp2())
}

/// A matrix in a format by its definition, with a mistake.
fn written(format: Format, values: &[f32], columns: usize, mistake: Mistake) -> Vec<u8> {
    let (name, kind, shared, powers) = format;
    let wide = if shared[0] == 0 { columns } else { shared[0] };
    let mut bytes = Vec::new();
    for (i, block) in values.chunks(wide).enumerate() {
        let at = [i * wide / columns, i * wide % columns];
        let amax = amax(values, columns, at, shared, mistake);
        let (head, factor) = match name {
            "mxfp8" => shared_exponent(amax, mistake),
            _ => scale(kind, amax, powers, mistake),
        };
        bytes.extend(head);
        bytes.extend(block.iter().map(|it| code(kind, it * factor, mistake)));
    }
    bytes
}

/// Numbers with signs, of different size from row to row and from block to block. Those of the
/// first block lie between two codes, where its scale is 1.
fn values(columns: usize) -> Vec<f32> {
    let size = |i: usize| (1 + i / columns % 5 * 3 + i % columns / 32) as f32;
    let wave = |i: usize| (i as f32 * 0.77).sin() * size(i) - 0.2 * size(i);
    let mut values: Vec<f32> = (0..2 * 128 * columns).map(wave).collect();
    for (i, it) in values[..32].iter_mut().enumerate() {
        *it = 17.0 + 2.0 * i as f32;
    }
    values[0] = 448.0;
    values[1] = 0.003;
    values
}

#[test]
fn wrong_codes_are_caught() {
    let beyond = [1e-9, 3e-5, 0.001, 17.0, 18.0, 19.0, 22.0, 300.0, 448.0, 470.0, 5e4, 6e4, 1e9];
    let numbers = || beyond.into_iter().flat_map(|it| [it, -it]);
    for (kind, mistakes) in [(E4M3, &ALL[..8]), (E5M2, &ALL[2..8])] {
        let of = |mistake| numbers().map(|it| code(kind, it, mistake)).collect::<Vec<_>>();
        let found: Vec<u8> = numbers().map(|it| kind.encode(it)).collect();
        assert_eq!(found, of(None), "{kind:?}");
        mistakes.iter().for_each(|it| assert_ne!(found, of(*it), "{kind:?} {it:?}"));
    }
}

#[test]
fn wrong_scales_are_caught() {
    let (columns, values) = (256, values(256));
    let mut survivors = ALL.to_vec();
    for format in FORMATS {
        let encoding = Encoding::from_name(format.0).expect("a format");
        let found = encode(encoding, columns, &values).expect("whole blocks");
        assert!(found == written(format, &values, columns, None), "{}", format.0);
        survivors.retain(|it| found == written(format, &values, columns, *it));
    }
    assert_eq!(survivors, []);
}
