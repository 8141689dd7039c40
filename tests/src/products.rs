//! Products with what follows them, alone and joined, compiled and run.

use ir::{DType, Module};
use runtime::Model;
use treen::{Lowered, Options};

use crate::made_up::{meaning, session, weights};

/// Products joined by rows: each part has a result, of which one has a tail of its own; both parts
/// in one tail; products of one value in one tail; a product added to what it is of.
const JOINED: &str = "axis A = 96
axis B = 32
axis D = 64
axis E = 64
axis S <= 24
axis V = 96

fn @model (input %n : i32[S], weight %embed : f32[V, E], weight %a : f32[A, E], \
weight %b : f32[B, E], weight %c : f32[A, E], weight %bias : f32[B], weight %gate : f32[A, E], \
weight %up : f32[A, E], weight %down : f32[E, A], weight %square : f32[E, D], \
weight %shift : f32[E]) {
  %0 = gather %embed %n {axis = V} : f32[S, E]
  %1 = concat %a %b %c {parts = [A, B, A]} : f32[A | B | A, E]
  %2 = contract %0 %1 {over = [E]} : f32[S, A | B | A]
  %3 = slice %2 {axis = A | B | A, after = [], last = false, into = A} : f32[S, A]
  %4 = slice %2 {axis = A | B | A, after = [A], last = false, into = B} : f32[S, B]
  %5 = slice %2 {axis = A | B | A, after = [A, B], last = false, into = A} : f32[S, A]
  %6 = add %4 %bias : f32[S, B]
  %7 = tanh %6 : f32[S, B]
  %8 = mul %7 %7 : f32[S, B]
  %9 = mul %3 %5 : f32[S, A]
  %10 = contract %9 %down {over = [A]} : f32[S, E]
  %11 = add %0 %10 : f32[S, E]
  %12 = concat %gate %up {parts = [A, A]} : f32[A | A, E]
  %13 = contract %11 %12 {over = [E]} : f32[S, A | A]
  %14 = slice %13 {axis = A | A, after = [], last = false, into = A} : f32[S, A]
  %15 = slice %13 {axis = A | A, after = [A], last = false, into = A} : f32[S, A]
  %16 = neg %14 : f32[S, A]
  %17 = exp %16 : f32[S, A]
  %18 = constant {dtype = f32, axes = [], values = [1.0]} : f32[]
  %19 = add %17 %18 : f32[S, A]
  %20 = div %14 %19 : f32[S, A]
  %21 = sub %20 %15 : f32[S, A]
  %22 = contract %21 %down {over = [A]} : f32[S, E]
  %23 = contract %22 %a {over = [E]} : f32[S, A]
  %24 = contract %22 %c {over = [E]} : f32[S, A]
  %25 = tanh %24 : f32[S, A]
  %26 = mul %23 %25 : f32[S, A]
  %27 = contract %26 %down {over = [A]} : f32[S, E]
  %28 = rename %27 {axis = E, into = D} : f32[S, D]
  %29 = contract %28 %square {over = [D]} : f32[S, E]
  %30 = add %29 %shift : f32[S, E]
  %31 = add %30 %27 : f32[S, E]
  %32 = reduce %8 {over = [B], kind = sum} : f32[S]
  %33 = add %31 %32 : f32[S, E]
  return y = %33
}
";

fn lower(module: &Module) -> Lowered {
    let lowered = treen::lower(module.clone(), &Options::default(), &mut |_| {});
    lowered.unwrap_or_else(|why| panic!("{why}"))
}

#[test]
fn products_are_joined_and_have_tails() {
    let module = ir::parse(JOINED).unwrap_or_else(|why| panic!("{why}"));
    let lowered = lower(&module);
    let plan = lowered.plan.to_string();
    assert_eq!(plan.matches("\nmatmul(").count(), 7, "{plan}");
    let weights = weights(&module);
    for text in [&[5][..], &[1, 93, 0], &[7; 19]] {
        let expected = meaning(&module, &weights, text);
        for (dtype, threads) in [(DType::F32, 1), (DType::F32, 2), (DType::Q8_0, 2)] {
            let mut session = session(&lowered, &weights, dtype, threads);
            let found = session.step(text, text.len()).expect("a step").to_vec();
            assert_eq!(found.len(), expected.len());
            let largest = expected.iter().fold(0.0, |most: f64, it| most.max(it.abs()));
            for (found, expected) in found.iter().zip(&expected) {
                let error = (f64::from(*found) - expected).abs();
                assert!(error <= 1e-5 * largest, "{found} is not {expected}\n{plan}");
            }
        }
    }
}
