//! Whole programs for GPUs without one, from the kernels' text to what the driver is asked to do:
//! on `tests/cuda/toolkit`, a compiler and a driver that take the place of NVIDIA's and run kernels
//! on the shim.

use std::{env, fs, os::unix::fs::symlink, path::Path, process::Command};

use ir::DType;
use runtime::{Fault, Rule, Target};
use treen::Options;

use crate::{
    cuda::{cuda_headers, run},
    draws,
    models::{Fixture, agree_within, are_apart},
    not_tested, random, walks,
};

/// What has every kind of layer: grouped heads, sliding windows, scans, encoders, cross attention.
const FIXTURES: &[&str] = &["llama-grouped", "gemma3", "nemotron_h", "bert", "t5-gated"];

/// How far outputs may be from those of Transformers: kernels for few rows take a number as the sum
/// of two of 8 bits.
const TOLERANCE: f32 = 3e-5;

/// The same where numbers are rounded to 16 bits on their way.
const ROUNDED: f32 = 0.1;

/// Tells the test that it runs with the stand-ins in place, and the compute capability of the
/// device that is played.
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
    let link = ["-x", "none", "-Llib", "-l:libcuda.so.1", "-o", "lib/libcublasLt.so.13"];
    compile(&[&library[..], &["toolkit/cublaslt.cpp"], &link].concat());
    // What every kernel includes is read once, with the flags that kernels are compiled with.
    compile(&["-x", "c++-header", "-O1", "shim/shim.h", "-o", "shim/shim.h.gch"]);
}

/// A fixture on the device, by itself and beside itself. Where it `rounds`, as it is meant to be
/// run: in 16 bits.
pub(crate) fn agrees(path: &Path, architecture: &str, rounds: bool) {
    let options = Options {
        check: false,
        target: Target::Cuda,
        rounds,
        cache: if rounds { DType::BF16 } else { DType::F32 },
        architectures: vec![architecture.to_owned()],
        ..Options::default()
    };
    let tolerance = if rounds { ROUNDED } else { TOLERANCE };
    let mut fixture = Fixture::with(path.to_owned(), &options);
    let mut session = fixture.bind().session(None, None).expect("a session");
    agree_within(tolerance, &path.display().to_string(), &mut session, &fixture.golden());
    are_apart(&mut fixture, tolerance);
}

/// The device that is played has 4 GiB. That texts do not fit is known before one is read, and a
/// shorter one does.
fn too_much_is_refused() {
    let model = draws::model("V=7", "S=16777216", "sm_80");
    let told = |outcome: Option<Fault>, help: &str| {
        let fault = outcome.expect("a fault");
        assert_eq!(fault.code, "R0702", "{fault}");
        assert!(fault.to_string().contains(help), "{fault}");
    };
    told(model.session(None, None).err(), "a smaller `--context`");
    told(model.batch(None, Some(1 << 20), 16).err(), "a smaller `--batch`");
    let mut session = model.session(None, Some(1 << 10)).expect("a session");
    // Longer than a step: read in parts.
    session.pick(&[1; 1000], &Rule::GREEDY).expect("a token");
    let fault = session.pick(&[1; 100], &Rule::GREEDY).expect_err("no room");
    assert_eq!(fault.code, "R0302", "{fault}");
}

/// What was compiled for older devices alone runs by its PTX, with the same numbers; what was
/// compiled for others does not.
fn the_driver_compiles() {
    agrees(Path::new("fixtures/llama-grouped"), "sm_80", false);
    let fault = draws::model("V=7", "S=64", "sm_100a").session(None, None).err();
    assert_eq!(fault.expect("a fault").code, "R0704");
}

#[test]
fn programs_run_on_the_stand_ins() {
    if let Some(capability) = env::var_os(INSIDE) {
        runtime::register_device(::cuda::open);
        let fixture = |it: &str| Path::new("fixtures").join(it);
        if capability == "90" {
            the_driver_compiles();
            FIXTURES.iter().for_each(|it| agrees(&fixture(it), "sm_90a", true));
            walks::agree_when_small("sm_90a");
            walks::agree_apart("sm_90a");
            walks::agree_by_latent_cache("sm_90a");
            return walks::agree_at_once("sm_90a");
        }
        random::are_the_same("sm_80");
        FIXTURES.iter().for_each(|it| agrees(&fixture(it), "sm_80", false));
        draws::are_as_defined("sm_80");
        assert_eq!(::cuda::library_version(), Some(0), "a library is not the stand-in");
        walks::agree_by_library("sm_80");
        walks::agree_apart("sm_80");
        walks::agree_by_latent_cache("sm_80");
        walks::agree_at_once("sm_80");
        return too_much_is_refused();
    }
    let compiler = Command::new("g++").arg("--version").output();
    let (Ok(_), Some(headers), true) = (compiler, cuda_headers(), cfg!(target_arch = "x86_64"))
    else {
        let needs = "it takes g++, the headers of CUDA 13 in CUDA_HOME, and x86-64";
        return not_tested("programs on the stand-ins", needs);
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("a folder");
    let headers = headers.canonicalize().expect("a folder");
    let folder = env::temp_dir().join(format!("treen-toolkit-{}", std::process::id()));
    build(&root, &headers, &folder);
    for capability in ["80", "90"] {
        let mut again = Command::new(env::current_exe().expect("this program"));
        run(again
            .args(["--exact", "device::programs_run_on_the_stand_ins"])
            .env(INSIDE, capability)
            .env("TREEN_CACHE", folder.join("cache"))
            .env("CUDA_HOME", &folder)
            // Clusters have what they share at fixed places.
            .env("GLIBC_TUNABLES", "glibc.rtld.optional_static_tls=1048576")
            .env("LD_LIBRARY_PATH", folder.join("lib")));
    }
    fs::remove_dir_all(&folder).expect("the folder goes");
}
