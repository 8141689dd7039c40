//! The commands of the compiler.

mod bisect;
mod build;
mod check;
mod doctor;
mod eval;
mod folder;
mod inspect;
mod list;
mod opt;
mod plan;
mod precision;
mod prune;
mod quantize;
mod reduce;
mod reproducer;
mod rules;
mod try_command;
mod tune;
mod use_model;

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::num::ParseIntError;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use frontend::WeightMap;
use import::Checkpoint;
use ir::DType;
use passes::Widths;
use runtime::Target;
use treen::{Budget, Error, Options, Random, Ranking, Sliced, Spec, Weights};

/// Compiles language models.
///
/// A SPEC is a `.tn` file, a Hugging Face folder, a GGUF file, or a name in the catalog
/// (`treen pull` lists it).
#[derive(Parser)]
#[command(name = "treen", version, arg_required_else_help = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
    /// Where to write the graph on which a pass fails [default: in the folder of temporary files]
    #[arg(long, value_name = "FILE", global = true)]
    reproducer: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Say all that is wrong with a spec
    Check(check::CheckArgs),
    /// Format specs
    Fmt(check::FmtArgs),
    /// Say what an error code stands for
    Explain(check::ExplainArgs),
    /// Write the spec of a checkpoint
    Import(check::ImportArgs),
    /// Fetch the weights of a model of the catalog
    Pull(list::PullArgs),
    /// Compile a model to an executable
    Build(build::BuildArgs),
    /// Run passes on a graph in text form
    Opt(opt::OptArgs),
    /// Find the first rewrite with which something goes wrong
    Bisect(bisect::BisectArgs),
    /// Find the smallest graph on which something goes wrong
    Reduce(reduce::ReduceArgs),
    /// Continue a text or answer a question
    Run(use_model::Run),
    /// Talk to a model, turn by turn
    Chat(use_model::Chat),
    /// Give a vector for each text
    Embed(use_model::Embed),
    /// Measure speed
    Bench(use_model::Bench),
    /// Measure how kernels for a GPU are cut best, and write what is faster into a table
    Tune(tune::TuneArgs),
    /// Say how probable a model finds a text
    Eval(eval::EvalArgs),
    /// Compare with golden outputs: the reference and the compiled model
    Verify(use_model::Verify),
    /// Show what a checkpoint or an executable holds
    Inspect(inspect::InspectArgs),
    /// Make a smaller model that keeps what matters most on a text
    Prune(Box<prune::PruneArgs>),
    /// Write a checkpoint with weights in fewer bits
    Quantize(quantize::QuantizeArgs),
    /// Show the memory and the work of a model before anything runs
    Plan(plan::PlanArgs),
    /// Say what this machine can do and what it lacks
    Doctor(doctor::DoctorArgs),
    /// Say why a rule does not apply where it nearly does
    WhyNot(rules::WhyNotArgs),
    /// List the passes
    Passes(list::PassesArgs),
    /// List the ops of the graph
    Ops(list::OpsArgs),
    /// List the targets
    Targets(list::TargetsArgs),
}

/// Which model, and how it is compiled.
#[derive(Args, Clone)]
struct ModelArgs {
    /// A `.tn` file, a Hugging Face folder, a GGUF file, or a name in the catalog; where a model is
    /// used, also an executable
    spec: String,
    /// The checkpoint, where the spec is a text; `random:1` makes up weights, with another number
    /// others
    #[arg(long, value_name = "PATH|random:SEED",
        value_parser = OsStringValueParser::new().try_map(WeightsArg::read))]
    weights: Option<WeightsArg>,
    /// Another number or text for an axis or value of the spec, such as `S=4096`
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// Passes to run instead of the usual ones
    #[arg(long, value_name = "LIST")]
    passes: Option<String>,
    /// A file with more rules for `fuse`
    #[arg(long, value_name = "FILE", default_value = "", hide_default_value = true)]
    rules: rules::RulesArg,
    /// How keys and values are stored: 16 bits take half the memory and round them. Without it, in
    /// 16 bits where most weights have fewer, and on a GPU where they have as many; else, and by
    /// `verify`, in `f32`
    #[arg(long, value_name = "TYPE", conflicts_with = "passes")]
    cache: Option<CacheType>,
    /// What runs the model: `cpu`, or `cuda` with the architectures to make code for
    /// [default: cpu]
    #[arg(long, value_name = "cpu|cuda[:sm_90a,..]")]
    target: Option<TargetArg>,
    /// For GPUs: multiply prompts in `f32` too, which is exact and slow
    #[arg(long)]
    exact: bool,
    /// How weights are stored.
    #[command(flatten)]
    precision: precision::PrecisionArgs,
    /// Do not check the contracts of passes
    #[arg(long)]
    no_check: bool,
    /// Let the passes make only so many rewrites, but for those that the target needs
    #[arg(long, value_name = "N")]
    bisect_limit: Option<usize>,
    /// What the model may cost: the most that its elastic axes allow within `9b` parameters or
    /// `12GiB@32768` (memory with so many positions) or `20ms@60GB/s` (a step that reads it all),
    /// or `F=8960,J=14,layers=48,skip=3+5` by name
    #[arg(long, value_name = "LIMITS")]
    budget: Option<Budget>,
    /// A safetensors file of `treen prune` with orders of importance, if the checkpoint has none
    #[arg(long, value_name = "FILE")]
    orders: Option<PathBuf>,
}

