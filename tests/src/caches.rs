//! States that grow, stored in 16 bits: what attention reads is near, and what is looked back at
//! without a kernel is what the graph says.

use ir::{DType, Module};
use runtime::Model;
use treen::{Lowered, Options};

use crate::made_up::{meaning, session, weights};

/// Each position takes the largest of all before it, and a mean of them, on two layers.
const TEXT: &str = "axis C = 8
axis D = 3
axis L = 2
axis S <= 8
axis T = S
axis V = 7

fn @layer (%x : f32[S, C], %w : f32[C, D]) {
  %0 = rename %x {axis = S, into = T} : f32[T, C]
  %1 = iota {axis = S} : i32[S]
  %2 = iota {axis = T} : i32[T]
  %3 = less_equal %2 %1 : bool[T, S]
  %4 = constant {dtype = f32, axes = [], values = [-9.0]} : f32[]
  %5 = select %3 %0 %4 : f32[T, S, C]
  %6 = reduce %5 {over = [T], kind = max} : f32[S, C]
  %7 = contract %x %w {over = [C]} : f32[S, D]
  %8 = rename %7 {axis = S, into = T} : f32[T, D]
  %9 = cast %3 {dtype = f32} : f32[T, S]
  %10 = contract %9 %8 {over = [T]} : f32[S, D]
  %11 = contract %10 %w {over = [D]} : f32[S, C]
  %12 = add %6 %11 : f32[S, C]
  %13 = tanh %12 : f32[S, C]
  return x = %13
}

fn @model (input %n : i32[S], weight %embed : f32[V, C], weight %w : f32[L, C, D]) {
  %0 = gather %embed %n {axis = V} : f32[S, C]
  %1 = scan %0 %w {body = @layer, axis = L, carries = 1, banked = 1, reverse = false} : f32[S, C]
  return y = %1
}
";

fn lower(module: &Module, cache: DType) -> Lowered {
    let options = Options { cache, ..Options::default() };
    let lowered = treen::lower(module.clone(), &options, &mut |_| {});
    lowered.unwrap_or_else(|why| panic!("{why}"))
}

#[test]
fn a_cache_may_be_narrow() {
    let module = ir::parse(TEXT).unwrap_or_else(|why| panic!("{why}"));
    let text = [1, 6, 0, 2, 4, 3, 5, 1];
    let weights = weights(&module);
    let expected = meaning(&module, &weights, &text);
    for (cache, bytes, within) in
        [(DType::F32, 4, 1e-5), (DType::F16, 2, 2e-3), (DType::BF16, 2, 2e-2)]
    {
        let lowered = lower(&module, cache);
        let sizes: Vec<u64> = lowered.plan.states.iter().map(|it| it.position_bytes).collect();
        assert_eq!(sizes, [8 * bytes, 3 * bytes]);
        let mut session = session(&lowered, &weights, DType::F32, 2);
        let mut read = |part: &[i32]| session.step(part, part.len()).expect("a step").to_vec();
        let found: Vec<f32> = text.chunks(3).flat_map(&mut read).collect();
        let error = |(x, y): (&f32, &f64)| (f64::from(*x) - y).abs();
        let error = found.iter().zip(&expected).map(error).fold(0.0, f64::max);
        assert!(error <= within, "{cache}: {error}");
        // Rounding is seen, and nothing else.
        assert!(cache == DType::F32 || 1e-5 < error, "{cache}: {error}");
    }
}
