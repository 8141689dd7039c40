//! The families of models that can be imported: one file each, and a line in [`FAMILIES`].

mod bert;
mod decoder;
mod gemma3;
mod gpt2;
mod llama;
mod mamba;
mod mamba2;
mod nemotron;
mod nemotron_h;
mod qwen;
mod rope;
mod t5;

pub use bert::bert_settings;
pub use gemma3::gemma3_settings;
pub use gpt2::gpt2_settings;
pub use llama::llama_settings;
pub use mamba2::mamba2_settings;
pub use nemotron::nemotron_settings;
pub use nemotron_h::nemotron_h_settings;
pub use qwen::{qwen2_settings, qwen3_settings};
pub use t5::t5_settings;

use crate::checkpoint::{Checkpoint, Metadata};
use crate::config::{Config, architecture};
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
    /// The spec's texts, by name.
    pub texts: Vec<(String, String)>,
}

/// Reads the settings of a checkpoint of one family.
pub type Importer = fn(&Checkpoint) -> Result<Settings, Error>;

/// Every architecture that is known, by its name in `config.json` and in GGUF.
pub const FAMILIES: &[(&str, Importer)] = &[
    ("BertForMaskedLM", bert_settings),
    ("BertModel", bert_settings),
    ("GPT2LMHeadModel", gpt2_settings),
    ("Gemma3ForCausalLM", gemma3_settings),
    ("LlamaForCausalLM", llama_settings),
    ("Mamba2ForCausalLM", mamba2_settings),
    ("MistralForCausalLM", llama_settings),
    ("NemotronForCausalLM", nemotron_settings),
    ("NemotronHForCausalLM", nemotron_h_settings),
    ("Qwen2ForCausalLM", qwen2_settings),
    ("Qwen3ForCausalLM", qwen3_settings),
    ("T5ForConditionalGeneration", t5_settings),
    ("T5WithLMHeadModel", t5_settings),
    ("bert", bert_settings),
    ("gemma3", gemma3_settings),
    ("gpt2", gpt2_settings),
    ("llama", llama_settings),
    ("mamba2", mamba2_settings),
    ("nemotron", nemotron_settings),
    ("nemotron_h", nemotron_h_settings),
    ("qwen2", qwen2_settings),
    ("qwen3", qwen3_settings),
    ("t5", t5_settings),
];

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

/// Reads the settings of one kind of file.
type Reader = fn(&Config<'_>, &Checkpoint) -> Result<Settings, Error>;

/// Reads the settings of a checkpoint of either kind, of which nothing may be left unread.
fn read(checkpoint: &Checkpoint, of_json: Reader, of_gguf: Reader) -> Result<Settings, Error> {
    let (config, reader) = match checkpoint.metadata() {
        Metadata::HuggingFace(map) => (Config::json(map), of_json),
        Metadata::Gguf(pairs) => (Config::gguf(pairs, architecture(checkpoint)?), of_gguf),
        Metadata::None => {
            return Err(Error::new("T0312", "the checkpoint has no configuration")
                .at(checkpoint.path().display().to_string()));
        }
    };
    let settings = reader(&config, checkpoint);
    let whole = settings.and_then(|settings| config.finish().map(|()| settings));
    whole.map_err(|error| error.in_file(checkpoint.path()))
}

impl Settings {
    /// Settings of a family with these axes and numbers.
    fn of(
        family: &'static str,
        axes: impl IntoIterator<Item = (&'static str, usize)>,
        numbers: impl IntoIterator<Item = (&'static str, f64)>,
    ) -> Settings {
        let axes = axes.into_iter().map(|(name, extent)| (name.to_owned(), extent)).collect();
        Settings { family, axes, values: Vec::new(), texts: Vec::new() }.with(numbers)
    }

    /// These settings and more numbers.
    fn with(mut self, numbers: impl IntoIterator<Item = (&'static str, f64)>) -> Settings {
        self.values.extend(numbers.into_iter().map(|(name, number)| (name.to_owned(), number)));
        self
    }

    /// The extent of an axis.
    pub fn axis(&self, name: &str) -> Option<usize> {
        self.axes.iter().find(|(axis, _)| axis == name).map(|&(_, extent)| extent)
    }

    /// A number.
    pub fn value(&self, name: &str) -> Option<f64> {
        self.values.iter().find(|(value, _)| value == name).map(|&(_, number)| number)
    }
}
