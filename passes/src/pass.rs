//! What a pass is.

use std::collections::BTreeMap;

use ir::Module;

use crate::Contract;

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

    /// Rewrites `module`, which has no faults.
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

/// What a pass may look up while it runs: the options that its stage of the pipeline gives.
#[derive(Clone, Debug, Default)]
pub struct Cx {
    options: BTreeMap<&'static str, String>,
}

impl Cx {
    /// The defaults of `pass`, then what `given` says.
    ///
    /// # Errors
    ///
    /// When the pass has no such option.
    pub fn new(pass: &dyn Pass, given: &[(String, String)]) -> Result<Cx, Fault> {
        let mut options: BTreeMap<&'static str, String> =
            pass.options().iter().map(|it| (it.name, it.default.to_owned())).collect();
        for (name, value) in given {
            let Some(slot) = options.get_mut(name.as_str()) else {
                let known: Vec<&str> = pass.options().iter().map(|it| it.name).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return Err(Fault::new(format!("no option `{name}`; there is {known}")));
            };
            slot.clone_from(value);
        }
        Ok(Cx { options })
    }

    /// The value of an option; empty for one that the pass does not have.
    pub fn option(&self, name: &str) -> &str {
        self.options.get(name).map_or("", String::as_str)
    }
}

/// Why a pass could not do its work, or did it wrongly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    message: String,
}

impl Fault {
    /// A fault with its message.
    pub fn new(message: impl Into<String>) -> Fault {
        Fault { message: message.into() }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}
