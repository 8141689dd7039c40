//! Checkpoints in few bits: what is written is read again to the bit.

use std::path::Path;

use frontend::Compiled;
use import::Checkpoint;
use import::quantised::Convention;
use treen::precision::{Assignment, Request, contractions};
use treen::{Lowered, Options, export};

use crate::models::spec;

fn lowered(compiled: &Compiled, options: Options) -> Lowered {
    let options = Options { check: false, ..options };
    treen::lower(compiled.module.clone(), &options, &mut |_| {}).expect("it compiles")
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
