//! The families of models that can be imported: one file each, and a line in [`FAMILIES`].

mod llama;

pub use llama::llama_settings;

use crate::checkpoint::Checkpoint;
use crate::config::architecture;
use crate::error::Error;

/// What a family's spec needs to know about one checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The name of the family, which is the name of its spec.
    pub family: &'static str,
    /// The extents of the spec's axes, by name.
    pub axes: Vec<(String, usize)>,
    /// The spec's numbers, by name.
    pub values: Vec<(String, f64)>,
    /// Whether the last matrix product uses the embedding.
    pub tied: bool,
}

/// Reads the settings of a checkpoint of one family.
pub type Importer = fn(&Checkpoint) -> Result<Settings, Error>;

/// Every architecture that is known, by its name in `config.json` and in GGUF.
pub const FAMILIES: &[(&str, Importer)] =
    &[("LlamaForCausalLM", llama_settings), ("llama", llama_settings)];

/// Reads the settings of a checkpoint of any known family.
///
/// # Errors
/// `T0312` when the family is not known; otherwise those of its importer.
pub fn settings(checkpoint: &Checkpoint) -> Result<Settings, Error> {
    let name = architecture(checkpoint)?;
    match FAMILIES.iter().find(|(known, _)| *known == name) {
        Some((_, import)) => import(checkpoint),
        None => Err(Error::new("T0312", format!("the architecture `{name}` is not known"))
            .at(checkpoint.path().display().to_string())
            .help("write the model as a .tn spec, and give the checkpoint with --weights")),
    }
}

impl Settings {
    /// The extent of an axis.
    pub fn axis(&self, name: &str) -> Option<usize> {
        self.axes.iter().find(|(axis, _)| axis == name).map(|&(_, extent)| extent)
    }

    /// A number.
    pub fn value(&self, name: &str) -> Option<f64> {
        self.values.iter().find(|(value, _)| value == name).map(|&(_, number)| number)
    }
}
