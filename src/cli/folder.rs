//! A folder that a checkpoint is written to.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use treen::export::{self, Tensors};
use treen::{Error, Spec};

use super::file_error;

/// Files of a checkpoint's folder that stay the same when its weights change.
const SAME: [&str; 5] = [
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
];

/// See the module.
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Makes the folder if there is none.
    pub(super) fn create(path: &Path) -> Result<Folder, Error> {
        fs::create_dir_all(path).map_err(|error| file_error(path, &error))?;
        Ok(Folder { path: path.to_owned() })
    }

    /// Writes a file.
    pub(super) fn save(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.path.join(name);
        fs::write(&path, bytes).map_err(|error| file_error(&path, &error))
    }

    /// Writes a file of tensors.
    pub(super) fn tensors(&self, name: &str, tensors: &Tensors) -> Result<(), Error> {
        export::write(&self.path.join(name), tensors)
    }

    /// Copies what the folder of the weights of `spec` has besides weights and configuration.
    pub(super) fn copy_same(&self, spec: &Spec) -> Result<(), Error> {
        for name in SAME {
            if let Some(Ok(bytes)) = source(spec).map(|it| fs::read(it.join(name))) {
                self.save(name, &bytes)?;
            }
        }
        Ok(())
    }
}

/// The folder that the weights of `spec` lie in, if it is one.
fn source(spec: &Spec) -> Option<&Path> {
    spec.weights.as_deref().filter(|it| it.is_dir())
}

/// The `config.json` beside the weights of `spec`, or an empty one.
pub(super) fn config(spec: &Spec) -> Map<String, Value> {
    let bytes = source(spec).and_then(|it| fs::read(it.join("config.json")).ok());
    bytes.and_then(|it| serde_json::from_slice(&it).ok()).unwrap_or_default()
}
