//! `check`, `fmt`, `explain` and `import`: everything about the text of a spec.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use frontend::Sources;
use treen::{Error, Spec, explain};

use super::{file_error, unwritable};

/// Say all that is wrong with a spec
#[derive(Args)]
pub(super) struct CheckArgs {
    /// A `.tn` file, a Hugging Face folder, a GGUF file, or a name in the catalog
    spec: String,
    /// Another number for an axis or value of the spec, such as `S=4096`
    #[arg(long, value_name = "NAME=NUMBER")]
    set: Vec<String>,
    /// Print faults as JSON, one a line
    #[arg(long)]
    json: bool,
}

impl CheckArgs {
    pub(super) fn execute(&self, out: &mut dyn Write) -> Result<(), Error> {
        let spec = Spec::open(&self.spec, &self.set, &mut super::progress)?;
        let faults = frontend::check(&spec.sources, &spec.settings);
        if self.json {
            for fault in &faults {
                writeln!(out, "{}", fault.to_json(&spec.sources)).map_err(unwritable)?;
            }
        }
        match (faults.len(), self.json) {
            (0, false) => writeln!(out, "{}: no faults", self.spec).map_err(unwritable),
            (0, true) => Ok(()),
            (n, true) => Err(Error::new("C0304", format!("faults found: {n}"))),
            (_, false) => Err(Error::Spec(faults, spec.sources)),
        }
    }
}

/// Format specs
#[derive(Args)]
pub(super) struct FmtArgs {
    /// The `.tn` files
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Change nothing; fail if a file is laid out otherwise
    #[arg(long)]
    check: bool,
}

impl FmtArgs {
    pub(super) fn execute(&self, out: &mut dyn Write) -> Result<(), Error> {
        let mut unlike = Vec::new();
        for path in &self.files {
            let text = std::fs::read_to_string(path).map_err(|error| file_error(path, &error))?;
            let sources = || Sources::of(&path.display().to_string(), &text);
            let formatted = frontend::format(&text).map_err(|it| Error::Spec(it, sources()))?;
            if formatted == text {
                continue;
            }
            if self.check {
                unlike.push(path.display().to_string());
            } else {
                std::fs::write(path, formatted).map_err(|error| file_error(path, &error))?;
                writeln!(out, "{}", path.display()).map_err(unwritable)?;
            }
        }
        match unlike.as_slice() {
            [] => Ok(()),
            files => Err(Error::new("C0304", format!("not laid out: {}", files.join(", ")))),
        }
    }
}

/// Say what an error code stands for
#[derive(Args)]
pub(super) struct ExplainArgs {
    /// The code, such as `E0301`
    code: String,
}

impl ExplainArgs {
    pub(super) fn execute(&self, out: &mut dyn Write) -> Result<(), Error> {
        let text = explain(&self.code)
            .ok_or_else(|| Error::new("C0304", format!("there is no code `{}`", self.code)))?;
        writeln!(out, "{}", text.trim_end()).map_err(unwritable)
    }
}

/// Write the spec of a checkpoint
#[derive(Args)]
pub(super) struct ImportArgs {
    /// A Hugging Face folder or a GGUF file
    checkpoint: PathBuf,
    /// Where to write the spec, instead of to standard output
    #[arg(short, long)]
    output: Option<PathBuf>,
}

impl ImportArgs {
    pub(super) fn execute(&self, out: &mut dyn Write) -> Result<(), Error> {
        let spec = Spec::from_checkpoint(&self.checkpoint)?.text()?;
        match &self.output {
            Some(path) => std::fs::write(path, spec).map_err(|error| file_error(path, &error)),
            None => out.write_all(spec.as_bytes()).map_err(unwritable),
        }
    }
}
