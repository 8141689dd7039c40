//! A model on disk: its tensors, and what it says about itself.

use crate::entry::{Entry, Stored};
use crate::error::Error;
use crate::gguf::{Gguf, Value};
use crate::map::Map;
use crate::quantised::{self, Parts};
use crate::safetensors;
use ir::DType;
use serde_json::Map as Json;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A checkpoint whose files are mapped into memory. Nothing of a tensor is read before it is used.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    metadata: Metadata,
    files: Vec<Map>,
    /// In the order of the names, each with the index of its file.
    entries: Vec<(usize, Entry)>,
    /// What tensors that are kept in several parts are made of, by name.
    parts: BTreeMap<String, Parts>,
}

/// What a checkpoint says about itself.
#[derive(Debug)]
pub enum Metadata {
    /// The key and value pairs of a GGUF file, in the order of the keys.
    Gguf(Vec<(String, Value)>),
    /// `config.json` of a Hugging Face folder.
    HuggingFace(Json<String, serde_json::Value>),
    /// A `.safetensors` file by itself says nothing.
    None,
}

/// A tensor of a checkpoint.
#[derive(Clone, Debug)]
pub struct Tensor<'a> {
    /// The name in the file.
    pub name: &'a str,
    /// How the elements are stored.
    pub dtype: DType,
    /// Extents, outermost first.
    pub shape: &'a [usize],
    /// The stored elements, of exactly the length that type and shape ask for.
    pub bytes: Cow<'a, [u8]>,
}

impl Checkpoint {
    /// Opens a GGUF file, a `.safetensors` file or a Hugging Face folder.
    ///
    /// # Errors
    /// `T0301` to `T0305`, `T0308` and `T0309`, when a file cannot be read or breaks its format.
    pub fn open(path: &Path) -> Result<Checkpoint, Error> {
        let checkpoint = Checkpoint::open_described(path)?;
        if path.is_dir() && checkpoint.is_bare() {
            return Err(Error::new("T0302", "there are no safetensors weights in the folder")
                .at(path.display().to_string())
                .help(
                    "weights in .bin or .pth files have to be converted to safetensors first; \
                     `--weights random:1` makes some up",
                ));
        }
        Ok(checkpoint)
    }

