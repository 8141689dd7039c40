//! The command line of an executable, and what the compiler's own command line shares with it.

mod bench;
mod chat;
mod embed;
mod info;
mod run;
mod verify;

use std::io::Write;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use text::{Rule, SamplerSettings};

pub use bench::{BenchArgs, random_tokens};
pub use chat::ChatArgs;
pub use embed::EmbedArgs;
pub use info::InfoArgs;
pub use run::RunArgs;
pub use verify::VerifyArgs;

use crate::{Compiled, Container, Fault};

/// A compiled language model.
#[derive(Debug, Parser)]
#[command(version, about, arg_required_else_help = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

/// What can be done with a compiled model.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Continue a text or answer a question
    Run(RunArgs),
    /// Talk, turn by turn
    Chat(ChatArgs),
    /// Give a vector for each text
    Embed(EmbedArgs),
    /// Measure speed
    Bench(BenchArgs),
    /// Show what this is
    Info(InfoArgs),
    /// Compare with golden outputs
    Verify(VerifyArgs),
}

impl Command {
    /// Does it; what it has to say goes to `out`.
    pub fn execute(&self, model: &Compiled, out: &mut dyn Write) -> Result<(), Fault> {
        match self {
            Command::Run(args) => args.execute(model, out),
            Command::Chat(args) => args.execute(model, out),
            Command::Embed(args) => args.execute(model, out),
            Command::Bench(args) => args.execute(model, out),
            Command::Info(args) => args.execute(model, out),
            Command::Verify(args) => args.execute(model, out),
        }
    }
}

/// `main` of an executable: reads the command line and obeys it.
pub fn main(container: Container) -> ExitCode {
    let command = CommandLine::parse().command;
    finish(command.execute(&Compiled::File(container), &mut std::io::stdout().lock()))
}

/// Says what went wrong, if anything did, and how the process should end.
pub fn finish(outcome: Result<(), Fault>) -> ExitCode {
    let Err(fault) = outcome else { return ExitCode::SUCCESS };
    if fault.exit_status() != 0 {
        // With standard error closed there is nobody left to tell.
        let _ = writeln!(std::io::stderr().lock(), "{fault}");
    }
    ExitCode::from(fault.exit_status())
}

/// How the machine is used.
#[derive(Args, Clone, Debug, Default)]
pub struct MachineArgs {
    /// Threads [default: the physical cores]
    #[arg(short = 't', long)]
    pub threads: Option<usize>,
}

/// How tokens are chosen.
#[derive(Args, Clone, Debug)]
pub struct SamplerArgs {
    /// Temperature; 0 takes the most probable token
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    pub temp: f32,
    /// Consider only so many tokens; 0 for all
    #[arg(long, default_value_t = 0)]
    pub top_k: usize,
    /// Consider only the most probable tokens that together reach this probability
    #[arg(long, default_value_t = 1.0)]
    pub top_p: f32,
    /// Consider only tokens at least so probable, relative to the most probable
    #[arg(long, default_value_t = 0.0)]
    pub min_p: f32,
    /// The same seed gives the same text
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

impl SamplerArgs {
    /// The rule for the text of that number.
    fn rule(&self, sequence: u64) -> Result<Rule, Fault> {
        let SamplerArgs { temp, top_k, top_p, min_p, seed } = *self;
        check("--temp", temp, temp.is_finite() && 0.0 <= temp)?;
        check("--top-p", top_p, 0.0 < top_p && top_p <= 1.0)?;
        check("--min-p", min_p, (0.0..=1.0).contains(&min_p))?;
        let settings = SamplerSettings { temperature: temp, top_k, top_p, min_p, seed };
        Ok(Rule::new(&settings, sequence))
    }
}

fn check(option: &str, value: f32, sensible: bool) -> Result<(), Fault> {
    let fault = || Fault::new("R0603", format!("`{option} {value}` makes no sense"));
    sensible.then_some(()).ok_or_else(fault)
}

/// Writes a value as JSON, on lines of its own.
fn write_json(out: &mut dyn Write, value: &serde_json::Value) -> Result<(), Fault> {
    Ok(writeln!(out, "{value:#}")?)
}

/// Tokens a second; 0 where no time passed.
fn rate(tokens: usize, time: std::time::Duration) -> f64 {
    let seconds = time.as_secs_f64();
    if seconds == 0.0 { 0.0 } else { tokens as f64 / seconds }
}
