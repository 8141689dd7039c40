//! The fixtures, compiled and run: they answer what Transformers answers, however many threads
//! there are and however the text is cut.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use frontend::WeightMap;
use import::Checkpoint;
use ir::DType;
use runtime::{
    Compiled, Manifest, Model, Pages, Session,
    verify::{Agreement, Golden, verify_batch},
};
use treen::{Lowered, Options, Random, ReferenceModel, Spec, Weights};

/// How far outputs may be from those of Transformers, which rounds at other places.
const TOLERANCE: f32 = 1e-5;

/// A fixture with the checkpoint that it is.
pub(crate) struct Fixture {
    /// Its folder, or its file in GGUF beside that.
    pub(crate) path: PathBuf,
    /// Its weights.
    checkpoint: Checkpoint,
    /// Where each parameter comes from.
    maps: Vec<WeightMap>,
    /// What it was compiled to.
    lowered: Lowered,
}

/// The folders of all fixtures.
pub(crate) fn folders() -> Vec<PathBuf> {
    let entries = fs::read_dir("fixtures").expect("tests/fixtures");
    let mut folders: Vec<PathBuf> = entries
        .map(|it| it.expect("an entry").path())
        .filter(|it| it.join("golden.safetensors").exists())
        .collect();
    folders.sort();
    assert!(!folders.is_empty());
    folders
}

/// The files in GGUF that were converted from a fixture.
fn files() -> Vec<PathBuf> {
    let entries = folders().into_iter().map(|it| it.with_extension("gguf"));
    let files: Vec<PathBuf> = entries.filter(|it| it.exists()).collect();
    assert!(!files.is_empty());
    files
}

/// The spec of a model, by the name that a user would give.
pub(crate) fn spec(name: &str) -> Spec {
    Spec::open(name, &[], &mut |_| {}).unwrap_or_else(|why| panic!("{name}: {why}"))
}

impl Fixture {
    fn compile(path: PathBuf) -> Fixture {
        // Contracts are checked by the tests of the pipeline.
        Fixture::with(path, &Options { check: false, ..Options::default() })
    }

    /// The fixture compiled in another way.
    pub(crate) fn with(path: PathBuf, options: &Options) -> Fixture {
        let spec = spec(path.to_str().expect("a readable name"));
        let compiled = spec.compile().unwrap_or_else(|why| panic!("{why}"));
        let lowered = treen::lower(compiled.module, options, &mut |_| {});
        let lowered = lowered.unwrap_or_else(|why| panic!("{why}"));
        let checkpoint = Checkpoint::open(&path).expect("a checkpoint");
        Fixture { path, checkpoint, maps: compiled.weights, lowered }
    }

    pub(crate) fn golden(&self) -> Golden {
        let folder = self.path.with_extension("");
        Golden::read(&folder.join("golden.safetensors")).expect("a golden file")
    }

    /// The program in memory.
    pub(crate) fn bind(&mut self) -> Compiled {
        let pages = treen::bind(&mut self.lowered, &self.maps, &self.checkpoint);
        self.given(pages.unwrap_or_else(|why| panic!("{why}")))
    }

    /// The program with these weights.
    fn given(&self, pages: Pages) -> Compiled {
        let weights = Arc::new(pages);
        let program = self.lowered.program.clone();
        Compiled::Memory { manifest: Manifest { program, ..Manifest::default() }, weights }
    }
}

#[test]
fn a_description_needs_no_weights() {
    let bare = std::env::temp_dir().join(format!("treen-bare-{}", std::process::id()));
    fs::create_dir_all(&bare).expect("a folder");
    for folder in folders() {
        fs::copy(folder.join("config.json"), bare.join("config.json")).expect("a copy");
        let text = |path: &Path| spec(path.to_str().expect("a readable name")).text();
        let (with, without) = (text(&folder).expect("a spec"), text(&bare).expect("a spec"));
        assert_eq!(with, without, "{}", folder.display());
        let why = Checkpoint::open(&bare).expect_err("there are no weights");
        assert!(why.to_string().contains("random:1"), "{why}");
    }
    fs::remove_dir_all(&bare).expect("it was there");
}

