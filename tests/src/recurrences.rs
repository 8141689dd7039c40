//! Recurrences along the sequence within layers, compiled and run in steps: by the kernels that
//! claim them whole, and from loops where none does, they give what the model gives at once.

use ir::{DType, Module};
use runtime::Model;
use treen::{Lowered, Options};

use crate::made_up::{meaning, session, weights};

/// A convolution and a state-space recurrence in each of two layers, over a table of 7 rows.
const TEXT: &str = include_str!("recurrences.ir");

fn module(text: &str) -> Module {
    let module = ir::parse(text).unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(ir::verify(&module), Vec::<String>::new());
    module
}

/// Compiles `module`, with every contract checked.
fn lower(module: &Module) -> Lowered {
    let lowered = treen::lower(module.clone(), &Options::default(), &mut |_| {});
    lowered.unwrap_or_else(|why| panic!("{why}"))
}

/// Runs a text step by step, twice, and compares.
fn check(module: &Module, lowered: &Lowered) {
    let text = [1, 6, 0, 2, 4, 3, 5, 1];
    let weights = weights(module);
    let expected = meaning(module, &weights, &text);
    for (threads, chunk) in [(1, 1), (2, 3), (3, 7)] {
        let mut session = session(lowered, &weights, DType::F32, threads);
        for _ in 0..2 {
            session.reset().unwrap();
            let read = |part: &[i32]| session.step(part, part.len()).expect("a step").to_vec();
            let found: Vec<f32> = text.chunks(chunk).flat_map(read).collect();
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(&expected) {
                let error = (f64::from(*found) - expected).abs();
                assert!(error <= 1e-5 * (1.0 + expected.abs()), "{found} is not {expected}");
            }
        }
    }
}

#[test]
fn loops_run_recurrences() {
    let module = module(&TEXT.replace("prelude::", "other::"));
    let lowered = lower(&module);
    let kernels = &lowered.plan.kernels;
    assert!(!kernels.iter().any(|it| it == "conv1d" || it == "ssd"), "{kernels:?}");
    check(&module, &lowered);
}

#[test]
fn kernels_run_recurrences() {
    let module = module(TEXT);
    let lowered = lower(&module);
    let plan = lowered.plan.to_string();
    for call in ["conv1d(", "ssd("] {
        assert_eq!(plan.matches(call).count(), 1, "{plan}");
    }
    // States are changed where they are.
    let is_copied = |state: &str| plan.lines().any(|it| it.contains("copy(") && it.contains(state));
    assert!(!is_copied("window") && !is_copied("decay"), "{plan}");
    check(&module, &lowered);
}
