//! `eval`: how probable a model finds a text.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use runtime::{Compiled, commands::MachineArgs};
use treen::Error;
use treen::evaluate::{Evaluation, Evaluator, Windows};
use treen::precision::{Assignment, Loss, Report};

use super::{ModelArgs, build::Unbound, file_error, unwritable, use_model};

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
        if self.model.precision.precision.is_none() {
            return self.evaluate(&use_model::model(&self.model)?, out);
        }
        use_model::executable(&self.model)?;
        let assignment = self.model.precision.assign(&self.model)?.unwrap_or_default();
        let options = self.model.options();
        let model = Unbound::with(&self.model, assignment.options(options.clone()))?.bind()?;
        let reference = Unbound::with(&self.model, options)?.bind()?;
        self.compare(&model, &reference, &assignment, out)
    }

    fn evaluate(&self, model: &Compiled, out: &mut dyn Write) -> Result<(), Error> {
        let windows = windows(model, &self.ppl, self.context)?;
        let score = self.ready(model, &windows)?.score_all(&windows, &mut reading(&windows))?;
        write(out, &Evaluation::new(&windows, &score), None, self.json).map_err(unwritable)
    }

    /// What storing weights anew did.
    fn compare(
        &self,
        model: &Compiled,
        reference: &Compiled,
        assignment: &Assignment,
        out: &mut dyn Write,
    ) -> Result<(), Error> {
        let windows = windows(model, &self.ppl, self.context)?;
        let (mut changed, mut given) =
            (self.ready(model, &windows)?, self.ready(reference, &windows)?);
        let [score, as_given] =
            changed.compare_all(&mut given, &windows, &mut reading(&windows))?;
        let mut report = Report::new(&model.manifest().program, assignment);
        report.loss = Some(Loss {
            reference_perplexity: as_given.perplexity(),
            perplexity_increase: score.perplexity() / as_given.perplexity() - 1.0,
            kl: score.kl(),
            same_top: score.same as f64 / score.tokens.max(1) as f64,
        });
        let found = Evaluation::new(&windows, &score);
        write(out, &found, Some(&report), self.json).map_err(unwritable)
    }

    /// `model` with room for the longest of `windows`.
    fn ready(&self, model: &Compiled, windows: &Windows) -> Result<Evaluator, Error> {
        Evaluator::new(model, windows.longest(), self.machine.threads)
    }
}

/// Tells a person at a terminal how far it is.
fn reading(windows: &Windows) -> impl FnMut(usize) + use<> {
    let all = windows.tokens.len();
    move |done| super::progress(&format!("window {} of {all}", done + 1))
}

/// A text file in windows of `wanted` tokens; unless told, of 512 or what `model` has room for.
pub(super) fn windows(
    model: &Compiled,
    path: &Path,
    wanted: Option<usize>,
) -> Result<Windows, Error> {
    let text = std::fs::read_to_string(path).map_err(|error| file_error(path, &error))?;
    let most = model.manifest().program.capacity();
    let length = wanted.unwrap_or(most.min(WINDOW) as usize);
    let windows = Windows::of(model, &text, length)?;
    match windows.predicted() {
        0 => {
            let message = format!("`{}` is too short: there is nothing to predict", path.display());
            Err(Error::new("C0304", message).help("a text of a few hundred words is a beginning"))
        }
        _ => Ok(windows),
    }
}

fn write(
    out: &mut dyn Write,
    found: &Evaluation,
    report: Option<&Report>,
    json: bool,
) -> std::io::Result<()> {
    if json {
        let mut object = serde_json::json!(found);
        if let Some(report) = report {
            object["precision"] = serde_json::json!(report);
        }
        return writeln!(out, "{object:#}");
    }
    let Evaluation { perplexity, bits_per_byte, tokens, windows, .. } = found;
    writeln!(out, "perplexity     {perplexity:.4}")?;
    writeln!(out, "bits per byte  {bits_per_byte:.4}")?;
    writeln!(out, "tokens         {tokens} in {windows} windows")?;
    report.map_or(Ok(()), |it| write!(out, "{it}"))
}