    /// The same, but of a Hugging Face folder there may be no more than what describes the model.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn open_described(path: &Path) -> Result<Checkpoint, Error> {
        if path.is_dir() {
            return open_folder(path);
        }
        let file = Map::open(path)?;
        if file.bytes().starts_with(b"GGUF") {
            open_gguf(path, file)
        } else if path.extension().is_some_and(|extension| extension == "safetensors") {
            let mut shards = Shards::default();
            shards.add(path, file)?;
            shards.finish(path, Metadata::None)
        } else {
            Err(Error::new("T0302", "this is no checkpoint")
                .at(path.display().to_string())
                .help("give a GGUF file, a .safetensors file or a Hugging Face folder"))
        }
    }

    /// Where the checkpoint was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the checkpoint says about itself.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// A value of a GGUF file's metadata.
    pub fn gguf_value(&self, key: &str) -> Option<&Value> {
        let Metadata::Gguf(metadata) = &self.metadata else { return None };
        let found = metadata.binary_search_by(|(name, _)| name.as_str().cmp(key));
        found.ok().map(|index| &metadata[index].1)
    }

    /// Whether it has no tensors: they can say nothing of the model then.
    pub fn is_bare(&self) -> bool {
        self.entries.is_empty()
    }

    /// The tensors, in the order of their names.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.entries.iter().map(|(_, entry)| entry)
    }

    /// The declaration of a tensor.
    pub fn find(&self, name: &str) -> Option<&Entry> {
        self.position(name).map(|(_, entry)| entry)
    }

    /// A tensor with its bytes.
    ///
    /// # Errors
    /// `T0306` when there is none of that name, `T0307` when its type cannot be read.
    pub fn tensor(&self, name: &str) -> Result<Tensor<'_>, Error> {
        let Some((file, entry)) = self.position(name) else {
            return Err(Error::new("T0306", format!("there is no tensor `{name}`"))
                .at(self.path.display().to_string())
                .help("the checkpoint is incomplete, or of another family"));
        };
        let dtype = match &entry.stored {
            Stored::Known(dtype) => *dtype,
            Stored::Foreign(stored) => {
                return Err(Error::new("T0307", format!("the tensor is stored as {stored}"))
                    .at(format!("{}, tensor {name}", self.path.display()))
                    .help("convert the model to a type such as BF16, Q8_0 or Q4_K"));
            }
        };
        let bytes = match self.parts.get(name) {
            Some(parts) => {
                let bytes = |it: &(usize, Entry)| &self.files[it.0].bytes()[it.1.range.clone()];
                quantised::assemble((dtype, &entry.shape), parts, bytes).into()
            }
            None => file.bytes()[entry.range.clone()].into(),
        };
        Ok(Tensor { name: &entry.name, dtype, shape: &entry.shape, bytes })
    }

    /// Gives back the memory that holds a tensor's bytes, which are read again when they are used
    /// again. It keeps the high-water mark of a walk over all tensors at the largest of them.
    pub fn forget(&self, name: &str) {
        if let Some(parts) = self.parts.get(name) {
            parts.all().for_each(|it| self.files[it.0].forget(it.1.range.clone()));
        } else if let Some((file, entry)) = self.position(name) {
            file.forget(entry.range.clone());
        }
    }

    fn position(&self, name: &str) -> Option<(&Map, &Entry)> {
        let found = self.entries.binary_search_by(|(_, entry)| entry.name.as_str().cmp(name));
        let (file, entry) = &self.entries[found.ok()?];
        Some((&self.files[*file], entry))
    }
}

fn open_gguf(path: &Path, file: Map) -> Result<Checkpoint, Error> {
    let gguf = Gguf::parse(file.bytes()).map_err(|error| error.in_file(path))?;
    Ok(Checkpoint {
        path: path.to_owned(),
        metadata: Metadata::Gguf(gguf.metadata),
        parts: BTreeMap::new(),
        files: vec![file],
        entries: gguf.tensors.into_iter().map(|entry| (0, entry)).collect(),
    })
}

fn open_folder(folder: &Path) -> Result<Checkpoint, Error> {
    let config = folder.join("config.json");
    if !config.is_file() {
        return Err(Error::new("T0302", "there is no config.json in the folder")
            .at(folder.display().to_string())
            .help("give a GGUF file, a .safetensors file or a Hugging Face folder"));
    }
    let metadata = Metadata::HuggingFace(read_json(&config)?);
    let mut shards = Shards::default();
    let single = folder.join("model.safetensors");
    let index = folder.join("model.safetensors.index.json");
    if single.is_file() {
        shards.add(&single, Map::open(&single)?)?;
    } else if index.is_file() {
        open_index(folder, &index, &mut shards)?;
    }
    shards.finish(folder, metadata)
}

/// Opens every shard that the index names, and checks that each holds what the index says.
fn open_index(folder: &Path, path: &Path, shards: &mut Shards) -> Result<(), Error> {
    let fault = |what: String| Error::new("T0308", what).at(path.display().to_string());
    let index = read_json(path)?;
    let map = index.get("weight_map").and_then(serde_json::Value::as_object);
    let map = map.ok_or_else(|| fault("there is no `weight_map`".into()))?;
    let mut wanted = Vec::with_capacity(map.len());
    for (tensor, shard) in map {
        let shard = shard.as_str().filter(|name| is_file_name(name));
        let shard = shard.ok_or_else(|| fault(format!("tensor {tensor} has no shard's name")))?;
        wanted.push((shard, tensor));
    }
    wanted.sort_unstable();
    for group in wanted.chunk_by(|a, b| a.0 == b.0) {
        let shard = folder.join(group[0].0);
        let held = shards.add(&shard, Map::open(&shard)?)?;
        let is_held = |name: &str| held.binary_search_by(|(_, it)| it.name.as_str().cmp(name));
        if let Some((_, missing)) = group.iter().find(|(_, name)| is_held(name).is_err()) {
            let shard = shard.display();
            return Err(fault(format!("tensor {missing} should be in {shard} and is not")));
        }
    }
    Ok(())
}

