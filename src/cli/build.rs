//! `build`: a model as one file that runs itself.

use std::fmt::Display;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use frontend::WeightMap;
use runtime::{Compiled, Manifest, Pages, Target};
use treen::{Error, Lowered, Options, Report, Sliced, Spec, Weights};

use super::{ModelArgs, file_error, opt, unwritable};

/// Compile a model to an executable
#[derive(Args)]
pub(super) struct BuildArgs {
    /// Which model.
    #[command(flatten)]
    model: ModelArgs,
    /// Where to write the executable [default: the model's name], or what --emit prints
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
    /// Write what became of the model: a page, or JSON where the name ends with `.json`. Needs no
    /// weights
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
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
    /// The kernels for a GPU
    Cuda,
    /// The same in NVIDIA's assembly language
    Ptx,
    /// What the kernels for a GPU take of it: registers, memory
    Resources,
}

impl BuildArgs {
    pub(super) fn execute(&self, out: &mut dyn Write) -> Result<(), Error> {
        opt::check_name(self.print_after.as_deref())?;
        let spec = self.model.open()?;
        let compiled = spec.compile()?;
        let Sliced { spec, compiled, widths } = self.model.cut(spec, compiled)?;
        if let Some(Emit::Tn) = self.emit {
            return self.print(out, &spec.text()?);
        }
        if let Some(Emit::Graph) = self.emit {
            return self.print(out, &compiled.module);
        }
        let is_of_kernels = matches!(self.emit, Some(Emit::Cuda | Emit::Ptx | Emit::Resources));
        if is_of_kernels && self.model.options().target != Target::Cuda {
            let message = "only a model for GPUs has kernels as text";
            return Err(Error::new("C0305", message).help("give `--target cuda`"));
        }
        let mut shown = String::new();
        let mut report = Report::new(&compiled.module);
        let assignment = self.model.precision.assign(&self.model)?;
        let options = assignment.clone().unwrap_or_default().options(self.model.options());
        // Without weights there are stages to look at.
        let weights = self.model.open_weights(&spec);
        let options = match &weights {
            Ok(weights) => {
                self.model.options_for(weights, &compiled.weights, Options { widths, ..options })
            }
            Err(_) => Options { widths, ..options },
        };
        let lowered = treen::lower(compiled.module, &options, &mut |step| {
            shown += &opt::print_after(self.print_after.as_deref(), step);
            if self.report.is_some() {
                report.observe(step);
            }
        });
        // Before a fault is told, what led to it.
        out.write_all(shown.as_bytes()).map_err(unwritable)?;
        let lowered = lowered?;
        super::tell_notes(&lowered.records);
        if self.time_passes {
            opt::write_times(out, &lowered.records)?;
        }
        if let Some(path) = self.report.as_deref().filter(|_| !self.binds(&spec)) {
            report.finish(&lowered, assignment.as_ref());
            write_report(path, &report)?;
        }
        match self.emit {
            Some(Emit::Lowered) => return self.print(out, &lowered.module),
            Some(Emit::Plan) => return self.print(out, &lowered.plan),
            Some(Emit::Tn | Emit::Graph | Emit::Cuda | Emit::Ptx | Emit::Resources) => {}
            None if self.report.is_some() && !self.binds(&spec) => return Ok(()),
            None => {}
        }
        let weights = weights?;
        let output = self.output.clone().unwrap_or_else(|| lowered.program.name.clone().into());
        let (maps, tokenizer) = (compiled.weights, compiled.tokenizer);
        let mut unbound = Unbound { spec, lowered, maps, weights, tokenizer };
        if let Some(emit) = self.emit {
            unbound.weights.lay_out(&mut unbound.lowered, &unbound.maps)?;
            return self.print(out, &kernels(&unbound.lowered, emit)?);
        }
        let pages = unbound.pack()?;
        if let Some(path) = &self.report {
            report.finish(&unbound.lowered, assignment.as_ref());
            write_report(path, &report)?;
        }
        runtime::write_executable(&output, &unbound.manifest()?, &pages)?;
        writeln!(out, "{}", output.display()).map_err(unwritable)
    }

    /// Whether weights are packed: a report alone needs none.
    fn binds(&self, spec: &Spec) -> bool {
        let has_weights = self.model.weights.is_some() || spec.weights.is_some();
        self.emit.is_none() && (has_weights || self.output.is_some())
    }

