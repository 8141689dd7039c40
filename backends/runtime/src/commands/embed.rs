//! `embed`: a vector for each text, near to those of texts that mean the same.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use text::Tokenizer;

use super::{MachineArgs, rate, write_json};
use crate::generate::{plain_prompt, signed};
use crate::{Compiled, Fault, Session};

/// Give a vector for each text
#[derive(Args, Clone, Debug)]
pub struct EmbedArgs {
    /// A text; may be given several times
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    pub prompt: Vec<String>,
    /// A file with a text on each line, `-` for standard input
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// How the machine is used.
    #[command(flatten)]
    pub machine: MachineArgs,
    /// Print vectors and figures as JSON
    #[arg(long)]
    pub json: bool,
}

impl EmbedArgs {
    /// Does it: a line of numbers for each text.
    pub fn execute(&self, model: &Compiled, out: &mut dyn Write) -> Result<(), Fault> {
        let texts = self.texts()?;
        let tokenizer = model.tokenizer()?;
        let tokens: Vec<Vec<i32>> =
            texts.iter().map(|it| tokens(&tokenizer, it)).collect::<Result<_, _>>()?;
        let timed = model.each(self.machine.threads, &tokens, |session, text| {
            let start = Instant::now();
            Ok((embed(session, text)?, start, Instant::now()))
        })?;
        let (first, last) = (timed.iter().map(|it| it.1).min(), timed.iter().map(|it| it.2).max());
        let time = first.zip(last).map_or(Duration::ZERO, |(first, last)| last - first);
        let vectors: Vec<Vec<f32>> = timed.into_iter().map(|it| it.0).collect();
        if self.json {
            let read: usize = tokens.iter().map(Vec::len).sum();
            let report = json!({
                "embeddings": vectors,
                "tokens": read,
                "seconds": time.as_secs_f64(),
                "tokens_per_s": rate(read, time),
            });
            return write_json(out, &report);
        }
        for vector in vectors {
            let numbers: Vec<String> = vector.iter().map(f32::to_string).collect();
            writeln!(out, "{}", numbers.join(" "))?;
        }
        Ok(())
    }

    fn texts(&self) -> Result<Vec<String>, Fault> {
        let mut texts = self.prompt.clone();
        if let Some(path) = &self.file {
            texts.extend(lines(path).map_err(|error| Fault::reading(path, &error))?);
        }
        if texts.is_empty() {
            return Err(Fault::new("R0602", "there is no text").help("give one with `-p` or `-f`"));
        }
        Ok(texts)
    }
}

fn lines(path: &Path) -> std::io::Result<Vec<String>> {
    match path.to_str() {
        Some("-") => std::io::stdin().lock().lines().collect(),
        _ => Ok(std::fs::read_to_string(path)?.lines().map(str::to_owned).collect()),
    }
}

/// The tokens of a text, between those that the model wants around it.
fn tokens(tokenizer: &Tokenizer, text: &str) -> Result<Vec<i32>, Fault> {
    signed(&plain_prompt(tokenizer, text)?)
}

fn embed(session: &mut Session, tokens: &[i32]) -> Result<Vec<f32>, Fault> {
    let none = || {
        Fault::new("R0604", "the model gives no vector for a text")
            .help("encoders do, such as BERT; `run` continues texts")
    };
    session.vector(tokens)?.map(<[f32]>::to_vec).ok_or_else(none)
}