/// Whether a shard lies beside its index, and not anywhere else on the machine.
fn is_file_name(name: &str) -> bool {
    Path::new(name).file_name().is_some_and(|file| file == name)
}

/// The longest text file that is read: an index of a million tensors.
const MAX_TEXT_BYTES: usize = 256 << 20;

pub(crate) fn read_json(path: &Path) -> Result<Json<String, serde_json::Value>, Error> {
    let fault = |error| Error::new("T0309", format!("not valid JSON: {error}")).in_file(path);
    serde_json::from_str(&without_infinities(&read_text(path)?)).map_err(fault)
}

/// The text with what Python writes for numbers that JSON does not have in quotes.
fn without_infinities(text: &str) -> String {
    let (mut result, mut is_text) = (String::with_capacity(text.len()), false);
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let number = ["-Infinity", "Infinity", "NaN"].into_iter().find(|it| rest.starts_with(it));
        let (part, after) = match number.filter(|_| !is_text) {
            Some(number) => {
                result.push('"');
                result.push_str(number);
                ("\"", &rest[number.len()..])
            }
            // What a backslash stands before ends no text.
            None if is_text && next == '\\' => {
                let n = rest.chars().take(2).map(char::len_utf8).sum();
                rest.split_at(n)
            }
            None => rest.split_at(next.len_utf8()),
        };
        is_text ^= next == '"';
        result.push_str(part);
        rest = after;
    }
    result
}

pub(crate) fn read_text(path: &Path) -> Result<String, Error> {
    let file = Map::open(path)?;
    let fault = |what: &str| Error::new("T0309", what).in_file(path);
    if MAX_TEXT_BYTES < file.bytes().len() {
        return Err(fault("the file is too long"));
    }
    let text = std::str::from_utf8(file.bytes()).map_err(|_| fault("the file is not UTF-8"))?;
    Ok(text.to_owned())
}

#[derive(Default)]
struct Shards {
    files: Vec<Map>,
    entries: Vec<(usize, Entry)>,
}

impl Shards {
    /// Adds a file; returns its entries, in the order of their names.
    fn add(&mut self, path: &Path, file: Map) -> Result<&[(usize, Entry)], Error> {
        let entries = safetensors::parse(file.bytes()).map_err(|error| error.in_file(path))?;
        let (index, first) = (self.files.len(), self.entries.len());
        self.files.push(file);
        self.entries.extend(entries.into_iter().map(|entry| (index, entry)));
        Ok(&self.entries[first..])
    }

    fn finish(mut self, path: &Path, metadata: Metadata) -> Result<Checkpoint, Error> {
        self.entries.sort_by(|(_, a), (_, b)| a.name.cmp(&b.name));
        if let Some(pair) = self.entries.windows(2).find(|pair| pair[0].1.name == pair[1].1.name) {
            return Err(Error::new("T0308", "two shards hold a tensor of one name").at(format!(
                "{}, tensor {}",
                path.display(),
                pair[0].1.name
            )));
        }
        let Shards { files, entries } = self;
        let (entries, parts) = quantised::merge(entries);
        Ok(Checkpoint { path: path.to_owned(), metadata, files, entries, parts })
    }
}

#[cfg(test)]
mod tests {
    use super::without_infinities;

    #[test]
    fn infinities_become_texts() {
        let text = r#"{"a": [0.0, Infinity, -Infinity], "b\"NaN": "Infinity \\", "c": NaN}"#;
        let expected =
            r#"{"a": [0.0, "Infinity", "-Infinity"], "b\"NaN": "Infinity \\", "c": "NaN"}"#;
        assert_eq!(without_infinities(text), expected);
    }
}
