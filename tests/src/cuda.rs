//! The kernels for GPUs, run on the CPU: each test of `tests/cuda` is compiled by g++ together with
//! `tests/cuda/shim`, which takes the place of the instructions in `kernels/cuda`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::not_tested;

/// Where the headers of CUDA are, which the kernels include: the shim gets its types of 8 and 16
/// bits from them.
pub(crate) fn cuda_headers() -> Option<PathBuf> {
    let named = ["CUDA_HOME", "CUDA_PATH"].map(env::var_os).into_iter().flatten();
    let folders = named.map(PathBuf::from).chain(["/usr/local/cuda".into(), "/opt/cuda".into()]);
    folders.map(|it| it.join("include")).find(|it| it.join("cuda_fp8.h").is_file())
}

/// How g++ reads what is written for nvcc, which lets a word be read as another type.
const FLAGS: &[&str] = &["-x", "c++", "-std=c++17", "-O2", "-fno-strict-aliasing", "-w", "-I."];

/// Files of a folder with an extension.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder is there");
    let mut files: Vec<PathBuf> = entries.map(|it| it.expect("an entry").path()).collect();
    files.retain(|it| it.extension().is_some_and(|it| it == extension));
    files.sort();
    files
}

/// Copies kernels and tests side by side, with the shim's files in the place of those of the same
/// name.
fn gather(root: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder for the build");
    let folders = ["kernels/cuda", "tests/cuda", "tests/cuda/shim"];
    for file in folders.iter().flat_map(|folder| {
        ["cuh", "cu", "h", "cpp"].map(|extension| files(&root.join(folder), extension)).concat()
    }) {
        fs::copy(&file, to.join(file.file_name().expect("a name"))).expect("a copy");
    }
}

/// Runs a command, and panics with what it says where it fails: what it says.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().expect("the command starts");
    let said = [output.stdout, output.stderr].map(|it| String::from_utf8_lossy(&it).into_owned());
    assert!(output.status.success(), "{command:?}\n{}", said.concat());
    said.concat()
}

#[test]
fn kernels_on_the_shim() {
    let compiler = Command::new("g++").arg("--version").output();
    let (Ok(_), Some(headers), true) = (compiler, cuda_headers(), cfg!(target_arch = "x86_64"))
    else {
        let needs = "it takes g++, the headers of CUDA 13 in CUDA_HOME, and x86-64";
        return not_tested("kernels on the shim", needs);
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = env::temp_dir().join(format!("treen-shim-{}", std::process::id()));
    gather(&root, &folder);
    let compile = |arguments: &[&str]| {
        let mut command = Command::new("g++");
        command.current_dir(&folder).args(FLAGS);
        run(command.arg("-isystem").arg(&headers).args(arguments));
    };
    compile(&["-c", "shim.cpp", "-o", "shim.o"]);
    for test in files(&root.join("tests/cuda"), "cu") {
        let name = test.file_stem().expect("a name").to_str().expect("plain");
        compile(&["-c", &format!("{name}.cu"), "-o", &format!("{name}.o")]);
        let mut link = Command::new("g++");
        run(link.current_dir(&folder).args([&format!("{name}.o"), "shim.o", "-o", name]));
        // Where a barrier is missing, it matters which thread comes first.
        let said = run(&mut Command::new(folder.join(name)));
        let reversed = run(Command::new(folder.join(name)).env("SHIM_REVERSE", "1"));
        assert_eq!(said, reversed, "{name}");
    }
    fs::remove_dir_all(&folder).expect("the folder goes");
}
