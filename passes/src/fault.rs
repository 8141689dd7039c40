//! What goes wrong in a pass.

use std::fmt;

/// Why a pass could not do its work, or did it wrongly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    kind: FaultKind,
    message: String,
}

/// Who noticed a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// The pass itself: the module is not one that it can rewrite.
    Refusal,
    /// The pass panicked.
    Panic,
    /// The verifier: what the pass made breaks a rule of the graph.
    Verifier,
    /// The comparison of parameters, outputs and their axes.
    Interface,
    /// The comparison of outputs in double precision.
    Numbers,
    /// The comparison of outputs bit by bit, rounded to their types.
    Bits,
    /// The function by which a lowering pass recovers the old meaning.
    Recovery,
    /// Nobody: there is no small module to check the pass on.
    Unchecked,
}

impl Fault {
    /// Why a pass refuses a module.
    pub fn new(message: impl Into<String>) -> Fault {
        Fault::of(FaultKind::Refusal, message)
    }

    /// A fault that was noticed so.
    pub(crate) fn of(kind: FaultKind, message: impl Into<String>) -> Fault {
        Fault { kind, message: message.into() }
    }

    /// The same, noticed so.
    pub(crate) fn noticed(self, kind: FaultKind) -> Fault {
        Fault { kind, ..self }
    }

    /// Who noticed it.
    pub fn kind(&self) -> FaultKind {
        self.kind
    }
}

impl FaultKind {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            FaultKind::Refusal => "refusal",
            FaultKind::Panic => "panic",
            FaultKind::Verifier => "verifier",
            FaultKind::Interface => "interface",
            FaultKind::Numbers => "numbers",
            FaultKind::Bits => "bits",
            FaultKind::Recovery => "recovery",
            FaultKind::Unchecked => "unchecked",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}
