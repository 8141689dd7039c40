//! Whole programs for GPUs, from the kernels' text to what the driver is asked to do, where there
//! is no GPU: `tests/cuda/toolkit` has a compiler and a driver that take the place of NVIDIA's and
//! run kernels on the shim.

use std::{env, fs, os::unix::fs::symlink, path::Path, process::Command};

use runtime::Target;
use treen::Options;

use crate::{
    cuda::{cuda_headers, run},
    models::{Fixture, agree_within, are_apart},
};

/// What has every kind of layer: grouped heads, sliding windows, scans, encoders, cross attention.
const FIXTURES: &[&str] = &["llama-grouped", "gemma3", "nemotron_h", "bert", "t5-gated"];

/// How far outputs may be from those of Transformers: kernels for few rows take a number as the sum
/// of two of 8 bits.
const TOLERANCE: f32 = 3e-5;

/// Tells the test that it runs with the stand-ins in place.
const INSIDE: &str = "TREEN_STAND_INS";

const FLAGS: &[&str] =
    &["-std=c++17", "-fno-strict-aliasing", "-w", "-fPIC", "-isystem", "include"];

/// Makes a toolkit of the stand-ins in `folder`.
fn build(root: &Path, headers: &Path, folder: &Path) {
    fs::create_dir_all(folder.join("lib")).expect("a folder");
    fs::create_dir_all(folder.join("shim")).expect("a folder");
    for entry in fs::read_dir(root.join("tests/cuda/shim")).expect("the shim") {
        let path = entry.expect("an entry").path();
        let to = folder.join("shim").join(path.file_name().expect("a name"));
        fs::copy(&path, to).expect("a copy");
    }
    symlink(root.join("tests/cuda/toolkit"), folder.join("toolkit")).expect("a link");
    symlink(headers, folder.join("include")).expect("a link");
    let compile = |arguments: &[&str]| {
        run(Command::new("g++").current_dir(folder).args(FLAGS).args(arguments));
    };
    let library = ["-x", "c++", "-O2", "-shared", "-Ishim"];
    let link = ["-x", "none", "-Llib", "-lshim", "-o"];
    compile(&[&library[..], &["shim/shim.cpp", "-o", "lib/libshim.so"]].concat());
    compile(&[&library[..], &["toolkit/driver.cpp"], &link, &["lib/libcuda.so.1"]].concat());
    compile(&[&library[..], &["toolkit/nvrtc.cpp"], &link, &["lib/libnvrtc.so.13"]].concat());
    // What every kernel includes is read once, with the flags that kernels are compiled with.
    compile(&["-x", "c++-header", "-O1", "shim/shim.h", "-o", "shim/shim.h.gch"]);
}

fn agrees(name: &str) {
    let options = Options {
        check: false,
        target: Target::Cuda,
        rounds: false,
        architectures: vec!["sm_80".to_owned()],
        ..Options::default()
    };
    let mut fixture = Fixture::with(Path::new("fixtures").join(name), &options);
    let mut session = fixture.bind().session(None, None).expect("a session");
    agree_within(TOLERANCE, name, &mut session, &fixture.golden());
    are_apart(&mut fixture, TOLERANCE);
}

#[test]
#[expect(clippy::print_stderr, reason = "says why nothing is tested")]
fn programs_run_on_the_stand_ins() {
    if env::var_os(INSIDE).is_some() {
        runtime::register_device(::cuda::open);
        return FIXTURES.iter().for_each(|it| agrees(it));
    }
    let compiler = Command::new("g++").arg("--version").output();
    let (Ok(_), Some(headers), true) = (compiler, cuda_headers(), cfg!(target_arch = "x86_64"))
    else {
        eprintln!("not tested: it takes g++, the headers of CUDA 13 in CUDA_HOME, and x86-64");
        return;
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("a folder");
    let headers = headers.canonicalize().expect("a folder");
    let folder = env::temp_dir().join(format!("treen-toolkit-{}", std::process::id()));
    build(&root, &headers, &folder);
    let mut again = Command::new(env::current_exe().expect("this program"));
    run(again
        .args(["--exact", "device::programs_run_on_the_stand_ins"])
        .env(INSIDE, "1")
        .env("TREEN_CACHE", folder.join("cache"))
        .env("CUDA_HOME", &folder)
        .env("LD_LIBRARY_PATH", folder.join("lib")));
    fs::remove_dir_all(&folder).expect("the folder goes");
}
