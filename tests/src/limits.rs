//! Extents that no memory has room for are refused, wherever they are.

use treen::Options;

/// A huge axis `A` in the middle of a model, whose function is to come.
fn refused(extents: &str, function: &str) {
    let text = format!("axis E = 4\n{extents}\naxis S <= 8\naxis V = 5\n\n{function}");
    let module = ir::parse(&text).unwrap_or_else(|why| panic!("{why}\n{text}"));
    assert_eq!(ir::verify(&module), Vec::<String>::new(), "{text}");
    match treen::lower(module, &Options::default(), &mut |_| {}) {
        Ok(lowered) => panic!("it has a plan:\n{}", lowered.plan),
        Err(error) => assert!(error.to_string().contains("C0201"), "{error}"),
    }
}

#[test]
fn what_no_memory_holds_is_refused() {
    for n in [1u64 << 46, 1 << 62, (1 << 63) - 1] {
        let extents = format!("axis A = {n}\naxis B = {n}");
        refused(
            &extents,
            "fn @model (input %n : i32[S], weight %w : f32[V, E], weight %u : f32[A, B, E]) {
              %0 = gather %w %n {axis = V} : f32[S, E]
              %1 = contract %0 %u {over = [E]} : f32[S, A, B]
              %2 = reduce %1 {over = [A, B], kind = max} : f32[S]
              return y = %2
            }",
        );
        refused(
            &extents,
            "fn @model (input %n : i32[S], weight %w : f32[V, E], weight %u : f32[A, E]) {
              %0 = gather %w %n {axis = V} : f32[S, E]
              %1 = reduce %u {over = [A], kind = max} : f32[E]
              %2 = add %0 %1 : f32[S, E]
              return y = %2
            }",
        );
        refused(
            &extents,
            "fn @step (%x : f32[S, E], %w : f32[E]) {
              %0 = mul %x %w : f32[S, E]
              return x = %0
            }
            fn @model (input %n : i32[S], weight %w : f32[V, E], weight %u : f32[A, E]) {
              %0 = gather %w %n {axis = V} : f32[S, E]
              %1 = scan %0 %u {body = @step, axis = A, carries = 1, banked = 1, reverse = false} : \
             f32[S, E]
              return y = %1
            }",
        );
        refused(
            &extents,
            "fn @step (%h : f32[A], %x : f32[E]) {
              %0 = reduce %x {over = [E], kind = max} : f32[]
              %1 = add %h %0 : f32[A]
              %2 = reduce %1 {over = [A], kind = max} : f32[]
              return h = %1, y = %2
            }
            fn @model (input %n : i32[S], weight %w : f32[V, E]) {
              %0 = gather %w %n {axis = V} : f32[S, E]
              %1 = constant {dtype = f32, axes = [A], values = [0.0]} : f32[A]
              %2 %3 = scan %1 %0 {body = @step, axis = S, carries = 1, banked = 1, \
             reverse = false} : f32[A], f32[S]
              return y = %3
            }",
        );
    }
}
