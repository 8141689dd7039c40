//! Checkpoints in few bits: what is written is read again to the bit.

use std::path::Path;

use frontend::{Compiled, WeightMap};
use import::Checkpoint;
use import::quantised::Convention;
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

/// A checkpoint of weights that nobody trained; those of each rule are larger than the ones before.
fn made_up(compiled: &Compiled, target: &WeightMap, path: &Path) -> Checkpoint {
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
            let bytes = numbers.flat_map(f32::to_le_bytes).collect();
            let tensor = Tensor { dtype: Dtype::F32, shape: shape.clone(), bytes };
            tensors.insert(source.names()[0].to_owned(), tensor);
        }
    }
    export::write(path, &tensors).expect("a temporary file");
    let checkpoint = Checkpoint::open(path);
    std::fs::remove_file(path).expect("the file just written");
    checkpoint.expect("a checkpoint")
}

/// Matrices that programs take for one have one NVFP4 scale of the whole, by the largest number of
/// all; what is written so is read again to the bit.
#[test]
fn matrices_of_one_value_share_a_scale() {
    let set = ["V=32", "E=32", "F=48", "K=2", "G=2", "P=16", "L=2"].map(str::to_owned);
    let spec = Spec::open("../models/llama.tn", &set, &mut |_| {});
    let compiled = spec.and_then(|it| it.compile()).unwrap_or_else(|why| panic!("{why}"));
    let maps = &compiled.weights;
    let target = maps.iter().find(|it| it.format == "hf").expect("a map");
    let file = |what: &str| {
        std::env::temp_dir().join(format!("treen-{what}-{}.safetensors", std::process::id()))
    };
    let weights = Weights::Checkpoint(made_up(&compiled, target, &file("made-up")));
    let checkpoint = weights.checkpoint().expect("a checkpoint");
    for (convention, end) in [
        (Convention::ModelOpt, "weight_scale_2"),
        (Convention::CompressedTensors, "weight_global_scale"),
    ] {
        let request = Request::parse("nvfp4").expect("a request");
        let plain = lowered(&compiled, Options::default());
        let own = Assignment::uniform(&request, &contractions(&plain, maps));
        let shared = shared(&compiled, &weights, own.clone());
        let written = |assignment: &Assignment| {
            let stored = Some((assignment, convention));
            let written = export::tensors(&compiled.module, maps, target, checkpoint, stored);
            written.unwrap_or_else(|why| panic!("{why}"))
        };
        let (own, written) = (written(&own), written(&shared));
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
        let mut direct = lowered(&compiled, shared.options(Options::default()));
        let wanted = treen::bind(&mut direct, maps, checkpoint).expect("weights");
        let path = file("shared");
        export::write(&path, &written.tensors).expect("a temporary file");
        let again = Checkpoint::open(&path);
        std::fs::remove_file(&path).expect("the file just written");
        let mut read = lowered(&compiled, Options::default());
        let found = treen::bind(&mut read, maps, &again.expect("a checkpoint")).expect("weights");
        assert!(*found == *wanted, "{convention:?}");
    }
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
            let file = format!("treen-quantised-{}.safetensors", std::process::id());
            let path = std::env::temp_dir().join(file);
            export::write(&path, &written.tensors).expect("a temporary file");
            let again = Checkpoint::open(&path);
            std::fs::remove_file(&path).expect("the file just written");
            let again = again.unwrap_or_else(|why| panic!("{name} {text}: {why}"));
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
