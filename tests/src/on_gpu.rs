//! Whole programs on the GPU of this machine, against the processor and Transformers. Without a
//! GPU, or NVRTC to compile for it, each says that it tests nothing.

use cuda::{ARCHITECTURES, Compiler};
use treen::catalog::{self, Entry};

use crate::{device, draws, models::folders, not_tested, random, walks};

/// Runs a test for the architecture of the device.
fn on_gpu(what: &str, test: impl FnOnce(&str)) {
    let capability = match (cuda::properties(), Compiler::find()) {
        (Ok(it), Ok(_)) => it.capability,
        (Err(why), _) => return not_tested(what, why),
        (_, Err(why)) => return not_tested(what, why),
    };
    let is_of = |it: &&&str| it.trim_end_matches('a') == format!("sm_{capability}");
    let Some(architecture) = ARCHITECTURES.iter().find(is_of) else {
        let why = format!("no code is made for compute capability {capability}");
        return not_tested(what, why);
    };
    runtime::register_device(cuda::open);
    test(architecture);
}

#[test]
fn tokens_are_drawn() {
    on_gpu("tokens are drawn", draws::are_as_defined);
}

#[test]
fn weights_are_made_up() {
    on_gpu("weights are made up", random::are_the_same);
}

#[test]
fn llama_walks() {
    on_gpu("llama walks", |it| walks::agree("llama", it));
}

#[test]
fn qwen3_walks() {
    on_gpu("qwen3 walks", |it| walks::agree("qwen3", it));
}

#[test]
fn gemma3_walks() {
    on_gpu("gemma3 walks", |it| walks::agree("gemma3", it));
}

#[test]
fn mamba2_walks() {
    on_gpu("mamba2 walks", |it| walks::agree("mamba2", it));
}

#[test]
fn nemotron_h_walks() {
    on_gpu("nemotron h walks", |it| walks::agree("nemotron_h", it));
}

#[test]
fn as_many_texts_as_can_be_walk() {
    on_gpu("as many texts as can be", walks::agree_at_once);
}

#[test]
fn small_ones_walk() {
    on_gpu("small ones walk", walks::agree_when_small);
}

#[test]
fn latent_caches_walk() {
    on_gpu("latent caches walk", walks::agree_by_latent_cache);
}

#[test]
fn products_apart_walk() {
    on_gpu("products apart walk", walks::agree_apart);
}

#[test]
fn smollm2_writes_the_same() {
    let what = "smollm2 writes the same";
    on_gpu(what, |it| match catalog::entry("smollm2-135m") {
        Ok(Entry::Weights(weights)) => {
            match catalog::fetch("smollm2-135m", &weights, &mut |_| {}) {
                Ok(path) => walks::writes_the_same(&path, it),
                Err(why) => not_tested(what, why),
            }
        }
        _ => panic!("the catalog has its weights"),
    });
}

#[test]
fn the_library_multiplies() {
    on_gpu("the library multiplies", |it| {
        if cuda::library_version().is_some() {
            walks::agree_by_library(it);
        }
    });
}

#[test]
fn fixtures_agree_exactly() {
    on_gpu("fixtures agree exactly", |it| {
        folders().iter().for_each(|path| device::agrees(path, it, false))
    });
}

#[test]
fn fixtures_agree_in_16_bits() {
    on_gpu("fixtures agree in 16 bits", |it| {
        folders().iter().for_each(|path| device::agrees(path, it, true))
    });
}
