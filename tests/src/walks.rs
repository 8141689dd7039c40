//! All kernels for GPUs, at widths, lengths and formats of every kind, against the processor.
//!
//! Weights are made up. What is compared is every row of logits, of prompts that end everywhere
//! within tiles, of tokens after them, and of batches.

use std::path::Path;
use std::sync::Arc;

use ir::DType;
use runtime::{Batch, Compiled, Manifest, Model, Rule, Session, Target};
use treen::precision::{Assignment, Request, contractions};
use treen::{Lowered, Options, Random, Spec};

use crate::models::Fixture;

/// Families, with heads and widths that the fast kernels are for. Weights of products have rows in
/// whole blocks of every format. One is so wide that many rows fill a GPU in tiles of any height.
const MODELS: &[(&str, &[&str])] = &[
    ("llama", &["E=256", "F=4608", "K=3", "G=3", "P=64", "L=2"]),
    ("qwen3", &["E=384", "F=256", "K=2", "G=4", "L=2"]),
    ("gemma3", &["E=256", "F=256", "P=128", "window=100", "pattern=sf"]),
    ("mamba2", &["E=256", "J=8", "L=2"]),
    ("nemotron_h", &["E=256", "F=384", "H=2", "J=4", "K=2", "G=5", "pattern=M*-M"]),
];

/// How weights are stored.
const FORMATS: [&str; 5] = ["bf16", "q8_0", "q4_0", "fp8-row", "nvfp4"];

/// Tokens of a prompt.
const LENGTHS: [usize; 16] = [1, 2, 3, 8, 9, 16, 17, 63, 64, 65, 127, 128, 129, 200, 256, 700];

/// Texts at once.
const BATCHES: [usize; 5] = [2, 8, 9, 33, 130];

/// As many as there can be.
const MOST: u64 = 256;

/// Threads of the processor for each family.
const THREADS: Option<usize> = Some(2);

/// Tokens that are read one by one behind each prompt.
const BEHIND: usize = 3;

/// How far a row of logits may be from that of the processor, which rounds weights alone; and how
/// far where a GPU multiplies in FP8, as it does with weights in that for more than 16 rows.
const TOLERANCE: f64 = 0.1;
const TOLERANCE_FP8: f64 = 0.25;

/// A family with weights in a format.
fn model(name: &str, settings: &[&str], format: &str, target: Target, on: &str) -> Compiled {
    bind(&mut lower(&format!("../models/{name}.tn"), settings, format, target, on))
}

/// What was lowered, with made-up weights.
fn bind(lowered: &mut Lowered) -> Compiled {
    let weights = Random { seed: 1 }.bind(lowered).unwrap_or_else(|why| panic!("{why}"));
    let manifest = Manifest { program: lowered.program.clone(), ..Manifest::default() };
    Compiled::Memory { manifest, weights: Arc::new(weights) }
}

fn lower(path: &str, settings: &[&str], format: &str, target: Target, on: &str) -> Lowered {
    let settings: Vec<String> =
        settings.iter().chain(&["V=1000", "S=1024"]).map(|it| (*it).to_owned()).collect();
    let spec = Spec::open(path, &settings, &mut |_| {}).unwrap_or_else(|why| panic!("{why}"));
    let compiled = spec.compile().unwrap_or_else(|why| panic!("{path}: {why}"));
    let lower = |options: Options| {
        let lowered = treen::lower(compiled.module.clone(), &options, &mut |_| {});
        lowered.unwrap_or_else(|why| panic!("{path}: {why}"))
    };
    let options = Options {
        check: false,
        chunk: 512,
        target,
        cache: DType::BF16,
        architectures: vec![on.to_owned()],
        ..Options::default()
    };
    let mut lowered = lower(options.clone());
    if format != "bf16" {
        let request = Request::parse(format).expect("a format");
        let weights = contractions(&lowered, &compiled.weights);
        lowered = lower(Assignment::uniform(&request, &weights).options(options));
    }
    lowered
}

/// The same tokens for each of these, others for others.
fn text(seed: usize, length: usize) -> Vec<i32> {
    (0..length).map(|it| ((it * 37 + seed * 101 + it * it % 11) % 1000) as i32).collect()
}

/// The logits of all places of a text, or of its last if it is longer than a step has.
fn rows(session: &mut Session, text: &[i32]) -> Vec<f32> {
    match text.len() <= session.longest_step() {
        true => session.step(text, text.len()).expect("logits").to_vec(),
        false => session.prefill(text).expect("logits").to_vec(),
    }
}

