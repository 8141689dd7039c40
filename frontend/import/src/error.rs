//! What can be wrong with the files that a user brings, with a stable code for each.

use std::fmt;

/// Something that an importer could not read or did not understand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// A code of [`CODES`].
    pub code: &'static str,
    /// What is wrong, in one sentence.
    pub message: String,
    /// Where: a file, an offset in it, a tensor or a key. May be empty.
    pub place: String,
    /// What to do about it. May be empty.
    pub help: String,
}

/// Every code with what it means.
pub const CODES: &[(&str, &str)] = &[
    ("T0301", "A file could not be opened or mapped."),
    ("T0302", "The path is none of: a GGUF file, a .safetensors file, a Hugging Face folder."),
    ("T0303", "A GGUF file breaks the format: it is cut short, damaged or hostile."),
    ("T0304", "A safetensors file breaks the format: it is cut short, damaged or hostile."),
    ("T0305", "A GGUF file is one part of a split model. Parts are joined before importing."),
    ("T0306", "A tensor that the model needs is not in the checkpoint."),
    ("T0307", "A tensor that the model needs is stored in a type that cannot be read."),
    ("T0308", "model.safetensors.index.json does not agree with the shards beside it."),
    ("T0309", "A configuration is not valid JSON, or a setting has the wrong type."),
    ("T0310", "A setting that the model needs is missing from the configuration."),
    ("T0311", "The configuration asks for something that the importer of the family does not do."),
    ("T0312", "No importer knows the architecture."),
    ("T0313", "A tokenizer does something that cannot be expressed, or contradicts itself."),
    ("T0314", "A SentencePiece model breaks the format: it is cut short, damaged or hostile."),
];

impl Error {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Error {
        Error { code, message: message.into(), place: String::new(), help: String::new() }
    }

    pub(crate) fn at(mut self, place: impl Into<String>) -> Error {
        self.place = place.into();
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Error {
        self.help = help.into();
        self
    }

    /// Puts the file's name before the place inside it.
    pub(crate) fn in_file(mut self, file: &std::path::Path) -> Error {
        let file = file.display().to_string();
        self.place = if self.place.is_empty() { file } else { format!("{file}, {}", self.place) };
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        if !self.place.is_empty() {
            write!(f, "\n  at: {}", self.place)?;
        }
        if !self.help.is_empty() {
            write!(f, "\n  help: {}", self.help)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
