//! `eval`: how probable a model finds a text.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use runtime::{Compiled, commands::MachineArgs};
use treen::Error;
use treen::evaluate::{Evaluation, Evaluator, Windows};

use super::{ModelArgs, file_error, unwritable, use_model};

/// Tokens of a window, where the model has room for so many.
const WINDOW: u64 = 512;

/// Say how probable a model finds a text
#[derive(Args)]
pub(super) struct EvalArgs {
    /// Which model.
    #[command(flatten)]
    model: ModelArgs,
    /// The text
    #[arg(long, value_name = "FILE")]
    ppl: PathBuf,
    /// Tokens of the windows that the text is read in [default: 512, or what there is room for]
    #[arg(long)]
    context: Option<usize>,
    /// How the machine is used.
    #[command(flatten)]
    machine: MachineArgs,
    /// Print figures as JSON
    #[arg(long)]
    json: bool,
}

impl EvalArgs {
    pub(super) fn execute(&self, out: &mut dyn Write) -> Result<(), Error> {
        let text = read_text(&self.ppl)?;
        let model = use_model::model(&self.model)?;
        let found = self.evaluate(&model, &text)?;
        write(out, &found, self.json).map_err(unwritable)
    }

    fn evaluate(&self, model: &Compiled, text: &str) -> Result<Evaluation, Error> {
        let windows = Windows::of(model, text, window(model, self.context))?;
        let length = windows.tokens.iter().map(Vec::len).max().unwrap_or(0);
        let mut evaluator = Evaluator::new(model, length, self.machine.threads)?;
        let all = windows.tokens.len();
        let score = evaluator.score_all(&windows, None, &mut |done| {
            super::progress(&format!("window {} of {all}", done + 1));
        })?;
        Ok(Evaluation::new(&windows, &score))
    }
}

/// How long windows are, in tokens.
fn window(model: &Compiled, wanted: Option<usize>) -> usize {
    let most = model.manifest().program.capacity();
    wanted.unwrap_or(most.min(WINDOW) as usize)
}

/// A text file.
pub(super) fn read_text(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|error| file_error(path, &error))
}

fn write(out: &mut dyn Write, found: &Evaluation, json: bool) -> std::io::Result<()> {
    if json {
        return writeln!(out, "{:#}", serde_json::json!(found));
    }
    let Evaluation { perplexity, bits_per_byte, tokens, windows, .. } = found;
    writeln!(out, "perplexity     {perplexity:.4}")?;
    writeln!(out, "bits per byte  {bits_per_byte:.4}")?;
    writeln!(out, "tokens         {tokens} in {windows} windows")
}