/// What was found to be off.
#[derive(Default)]
struct Walk {
    off: Vec<String>,
}

impl Walk {
    /// Compares row by row; what is no number is as far off as can be.
    fn compare(&mut self, what: &str, found: &[f32], wanted: &[f32]) {
        let tolerance = if what.contains("fp8") { TOLERANCE_FP8 } else { TOLERANCE };
        assert_eq!(found.len(), wanted.len(), "{what}");
        for (row, (found, wanted)) in found.chunks(1000).zip(wanted.chunks(1000)).enumerate() {
            let square = |it: f32| f64::from(it).powi(2);
            let size: f64 = wanted.iter().map(|it| square(*it)).sum();
            let off: f64 = found.iter().zip(wanted).map(|(a, b)| square(a - b)).sum();
            let error = (off / size).sqrt();
            if error.is_nan() || tolerance < error {
                self.off.push(format!("{what}, row {row}: {error:.1e}"));
            }
        }
    }

    /// Texts behind each other, each in one step: their seeds and lengths.
    fn steps(&mut self, what: &str, models: [&Compiled; 2], texts: &[(usize, usize)]) {
        let mut sessions = models.map(|it| it.session(THREADS, None).expect("a session"));
        for &(seed, length) in texts {
            let text = text(seed, length);
            let [device, processor] = sessions.each_mut().map(|it| rows(it, &text));
            self.compare(&format!("{length} tokens {what}"), &device, &processor);
        }
    }

    /// Nothing was off.
    fn end(self) {
        assert!(self.off.is_empty(), "{}", self.off.join("\n"));
    }

    fn prompts(&mut self, what: &str, device: &mut Session, processor: &mut Session) {
        for length in LENGTHS {
            let what = format!("{what}, {length} tokens");
            let text = text(length, length + BEHIND);
            let (prompt, behind) = text.split_at(length);
            let of = |it: &mut Session| {
                it.reset().expect("zeros");
                rows(it, prompt)
            };
            self.compare(&what, &of(device), &of(processor));
            for token in behind {
                let row = |it: &mut Session| it.step(&[*token], 1).expect("logits").to_vec();
                self.compare(&format!("{what}, by token"), &row(device), &row(processor));
            }
        }
    }

    /// Texts of different lengths beside each other.
    fn batch(&mut self, what: &str, device: &mut Batch, processor: &mut Batch) {
        let sequences = device.sequences();
        let texts: Vec<Vec<i32>> = (0..sequences).map(|it| text(it, it % 5 + BEHIND)).collect();
        let begin = |batch: &mut Batch| {
            for (sequence, text) in texts.iter().enumerate() {
                let prompt = &text[..text.len() - BEHIND];
                if !prompt.is_empty() {
                    batch.prefill(sequence, prompt).expect("logits");
                }
            }
        };
        [&mut *device, &mut *processor].into_iter().for_each(begin);
        for back in (1..=BEHIND).rev() {
            let tokens: Vec<Option<i32>> =
                texts.iter().map(|it| Some(it[it.len() - back])).collect();
            let rows = |batch: &mut Batch| batch.step(&tokens).expect("logits").to_vec();
            let what = format!("{what}, {sequences} at once");
            self.compare(&what, &rows(device), &rows(processor));
        }
    }
}

/// Goes through all formats of one of MODELS on the device that is there.
pub(crate) fn agree(name: &str, architecture: &str) {
    let (_, settings) = MODELS.iter().find(|it| it.0 == name).expect("one of MODELS");
    let mut walk = Walk::default();
    for format in FORMATS {
        let what = format!("{name} in {format}");
        let on = |target| model(name, settings, format, target, architecture);
        let (device, processor) = (on(Target::Cuda), on(Target::Cpu));
        let [mut a, mut b] =
            [&device, &processor].map(|it| it.session(THREADS, None).expect("a session"));
        walk.prompts(&what, &mut a, &mut b);
        drop((a, b));
        for sequences in BATCHES {
            let [mut a, mut b] = [&device, &processor]
                .map(|it| it.batch(THREADS, Some(16), sequences as u64).expect("a batch"));
            walk.batch(&what, &mut a, &mut b);
        }
    }
    walk.end();
}

/// A real model in a file, with products in `f32`: the tokens that it writes.
pub(crate) fn writes_the_same(path: &Path, architecture: &str) {
    let written = [Target::Cuda, Target::Cpu].map(|target| {
        let options = Options {
            check: false,
            target,
            rounds: false,
            architectures: vec![architecture.to_owned()],
            ..Options::default()
        };
        let model = Fixture::with(path.to_owned(), &options).bind();
        let mut session = model.session(THREADS, Some(64)).expect("a session");
        let mut next = text(1, 5);
        [(); 16].map(|()| {
            let token = session.pick(&next, &Rule::GREEDY).expect("a token");
            next = vec![token as i32];
            token
        })
    });
    assert_eq!(written[0], written[1]);
}