fn agree(what: &str, model: &mut dyn Model, golden: &Golden) {
    agree_within(TOLERANCE, what, model, golden);
}

pub(crate) fn agree_within(tolerance: f32, what: &str, model: &mut dyn Model, golden: &Golden) {
    let agreement = runtime::verify::verify(model, golden).expect("a model that runs");
    assert!(agreement.within(tolerance.into()), "{what}:\n{agreement}");
}

/// The outputs after each token of text `i`, read `chunk` tokens at a time, or at once by a model
/// that reads in no other way.
fn outputs(session: &mut Session, golden: &Golden, i: usize, chunk: usize) -> Vec<f32> {
    session.reset().expect("zeros");
    if let Some(source) = golden.sources.get(i) {
        session.read_source(source).expect("something to encode");
    }
    let text = &golden.texts[i];
    let chunk = if session.is_stepwise() { chunk } else { text.len() };
    let read = |part: &[i32]| session.step(part, part.len()).expect("a step").to_vec();
    text.chunks(chunk).flat_map(read).collect()
}

/// The greatest difference, relative to the greatest magnitude expected.
fn error(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let difference = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    assert!(found.iter().chain(expected).all(|it| it.is_finite()));
    difference.fold(0.0, f32::max) / expected.iter().map(|it| it.abs()).fold(0.0, f32::max)
}

#[test]
fn they_answer_what_transformers_answers() {
    for path in folders().into_iter().chain(files()) {
        let mut fixture = Fixture::compile(path);
        let (golden, name) = (fixture.golden(), fixture.path.display().to_string());
        let reference = ReferenceModel::new(&fixture.lowered, &fixture.maps, &fixture.checkpoint);
        let mut reference = reference.unwrap_or_else(|why| panic!("{why}"));
        agree(&format!("{name}, the reference"), &mut reference, &golden);
        let mut session = fixture.bind().session(Some(2), None).expect("a session");
        agree(&name, &mut session, &golden);
    }
}

/// Weights of norms are multiplied with those of products when they are bound, of loops over layers
/// and of layers one by one.
#[test]
fn absorbed_weights_answer_the_same() {
    let mut absorbing = 0;
    for path in folders() {
        let Fixture { checkpoint, maps, .. } = Fixture::compile(path.clone());
        let open = Weights::Checkpoint(checkpoint).open(&maps);
        let mut fixture = Fixture::with(path, &Options { open, ..Options::default() });
        let is_scaled = fixture.lowered.plan.banks.iter().any(|it| it.times.is_some());
        absorbing += usize::from(is_scaled);
        let (golden, name) = (fixture.golden(), fixture.path.display().to_string());
        let mut session = fixture.bind().session(Some(2), None).expect("a session");
        agree(&name, &mut session, &golden);
        agrees_with_random_weights(&mut fixture);
    }
    assert!(3 < absorbing, "{absorbing} fixtures absorb weights");
}

/// A loop turned by `rotate` takes a norm's weight of all layers as one table.
#[test]
fn turned_and_joined_loops_answer_the_same() {
    let passes = treen::DEFAULT_PIPELINE.replacen(",fuse,", ",rotate,join,fuse,", 1);
    let mut turned = 0;
    for name in ["llama-grouped", "qwen3", "nemotron", "gpt2"] {
        let passes = Some(passes.clone());
        let options = Options { passes, check: false, ..Options::default() };
        let path = PathBuf::from("fixtures").join(name);
        let mut fixture = Fixture::with(path, &options);
        turned += usize::from(fixture.lowered.plan.to_string().contains("norm : 1 x [2, "));
        let golden = fixture.golden();
        let mut session = fixture.bind().session(Some(2), None).expect("a session");
        agree(&format!("{name}, turned"), &mut session, &golden);
        agrees_with_random_weights(&mut fixture);
    }
    assert!(0 < turned, "no loop was turned");
}

#[test]
fn random_weights_are_the_same_to_the_reference() {
    folders()
        .into_iter()
        .map(Fixture::compile)
        .for_each(|mut it| agrees_with_random_weights(&mut it));
}