/// A type of keys and values.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CacheType {
    F32,
    F16,
    Bf16,
}

impl CacheType {
    fn dtype(self) -> DType {
        match self {
            CacheType::F32 => DType::F32,
            CacheType::F16 => DType::F16,
            CacheType::Bf16 => DType::BF16,
        }
    }
}

/// Positions that a GPU reads at once, so that it has enough to do.
const GPU_CHUNK: usize = 8192;

/// What runs a model.
#[derive(Clone)]
enum TargetArg {
    Cpu,
    Cuda(Vec<String>),
}

impl TargetArg {
    fn target(&self) -> Target {
        match self {
            TargetArg::Cpu => Target::Cpu,
            TargetArg::Cuda(_) => Target::Cuda,
        }
    }
}

impl FromStr for TargetArg {
    type Err = String;

    fn from_str(text: &str) -> Result<TargetArg, String> {
        let (target, architectures) = text.split_once(':').unwrap_or((text, ""));
        let mut named: Vec<String> =
            architectures.split(',').filter(|it| !it.is_empty()).map(str::to_owned).collect();
        // The same ones in the same order, however they are named.
        named.sort_by_key(|it| cuda::ARCHITECTURES.iter().position(|known| known == it));
        named.dedup();
        let strange = |it: &&String| !cuda::ARCHITECTURES.contains(&it.as_str());
        match (target, named.iter().find(strange)) {
            _ if named.is_empty() && text.contains(':') => {
                Err("no architecture stands behind the colon".to_owned())
            }
            ("cpu", _) if named.is_empty() => Ok(TargetArg::Cpu),
            ("cuda", None) if named.is_empty() => {
                Ok(TargetArg::Cuda(vec![cuda::ARCHITECTURES[1].to_owned()]))
            }
            ("cuda", None) => Ok(TargetArg::Cuda(named)),
            ("cuda", Some(it)) => {
                Err(format!("`{it}` is none of {}", cuda::ARCHITECTURES.join(", ")))
            }
            _ => Err("a target is `cpu` or `cuda`".to_owned()),
        }
    }
}

/// Where weights come from.
#[derive(Clone)]
enum WeightsArg {
    Path(PathBuf),
    Random(u64),
}

impl WeightsArg {
    fn read(text: OsString) -> Result<WeightsArg, ParseIntError> {
        match text.to_str().and_then(|it| it.strip_prefix("random:")) {
            Some(seed) => Ok(WeightsArg::Random(seed.parse()?)),
            None => Ok(WeightsArg::Path(text.into())),
        }
    }
}

impl ModelArgs {
    fn open(&self) -> Result<Spec, Error> {
        let mut spec = Spec::open(&self.spec, &self.set, &mut progress)?;
        match &self.weights {
            Some(WeightsArg::Path(path)) => spec.weights = Some(path.clone()),
            Some(WeightsArg::Random(_)) => spec.weights = None,
            None => {}
        }
        Ok(spec)
    }

    /// The weights of `spec`, which these arguments opened.
    fn open_weights(&self, spec: &Spec) -> Result<Weights, Error> {
        if let Some(WeightsArg::Random(seed)) = self.weights {
            return Ok(Weights::Random(Random { seed }));
        }
        let path = spec.weights.as_ref().ok_or_else(|| {
            Error::new("C0204", "the spec names no weights")
                .help("give a checkpoint with --weights, or --weights random:1")
        })?;
        Ok(Weights::Checkpoint(Checkpoint::open(path)?))
    }

