//! Checkpoints in few bits: what is written is read again to the bit.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use frontend::{Compiled, WeightMap};
use import::Checkpoint;
use import::quantised::Convention;
use runtime::Manifest;
use treen::evaluate::Evaluator;
use treen::export::{self, Dtype, Exported, Tensor, Tensors};
use treen::precision::{Assignment, Request, contractions, with_shared_scales};
use treen::{DEFAULT_PIPELINE, Lowered, Options, Spec, Weights};

use crate::models::spec;

fn lowered(compiled: &Compiled, options: Options) -> Lowered {
    let options = Options { check: false, ..options };
    treen::lower(compiled.module.clone(), &options, &mut |_| {}).expect("it compiles")
}

/// The formats of `assignment` as `treen quantize` writes them.
fn shared(compiled: &Compiled, weights: &Weights, assignment: Assignment) -> Assignment {
    let plain = lowered(compiled, Options::default());
    let maps = &compiled.weights;
    let contractions = contractions(&plain, maps);
    let params: Vec<&str> = contractions.iter().map(|it| it.param.as_str()).collect();
    let inputs = format!("incremental,inputs{{of={}}},", params.join(" "));
    let passes = Some(DEFAULT_PIPELINE.replacen("incremental,", &inputs, 1));
    let program = lowered(compiled, Options { passes, ..Options::default() }).program;
    let numbers = |param: &str, layer: usize| weights.numbers(&plain, maps, param, layer);
    let rounded = with_shared_scales(&assignment.formats, &contractions, &program, &numbers);
    Assignment { rounded: rounded.expect("weights that can be read"), ..assignment }
}

/// Weights that nobody trained; those of each rule are larger than the ones before.
fn made_up(compiled: &Compiled, target: &WeightMap) -> Tensors {
    let mut tensors = Tensors::new();
    for (i, rule) in target.rules.iter().enumerate() {
        let params = &compiled.module.entry().params;
        let Some(param) = params.iter().find(|it| it.name == *rule.param) else { continue };
        let axes = &param.ty.axes[usize::from(rule.layers.is_some())..];
        let size = |it| compiled.module.axes.fixed(it).expect("a fixed axis");
        let shape: Vec<usize> = axes.iter().map(size).collect();
        for &layer in rule.layers.as_deref().unwrap_or(&[0]) {
            let source = rule.source.of_layer(layer);
            let number = |at: usize| (1 + i) as f32 * ((at * 37 + layer * 11) % 29) as f32;
            let numbers = (0..shape.iter().product()).map(number);
            let bytes: Vec<u8> = numbers.flat_map(f32::to_le_bytes).collect();
            let none = [vec![0], shape[1..].to_vec()].concat();
            let empty = Tensor { dtype: Dtype::F32, shape: none, bytes: Vec::new() };
            // The rules of a tensor in one piece follow each other in the order of its rows.
            let tensor = tensors.entry(source.names()[0].to_owned()).or_insert(empty);
            tensor.shape[0] += shape[0];
            tensor.bytes.extend(bytes);
        }
    }
    tensors
}

/// Tensors as a checkpoint.
fn opened(tensors: &Tensors) -> Checkpoint {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let (process, n) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let path = std::env::temp_dir().join(format!("treen-quantised-{process}-{n}.safetensors"));
    export::write(&path, tensors).expect("a temporary file");
    let checkpoint = Checkpoint::open(&path);
    std::fs::remove_file(&path).expect("the file just written");
    checkpoint.unwrap_or_else(|why| panic!("{why}"))
}

/// A small model whose weights are made up, with those in NVFP4 and how they are written.
struct Small {
    compiled: Compiled,
    weights: Weights,
}

impl Small {
    fn of(path: &Path) -> Small {
        let set = ["V=32", "E=32", "F=48", "K=2", "G=2", "P=16", "L=2"].map(str::to_owned);
        let spec = Spec::open(path.to_str().expect("a name"), &set, &mut |_| {});
        let compiled = spec.and_then(|it| it.compile()).unwrap_or_else(|why| panic!("{why}"));
        let tensors = made_up(&compiled, target(&compiled));
        Small { compiled, weights: Weights::Checkpoint(opened(&tensors)) }
    }

