//! Weights that a device makes up are those that the host makes up, in every format.

use std::sync::Arc;

use ir::storage::Encoding;
use passes::Formats;
use runtime::{Compiled, Manifest, Pages, Target};
use treen::{Lowered, Options, Random, Spec, Weights};

/// A model whose layers are two products, of widths that are no multiples of what a tile or a step
/// has. Its layers are stored in one format each.
const SPEC: &str = "use prelude

axis V = 48   // vocabulary
axis E = 144  // residual stream
axis F = 288  // feed-forward
axis L = 9    // layers
axis S <= 8   // positions

block mix(x[S, E]) {
  param up[F, E], down[E, F]
  x + linear(linear(x, up), down)
}

model drawn(tokens[S]) -> [S, V] {
  param embed[V, E]
  let x = embed[tokens]
  layers L { x = mix(x) }
  linear(x, embed)
}
";

/// Formats that a device makes up, layer by layer. What does not fit a width stays in `bf16`.
const FORMATS: [&str; 9] =
    ["bf16", "f16", "fp8-row", "fp8", "fp8-row-pow2", "nvfp4", "nvfp4-16x16", "q8_0", "q4_0"];

/// The model without weights.
fn lower(architecture: &str) -> Lowered {
    let path = std::env::temp_dir().join(format!("treen-drawn-{}.tn", std::process::id()));
    std::fs::write(&path, SPEC).expect("a file");
    let spec = Spec::open(path.to_str().expect("a readable name"), &[], &mut |_| {});
    let compiled = spec.and_then(|it| it.compile()).unwrap_or_else(|why| panic!("{why}"));
    std::fs::remove_file(&path).expect("the file goes");
    let mut formats = Formats::default();
    for (param, columns) in [("layers.mix.up", 144), ("layers.mix.down", 288)] {
        let named = FORMATS.map(|it| Encoding::from_name(it).filter(|it| it.fits(columns)));
        formats.0.insert(param.into(), named.to_vec());
    }
    let options = Options {
        check: false,
        target: Target::Cuda,
        architectures: vec![architecture.to_owned()],
        formats,
        ..Options::default()
    };
    let lowered = treen::lower(compiled.module, &options, &mut |_| {});
    lowered.unwrap_or_else(|why| panic!("{why}"))
}

/// What the model with these weights says.
fn logits(lowered: &Lowered, pages: Pages) -> Vec<f32> {
    let manifest = Manifest { program: lowered.program.clone(), ..Manifest::default() };
    let model = Compiled::Memory { manifest, weights: Arc::new(pages) };
    let mut session = model.session(None, None).unwrap_or_else(|why| panic!("{why}"));
    session.prefill(&[1, 40, 7]).unwrap_or_else(|why| panic!("{why}")).to_vec()
}

/// Compares what follows from the weights of both, bit by bit.
pub(crate) fn are_the_same(architecture: &str) {
    let (random, lowered) = (Random { seed: 1 }, &mut lower(architecture));
    let pages = random.bind(lowered).unwrap_or_else(|why| panic!("{why}"));
    assert!(pages.iter().any(|it| *it != 0));
    let brought = logits(lowered, pages);
    let pages = Weights::Random(random).bind_there(lowered, &[]);
    let pages = pages.unwrap_or_else(|why| panic!("{why}"));
    assert!(pages.iter().all(|it| *it == 0), "weights are brought");
    assert!(brought.iter().all(|it| it.is_finite()) && brought.iter().any(|it| 0.1 < it.abs()));
    assert_eq!(brought, logits(lowered, pages));
}
