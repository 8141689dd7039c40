//! What a user calls a model: a spec, a checkpoint, or a name in the catalog.

use std::path::{Path, PathBuf};

use frontend::{Settings, Sources, ast::Item};
use import::Checkpoint;

use crate::{
    Error,
    catalog::{self, Entry},
};

/// The specs that come with the compiler, by family.
fn families() -> &'static [(&'static str, &'static str)] {
    &[
        ("bert", include_str!("../models/bert.tn")),
        ("gemma3", include_str!("../models/gemma3.tn")),
        ("gpt2", include_str!("../models/gpt2.tn")),
        ("llama", include_str!("../models/llama.tn")),
        ("mamba2", include_str!("../models/mamba2.tn")),
        ("nemotron", include_str!("../models/nemotron.tn")),
        ("nemotron_h", include_str!("../models/nemotron_h.tn")),
        ("qwen2", include_str!("../models/qwen2.tn")),
        ("qwen3", include_str!("../models/qwen3.tn")),
        ("t5", include_str!("../models/t5.tn")),
    ]
}

/// A model to be compiled.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Its texts.
    pub sources: Sources,
    /// What stands in for its own numbers.
    pub settings: Settings,
    /// Where its weights are, if that is known.
    pub weights: Option<PathBuf>,
}

impl Spec {
    /// Finds `name`: a `.tn` file, a Hugging Face folder, a GGUF file or a name in the catalog.
    /// `set` are settings such as `E=512`. `report` is told what takes long.
    ///
    /// # Errors
    ///
    /// When there is no such thing, or it can not be read.
    pub fn open(name: &str, set: &[String], report: &mut dyn FnMut(&str)) -> Result<Spec, Error> {
        let path = Path::new(name);
        let mut spec = if path.extension().is_some_and(|it| it == "tn") {
            Spec::from_text(path)?
        } else if path.exists() {
            Spec::from_checkpoint(path)?
        } else {
            match catalog::entry(name)? {
                Entry::Weights(it) => Spec::from_checkpoint(&catalog::fetch(name, &it, report)?)?,
                Entry::Numbers(it) => Spec::of_family(&it.family, it.settings())?,
            }
        };
        for text in set {
            spec.settings.read(text).map_err(|it| Error::Spec(vec![it], spec.sources.clone()))?;
        }
        Ok(spec)
    }

    fn from_text(path: &Path) -> Result<Spec, Error> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Error::new("C0303", format!("`{}`: {error}", path.display())))?;
        let mut sources = Sources::of(&path.display().to_string(), &text);
        add_used(&mut sources, path.parent().unwrap_or(Path::new("")));
        Ok(Spec { sources, settings: Settings::default(), weights: None })
    }

    /// The spec of a checkpoint's family with the checkpoint's numbers. A Hugging Face folder may
    /// be without its weights.
    ///
    /// # Errors
    ///
    /// When the checkpoint can not be read, or its family is not known.
    pub fn from_checkpoint(path: &Path) -> Result<Spec, Error> {
        let checkpoint = Checkpoint::open_described(path)?;
        let found = import::settings(&checkpoint)?;
        let spec = Spec::of_family(found.family, settings_of(&found))?;
        Ok(Spec { weights: Some(path.to_owned()), ..spec })
    }

    /// The spec of a family with these numbers.
    fn of_family(family: &str, settings: Settings) -> Result<Spec, Error> {
        let text = families().iter().find(|(name, _)| *name == family).map(|(_, text)| text);
        let text = text.ok_or_else(|| {
            Error::new("C0101", format!("there is no spec of the family `{family}`"))
        })?;
        let sources = Sources::of(&format!("models/{family}.tn"), text);
        Ok(Spec { sources, settings, weights: None })
    }

    /// Its text with the settings in place.
    ///
    /// # Errors
    ///
    /// When the text can not be read.
    pub fn text(&self) -> Result<String, Error> {
        let text = self.sources.get(frontend::SPEC).map_or("", |it| it.text.as_str());
        frontend::rewrite(text, &self.settings)
            .map_err(|diagnostics| Error::Spec(diagnostics, self.sources.clone()))
    }

    /// Compiles the text to a module.
    ///
    /// # Errors
    ///
    /// All that is wrong with it.
    pub fn compile(&self) -> Result<frontend::Compiled, Error> {
        frontend::compile(&self.sources, &self.settings)
            .map_err(|diagnostics| Error::Spec(diagnostics, self.sources.clone()))
    }
}

/// More files than any spec has.
const MOST_FILES: usize = 64;

/// Adds the files of `folder` that the spec uses, and those that they use. What can not be read is
/// left out: the compiler says where it is missed.
fn add_used(sources: &mut Sources, folder: &Path) {
    let mut next = frontend::SPEC;
    while let Some(source) = sources.get(next).cloned() {
        let (spec, _) = frontend::parse(next, &source.text);
        for item in &spec.items {
            let Item::Use(name) = item else { continue };
            let known = sources.iter().any(|(_, it)| it.stem() == name.text);
            let path = folder.join(format!("{}.tn", name.text));
            if !known
                && sources.iter().count() < MOST_FILES
                && let Ok(text) = std::fs::read_to_string(&path)
            {
                sources.add(&path.display().to_string(), &text);
            }
        }
        next += 1;
    }
}

/// The importer's numbers as settings of the family's spec, where `S` counts positions.
fn settings_of(found: &import::Settings) -> Settings {
    let mut settings = Settings::default();
    found.axes.iter().for_each(|(name, size)| settings.set(name, size));
    for (name, number) in &found.values {
        settings.set(if name == "context" { "S" } else { name }, number);
    }
    found.texts.iter().for_each(|(name, text)| settings.set(name, text));
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_uses_files_beside_it() -> Result<(), Error> {
        let folder = std::env::temp_dir().join(format!("treen-use-{}", std::process::id()));
        let written = std::fs::create_dir_all(&folder)
            .and_then(|()| std::fs::write(folder.join("twice.tn"), "use once\n"))
            .and_then(|()| std::fs::write(folder.join("once.tn"), "axis E = 3\n"))
            .and_then(|()| std::fs::write(folder.join("spec.tn"), "use twice\nuse absent\n"));
        assert!(written.is_ok(), "{written:?}");
        let spec = Spec::open(&folder.join("spec.tn").display().to_string(), &[], &mut |_| {});
        let removed = std::fs::remove_dir_all(&folder);
        let spec = spec?;
        let stems: Vec<&str> = spec.sources.iter().map(|(_, it)| it.stem()).collect();
        assert_eq!(stems, ["prelude", "spec", "twice", "once"]);
        assert!(removed.is_ok());
        Ok(())
    }
}
