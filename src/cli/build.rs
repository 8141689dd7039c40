//! `build`: a model as one file that runs itself.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use import::Checkpoint;
use runtime::{Compiled, Manifest};
use treen::{Error, Lowered, Spec};

use super::{ModelArgs, opt, unwritable};

/// Compile a model to an executable
#[derive(Args)]
pub(super) struct BuildArgs {
    /// Which model.
    #[command(flatten)]
    model: ModelArgs,
    /// Where to write the executable [default: the model's name]
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// Print a stage of the compiler instead of building
    #[arg(long)]
    emit: Option<Emit>,
    /// Print the graph after a pass, or what each pass changed
    #[arg(long, value_name = "PASS|changed")]
    print_after: Option<String>,
    /// Print how long each pass took
    #[arg(long)]
    time_passes: bool,
}

/// What can be printed.
#[derive(Clone, Copy, ValueEnum)]
enum Emit {
    /// The spec, with the settings in place
    Tn,
    /// The graph as the spec says it
    Graph,
    /// The graph after all passes
    Lowered,
    /// The plan
    Plan,
}

impl BuildArgs {
    pub(super) fn execute(&self, out: &mut dyn Write) -> Result<(), Error> {
        opt::check_name(self.print_after.as_deref())?;
        let spec = self.model.open()?;
        if let Some(Emit::Tn) = self.emit {
            let text = spec.text()?;
            return out.write_all(text.as_bytes()).map_err(unwritable);
        }
        let compiled = spec.compile()?;
        if let Some(Emit::Graph) = self.emit {
            return write!(out, "{}", compiled.module).map_err(unwritable);
        }
        let mut shown = String::new();
        let mut lowered = treen::lower(compiled.module, &self.model.options(), &mut |step| {
            shown += &opt::print_after(self.print_after.as_deref(), step);
        })?;
        out.write_all(shown.as_bytes()).map_err(unwritable)?;
        if self.time_passes {
            opt::write_times(out, &lowered.records)?;
        }
        match self.emit {
            Some(Emit::Lowered) => return write!(out, "{}", lowered.module).map_err(unwritable),
            Some(Emit::Plan) => return write!(out, "{}", lowered.plan).map_err(unwritable),
            Some(Emit::Tn | Emit::Graph) | None => {}
        }
        let checkpoint = open_weights(&spec)?;
        let weights = treen::bind(&mut lowered, &compiled.weights, &checkpoint)?;
        let manifest = manifest(&spec, compiled.tokenizer.as_deref(), lowered, &checkpoint)?;
        let output = self.output.clone().unwrap_or_else(|| manifest.program.name.clone().into());
        runtime::write_executable(&output, &manifest, &weights)?;
        writeln!(out, "{}", output.display()).map_err(unwritable)
    }
}

/// The checkpoint of a spec.
pub(super) fn open_weights(spec: &Spec) -> Result<Checkpoint, Error> {
    let path = spec.weights.as_ref().ok_or_else(|| {
        Error::new("C0204", "the spec names no weights").help("give a checkpoint with --weights")
    })?;
    Ok(Checkpoint::open(path)?)
}

/// A compiled model in memory, ready to run.
pub(super) fn compile(args: &ModelArgs) -> Result<Compiled, Error> {
    let spec = args.open()?;
    super::progress("compiling");
    let compiled = spec.compile()?;
    let mut lowered = treen::lower(compiled.module, &args.options(), &mut |_| {})?;
    let checkpoint = open_weights(&spec)?;
    super::progress("packing weights");
    let weights = treen::bind(&mut lowered, &compiled.weights, &checkpoint)?;
    let manifest = manifest(&spec, compiled.tokenizer.as_deref(), lowered, &checkpoint)?;
    Ok(Compiled::Memory { manifest, weights: Arc::new(weights) })
}

/// Everything about a model but its weights.
fn manifest(
    spec: &Spec,
    tokenizer: Option<&str>,
    lowered: Lowered,
    checkpoint: &Checkpoint,
) -> Result<Manifest, Error> {
    let tokenizer = match (import::tokenizer(checkpoint)?, tokenizer) {
        (None, Some(name)) => named_tokenizer(spec, name)?,
        (found, _) => found,
    };
    Ok(Manifest {
        program: lowered.program,
        costs: lowered.costs,
        tokenizer,
        start: import::decoder_start(checkpoint)?,
        chat_template: import::chat_template(checkpoint)?,
        spec: spec.text()?,
        made_by: format!("treen {}", env!("CARGO_PKG_VERSION")),
    })
}

/// The tokenizer that the spec names, beside the weights or beside the spec; `None` when there is
/// no such file.
fn named_tokenizer(spec: &Spec, name: &str) -> Result<Option<text::TokenizerSpec>, Error> {
    let text = spec.sources.get(frontend::SPEC).map(|it| PathBuf::from(&it.name));
    let folders = spec.weights.iter().chain(&text).filter_map(|it| it.parent());
    let found = folders.map(|it| it.join(name)).find(|it| it.is_file());
    Ok(found.map(|path| import::tokenizer_file(&path)).transpose()?)
}
