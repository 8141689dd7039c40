//! `run`: continues texts or answers questions.

use std::collections::BTreeMap;
use std::fs;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use text::{Message, Tokenizer};

use super::{MachineArgs, SamplerArgs, rate, write_json};
use crate::generate::{Generated, chat_prompt, generate, plain_prompt, signed};
use crate::{Compiled, Fault, Model, Request, Target, generate_many};

/// Tokens that are generated unless told otherwise.
const DEFAULT_TOKENS: usize = 128;

/// Texts that a GPU generates at once unless told otherwise.
const DEFAULT_BATCH: usize = 64;

/// Continue texts, or answer questions
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// The text; given several times, each of them
    #[arg(
        short,
        long,
        value_name = "TEXT",
        allow_hyphen_values = true,
        required_unless_present = "file"
    )]
    pub prompt: Vec<String>,
    /// A file with a text on each line
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Continue each text so often, each time with other random numbers
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub samples: usize,
    /// Texts that are generated at once [default: 64 on a GPU, which shares its work among them,
    /// and 1 on the processor]
    #[arg(long, value_name = "N")]
    pub batch: Option<usize>,
    /// Tokens to generate at most
    #[arg(short, long, default_value_t = DEFAULT_TOKENS)]
    pub n: usize,
    /// How tokens are chosen.
    #[command(flatten)]
    pub sampler: SamplerArgs,
    /// How the machine is used.
    #[command(flatten)]
    pub machine: MachineArgs,
    /// Positions to make room for in each text [default: what the longest needs]
    #[arg(long)]
    pub context: Option<u64>,
    /// Take each text as a question and answer it, by the model's chat template
    #[arg(long)]
    pub chat: bool,
    /// Print texts and figures as JSON when all is done
    #[arg(long)]
    pub json: bool,
    /// Print figures to standard error, as is done on a terminal
    #[arg(long)]
    pub stats: bool,
}

impl RunArgs {
    /// Does it.
    pub fn execute(&self, model: &Compiled, out: &mut dyn Write) -> Result<(), Fault> {
        let tokenizer = model.tokenizer()?;
        let requests = self.requests(model, &tokenizer)?;
        let start = Instant::now();
        let done = match self.at_once(model, requests.len()) {
            1 => self.run_each(model, &tokenizer, &requests, out)?,
            texts => match self.run_batch(model, &tokenizer, &requests, texts, out) {
                // Nothing was said of a batch, and the model reads none.
                Err(fault) if fault.code == "R0304" && self.batch.is_none() => {
                    self.run_each(model, &tokenizer, &requests, out)?
                }
                done => done?,
            },
        };
        if self.json {
            return write_json(out, &self.report_all(&done));
        }
        if self.stats || std::io::stderr().is_terminal() {
            match &done[..] {
                [one] => write_statistics(one)?,
                all => write_totals(all, start.elapsed())?,
            }
        }
        Ok(())
    }

    /// What is to be continued: the samples of a text follow each other.
    fn requests(&self, model: &Compiled, tokenizer: &Tokenizer) -> Result<Vec<Request>, Fault> {
        let mut texts = self.prompt.clone();
        if let Some(path) = &self.file {
            let lines = fs::read_to_string(path).map_err(|error| Fault::reading(path, &error))?;
            texts.extend(lines.lines().filter(|it| !it.trim().is_empty()).map(str::to_owned));
        }
        if texts.is_empty() || self.samples == 0 || self.batch == Some(0) {
            let help = "it takes a text, and `--samples` and `--batch` of at least 1";
            return Err(Fault::new("R0603", "there is nothing to continue").help(help));
        }
        let mut requests = Vec::new();
        for text in texts {
            let prompt = self.tokens(model, tokenizer, text)?;
            for _ in 0..self.samples {
                let rule = self.sampler.rule(requests.len() as u64)?;
                requests.push(Request { prompt: prompt.clone(), rule });
            }
        }
        Ok(requests)
    }

    fn tokens(
        &self,
        model: &Compiled,
        tokenizer: &Tokenizer,
        text: String,
    ) -> Result<Vec<u32>, Fault> {
        if !self.chat {
            return plain_prompt(tokenizer, &text);
        }
        let template = model.chat_template()?.ok_or_else(|| {
            Fault::new("R0602", "the model has no chat template")
                .help("leave `--chat` out to have the text continued")
        })?;
        let message = Message { role: "user".into(), content: text };
        chat_prompt(tokenizer, &template, &[message])
    }

    /// How many texts are generated at once.
    fn at_once(&self, model: &Compiled, texts: usize) -> usize {
        let usual = match model.manifest().program.target {
            Target::Cuda => DEFAULT_BATCH,
            Target::Cpu => 1,
        };
        self.batch.unwrap_or(usual).min(texts)
    }

