//! What GPUs are given to run: every launch has a form that takes any number of rows on any
//! architecture, whatever weights are stored in; and every kernel compiles, where NVRTC is there.

use ::cuda::{Compiler, Form, GpuProgram, Step};
use ir::DType;
use runtime::Target;
use treen::{Lowered, Options};

use crate::models::{folders, spec};

fn lower(folder: &str) -> Lowered {
    let module = spec(folder).compile().unwrap_or_else(|why| panic!("{why}")).module;
    let options = Options { target: Target::Cuda, check: false, ..Options::default() };
    treen::lower(module, &options, &mut |_| {}).unwrap_or_else(|why| panic!("{folder}: {why}"))
}

/// The kernels where the weights of products are stored as `dtype`.
fn program(lowered: &mut Lowered, dtype: DType) -> GpuProgram {
    for slot in lowered.program.weights.iter_mut().filter(|it| it.packed) {
        let fits = slot.name.starts_with("layers.") && slot.shape[1].is_multiple_of(128);
        let is_plain = matches!(dtype, DType::F32 | DType::BF16);
        slot.dtype = if is_plain || fits { dtype } else { DType::BF16 };
    }
    let program = lowered.kernels().unwrap_or_else(|why| panic!("{why}"));
    program.expect("a program for a GPU")
}

fn collect<'a>(steps: &'a [Step], found: &mut Vec<&'a Vec<Form>>) {
    for step in steps {
        match step {
            Step::Launch(forms) => found.push(forms),
            Step::Loop { steps, .. } => collect(steps, found),
        }
    }
}

#[test]
fn every_launch_takes_any_number_of_rows() {
    for folder in folders() {
        let folder = folder.to_str().expect("a readable name");
        let mut lowered = lower(folder);
        for dtype in [DType::F32, DType::BF16, DType::Q8_0, DType::F8E4M3, DType::NvFp4] {
            let program = program(&mut lowered, dtype);
            let mut found = Vec::new();
            collect(&program.steps, &mut found);
            assert!(!found.is_empty());
            for choices in found {
                let last = choices.last().expect("a form");
                let kernels = last.launches.iter().map(|it| &program.kernels[it.kernel]);
                let anywhere = kernels.clone().all(|it| it.only.is_none());
                let names: Vec<&str> = kernels.map(|it| it.name.as_str()).collect();
                assert!(last.rows.is_none() && anywhere, "{folder}, {dtype}: {names:?}");
            }
        }
    }
}

#[test]
fn decoders_read_batches() {
    for folder in folders() {
        let folder = folder.to_str().expect("a readable name");
        let program = program(&mut lower(folder), DType::BF16);
        let reads_whole = ["bert", "t5", "t5-gated"].iter().any(|it| folder.ends_with(it));
        let mut found = Vec::new();
        match &program.batch {
            Ok(steps) => collect(steps, &mut found),
            Err(why) => assert!(reads_whole, "{folder}: {why}"),
        }
        assert_eq!(found.is_empty(), reads_whole, "{folder}");
        assert!(found.iter().all(|it| it.last().is_some_and(|it| it.rows.is_none())), "{folder}");
    }
}

#[test]
fn equal_layers_share_their_kernels() {
    let kernels = |layers: &str| {
        let set = [format!("L={layers}")];
        let spec = treen::Spec::open("llama3-8b", &set, &mut |_| {}).expect("a model");
        let module = spec.compile().expect("a module").module;
        let options = Options { target: Target::Cuda, check: false, ..Options::default() };
        let mut lowered = treen::lower(module, &options, &mut |_| {}).expect("a plan");
        program(&mut lowered, DType::BF16).kernels
    };
    assert_eq!(kernels("2"), kernels("32"));
}

#[test]
#[expect(clippy::print_stderr, reason = "says why nothing is tested")]
fn kernels_compile_for_two_architectures() {
    if let Err(why) = Compiler::find() {
        eprintln!("not compiled: {why}");
        return;
    }
    for folder in ["fixtures/llama-tied", "fixtures/nemotron_h", "fixtures/t5"] {
        let mut program = program(&mut lower(folder), DType::BF16);
        let architectures = ["sm_80".to_owned(), "sm_90a".to_owned()];
        program.compile(&architectures).unwrap_or_else(|why| panic!("{folder}: {why}"));
        let images = program.kernels.iter().map(|it| it.images.iter().filter(|it| !it.is_empty()));
        assert!(images.into_iter().all(|it| 0 < it.count()));
    }
}
