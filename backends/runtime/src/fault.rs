//! What the runtime has to say when something cannot be done.

use std::fmt;
use std::io;
use std::path::Path;

/// Every code, with what it stands for.
pub const CODES: &[(&str, &str)] = &[
    ("R0101", "a file could not be read"),
    ("R0102", "the file holds no model"),
    ("R0103", "the model in the file is damaged"),
    ("R0104", "the file was made for another version of the runtime"),
    ("R0105", "a file could not be written"),
    ("R0106", "whoever read the output has closed it"),
    ("R0201", "the compiled program contradicts itself"),
    ("R0202", "the program calls a kernel that this runtime does not have"),
    ("R0301", "a token is not in the vocabulary"),
    ("R0302", "the context is full"),
    ("R0303", "a step asks for more than the program was made for"),
    ("R0304", "the model does not read several sequences at once"),
    ("R0401", "the machine has not enough memory"),
    ("R0402", "threads could not be started"),
    ("R0501", "the golden file cannot be used"),
    ("R0502", "the model does not agree with its golden outputs"),
    ("R0601", "the model has no tokenizer"),
    ("R0602", "the text cannot be turned into tokens"),
    ("R0603", "an option has a value that makes no sense"),
    ("R0604", "the model does not do what is asked"),
    ("R0701", "there is no GPU to run on"),
    ("R0702", "the GPU has not enough memory"),
    ("R0703", "the GPU or its driver failed"),
    ("R0704", "the model was not compiled for this GPU"),
    ("R0705", "cuBLASLt, NVIDIA's library for products, failed"),
];

/// Why something could not be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// One of [`CODES`].
    pub code: &'static str,
    /// A sentence without its full stop.
    pub message: String,
    /// What would help, where that is known.
    pub help: Option<String>,
}

impl Fault {
    /// A fault without help.
    pub fn new(code: &'static str, message: impl Into<String>) -> Fault {
        debug_assert!(CODES.iter().any(|(it, _)| *it == code), "{code} has no explanation");
        Fault { code, message: message.into(), help: None }
    }

    /// Adds what would help.
    pub fn help(self, help: impl Into<String>) -> Fault {
        Fault { help: Some(help.into()), ..self }
    }

    /// A file that could not be read.
    pub fn reading(path: &Path, error: &io::Error) -> Fault {
        Fault::new("R0101", format!("cannot read `{}`: {error}", path.display()))
    }

    /// A file that could not be written.
    pub fn writing(path: &Path, error: &io::Error) -> Fault {
        Fault::new("R0105", format!("cannot write `{}`: {error}", path.display()))
    }

    /// The exit status of a command that ends with it: 0 when nobody listens any more, 1 otherwise.
    pub fn exit_status(&self) -> u8 {
        u8::from(self.code != "R0106")
    }
}

/// Standard output and error: the only files written without a path.
impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Fault {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Fault::new("R0106", "the output was closed"),
            _ => Fault::new("R0105", format!("cannot write the output: {error}")),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error[{}]: {}", self.code, self.message)?;
        match &self.help {
            Some(help) => write!(f, "\n  help: {help}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Fault {}
