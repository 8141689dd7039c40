//! Executables as files: written, found, cut off, stripped and run. The runtime in them is this
//! test.

mod support;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use runtime::{Compiled, Container, Model, write_executable};
use support::{WEIGHTS, manifest};

/// A folder of its own for a test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let folder = std::env::temp_dir().join(format!("treen-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    fn write(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        write_executable(&path, &manifest(), WEIGHTS).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs [`finds_its_own_model`] in an executable.
fn runs(path: &Path) -> bool {
    let mut command = Command::new(path);
    command.args(["--ignored", "--exact", "finds_its_own_model"]);
    command.output().unwrap().status.success()
}

#[test]
#[ignore = "run by the other tests in a copy that holds a model"]
fn finds_its_own_model() {
    let container = Container::of_this_program().unwrap().expect("a model");
    container.check().unwrap();
    let model = Compiled::File(container);
    assert_eq!(model.manifest().program.name, "tiny");
    for threads in 1..=2 {
        let mut session = model.session(Some(threads), None).unwrap();
        for token in [3, 9] {
            let logits = session.step(&[token], 1).unwrap();
            assert_eq!(logits.len(), 10);
            assert_eq!(logits[0].to_bits(), token as u32);
        }
    }
}

#[test]
fn the_bare_runtime_holds_no_model() {
    assert!(Container::of_this_program().unwrap().is_none());
    assert_eq!(Container::open(Path::new("/proc/self/exe")).err().unwrap().code, "R0102");
    assert_eq!(Container::open(Path::new("/proc/self/maps")).err().unwrap().code, "R0102");
    assert_eq!(Container::open(Path::new("/nowhere")).err().unwrap().code, "R0101");
}

#[test]
fn what_is_written_is_read() {
    let folder = Folder::new("round-trip");
    let path = folder.write("app");
    let container = Container::open(&path).unwrap();
    container.check().unwrap();
    let mut expected = manifest();
    expected.program.code.clear();
    assert_eq!(*container.manifest(), expected);
    assert_eq!(container.weight_bytes(), 1000);
    assert_eq!(container.digest().len(), 64);
    assert!(runs(&path));
}

#[test]
fn equal_inputs_give_equal_bytes_and_nothing_else() {
    let folder = Folder::new("equal");
    let (one, two) = (folder.write("one"), folder.write("two"));
    assert!(fs::read(&one).unwrap() == fs::read(&two).unwrap());
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 2);
}

#[test]
fn a_failure_leaves_nothing_behind() {
    let folder = Folder::new("failure");
    // A folder cannot be replaced by a file.
    let path = folder.0.join("taken");
    fs::create_dir(&path).unwrap();
    assert_eq!(write_executable(&path, &manifest(), WEIGHTS).unwrap_err().code, "R0105");
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1);
}

#[test]
fn a_truncated_file_is_refused_at_every_length() {
    let folder = Folder::new("truncated");
    let path = folder.write("app");
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    let length = file.metadata().unwrap().len();
    for length in (length - 20_000..length).rev() {
        file.set_len(length).unwrap();
        let fault = Container::open(&path).err().unwrap();
        assert_eq!(fault.code, "R0103", "{fault}");
    }
}

#[test]
fn a_changed_byte_is_found() {
    let folder = Folder::new("changed");
    let path = folder.write("app");
    let bytes = fs::read(&path).unwrap();
    let base = fs::metadata("/proc/self/exe").unwrap().len().next_multiple_of(4096) as usize;
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    let (mut found, mut found_at_once) = (0, 0);
    for at in base..bytes.len() {
        file.write_all_at(&[bytes[at] ^ 0x41], at as u64).unwrap();
        found += usize::from(Container::open(&path).and_then(|it| it.check()).is_err());
        let code = Container::open(&path).and_then(|it| it.code_bytes());
        found_at_once += usize::from(code.is_err());
        file.write_all_at(&bytes[at..=at], at as u64).unwrap();
    }
    // All of manifest, code and weights, and what says where they are; not the padding.
    assert!(1200 < found, "{found}");
    // Without being asked for, all but the weights.
    assert_eq!(found, found_at_once + WEIGHTS.len());
}

#[test]
fn other_versions_are_named() {
    let folder = Folder::new("version");
    let path = folder.write("app");
    let bytes = fs::read(&path).unwrap();
    let magic = bytes.windows(8).rposition(|it| it == b"TREENEXE").unwrap();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&[9], magic as u64 - 8).unwrap();
    let fault = Container::open(&path).err().unwrap();
    assert_eq!(fault.code, "R0104");
    assert!(fault.message.contains("format 9") && fault.message.contains("format 1"), "{fault}");
}

#[test]
fn stripping_keeps_the_model() {
    let folder = Folder::new("strip");
    let path = folder.write("app");
    let copy = folder.0.join("stripped");
    // GNU strip, where there is one.
    let strip = Command::new("strip").arg(&path).arg("-o").arg(&copy).status();
    if strip.is_ok_and(|it| it.success()) {
        assert!(fs::metadata(&copy).unwrap().len() < fs::metadata(&path).unwrap().len());
        assert!(runs(&copy));
    }
}
