//! Properties of the repository itself. To add one, write a check that pushes to `faults`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Where each crate is and what it may depend on, of ours. This table is the architecture.
const LAYERS: &[(&str, &str, &[&str])] = &[
    ("ir", "ir", &[]),
    ("text", "backends/text", &[]),
    ("passes", "passes", &["ir"]),
    ("kernels", "kernels", &["ir"]),
    ("kernels-cpu", "kernels/cpu", &["ir"]),
    ("reference", "backends/reference", &["ir"]),
    ("frontend", "frontend", &["ir"]),
    ("import", "frontend/import", &["ir", "text"]),
    ("runtime", "backends/runtime", &["ir", "kernels-cpu", "text"]),
    ("plan", "backends/plan", &["ir", "kernels", "runtime"]),
    ("cpu", "backends/cpu", &["ir", "kernels", "kernels-cpu", "plan", "runtime"]),
    ("kernels-cuda", "kernels/cuda", &["ir"]),
    ("cuda", "backends/cuda", &["ir", "kernels-cuda", "plan", "runtime"]),
    (
        "treen",
        ".",
        &[
            "cpu",
            "cuda",
            "frontend",
            "import",
            "ir",
            "kernels",
            "kernels-cpu",
            "kernels-cuda",
            "passes",
            "plan",
            "reference",
            "runtime",
            "text",
        ],
    ),
    (
        "tests",
        "tests",
        &[
            "cpu",
            "cuda",
            "frontend",
            "import",
            "ir",
            "kernels",
            "kernels-cpu",
            "passes",
            "plan",
            "reference",
            "runtime",
            "text",
            "treen",
        ],
    ),
];

/// Files, and folders of files, where `unsafe` may stand.
const UNSAFE: &[&str] = &[
    "backends/cuda/src/driver.rs",
    "backends/cuda/src/library.rs",
    "backends/cuda/src/nvrtc.rs",
    "backends/cuda/src/toolkit.rs",
    "backends/runtime/src/abi.rs",
    "backends/runtime/src/builtin.rs",
    "backends/runtime/src/code.rs",
    "backends/runtime/src/cores.rs",
    "backends/runtime/src/measure.rs",
    "backends/runtime/src/memory.rs",
    "backends/runtime/src/pool.rs",
    "backends/runtime/src/processor.rs",
    "backends/runtime/src/session.rs",
    "backends/runtime/src/workspace.rs",
    "frontend/import/src/map.rs",
    "frontend/import/tests/import/hostile.rs",
    "kernels/cpu/",
];

const FUNCTION_LINES_MAX: usize = 70;
const COLUMNS_MAX: usize = 100;
const FILE_BYTES_MAX: u64 = 10_000_000;

/// Files that may have longer lines: a table, and specs as users write them.
const LONG_LINES: &[&str] = &["frontend/src/tests.rs", "ir/src/storage.rs"];

/// What is left behind by work that is not done. (In halves, so that this file may be read too.)
const FORBIDDEN: &[[&str; 2]] =
    &[["TO", "DO"], ["FIX", "ME"], ["to", "do!("], ["unimple", "mented!("], ["/wo", "rk/"]];