    /// Prints a stage, to the output file if one is named.
    fn print(&self, out: &mut dyn Write, stage: &dyn Display) -> Result<(), Error> {
        match &self.output {
            Some(path) => {
                std::fs::write(path, stage.to_string()).map_err(|error| file_error(path, &error))
            }
            None => write!(out, "{stage}").map_err(unwritable),
        }
    }
}

/// The kernels for a GPU in a form.
fn kernels(lowered: &Lowered, emit: Emit) -> Result<String, Error> {
    let compiled = || Ok::<_, Error>(lowered.compiled_kernels()?.unwrap_or_default());
    Ok(match emit {
        Emit::Ptx => compiled()?.ptx(),
        Emit::Resources => compiled()?.resources(),
        _ => lowered.kernels()?.unwrap_or_default().to_string(),
    })
}

/// A model that is compiled, and the weights that it is to have.
pub(super) struct Unbound {
    spec: Spec,
    pub(super) lowered: Lowered,
    pub(super) maps: Vec<WeightMap>,
    pub(super) weights: Weights,
    tokenizer: Option<String>,
}

impl Unbound {
    pub(super) fn compile(args: &ModelArgs) -> Result<Unbound, Error> {
        Unbound::with(args, args.precision.options(args)?)
    }

    /// The same with these options, whatever the arguments say of precision.
    pub(super) fn with(args: &ModelArgs, options: Options) -> Result<Unbound, Error> {
        let spec = args.open()?;
        super::progress("compiling");
        let compiled = spec.compile()?;
        let sliced = args.cut(spec, compiled)?;
        let weights = args.open_weights(&sliced.spec)?;
        let options = Options { widths: sliced.widths.clone(), ..options };
        let options = args.options_for(&weights, &sliced.compiled.weights, options);
        Unbound::of(sliced, &options, weights)
    }

    /// A model that is cut, or whole, with the weights that it is to have.
    pub(super) fn of(of: Sliced, options: &Options, weights: Weights) -> Result<Unbound, Error> {
        let frontend::Compiled { module, weights: maps, tokenizer, .. } = of.compiled;
        let lowered = treen::lower(module, options, &mut |_| {})?;
        Ok(Unbound { spec: of.spec, lowered, maps, weights, tokenizer })
    }

    /// The model in memory, ready to run.
    pub(super) fn bind(mut self) -> Result<Compiled, Error> {
        if self.lowered.target == Target::Cuda {
            // Before weights are read, which may take minutes.
            self.weights.lay_out(&mut self.lowered, &self.maps)?;
            cuda::check(&self.lowered.program)?;
        }
        super::progress("packing weights");
        runtime::give_back();
        let weights = Arc::new(self.weights.bind_there(&mut self.lowered, &self.maps)?);
        let compiled = Compiled::Memory { manifest: self.manifest()?, weights };
        runtime::give_back();
        Ok(compiled)
    }

    /// The model as a file that runs itself.
    pub(super) fn write(mut self, path: &Path) -> Result<(), Error> {
        let weights = self.pack()?;
        Ok(runtime::write_executable(path, &self.manifest()?, &weights)?)
    }

    fn pack(&mut self) -> Result<Pages, Error> {
        self.weights.bind(&mut self.lowered, &self.maps)
    }

    /// Everything but the weights.
    fn manifest(self) -> Result<Manifest, Error> {
        manifest(&self.spec, self.tokenizer.as_deref(), self.lowered, &self.weights)
    }
}

/// A page, or JSON where the name of the file says so.
fn write_report(path: &Path, report: &Report) -> Result<(), Error> {
    let is_json = path.extension().is_some_and(|it| it == "json");
    let text = if is_json { report.to_json() } else { report.to_html() };
    std::fs::write(path, text).map_err(|error| file_error(path, &error))
}

/// Everything about a model but its weights.
fn manifest(
    spec: &Spec,
    tokenizer: Option<&str>,
    lowered: Lowered,
    weights: &Weights,
) -> Result<Manifest, Error> {
    let checkpoint = weights.checkpoint();
    let own = checkpoint.map(import::tokenizer).transpose()?.flatten();
    let tokenizer = match (own, tokenizer) {
        (None, Some(name)) => named_tokenizer(spec, name)?,
        (found, _) => found,
    };
    Ok(Manifest {
        program: lowered.program,
        costs: lowered.costs,
        tokenizer,
        start: checkpoint.map_or(Ok(0), import::decoder_start)?,
        chat_template: checkpoint.map(import::chat_template).transpose()?.flatten(),
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
