//! Layers of several kinds, compiled and run: the weights of each layer are where all of them lie.

use ir::{DType, Module};
use runtime::Model;
use treen::{Lowered, Options, Spec};

use crate::{
    made_up::{meaning, session, weights},
    snapshots::snapshot,
};

/// The example of the manual, with widths that whole blocks fill.
fn hybrid() -> Spec {
    let manual = std::fs::read_to_string("../docs/language.md").expect("the manual");
    let (_, rest) = manual.split_once("value pattern").expect("the example");
    let (rest, _) = rest.split_once("```").expect("its end");
    let text = format!("use prelude\n\naxis V = 96, E = 32, F = 64, S <= 8\nvalue pattern{rest}");
    let path = std::env::temp_dir().join(format!("treen-hybrid-{}.tn", std::process::id()));
    std::fs::write(&path, text).expect("a temporary file");
    let spec = Spec::open(path.to_str().expect("a readable name"), &[], &mut |_| {});
    std::fs::remove_file(&path).expect("the file just written");
    spec.unwrap_or_else(|why| panic!("{why}"))
}

fn lower(module: &Module) -> Lowered {
    let lowered = treen::lower(module.clone(), &Options::default(), &mut |_| {});
    lowered.unwrap_or_else(|why| panic!("{why}"))
}

/// Reads `text`, whose first half is a step of its own, and compares with what `module` means.
fn check(module: &Module, lowered: &Lowered, dtype: DType, text: &[i32]) {
    let weights = weights(module);
    let expected = meaning(module, &weights, text);
    let mut session = session(lowered, &weights, dtype, 2);
    let mut read = |part: &[i32]| session.step(part, part.len()).expect("a step").to_vec();
    let (first, second) = text.split_at(text.len() / 2);
    let found = [read(first), read(second)].concat();
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        let error = (f64::from(*found) - expected).abs();
        assert!(error <= 1e-4 * (1.0 + expected.abs()), "{found} is not {expected}");
    }
}

/// Rows by number: of a layer, which a kernel looks up, of a weight, of such a row, of what was
/// computed.
const ROWS: &str = "axis A = 3
axis B = 4
axis L = 2
axis S <= 8
axis V = 5

fn @layer (%x : f32[S, B], %w : f32[A, B]) {
  %0 = constant {dtype = i32, axes = [], values = [2.0]} : i32[]
  %1 = gather %w %0 {axis = A} : f32[B]
  %2 = mul %x %1 : f32[S, B]
  return x = %2
}

fn @model (input %n : i32[S], weight %embed : f32[V, B], weight %w : f32[L, A, B], \
weight %c : f32[A, L]) {
  %0 = gather %embed %n {axis = V} : f32[S, B]
  %1 = scan %0 %w {body = @layer, axis = L, carries = 1, banked = 1, reverse = false} : f32[S, B]
  %2 = constant {dtype = i32, axes = [], values = [1.0]} : i32[]
  %3 = gather %c %2 {axis = A} : f32[L]
  %4 = gather %3 %2 {axis = L} : f32[]
  %5 = reduce %w {over = [L, B], kind = sum} : f32[A]
  %6 = gather %5 %2 {axis = A} : f32[]
  %7 = add %1 %4 : f32[S, B]
  %8 = mul %7 %6 : f32[S, B]
  return y = %8
}
";

#[test]
fn rows_by_number_are_views() {
    let module = ir::parse(ROWS).unwrap_or_else(|why| panic!("{why}"));
    let lowered = lower(&module);
    let plan = lowered.plan.to_string();
    for place in ["w[i0], format of w[i0]", "c[1][1]", "b3[1]"] {
        assert!(plan.contains(place), "{plan}");
    }
    check(&module, &lowered, DType::F32, &[1, 3, 0, 2]);
}

#[test]
fn a_layer_of_a_bank_is_a_view() {
    let module = hybrid().compile().unwrap_or_else(|why| panic!("{why}")).module;
    let lowered = lower(&module);
    snapshot("hybrid-plan", lowered.plan.to_string());
    for dtype in [DType::F32, DType::Q8_0] {
        check(&module, &lowered, dtype, &[1, 93, 0, 5]);
    }
}
