//! `tune`: how kernels for a GPU are cut best for a model, measured in the model itself.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use cuda::Tunable;
use runtime::commands::random_tokens;
use runtime::{Compiled, Manifest, Session, Target};
use text::Rule;
use treen::Error;

use super::{ModelArgs, build::Unbound, file_error, unwritable};

/// How far outputs may be from those of what is in use, relative to their largest.
const TOLERANCE: f32 = 0.05;

/// Measure how kernels for a GPU are cut best, and write what is faster into a table
#[derive(Args)]
pub(super) struct TuneArgs {
    /// Which model.
    #[command(flatten)]
    model: ModelArgs,
    /// Positions that are read before tokens are timed
    #[arg(long, value_name = "N", default_value_t = 1024)]
    past: usize,
    /// Tokens of a repetition
    #[arg(short, default_value_t = 32)]
    n: usize,
    /// Repetitions
    #[arg(short, long, default_value_t = 5)]
    repetitions: usize,
    /// What is tuned: choices for as many rows at most
    #[arg(long, value_name = "N", default_value_t = 1)]
    rows: u64,
    /// Only choices whose names begin so, such as `library`
    #[arg(long, value_name = "NAME", default_value = "")]
    only: String,
    /// Where to write the table, which a compiler reads as it is built from source
    /// (`kernels/cuda/tuned`) [default: it is printed]
    #[arg(short, long)]
    output: Option<PathBuf>,
}

/// What was measured of a way to cut kernels.
struct Figure {
    /// Tokens a second, repetition by repetition, from the least on.
    rates: Vec<f64>,
    /// What the model says in the end.
    logits: Vec<f32>,
}

impl Figure {
    fn median(&self) -> f64 {
        self.rates[self.rates.len() / 2]
    }

    /// Whether it is faster by more than the other's repetitions differ.
    fn is_faster_than(&self, other: &Figure) -> bool {
        other.rates.last().is_some_and(|it| *it < self.median())
    }

    fn agrees_with(&self, other: &Figure) -> bool {
        let most = other.logits.iter().fold(0.0f32, |most, it| most.max(it.abs()));
        let pairs = self.logits.iter().zip(&other.logits);
        pairs.into_iter().all(|(a, b)| (a - b).abs() <= TOLERANCE * most)
    }
}

impl TuneArgs {
    pub(super) fn execute(&self, out: &mut dyn Write) -> Result<(), Error> {
        if self.n == 0 || self.repetitions == 0 {
            let message = "nothing of nothing cannot be measured";
            return Err(Error::new("C0305", message).help("`-n` and `-r` are at least 1"));
        }
        let mut model = Unbound::compile(&self.model)?;
        if model.lowered.target != Target::Cuda {
            let message = "kernels for GPUs alone are tuned";
            return Err(Error::new("C0305", message).help("give `--target cuda`"));
        }
        let device = cuda::properties()?.name;
        model.weights.lay_out(&mut model.lowered, &model.maps)?;
        let program = model.lowered.kernels()?.unwrap_or_default();
        let is_asked = |it: &&Tunable| it.rows <= self.rows && it.key().starts_with(&self.only);
        let mut choices = program.choices.iter().filter(is_asked).peekable();
        if choices.peek().is_none() {
            let known: BTreeSet<&str> = program.choices.iter().map(Tunable::kind).collect();
            let known: Vec<&str> = known.into_iter().collect();
            let message = "no choice has so few rows and a name that begins so";
            let help = format!("`--rows` and `--only`: there are {}", known.join(", "));
            return Err(Error::new("C0305", message).help(help));
        }
        for choice in choices {
            let line = self.choose(&mut model, choice)?;
            writeln!(out, "{line}").map_err(unwritable)?;
        }
        let table =
            format!("# Found by `treen tune`, at last on {device}.\n{}", model.lowered.tuned);
        match &self.output {
            Some(path) => std::fs::write(path, table).map_err(|error| file_error(path, &error)),
            None => write!(out, "{table}").map_err(unwritable),
        }
    }

    /// Leaves the fastest value of a choice in the model's table, if it is faster when measured
    /// again too. What was found, in a line.
    fn choose(&self, model: &mut Unbound, choice: &Tunable) -> Result<String, Error> {
        let before = model.lowered.tuned.get(choice);
        let first = self.measure(model, choice, before)?;
        let mut line = format!("{}: {:.1} as it is", choice.key(), first.median());
        let (mut best, mut chosen) = (None, before);
        for &value in choice.values().iter().filter(|it| Some(**it) != before) {
            let figure = self.measure(model, choice, Some(value))?;
            line += &format!(", {:.1} with {value}", figure.median());
            if !figure.agrees_with(&first) {
                line += ", which is wrong";
            } else if figure.is_faster_than(best.as_ref().unwrap_or(&first)) {
                (best, chosen) = (Some(figure), Some(value));
            }
        }
        if let Some(best) = best {
            let again = self.measure(model, choice, chosen)?;
            let first_again = self.measure(model, choice, before)?;
            let pairs = [(&best, &first_again), (&again, &first), (&again, &first_again)];
            let is_confirmed = pairs.iter().all(|(a, b)| a.is_faster_than(b));
            line += &format!(", {:.1} and {:.1} again", first_again.median(), again.median());
            chosen = if is_confirmed { chosen } else { before };
        }
        model.lowered.tuned.set(choice, chosen);
        Ok(line + &chosen.map(|it| format!("; {it}")).unwrap_or_default())
    }

    /// The model with that value, timed where the choice counts.
    fn measure(
        &self,
        model: &mut Unbound,
        choice: &Tunable,
        value: Option<u64>,
    ) -> Result<Figure, Error> {
        model.lowered.tuned.set(choice, value);
        let weights = Arc::new(model.weights.bind_there(&mut model.lowered, &model.maps)?);
        let program = model.lowered.program.clone();
        let manifest = Manifest { program, ..Manifest::default() };
        let compiled = Compiled::Memory { manifest, weights };
        let rows = choice.rows as usize;
        let context = self.past + self.n.max(rows) * (self.repetitions + 1) + rows;
        let mut session = compiled.session(None, Some(context as u64))?;
        session.prefill(&random_tokens(self.past.max(1), session.vocabulary()))?;
        let mut rates = Vec::new();
        for _ in 0..=self.repetitions {
            rates.push(self.rate(&mut session, choice.rows)?);
        }
        // The first one warmed up.
        rates.remove(0);
        rates.sort_by(f64::total_cmp);
        let logits = session.prefill(&random_tokens(rows, session.vocabulary()))?.to_vec();
        Ok(Figure { rates, logits })
    }

    /// Tokens a second: one after the other, or as many at once as there are rows.
    fn rate(&self, session: &mut Session, rows: u64) -> Result<f64, Error> {
        let tokens = random_tokens(self.n.max(rows as usize), session.vocabulary());
        let past = session.past();
        let start = Instant::now();
        for part in tokens.chunks(rows as usize) {
            session.pick(part, &Rule::GREEDY)?;
        }
        let rate = tokens.len() as f64 / start.elapsed().as_secs_f64();
        if 1 < rows {
            session.rewind(past)?;
        }
        Ok(rate)
    }
}
