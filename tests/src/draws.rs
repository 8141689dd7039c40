//! Tokens that a device draws are those that the processor draws from the same logits.

use std::sync::Arc;

use ir::DType;
use runtime::{Compiled, Manifest, Rule, Target};
use text::{Sampler, SamplerSettings};
use treen::{Options, Random, Spec};

/// Words of a token, a small text, and a large one.
const VOCABULARIES: [&str; 3] = ["V=7", "V=1000", "V=151936"];

/// A small model with made-up weights.
pub(crate) fn model(vocabulary: &str, positions: &str, architecture: &str) -> Compiled {
    let settings = [vocabulary, positions, "L=1", "E=32", "F=32"].map(str::to_owned);
    let spec = Spec::open("../examples/tiny.tn", &settings, &mut |_| {}).expect("a spec");
    let options = Options {
        check: false,
        cache: DType::BF16,
        target: Target::Cuda,
        architectures: vec![architecture.to_owned()],
        ..Options::default()
    };
    let module = spec.compile().expect("a module").module;
    let mut lowered = treen::lower(module, &options, &mut |_| {}).expect("a program");
    let weights = Random { seed: 1 }.bind(&mut lowered).expect("weights");
    let manifest = Manifest { program: lowered.program, ..Manifest::default() };
    Compiled::Memory { manifest, weights: Arc::new(weights) }
}

/// Every filter by itself and all at once, cold and hot; the first ones take the most probable.
fn rules() -> Vec<Rule> {
    let all = [
        (0.0, 0, 1.0, 0.0),
        (1.0, 1, 1.0, 0.0),
        (1.0, 0, 1e-9, 0.0),
        (1.0, 0, 1.0, 1.0),
        (1.0, 0, 1.0, 0.0),
        (0.02, 0, 1.0, 0.0),
        (9.0, 0, 1.0, 0.0),
        (1.0, 40, 1.0, 0.0),
        (0.1, 0, 0.9, 0.0),
        (0.3, 0, 1.0, 0.05),
        (0.7, 50, 0.95, 0.01),
    ];
    let rule = |(sequence, (temperature, top_k, top_p, min_p)): (u64, (f32, usize, f32, f32))| {
        let settings = SamplerSettings { temperature, top_k, top_p, min_p, seed: 11 };
        Rule::new(&settings, sequence)
    };
    (0..).zip(all).map(rule).collect()
}

/// Compares both on the device that is there.
pub(crate) fn are_as_defined(architecture: &str) {
    let (text, rules) = ([1, 2, 3], rules());
    for vocabulary in VOCABULARIES {
        let model = model(vocabulary, "S=64", architecture);
        let defined = |logits: &[f32], rule: &Rule, position| {
            Sampler::default().sample(logits, rule, position) as i32
        };
        let rows = rules.len();
        let mut batch = model.batch(None, None, rows as u64).expect("a batch");
        let mut first = Vec::new();
        for (row, rule) in rules.iter().enumerate() {
            let logits = batch.prefill(row, &text).expect("logits").to_vec();
            batch.reset(row);
            let drawn = batch.pick_first(row, &text, rule).expect("a token") as i32;
            assert_eq!(drawn, defined(&logits, rule, 3), "{vocabulary}, {rule:?}");
            first.push(Some(drawn));
        }
        let logits = batch.step(&first).expect("logits").to_vec();
        for (row, rule) in rules.iter().enumerate() {
            batch.reset(row);
            batch.pick_first(row, &text, rule).expect("a token");
        }
        let drawn = batch.pick(&first, &rules).expect("tokens").to_vec();
        let width = logits.len() / rows;
        for ((logits, rule), drawn) in logits.chunks(width).zip(&rules).zip(drawn) {
            assert_eq!(drawn, defined(logits, rule, 4), "{vocabulary}, {rule:?}, beside others");
        }
    }
}