    /// All in NVFP4, each matrix by itself.
    fn own(&self) -> Assignment {
        let request = Request::parse("nvfp4").expect("a request");
        let plain = lowered(&self.compiled, Options::default());
        Assignment::uniform(&request, &contractions(&plain, &self.compiled.weights))
    }

    fn shared(&self, own: &Assignment) -> Assignment {
        shared(&self.compiled, &self.weights, own.clone())
    }

    fn written(&self, assignment: &Assignment, convention: Convention) -> Exported {
        let Small { compiled, weights } = self;
        let stored = Some((assignment, convention));
        let (maps, from) = (&compiled.weights, weights.checkpoint().expect("a checkpoint"));
        let written = export::tensors(&compiled.module, maps, target(compiled), from, stored);
        written.unwrap_or_else(|why| panic!("{why}"))
    }

    /// What is written is what a model that is stored so is bound to.
    fn comes_back(&self, assignment: &Assignment, convention: Convention, written: &Exported) {
        let Small { compiled, weights } = self;
        let maps = &compiled.weights;
        let mut direct = lowered(compiled, assignment.options(Options::default()));
        let from = weights.checkpoint().expect("a checkpoint");
        let wanted = treen::bind(&mut direct, maps, from).expect("weights");
        let mut read = lowered(compiled, Options::default());
        let again = opened(&written.tensors);
        let found = treen::bind(&mut read, maps, &again).unwrap_or_else(|why| panic!("{why}"));
        assert!(*found == *wanted, "{convention:?}");
    }
}

fn target(compiled: &Compiled) -> &WeightMap {
    compiled.weights.iter().find(|it| it.format == "hf").expect("a map")
}

const CONVENTIONS: [(Convention, &str); 2] = [
    (Convention::ModelOpt, "weight_scale_2"),
    (Convention::CompressedTensors, "weight_global_scale"),
];

/// Matrices that programs take for one have one NVFP4 scale of the whole, by the largest number of
/// all; what is written so is read again to the bit.
#[test]
fn matrices_of_one_value_share_a_scale() {
    let small = Small::of(Path::new("../models/llama.tn"));
    for (convention, end) in CONVENTIONS {
        let own = small.own();
        let shared = small.shared(&own);
        let (own, written) = (small.written(&own, convention), small.written(&shared, convention));
        let scale = |of: &Exported, name: &str| {
            of.tensors[&format!("model.layers.1.{name}_proj.{end}")].bytes.clone()
        };
        // The last of each has the largest numbers.
        for (name, largest) in [
            ("self_attn.q", "self_attn.v"),
            ("self_attn.k", "self_attn.v"),
            ("self_attn.v", "self_attn.v"),
            ("self_attn.o", "self_attn.o"),
            ("mlp.gate", "mlp.up"),
        ] {
            assert_eq!(scale(&written, name), scale(&own, largest), "{name}");
        }
        assert_ne!(scale(&own, "self_attn.q"), scale(&own, "self_attn.v"));
        small.comes_back(&shared, convention, &written);
    }
}

/// Queries, keys and values that a checkpoint has in one piece are written in one piece again, with
/// one scale, and are read from it to the bit; so are gate and up.
#[test]
fn a_matrix_in_one_piece_stays_one_in_nvfp4() {
    let llama = include_str!("../../models/llama.tn");
    let fused = llama
        .replace(
            r#"attention.{q, k, v, o} = "model.layers.{l}.self_attn.{param}_proj.weight""#,
            r#"attention.{q, k, v} = split("model.layers.{l}.self_attn.qkv_proj.weight")
  layers[l].attention.o = "model.layers.{l}.self_attn.o_proj.weight""#,
        )
        .replace(
            r#"mlp.{gate, up, down} = "model.layers.{l}.mlp.{param}_proj.weight""#,
            r#"mlp.{gate, up} = split("model.layers.{l}.mlp.gate_up_proj.weight")
  layers[l].mlp.down = "model.layers.{l}.mlp.down_proj.weight""#,
        );
    let path = std::env::temp_dir().join(format!("treen-fused-{}.tn", std::process::id()));
    std::fs::write(&path, fused).expect("a temporary file");
    let small = Small::of(&path);
    std::fs::remove_file(&path).expect("the file just written");
    for (convention, end) in CONVENTIONS {
        let shared = small.shared(&small.own());
        let written = small.written(&shared, convention);
        let shape = |name: &str| {
            let name = format!("model.layers.0.{name}_proj.weight_scale");
            written.tensors[&name].shape.clone()
        };
        // 64 rows of queries, 32 of keys and of values, 48 of gate and of up, in blocks of 16.
        assert_eq!(shape("self_attn.qkv"), [128, 2], "{convention:?}");
        assert_eq!(shape("mlp.gate_up"), [96, 2], "{convention:?}");
        let scales = &written.tensors[&format!("model.layers.0.self_attn.qkv_proj.{end}")];
        assert_eq!(scales.shape.iter().product::<usize>(), 1, "{convention:?}");
        small.comes_back(&shared, convention, &written);
    }
}