/// Keys and values that kernels make in every step, of as many rows as there are positions: at once
/// and token by token.
pub(crate) fn agree_by_latent_cache(architecture: &str) {
    let [device, processor] = [Target::Cuda, Target::Cpu]
        .map(|it| bind(&mut lower("../examples/latent.tn", &[], "bf16", it, architecture)));
    let mut walk = Walk::default();
    let lengths = [1, 20, 1, 1, 1].map(|it| (it, it));
    walk.steps("with a latent cache", [&device, &processor], &lengths);
    walk.end();
}

/// As many texts at once as there can be, of a family for which attention wants the most scratch
/// memory: for the parts of the last one, which is long.
pub(crate) fn agree_at_once(architecture: &str) {
    let settings = ["E=64", "F=96", "K=2", "P=32", "L=1"];
    let rows = [Target::Cuda, Target::Cpu].map(|target| {
        let model = model("gpt2", &settings, "bf16", target, architecture);
        let mut batch = model.batch(THREADS, Some(512), MOST).expect("a batch");
        let last = MOST as usize - 1;
        batch.prefill(last, &text(last, 500)).expect("logits");
        let tokens: Vec<Option<i32>> = text(1, last + 1).into_iter().map(Some).collect();
        batch.step(&tokens).expect("logits").to_vec()
    });
    let mut walk = Walk::default();
    walk.compare("as many at once as can be", &rows[0], &rows[1]);
    walk.end();
}

/// Products of one launch that no kernel computes together: with weights in different formats, of
/// which a tail takes two or not, and three that a tail takes.
pub(crate) fn agree_apart(architecture: &str) {
    let small = ["E=64", "F=96", "K=1", "G=2", "P=32", "L=2"];
    let cases: [(&str, &[&str], &str); 3] = [
        ("../models/qwen3.tn", &small, "nvfp4,keep=layers.mlp.up"),
        ("../models/qwen3.tn", &small, "q8_0,keep=layers.attention.k"),
        ("specs/gated_twice.tn", &[], "bf16"),
    ];
    let mut walk = Walk::default();
    for (path, settings, format) in cases {
        let [device, processor] = [Target::Cuda, Target::Cpu]
            .map(|it| bind(&mut lower(path, settings, format, it, architecture)));
        let what = format!("of {path} in {format}");
        walk.steps(&what, [&device, &processor], &[(0, 40), (1, 5), (2, 1)]);
    }
    walk.end();
}

/// All formats of a small family, but for a feed-forward so wide that many rows fill a GPU: as many
/// rows as take each form, and behind them one.
pub(crate) fn agree_when_small(architecture: &str) {
    let settings = ["E=64", "F=4608", "K=1", "G=2", "P=64", "L=1"];
    let mut walk = Walk::default();
    for format in FORMATS {
        let [device, processor] = [Target::Cuda, Target::Cpu]
            .map(|it| model("qwen3", &settings, format, it, architecture));
        let what = format!("of a small qwen3 in {format}");
        walk.steps(&what, [&device, &processor], &[(0, 290), (1, 150), (2, 60), (3, 12), (4, 1)]);
    }
    walk.end();
}

/// A family whose products of many rows are all left to cuBLASLt, as far as it takes them: prompts
/// beside and behind each other, and tokens, which it does not multiply.
pub(crate) fn agree_by_library(architecture: &str) {
    let settings = ["E=64", "F=96", "K=1", "G=2", "P=32", "L=2"];
    let path = "../models/qwen3.tn";
    let mut lowered = lower(path, &settings, "bf16", Target::Cuda, architecture);
    bind(&mut lowered);
    let choices = lowered.kernels().expect("kernels").expect("a program for a GPU").choices;
    let choices: Vec<_> = choices.iter().filter(|it| it.key().starts_with("library ")).collect();
    assert_eq!(choices.len(), 4, "{choices:?}");
    choices.iter().for_each(|it| lowered.tuned.set(it, Some(1)));
    let device = bind(&mut lowered);
    let processor = model("qwen3", &settings, "bf16", Target::Cpu, architecture);
    let mut walk = Walk::default();
    walk.steps("by cuBLASLt", [&device, &processor], &[(0, 200), (1, 150), (2, 1)]);
    walk.end();
}