    /// The model cut to the budget, if there is one; with what the passes have to cut.
    fn cut(&self, spec: Spec, compiled: frontend::Compiled) -> Result<Sliced, Error> {
        let Some(budget) = &self.budget else {
            return Ok(Sliced { spec, compiled, widths: Widths::default() });
        };
        let path = self.orders.as_ref().or(spec.weights.as_ref());
        let ranking = match path {
            Some(path) => Ranking::read(&compiled.module, &Checkpoint::open(path)?)?,
            None => Ranking::default(),
        };
        let choice = budget.choose(&spec, &compiled, &ranking)?;
        treen::slices::slice(spec, compiled, &choice, &ranking.orders)
    }

    /// How the model with these weights is compiled.
    fn options_for(&self, weights: &Weights, maps: &[WeightMap], options: Options) -> Options {
        // Formats are chosen and told for weights as they are.
        let is_as_stored = self.precision.precision.is_none();
        Options {
            open: if is_as_stored { weights.open(maps) } else { Vec::new() },
            cache: self.cache.map_or_else(|| weights.cache(options.target), CacheType::dtype),
            ..options
        }
    }

    /// How a model is compiled, whatever its weights.
    fn options(&self) -> Options {
        let (passes, check) = (self.passes.clone(), !self.no_check);
        let (cache, limit) = (self.cache.map_or(DType::F32, CacheType::dtype), self.bisect_limit);
        let (target, architectures) = match &self.target {
            None | Some(TargetArg::Cpu) => (Target::Cpu, Vec::new()),
            Some(TargetArg::Cuda(named)) => (Target::Cuda, named.clone()),
        };
        let rules = self.rules.0.clone();
        let chunk = if target == Target::Cuda { GPU_CHUNK } else { Options::default().chunk };
        let remembers = true;
        let told =
            Options { passes, check, remembers, cache, limit, rules, chunk, ..Options::default() };
        Options { target, architectures, rounds: !self.exact, ..told }
    }
}

/// Tells a person at a terminal what takes long.
fn progress(what: &str) {
    let mut err = std::io::stderr().lock();
    if err.is_terminal() {
        // With standard error closed there is nobody to tell.
        let _ = writeln!(err, "{what} ...");
    }
}

/// Tells what passes say of themselves, such as limits that they met.
fn tell_notes(records: &[passes::Record]) {
    let mut err = std::io::stderr().lock();
    for (record, note) in records.iter().flat_map(|it| it.notes.iter().map(move |note| (it, note)))
    {
        // With standard error closed there is nobody to tell.
        let _ = writeln!(err, "note: pass `{}`: {note}", record.stage);
    }
}

/// Reads the command line and obeys it.
pub(crate) fn main() -> ExitCode {
    let out = &mut std::io::stdout().lock();
    let CommandLine { command, reproducer } = CommandLine::parse();
    let outcome = match command {
        Command::Check(args) => args.execute(out),
        Command::Fmt(args) => args.execute(out),
        Command::Explain(args) => args.execute(out),
        Command::Import(args) => args.execute(out),
        Command::Pull(args) => args.execute(out),
        Command::Build(args) => args.execute(out),
        Command::Opt(args) => args.execute(out),
        Command::Bisect(args) => args.execute(out),
        Command::Reduce(args) => args.execute(out),
        Command::Run(args) => args.execute(out),
        Command::Chat(args) => args.execute(out),
        Command::Embed(args) => args.execute(out),
        Command::Bench(args) => args.execute(out),
        Command::Tune(args) => args.execute(out),
        Command::Eval(args) => args.execute(out),
        Command::Verify(args) => args.execute(out),
        Command::Inspect(args) => args.execute(out),
        Command::Prune(args) => args.execute(out),
        Command::Quantize(args) => args.execute(out),
        Command::Plan(args) => args.execute(out),
        Command::Doctor(args) => args.execute(out),
        Command::WhyNot(args) => args.execute(out),
        Command::Passes(args) => args.execute(out),
        Command::Ops(args) => args.execute(out),
        Command::Targets(args) => args.execute(out),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Error::Fault(fault)) => runtime::commands::finish(Err(fault)),
        Err(error) => {
            // With standard error closed there is nobody left to tell.
            let err = &mut std::io::stderr().lock();
            let _ = writeln!(err, "{error}");
            if let Error::Pass(failure) = &error {
                let _ = writeln!(err, "\n{}", reproducer::write(failure, reproducer));
            }
            ExitCode::from(error.exit_status())
        }
    }
}

/// Standard output that could not be written.
fn unwritable(error: std::io::Error) -> Error {
    Error::Fault(error.into())
}

/// A file that could not be read or written.
fn file_error(path: &std::path::Path, error: &std::io::Error) -> Error {
    Error::new("C0303", format!("`{}`: {error}", path.display()))
}