/// The program answers with random weights what the reference does.
fn agrees_with_random_weights(fixture: &mut Fixture) {
    let (golden, name) = (fixture.golden(), fixture.path.display().to_string());
    let random = Random { seed: 1 };
    let reference = ReferenceModel::random(&fixture.lowered, &random);
    let mut reference = reference.unwrap_or_else(|why| panic!("{why}"));
    let pages = random.bind(&mut fixture.lowered).unwrap_or_else(|why| panic!("{why}"));
    let mut session = fixture.given(pages).session(Some(2), None).expect("a session");
    let text = &golden.texts[0];
    if let Some(source) = golden.sources.first() {
        reference.read_source(source).expect("something to encode");
        session.read_source(source).expect("something to encode");
    }
    let expected = reference.step(text, text.len()).expect("a step");
    let found = session.step(text, text.len()).expect("a step");
    let error = error(found, expected);
    assert!(error <= TOLERANCE, "{name}: {error}");
}

#[test]
fn threads_change_no_bit() {
    for path in folders() {
        let mut fixture = Fixture::compile(path);
        let (golden, compiled) = (fixture.golden(), fixture.bind());
        for chunk in [1, golden.texts[0].len()] {
            let bits = |threads| -> Vec<u32> {
                let mut session = compiled.session(Some(threads), None).expect("a session");
                let texts = 0..golden.texts.len();
                let all = texts.flat_map(|it| outputs(&mut session, &golden, it, chunk));
                all.map(f32::to_bits).collect()
            };
            let one = bits(1);
            for threads in [2, 3] {
                assert!(bits(threads) == one, "{}: {threads} threads", fixture.path.display());
            }
        }
    }
}

#[test]
fn a_text_may_be_cut_anywhere() {
    for path in folders() {
        let mut fixture = Fixture::compile(path);
        let golden = fixture.golden();
        let mut session = fixture.bind().session(Some(2), None).expect("a session");
        for text in 0..golden.texts.len() {
            let whole = outputs(&mut session, &golden, text, usize::MAX);
            for chunk in [1, 5] {
                let cut = outputs(&mut session, &golden, text, chunk);
                let error = error(&cut, &whole);
                assert!(error <= TOLERANCE, "{}, {chunk}: {error}", fixture.path.display());
            }
        }
    }
}

/// Sequences beside each other answer what each answers by itself, unless the model says that it
/// can not have several.
pub(crate) fn are_apart(fixture: &mut Fixture, tolerance: f32) {
    let name = fixture.path.display().to_string();
    let mut batch = match fixture.bind().batch(Some(2), None, 3) {
        Ok(batch) => batch,
        Err(fault) => return assert_eq!(fault.code, "R0304", "{name}: {fault}"),
    };
    let mut found = Agreement::default();
    verify_batch(&mut batch, &fixture.golden(), &mut found).expect("an answer");
    assert!(found.within(f64::from(tolerance)), "{name}: {found:?}");
    assert_eq!(found.batch_is_apart, Some(true), "{name}");
}

#[test]
fn sequences_beside_each_other_are_apart() {
    for path in folders() {
        are_apart(&mut Fixture::compile(path), TOLERANCE);
    }
}

#[test]
fn narrow_keys_and_values_are_near() {
    for path in folders() {
        let [wide, f16, bf16] = [DType::F32, DType::F16, DType::BF16].map(|cache| {
            let options = Options { check: false, cache, ..Options::default() };
            let mut fixture = Fixture::with(path.clone(), &options);
            let golden = fixture.golden();
            let mut session = fixture.bind().session(Some(2), None).expect("a session");
            let texts = 0..golden.texts.len();
            let all = texts.flat_map(|it| outputs(&mut session, &golden, it, 5));
            all.collect::<Vec<f32>>()
        });
        for (narrow, within) in [(f16, 1e-2), (bf16, 0.15)] {
            let error = error(&narrow, &wide);
            assert!(error <= within, "{}: {error}", path.display());
        }
    }
}
