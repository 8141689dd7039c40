//! Where NVIDIA's libraries are, and whether they have what is called.

#![expect(unsafe_code, reason = "loads C libraries")]

use std::path::PathBuf;

use libloading::Library;

/// Where the CUDA toolkit usually is, after what `CUDA_HOME` and `CUDA_PATH` say.
const USUAL: &[&str] = &["/usr/local/cuda", "/opt/cuda"];

/// Where a CUDA toolkit may be.
pub(crate) fn toolkits() -> impl Iterator<Item = PathBuf> {
    let named = ["CUDA_HOME", "CUDA_PATH"].map(std::env::var_os).into_iter().flatten();
    named.map(PathBuf::from).chain(USUAL.iter().map(PathBuf::from))
}

/// The files of that name in toolkits.
pub(crate) fn libraries(name: &str) -> impl Iterator<Item = PathBuf> {
    let folders = toolkits().flat_map(|it| ["lib64", "lib"].map(|lib| it.join(lib)));
    folders.map(move |it| it.join(name)).filter(|it| it.is_file())
}

/// Loads libraries of toolkits, so that they are found later by their names alone.
pub(crate) fn preload(names: &[&str]) {
    for path in names.iter().flat_map(|it| libraries(it)) {
        // SAFETY: NVIDIA's libraries do nothing when they are loaded.
        let library = unsafe { Library::new(path) };
        // They stay for as long as the process does.
        library.map(std::mem::forget).unwrap_or_default();
    }
}

/// The first of the functions that a library does not have, which is there.
pub(crate) fn lacks<'a>(library: &str, functions: &[&'a str]) -> Option<&'a str> {
    // SAFETY: NVIDIA's libraries do nothing when they are loaded; no function is called.
    unsafe {
        let library = Library::new(library).ok()?;
        let has = |it: &&&str| library.get::<unsafe extern "C" fn()>(it.as_bytes()).is_ok();
        functions.iter().find(|it| !has(it)).copied()
    }
}