#[test]
fn tidy() {
    let mut faults = Vec::new();
    for (krate, folder, allowed) in LAYERS {
        check_manifest(krate, folder, allowed, &mut faults);
    }
    for file in tracked_files() {
        check_size(&file, &mut faults);
        let Some(text) = text_of(&file) else { continue };
        check_words(&file, &text, &mut faults);
        if file.ends_with(".rs") {
            check_reachable(&file, &mut faults);
            check_module_doc(&file, &text, &mut faults);
            check_lines(&file, &text, &mut faults);
            check_unsafe(&file, &text, &mut faults);
            check_function_lengths(&file, &text, &mut faults);
        }
        if file.ends_with(".md") {
            check_links(&file, &text, &mut faults);
        }
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// The longest function and the longest file; `--nocapture` shows them.
#[test]
#[expect(clippy::print_stdout, reason = "the figures are what the test is for")]
fn figures() {
    let files: Vec<(String, String)> = tracked_files()
        .into_iter()
        .filter(|it| it.ends_with(".rs"))
        .filter_map(|it| Some((it.clone(), text_of(&it)?)))
        .collect();
    let of_file = |(file, text): &(String, String)| {
        let at = |(line, length)| (length, format!("{file}:{line}"));
        functions(text).into_iter().map(at).max()
    };
    let (length, at) = files.iter().filter_map(of_file).max().expect("a function");
    println!("the longest function has {length} lines: {at}");
    let lines = files.iter().map(|(file, text)| (text.lines().count(), file));
    let total: usize = lines.clone().map(|it| it.0).sum();
    let (length, file) = lines.max().expect("a file");
    println!("the longest file has {length} lines: {file}");
    println!("{total} lines of Rust in {} files", files.len());
}

/// Dependencies as the table says, and the lints of the workspace.
fn check_manifest(krate: &str, folder: &str, allowed: &[&str], faults: &mut Vec<String>) {
    let file = format!("{folder}/Cargo.toml");
    let text = text_of(&file).unwrap_or_default();
    let dependencies = text.split("\n[").filter(|it| {
        ["dependencies]", "dev-dependencies]", "build-dependencies]"]
            .iter()
            .any(|head| it.starts_with(head))
    });
    for line in dependencies.flat_map(str::lines) {
        let used = line.split(['.', ' ', '=']).next().unwrap_or_default();
        let ours = LAYERS.iter().any(|(it, ..)| *it == used);
        if ours && !allowed.contains(&used) {
            faults.push(format!("{file}: `{krate}` may not depend on `{used}`"));
        }
    }
    if !text.contains("\n[lints]\nworkspace = true\n") {
        faults.push(format!("{file}: it lacks `[lints] workspace = true`"));
    }
}

fn check_size(file: &str, faults: &mut Vec<String>) {
    let bytes = fs::metadata(path(file)).map_or(0, |it| it.len());
    if FILE_BYTES_MAX < bytes {
        faults.push(format!("{file}: {bytes} bytes are too many to commit"));
    }
}

fn check_words(file: &str, text: &str, faults: &mut Vec<String>) {
    for word in FORBIDDEN.iter().map(|it| it.concat()) {
        if let Some(at) = text.lines().position(|it| it.contains(&word)) {
            faults.push(format!("{file}:{}: `{word}`", at + 1));
        }
    }
}

fn check_module_doc(file: &str, text: &str, faults: &mut Vec<String>) {
    if !text.starts_with("//!") {
        faults.push(format!("{file}:1: a file starts with `//!`, saying what it is for"));
    }
}

/// A file without its `mod` line is never compiled, and nobody would notice.
fn check_reachable(file: &str, faults: &mut Vec<String>) {
    let (folder, name) = file.rsplit_once('/').unwrap_or((".", file));
    let (above, last) = folder.rsplit_once('/').unwrap_or((".", folder));
    let name = name.trim_end_matches(".rs");
    // What Cargo finds by itself: crate roots, and tests and examples of a package.
    let is_root = ["lib", "main"].contains(&name) || ["tests", "examples"].contains(&last);
    // `mod.rs` stands for its folder, and other files may be in it.
    let (module, folder) = if name == "mod" { (last, above) } else { (name, folder) };
    if is_root {
        return;
    }
    let listed = |text: String| text.contains(&format!("mod {module};"));
    let parents = ["lib.rs", "main.rs", "mod.rs"].map(|it| format!("{folder}/{it}"));
    let own = [format!("{folder}.rs")];
    let beside = tracked_files()
        .into_iter()
        .filter(|it| it.rsplit_once('/').is_some_and(|(f, _)| f == folder) && it.ends_with(".rs"));
    let found = parents.into_iter().chain(own).chain(beside).filter_map(|it| text_of(&it));
    if !found.into_iter().any(listed) {
        faults.push(format!("{file}:1: no `mod {module};` leads here"));
    }
}

fn check_lines(file: &str, text: &str, faults: &mut Vec<String>) {
    // Texts in quotes and the lines of graphs stay as they are.
    let is_quoted = |it: &str| it.contains('"') && !it.trim_start().starts_with("//");
    let fixed = |it: &str| is_quoted(it) || it.starts_with("//!   %");
    let listed = LONG_LINES.contains(&file);
    let is_long = |it: &str| COLUMNS_MAX < it.chars().count() && !fixed(it) && !listed;
    for (at, _) in text.lines().enumerate().filter(|(_, it)| is_long(it)) {
        faults.push(format!("{file}:{}: over {COLUMNS_MAX} columns", at + 1));
    }
}

/// Comments and texts may speak of it.
fn check_unsafe(file: &str, text: &str, faults: &mut Vec<String>) {
    let allowed = UNSAFE.iter().any(|it| file == *it || it.ends_with('/') && file.starts_with(it));
    let is_unsafe = |line: &str| {
        let code = line.split("//").next().unwrap_or_default();
        ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern", "unsafe trait"]
            .iter()
            .any(|it| code.contains(it) && !code.contains(&format!("\"{it}\"")))
    };
    if let Some(at) = text.lines().position(is_unsafe).filter(|_| !allowed) {
        faults.push(format!("{file}:{}: `unsafe` outside the files that may hold it", at + 1));
    }
}

fn check_function_lengths(file: &str, text: &str, faults: &mut Vec<String>) {
    for (line, length) in functions(text) {
        if FUNCTION_LINES_MAX < length {
            faults.push(format!(
                "{file}:{line}: function of {length} lines, over {FUNCTION_LINES_MAX}"
            ));
        }
    }
}

/// The first line of each function and how many it has. Relies on rustfmt: a function ends at the
/// first `}` as deep as its `fn`.
fn functions(text: &str) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let is_fn = |line: &str| {
        let head = line.trim_start().split('(').next().unwrap_or_default();
        let before = head.split("fn ").next().unwrap_or_default();
        let words = ["pub", "const", "unsafe", "async", "extern", "\"C\""];
        let modifier = |it: &str| words.contains(&it.split('(').next().unwrap_or_default());
        let starts = head.contains("fn ") || line.trim_start().starts_with("pub(");
        starts
            && line.contains("fn ")
            && !line.contains("fn @")
            && before.split_whitespace().all(modifier)
    };
    let length = |(start, line): (usize, &&str)| {
        let indent = line.len() - line.trim_start().len();
        let end = format!("{:indent$}}}", "");
        let whole = line.ends_with(';') || line.ends_with('}') || !is_fn(line);
        let length = lines[start..].iter().position(|it| **it == end)? + 1;
        (!whole).then_some((start + 1, length))
    };
    lines.iter().enumerate().filter_map(length).collect()
}

/// Links to files lead to files.
fn check_links(file: &str, text: &str, faults: &mut Vec<String>) {
    let folder = path(file).parent().map(Path::to_owned).unwrap_or_default();
    for link in text.split("](").skip(1).filter_map(|it| it.split(')').next()) {
        let target = link.split('#').next().unwrap_or_default();
        let elsewhere = target.is_empty() || target.contains("://") || target.contains(' ');
        if !elsewhere && !folder.join(target).exists() {
            faults.push(format!("{file}: `{link}` leads nowhere"));
        }
    }
}

/// Where a file of the repository is.
fn path(file: &str) -> PathBuf {
    Path::new("..").join(file)
}

/// The text of a file; none where it is deleted or no text.
fn text_of(file: &str) -> Option<String> {
    fs::read_to_string(path(file)).ok()
}

fn tracked_files() -> Vec<String> {
    let output = Command::new("git").args(["ls-files", "--full-name", ".."]).output();
    let output = output.expect("git, and a repository").stdout;
    String::from_utf8(output).expect("readable names").lines().map(str::to_owned).collect()
}