/// A weight that is no number is told by whatever stores it anew, and by whatever reads a text.
#[test]
fn what_is_no_number_is_noticed() {
    let small = Small::of(Path::new("../models/llama.tn"));
    let Small { compiled, .. } = &small;
    let mut tensors = made_up(compiled, target(compiled));
    let poisoned = tensors.get_mut("model.layers.1.mlp.up_proj.weight").expect("a tensor");
    poisoned.bytes[40..44].copy_from_slice(&f32::NAN.to_le_bytes());
    let poisoned = opened(&tensors);
    let bound = |options| {
        let mut lowered = lowered(compiled, options);
        let pages = treen::bind(&mut lowered, &compiled.weights, &poisoned);
        pages.map(|it| (lowered.program, it))
    };
    let why = bound(small.own().options(Options::default())).err().expect("no code for NaN");
    assert!(why.to_string().contains("`layers.mlp.up`: number 10 is NaN"), "{why}");
    let (program, weights) = bound(Options::default()).unwrap_or_else(|why| panic!("{why}"));
    let manifest = Manifest { program, ..Manifest::default() };
    let model = runtime::Compiled::Memory { manifest, weights: Arc::new(weights) };
    let mut evaluator = Evaluator::new(&model, 4, Some(1)).unwrap_or_else(|why| panic!("{why}"));
    let why = evaluator.score(&[1, 2, 3, 4], None).expect_err("an answer that is no number");
    assert!(why.to_string().contains("answers NaN to tokens 0 to 3"), "{why}");
}

/// A model whose weights are written anew when they are bound, and one bound to a checkpoint that
/// was written so, have the same weights.
#[test]
fn quantised_checkpoints_come_back_to_the_bit() {
    for name in ["fixtures/llama-grouped", "fixtures/nemotron_h", "fixtures/qwen3"] {
        let spec = spec(name);
        let compiled = spec.compile().unwrap_or_else(|why| panic!("{name}: {why}"));
        let checkpoint = Checkpoint::open(Path::new(name)).expect("a checkpoint");
        let maps = &compiled.weights;
        let target = maps.iter().find(|it| it.format == "hf").expect("a map");
        for (i, text) in ["nvfp4", "fp8", "fp8-row", "mxfp8", "nvfp4-fit"].into_iter().enumerate() {
            let request = Request::parse(text).expect("a request");
            let plain = lowered(&compiled, Options::default());
            let assignment = Assignment::uniform(&request, &contractions(&plain, maps));
            let mut direct = lowered(&compiled, assignment.options(Options::default()));
            let wanted = treen::bind(&mut direct, maps, &checkpoint).expect("weights");
            let convention = [Convention::ModelOpt, Convention::CompressedTensors][i % 2];
            let stored = Some((&assignment, convention));
            let written = export::tensors(&compiled.module, maps, target, &checkpoint, stored);
            let written = written.unwrap_or_else(|why| panic!("{name} {text}: {why}"));
            let again = opened(&written.tensors);
            let mut read = lowered(&compiled, Options::default());
            let found = treen::bind(&mut read, maps, &again).unwrap_or_else(|why| panic!("{why}"));
            assert!(*found == *wanted, "{name} {text}");
            let formats = |of: &Lowered| -> Vec<ir::DType> {
                of.program.weights.iter().map(|it| it.dtype).collect()
            };
            assert_eq!(formats(&read), formats(&direct), "{name} {text}");
            assert_eq!(written.formats.is_empty(), assignment.formats.is_empty(), "{name} {text}");
        }
    }
}
