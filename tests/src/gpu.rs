//! What GPUs are given to run: every launch has a form that takes any number of rows on any
//! architecture, whatever weights are stored in; and every kernel compiles, where NVRTC is there,
//! to the instructions that it was written for.

use std::{env, fs, path::Path};

use ::cuda::{ARCHITECTURES, Compiler, Form, GpuProgram, Step};
use ir::DType;
use runtime::Target;
use treen::{Lowered, Options, Spec};

use crate::{models::folders, not_tested};

/// A model for GPUs, with `settings` in its spec.
fn lower(name: &str, settings: &[&str]) -> Lowered {
    let settings: Vec<String> = settings.iter().map(|it| (*it).to_owned()).collect();
    let spec = Spec::open(name, &settings, &mut |_| {}).unwrap_or_else(|why| panic!("{why}"));
    let module = spec.compile().unwrap_or_else(|why| panic!("{why}")).module;
    let options = Options { target: Target::Cuda, check: false, ..Options::default() };
    treen::lower(module, &options, &mut |_| {}).unwrap_or_else(|why| panic!("{name}: {why}"))
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
        let mut lowered = lower(folder, &[]);
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
fn kernels_name_the_lines_that_they_compute() {
    let program = program(&mut lower("llama3-8b", &[]), DType::BF16);
    let shown = program.to_string();
    let heads: Vec<&str> = shown.lines().filter(|it| it.contains(" threads")).collect();
    let text = include_str!("../../models/llama.tn");
    for (kernel, words) in [
        ("gather", &["embed[tokens]"][..]),
        ("norm_matmul", &["linear(", "rms_norm("]),
        ("attention", &["attend("]),
    ] {
        let named = heads.iter().find(|it| it.contains(&format!(": {kernel},")));
        let named = named.unwrap_or_else(|| panic!("no {kernel}"));
        let lines = named.split("llama.tn:").nth(1).unwrap_or_else(|| panic!("{named}: no line"));
        let lines = lines.split(", ").map(|it| it.split('-').map(|it| it.parse::<usize>()));
        let runs = lines.map(|it| it.collect::<Result<Vec<_>, _>>().expect("numbers"));
        let numbers: Vec<usize> = runs.flat_map(|it| it[0]..=it[it.len() - 1]).collect();
        let said: Vec<&str> = numbers.iter().filter_map(|it| text.lines().nth(it - 1)).collect();
        for word in words {
            assert!(said.iter().any(|it| it.contains(word)), "{named} says nothing of {word}");
        }
        for line in said {
            assert!(words.iter().any(|it| line.contains(it)), "{kernel} of `{line}`");
        }
    }
}

/// The weight of a norm is loaded before the kernel before has ended; not if that may be what
/// computes it.
#[test]
fn weights_that_kernels_compute_are_waited_for() {
    let text = include_str!("../../models/llama.tn");
    let added = text.replace("rms_norm(x, norm, eps)", "rms_norm(x, norm + 1, eps)");
    assert_ne!(text, added);
    let waits = |text: &str| {
        let path = env::temp_dir().join(format!("treen-waits-{}.tn", std::process::id()));
        fs::write(&path, text).expect("a file");
        let program = program(&mut lower(path.to_str().expect("a name"), &[]), DType::BF16);
        fs::remove_file(&path).expect("the file");
        let normed = program.kernels.iter().map(|it| &it.source);
        let normed: Vec<_> = normed.filter(|it| it.contains("NormedRows<")).collect();
        let waits = normed.iter().filter(|it| it.contains("wait_for_earlier();\n  NormedRows<"));
        (waits.count(), normed.len())
    };
    let ((none, all), (some, as_many)) = (waits(text), waits(&added));
    assert!(none == 0 && 0 < some && all == as_many, "{none} of {all}, {some} of {as_many}");
}

/// Attention reads earlier keys and values before the kernel before has ended; not if a kernel of
/// the step makes them.
#[test]
fn keys_that_kernels_make_are_waited_for() {
    let waits = |path: &str| {
        let program = program(&mut lower(path, &[]), DType::BF16);
        let sources = program.kernels.iter().map(|it| &it.source);
        let attends: Vec<_> = sources.filter(|it| it.contains("attend<")).collect();
        let waits = attends.iter().filter(|it| it.contains("wait_for_earlier();\n  using A"));
        (waits.count(), attends.len())
    };
    let ((none, all), (some, as_many)) =
        (waits("../models/llama.tn"), waits("../examples/latent.tn"));
    assert!(none == 0 && 0 < all && 0 < some && some == as_many, "{none} of {all}, {some}");
}

#[test]
fn decoders_read_batches() {
    for folder in folders() {
        let folder = folder.to_str().expect("a readable name");
        let program = program(&mut lower(folder, &[]), DType::BF16);
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
    let kernels = |layers: &str| program(&mut lower("llama3-8b", &[layers]), DType::BF16).kernels;
    assert_eq!(kernels("L=2"), kernels("L=32"));
}

/// Instructions without which a kernel that includes a header would be right and slow.
const INSTRUCTIONS: &[(&str, &[&str])] = &[
    ("gemm.cuh", &["wgmma.mma_async", "cp.async.bulk.tensor"]),
    ("attention_hopper.cuh", &["wgmma.mma_async", "cp.async.bulk.tensor"]),
    ("gemm_packed.cuh", &["wgmma.mma_async", "cp.async.bulk.tensor", "cp.async.bulk.shared"]),
    ("gemm_split_packed.cuh", &["wgmma.mma_async", "cp.async.bulk.tensor", "cp.async.bulk.shared"]),
    ("gemm_small.cuh", &["mma.sync", "ldmatrix"]),
    ("attention_mma.cuh", &["mma.sync", "movmatrix.sync"]),
    ("attention_prompt.cuh", &["mma.sync"]),
    ("ssd_prompt.cuh", &["mma.sync"]),
    ("skinny.cuh", &["mma.sync"]),
];

/// Bytes that a thread may write to memory for want of registers: no inner loop does with so few.
const SPILLED: u32 = 128;

/// Bytes of memory of a thread's own, for that and for what has an address that is chosen when
/// running: a launch's results would cost it microseconds that way.
const STACK: u32 = 128;

/// Registers of a multiprocessor, which one block must find room in.
const REGISTERS: u32 = 1 << 16;

/// Bytes of shared memory of a multiprocessor of Hopper.
const SHARED: u32 = 228 << 10;

/// Bytes of shared memory that a block takes beside what its launch gives it: barriers, and what
/// the driver keeps.
const BESIDE: u32 = 2 << 10;

/// Blocks that a multiprocessor is to hold at once.
fn residents(source: &str) -> u32 {
    let bounds = source.split("__launch_bounds__(").nth(1).and_then(|it| it.split(')').next());
    let blocks = bounds.and_then(|it| it.split(", ").nth(1)).and_then(|it| it.parse().ok());
    blocks.unwrap_or(1)
}

/// Bytes of shared memory that a block of sm_80 can have.
const SHARED_BEFORE_HOPPER: u32 = 163 << 10;

/// Compiles the kernels of `program`, which are kept in `folder`, and looks at what became of each.
fn check(what: &str, program: &GpuProgram, architectures: &[&str], folder: &Path) {
    let architectures: Vec<String> = architectures.iter().map(|it| (*it).to_owned()).collect();
    let images = program.images(&architectures, Some(folder));
    let images = images.unwrap_or_else(|why| panic!("{what}: {why}"));
    for (kernel, images) in program.kernels.iter().zip(images) {
        assert!(images.iter().any(Option::is_some), "{what}: {} is for nothing", kernel.name);
        for (architecture, image) in architectures.iter().zip(images) {
            let Some(image) = image else { continue };
            let what = format!("{what}, {architecture}: {}\n{}", kernel.name, kernel.source);
            assert!(image.resources.spilled <= SPILLED, "{what}");
            assert!(image.resources.stack <= STACK, "{what}");
            let registers = image.resources.registers;
            assert!(0 < registers && registers * kernel.threads <= REGISTERS, "{what}");
            let finds_room = residents(&kernel.source) * (kernel.shared + BESIDE) <= SHARED;
            assert!(finds_room || architecture != "sm_90a", "{what}");
            let before = kernel.shared_before_hopper.unwrap_or(kernel.shared);
            let is_scan = kernel.source.contains("\"ssd_prompt.cuh\"");
            assert!(!is_scan || before <= SHARED_BEFORE_HOPPER, "{what}");
            assert!(!image.resources.is_serial, "{what}");
            for (header, instructions) in INSTRUCTIONS {
                let wanted = kernel.source.contains(&format!("\"{header}\""));
                let missing = instructions.iter().find(|it| !image.ptx.contains(**it));
                assert!(!wanted || missing.is_none(), "no {missing:?}: {what}");
            }
        }
    }
}

#[test]
fn kernels_compile_to_what_they_should() {
    if let Err(why) = Compiler::find() {
        return not_tested("what kernels compile to", why);
    }
    let kept = &env::temp_dir().join(format!("treen-kernels-{}", std::process::id()));
    for folder in folders() {
        let folder = folder.to_str().expect("a readable name");
        check(folder, &program(&mut lower(folder, &[]), DType::BF16), &ARCHITECTURES, kept);
    }
    // Their widths are the true ones.
    let qwen3 = &mut lower("qwen3-8b", &["L=1", "V=2048"]);
    let packed = [DType::F8E4M3, DType::NvFp4, DType::Q8_0, DType::Q4_0, DType::Q4_1];
    for dtype in [&[DType::BF16], &packed[..]].concat() {
        check(&format!("qwen3-8b in {dtype}"), &program(qwen3, dtype), &ARCHITECTURES, kept);
    }
    let nano2 = &mut lower("nano2-9b", &["pattern=M-*-", "V=2048"]);
    check("nano2-9b", &program(nano2, DType::BF16), &["sm_80", "sm_90a"], kept);
    fs::remove_dir_all(kept).expect("the folder goes");
}