    /// What the texts need, as far as the model can.
    fn capacity(&self, model: &Compiled, requests: &[Request]) -> u64 {
        let longest = requests.iter().map(|it| it.prompt.len()).max().unwrap_or(0);
        let needed = (longest as u64).saturating_add(self.n as u64);
        self.context.unwrap_or_else(|| needed.min(model.manifest().program.capacity()))
    }

    /// Continues one text after the other, and shows them as they grow.
    fn run_each(
        &self,
        model: &Compiled,
        tokenizer: &Tokenizer,
        requests: &[Request],
        out: &mut dyn Write,
    ) -> Result<Vec<Generated>, Fault> {
        let capacity = self.capacity(model, requests);
        let mut session = model.session(self.machine.threads, Some(capacity))?;
        let start = [model.manifest().start];
        let mut done = Vec::new();
        for Request { prompt, rule } in requests {
            let mut prompt = &prompt[..];
            if session.has_source() {
                // An encoder reads the text, and the answer begins with a token of its own.
                session.read_source(&signed(prompt)?)?;
                prompt = &start;
            } else {
                session.reset()?;
            }
            let emit: &mut dyn FnMut(&str) -> Result<(), Fault> = &mut |text: &str| {
                if !self.json {
                    out.write_all(text.as_bytes())?;
                    out.flush()?;
                }
                Ok(())
            };
            done.push(generate(&mut session, tokenizer, prompt, self.n, rule, emit)?);
            if !self.json {
                writeln!(out)?;
            }
        }
        Ok(done)
    }

    /// Continues so many texts at once, and shows each as soon as those before it are shown.
    fn run_batch(
        &self,
        model: &Compiled,
        tokenizer: &Tokenizer,
        requests: &[Request],
        texts: usize,
        out: &mut dyn Write,
    ) -> Result<Vec<Generated>, Fault> {
        let capacity = self.capacity(model, requests);
        let mut batch = model.batch(self.machine.threads, Some(capacity), texts as u64)?;
        let (mut ended, mut done) = (BTreeMap::new(), Vec::new());
        generate_many(&mut batch, tokenizer, requests, self.n, &mut |number, generated| {
            ended.insert(number, generated);
            while let Some(next) = ended.remove(&done.len()) {
                if !self.json {
                    writeln!(out, "{}", next.text)?;
                    out.flush()?;
                }
                done.push(next);
            }
            Ok(())
        })?;
        Ok(done)
    }

    /// What is told of one text, or of each one.
    fn report_all(&self, done: &[Generated]) -> serde_json::Value {
        if let ([one], None) = (done, &self.file) {
            return report(one);
        }
        let of = |(number, it): (usize, &Generated)| {
            let mut report = report(it);
            report["prompt"] = (number / self.samples).into();
            report["sample"] = (number % self.samples).into();
            report
        };
        done.iter().enumerate().map(of).collect()
    }
}

/// The figures of a generation, for programs.
fn report(done: &Generated) -> serde_json::Value {
    json!({
        "text": done.text,
        "tokens": done.tokens,
        "ending": done.ending.name(),
        "prompt_tokens": done.prompt_tokens,
        "generated_tokens": done.tokens.len(),
        "prompt_tokens_per_s": rate(done.prompt_tokens, done.prompt_time),
        "generate_tokens_per_s": generate_rate(done),
        "first_token_ms": done.prompt_time.as_secs_f64() * 1e3,
    })
}

/// The figures of a generation, for people.
pub(super) fn write_statistics(done: &Generated) -> Result<(), Fault> {
    writeln!(
        std::io::stderr().lock(),
        "[{} tokens read at {:.1} a second, {} generated at {:.1} a second; ended by {}]",
        done.prompt_tokens,
        rate(done.prompt_tokens, done.prompt_time),
        done.tokens.len(),
        generate_rate(done),
        done.ending.name(),
    )?;
    Ok(())
}

/// The figures of several generations, for people.
fn write_totals(done: &[Generated], time: Duration) -> Result<(), Fault> {
    let read: usize = done.iter().map(|it| it.prompt_tokens).sum();
    let generated: usize = done.iter().map(|it| it.tokens.len()).sum();
    writeln!(
        std::io::stderr().lock(),
        "[{} texts: {read} tokens read and {generated} generated in {:.1} s, {:.1} a second]",
        done.len(),
        time.as_secs_f64(),
        rate(generated, time),
    )?;
    Ok(())
}

/// The first token comes with the prompt and costs no step of its own.
fn generate_rate(done: &Generated) -> f64 {
    rate(done.tokens.len().saturating_sub(1), done.generate_time)
}
