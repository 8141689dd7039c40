//! What can go wrong, whichever crate says it.

use std::fmt;

use frontend::{Diagnostic, Sources};

/// Why a command could not be carried out.
#[derive(Debug)]
pub enum Error {
    /// Faults of a spec, with the texts that they point into.
    Spec(Vec<Diagnostic>, Sources),
    /// A pass that gave up or broke its contract.
    Pass(Box<passes::Failure>),
    /// Anything else: a code, a sentence, and what to do.
    Fault(runtime::Fault),
}

impl Error {
    /// A fault of the compiler's own, see [`CODES`].
    pub fn new(code: &'static str, message: impl Into<String>) -> Error {
        Error::Fault(runtime::Fault { code, message: message.into(), help: None })
    }

    /// Adds what would help.
    #[must_use]
    pub fn help(self, help: impl Into<String>) -> Error {
        match self {
            Error::Fault(fault) => Error::Fault(fault.help(help)),
            other => other,
        }
    }

    /// The exit status of a command that ends with it.
    pub fn exit_status(&self) -> u8 {
        match self {
            Error::Fault(fault) => fault.exit_status(),
            Error::Spec(..) | Error::Pass(_) => 1,
        }
    }
}

/// Codes of the compiler itself, with what they stand for.
const CODES: &[(&str, &str)] = &[
    ("C0101", "no model has that name, and no file is there"),
    ("C0102", "a model of the catalog could not be fetched"),
    ("C0103", "a fetched file is not the one that the catalog describes"),
    ("C0201", "the graph holds something that this target can not run"),
    ("C0202", "the spec has no weight map for this kind of checkpoint"),
    ("C0203", "the checkpoint does not fit the spec"),
    ("C0204", "the command needs weights"),
    ("C0206", "a kernel for a GPU could not be compiled"),
    ("C0207", "the table of what was tuned for GPUs can not be read"),
    ("C0301", "a graph in text form can not be read or has faults"),
    ("C0302", "a list of passes can not be read"),
    ("C0303", "a file could not be read or written"),
    ("C0304", "a check failed, as the message says"),
    (
        "C0306",
        "a pass failed or broke its contract; `treen opt` of the file that is named shows it again",
    ),
    ("C0307", "a precision can not be read or can not be reached"),
    ("C0305", "an option does not fit the model that it is given for"),
];

/// What a code stands for, at whatever length there is.
pub fn explain(code: &str) -> Option<String> {
    let listed = |codes: &[(&str, &str)]| {
        let found = codes.iter().find(|(it, _)| *it == code);
        found.map(|(code, meaning)| format!("{code}: {}.", meaning.trim_end_matches('.')))
    };
    frontend::explain(code)
        .map(str::to_owned)
        .or_else(|| listed(CODES))
        .or_else(|| listed(import::CODES))
        .or_else(|| listed(runtime::CODES))
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Spec(diagnostics, sources) => {
                let shown: Vec<String> =
                    diagnostics.iter().map(|it| it.render(sources, false)).collect();
                f.write_str(shown.join("\n").trim_end())
            }
            Error::Pass(failure) => {
                let text = format!("error[C0306]: {failure}\n\n{}", failure.details());
                f.write_str(text.trim_end())
            }
            Error::Fault(fault) => fault.fmt(f),
        }
    }
}

impl From<import::Error> for Error {
    fn from(error: import::Error) -> Error {
        let import::Error { code, message, place, help } = error;
        let message = if place.is_empty() { message } else { format!("{place}: {message}") };
        Error::Fault(runtime::Fault { code, message, help: Some(help).filter(|it| !it.is_empty()) })
    }
}

impl From<Box<passes::Failure>> for Error {
    fn from(failure: Box<passes::Failure>) -> Error {
        Error::Pass(failure)
    }
}

impl From<runtime::Fault> for Error {
    fn from(fault: runtime::Fault) -> Error {
        Error::Fault(fault)
    }
}
