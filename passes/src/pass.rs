//! What a pass is.

use ir::Module;

use crate::{Contract, Cx, Fault};

/// A rewrite of a whole module.
pub trait Pass: Send + Sync {
    /// Its name in pipelines.
    fn name(&self) -> &'static str;

    /// What it does, in a line.
    fn about(&self) -> &'static str;

    /// The options that it takes.
    fn options(&self) -> &'static [PassOption] {
        &[]
    }

    /// What it promises of its result.
    fn contract(&self) -> Contract;

    /// Whether what follows depends on it, so that a limit on rewrites does not stop it.
    fn is_needed(&self) -> bool {
        matches!(self.contract(), Contract::Lowers(_) | Contract::Slices)
    }

    /// Rewrites `module`, which has no faults. Each rewrite is told to `cx`, see [`Cx::allows`]
    /// and [`Cx::rewrite`]; a pass that tells none is one rewrite as a whole.
    ///
    /// # Errors
    ///
    /// Why the module is not one that this pass can rewrite.
    fn run(&self, module: &Module, cx: &mut Cx) -> Result<Module, Fault>;
}

/// An option of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassOption {
    /// Its name.
    pub name: &'static str,
    /// What it is unless given.
    pub default: &'static str,
    /// What it does, in a line.
    pub doc: &'static str,
}
