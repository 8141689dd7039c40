//! Whole programs on the GPU of this machine, against the processor and Transformers. Without a
//! GPU, or NVRTC to compile for it, each says that it tests nothing.

use cuda::{ARCHITECTURES, Compiler};

use crate::{device, draws, models::folders, random, walks};

/// Runs a test for the architecture of the device.
#[expect(clippy::print_stderr, reason = "says why nothing is tested")]
fn on_gpu(test: impl FnOnce(&str)) {
    let capability = match (cuda::properties(), Compiler::find()) {
        (Ok(it), Ok(_)) => it.capability,
        (Err(why), _) => return eprintln!("not tested: {why}"),
        (_, Err(why)) => return eprintln!("not tested: {why}"),
    };
    let is_of = |it: &&&str| it.trim_end_matches('a') == format!("sm_{capability}");
    let Some(architecture) = ARCHITECTURES.iter().find(is_of) else {
        return eprintln!("not tested: no code is made for compute capability {capability}");
    };
    runtime::register_device(cuda::open);
    test(architecture);
}

#[test]
fn tokens_are_drawn() {
    on_gpu(draws::are_as_defined);
}

#[test]
fn weights_are_made_up() {
    on_gpu(random::are_the_same);
}

#[test]
fn llama_walks() {
    on_gpu(|it| walks::agree("llama", it));
}

#[test]
fn qwen3_walks() {
    on_gpu(|it| walks::agree("qwen3", it));
}

#[test]
fn gemma3_walks() {
    on_gpu(|it| walks::agree("gemma3", it));
}

#[test]
fn mamba2_walks() {
    on_gpu(|it| walks::agree("mamba2", it));
}

#[test]
fn nemotron_h_walks() {
    on_gpu(|it| walks::agree("nemotron_h", it));
}

#[test]
fn several_formats_walk() {
    on_gpu(walks::agree_in_several_formats);
}

#[test]
fn the_library_multiplies() {
    on_gpu(|it| {
        if cuda::library_version().is_some() {
            walks::agree_by_library(it);
        }
    });
}

#[test]
fn fixtures_agree_exactly() {
    on_gpu(|it| folders().iter().for_each(|path| device::agrees(path, it, false)));
}

#[test]
fn fixtures_agree_in_16_bits() {
    on_gpu(|it| folders().iter().for_each(|path| device::agrees(path, it, true)));
}
