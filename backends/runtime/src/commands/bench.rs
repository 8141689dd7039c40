//! `bench`: how fast a model reads and writes, and how near that is to what the machine can do.

use std::borrow::Cow;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use clap::Args;
use serde_json::json;
use text::Rule;

use super::{MachineArgs, write_json};
use crate::measure::{Placement, median, peak_memory};
use crate::{Batch, Compiled, Fault, Manifest, Model, Session, StateSlot, write_executable};

/// Tokens of a prompt, unless told or more than a model takes.
const PROMPT: usize = 512;

/// A prompt of about five tokens.
const FIRST_PROMPT: &str = "The capital of France is";

/// Measure speed
#[derive(Args, Clone, Debug)]
pub struct BenchArgs {
    /// Tokens of the prompt [default: 512, or as many as the model takes]
    #[arg(short, long)]
    pub prompt: Option<usize>,
    /// Tokens to generate
    #[arg(short, long, default_value_t = 128)]
    pub n: usize,
    /// Positions that are read before generating begins
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub past: usize,
    /// Repetitions
    #[arg(short, long, default_value_t = 5)]
    pub repetitions: usize,
    /// Generate so many texts at once too; several numbers are measured one after the other
    #[arg(long, value_name = "N,..", value_delimiter = ',')]
    pub batch: Vec<usize>,
    /// How the machine is used.
    #[command(flatten)]
    pub machine: MachineArgs,
    /// Print figures as JSON
    #[arg(long)]
    pub json: bool,
}

/// What was measured, repetition by repetition.
#[derive(Default)]
struct Samples {
    /// Tokens of the prompt.
    length: usize,
    /// Tokens a second.
    prompt: Vec<f64>,
    /// Tokens a second.
    generate: Vec<f64>,
    /// Bytes a second.
    bandwidth: Vec<f64>,
    /// Operations a second.
    peak: Vec<f64>,
    /// Nanoseconds from core to core.
    latency: Vec<f64>,
    /// Milliseconds from starting the process; empty where that cannot be measured.
    first_token: Vec<f64>,
    /// Tokens a second of all texts, for each number of texts.
    batches: Vec<Vec<f64>>,
}

impl BenchArgs {
    /// Does it.
    pub fn execute(&self, model: &Compiled, out: &mut dyn Write) -> Result<(), Fault> {
        let most = model.manifest().program.capacity() as usize;
        let prompt = self.prompt.unwrap_or(PROMPT.min(most));
        let counts = [prompt, self.n, self.repetitions];
        if counts.iter().chain(&self.batch).any(|it| *it == 0) {
            return Err(Fault::new("R0603", "nothing of nothing cannot be measured")
                .help("`-p`, `-n`, `-r` and `--batch` are at least 1"));
        }
        let context = prompt.max(self.past + self.n) as u64;
        let sequences = self.batch.iter().copied().max().unwrap_or(1) as u64;
        let mut batch = model.batch(self.machine.threads, Some(context), sequences)?;
        let session = batch.alone(0)?;
        if !self.batch.is_empty() {
            session.check_writes()?;
        }
        let mut samples = Samples { length: prompt, ..Samples::default() };
        self.repeat(session, prompt, None)?;
        for _ in 0..self.repetitions {
            self.repeat(session, prompt, Some(&mut samples))?;
        }
        let (width, device) = (session.width(), session.device());
        for &sequences in &self.batch {
            samples.batches.push(self.generate_batch(&mut batch, sequences)?);
        }
        drop(batch);
        if let Some(file) = Startable::new(model) {
            let attempts = std::iter::repeat_with(|| file.first_token(self.machine.threads));
            samples.first_token = attempts.take(self.repetitions).map_while(|it| it).collect();
        }
        let report = self.report(model, (width, device), &samples);
        if self.json { write_json(out, &report) } else { self.write_table(out, &report) }
    }

    /// One repetition, measured unless it is there to warm up. What the machine can do is measured
    /// in between: cores may be moved at any time.
    fn repeat(
        &self,
        session: &mut Session,
        length: usize,
        samples: Option<&mut Samples>,
    ) -> Result<(), Fault> {
        let prompt = random_tokens(length, session.vocabulary());
        session.reset()?;
        if session.has_source() {
            session.read_source(&prompt)?;
        }
        let start = Instant::now();
        session.prefill(&prompt)?;
        let prompt_rate = length as f64 / start.elapsed().as_secs_f64();
        // An encoder writes nothing.
        let writes = session.check_writes().is_ok();
        let generate_rate = if writes { Some(self.generate(session)?) } else { None };
        let Some(samples) = samples else { return Ok(()) };
        samples.prompt.push(prompt_rate);
        samples.generate.extend(generate_rate);
        let ceilings = session.ceilings()?;
        samples.bandwidth.push(ceilings.bandwidth);
        samples.peak.push(ceilings.arithmetic);
        samples.latency.extend(ceilings.latency);
        Ok(())
    }

    /// Tokens a second.
    fn generate(&self, session: &mut Session) -> Result<f64, Fault> {
        session.reset()?;
        if 0 < self.past {
            session.prefill(&random_tokens(self.past, session.vocabulary()))?;
        }
        let start = Instant::now();
        for token in random_tokens(self.n, session.vocabulary()) {
            session.pick(&[token], &Rule::GREEDY)?;
        }
        Ok(self.n as f64 / start.elapsed().as_secs_f64())
    }

    /// Tokens a second in all, where so many texts are generated at once.
    fn generate_batch(&self, batch: &mut Batch, sequences: usize) -> Result<Vec<f64>, Fault> {
        let vocabulary = batch.alone(0)?.vocabulary();
        let past = random_tokens(self.past, vocabulary);
        let mut rates = Vec::new();
        for _ in 0..=self.repetitions {
            for sequence in 0..sequences {
                batch.reset(sequence);
                if !past.is_empty() {
                    batch.pick_first(sequence, &past, &Rule::GREEDY)?;
                }
            }
            let rules = vec![Rule::GREEDY; sequences];
            let start = Instant::now();
            for tokens in random_tokens(self.n * sequences, vocabulary).chunks(sequences) {
                let tokens: Vec<Option<i32>> = tokens.iter().copied().map(Some).collect();
                batch.pick(&tokens, &rules)?;
            }
            rates.push((self.n * sequences) as f64 / start.elapsed().as_secs_f64());
        }
        // The first one warmed up.
        rates.remove(0);
        Ok(rates)
    }

    /// Bytes that a step of so many texts moves at least: weights, and what is kept of each text.
    fn step_bytes(&self, model: &Compiled, sequences: usize) -> f64 {
        let Manifest { program, costs, .. } = model.manifest();
        let positions = (self.past + self.n / 2) as f64;
        let of_state = |it: &StateSlot| {
            // What has a size of its own is written too.
            it.banks as f64 * (it.position_bytes as f64 * positions + 2.0 * it.fixed_bytes as f64)
        };
        let kept: f64 = program.states.iter().map(of_state).sum();
        costs.step_bytes as f64 + kept * sequences as f64
    }

    /// What is told of the texts that were generated at once.
    fn report_batches(
        &self,
        model: &Compiled,
        bandwidth: f64,
        samples: &Samples,
    ) -> serde_json::Value {
        let report = |(&sequences, rates): (&usize, &Vec<f64>)| {
            let (rate, bytes) = (median(rates), self.step_bytes(model, sequences));
            json!({
                "sequences": sequences,
                "generate_tokens_per_s": rate,
                "generate_tokens_per_s_all": rates,
                "of_each_tokens_per_s": rate / sequences as f64,
                "bytes_per_step": bytes,
                "bandwidth_share": share(rate / sequences as f64 * bytes, bandwidth),
            })
        };
        self.batch.iter().zip(&samples.batches).map(report).collect()
    }

    fn report(
        &self,
        model: &Compiled,
        (width, device): (usize, Option<String>),
        samples: &Samples,
    ) -> serde_json::Value {
        let costs = &model.manifest().costs;
        let [prompt, generate, bandwidth, peak] =
            [&samples.prompt, &samples.generate, &samples.bandwidth, &samples.peak]
                .map(|it| median(it));
        let placement = (!samples.latency.is_empty())
            .then(|| Placement { nanoseconds: median(&samples.latency) });
        let prompt_flops = costs.prompt_flops(samples.length as u64) / samples.length as f64;
        let mut report = json!({
            "model": model.manifest().program.name,
            "device": device,
            "threads": width,
            "prompt_tokens": samples.length,
            "past_tokens": self.past,
            "generated_tokens": self.n,
            "prompt_tokens_per_s": prompt,
            "prompt_tokens_per_s_all": samples.prompt,
            "peak_rss_bytes": peak_memory(),
            "bytes_per_token": costs.step_bytes,
            "bandwidth_gb_per_s": bandwidth / 1e9,
            "peak_gflops": peak / 1e9,
            "prompt_flops_share": share(prompt * prompt_flops, peak),
            "placement": placement.map(Placement::name),
            "core_to_core_ns": placement.map(|it| it.nanoseconds),
        });
        if !samples.generate.is_empty() {
            report["generate_tokens_per_s"] = generate.into();
            report["generate_tokens_per_s_all"] = json!(samples.generate);
            report["bandwidth_share"] = share(generate * costs.step_bytes as f64, bandwidth).into();
        }
        if !self.batch.is_empty() {
            report["batches"] = self.report_batches(model, bandwidth, samples);
        }
        if !samples.first_token.is_empty() {
            report["first_token_ms"] = median(&samples.first_token).into();
            report["first_token_ms_all"] = json!(samples.first_token);
        }
        report
    }

    fn write_table(&self, out: &mut dyn Write, report: &serde_json::Value) -> Result<(), Fault> {
        let number = |key: &str| report[key].as_f64().unwrap_or(f64::NAN);
        let text = |key: &str| report[key].as_str().unwrap_or("one core").to_owned();
        let runs_on = match report["device"].as_str() {
            Some(device) => device.to_owned(),
            None => format!("{} threads ({})", report["threads"], text("placement")),
        };
        writeln!(
            out,
            "{}: {runs_on}, {:.1} GB/s, {:.0} GFLOP/s",
            text("model"),
            number("bandwidth_gb_per_s"),
            number("peak_gflops"),
        )?;
        let length = report["prompt_tokens"].as_u64().unwrap_or(0) as usize;
        let rows = [
            ("read", length, "prompt_tokens_per_s", "prompt_flops_share", "arithmetic"),
            ("write", self.n, "generate_tokens_per_s", "bandwidth_share", "bandwidth"),
        ];
        for (name, tokens, key, share, of) in rows.into_iter().filter(|it| report[it.2].is_number())
        {
            let all: Vec<f64> = report[format!("{key}_all")]
                .as_array()
                .map_or_else(Vec::new, |it| it.iter().filter_map(|it| it.as_f64()).collect());
            writeln!(
                out,
                "{name:<6} {tokens:>6} tokens {:>9.1} tok/s  {}  {}",
                number(key),
                spread(&all),
                of_most(number(key), number(share), of),
            )?;
        }
        for batch in report["batches"].as_array().into_iter().flatten() {
            let number = |key: &str| batch[key].as_f64().unwrap_or(f64::NAN);
            writeln!(
                out,
                "{:>4} at once {:>9.1} tok/s, {:.1} each  {}",
                batch["sequences"],
                number("generate_tokens_per_s"),
                number("of_each_tokens_per_s"),
                of_most(number("generate_tokens_per_s"), number("bandwidth_share"), "bandwidth"),
            )?;
        }
        if let Some(first) = report["first_token_ms"].as_f64() {
            writeln!(out, "first token {first:.1} ms after start")?;
        }
        Ok(writeln!(out, "peak memory {:.1} MiB", number("peak_rss_bytes") / 1_048_576.0)?)
    }
}

/// The part of `whole`; 0 of nothing.
fn share(part: f64, whole: f64) -> f64 {
    if whole == 0.0 { 0.0 } else { part / whole }
}

/// What share a rate has of what the machine would allow, and what that is.
fn of_most(rate: f64, share: f64, by: &str) -> String {
    format!("{:.0} % of {:.1} by {by}", 100.0 * share, self::share(rate, share))
}

/// `(least..most, sigma)`.
fn spread(samples: &[f64]) -> String {
    let least = samples.iter().copied().fold(f64::INFINITY, f64::min);
    let most = samples.iter().copied().fold(0.0, f64::max);
    let mean = samples.iter().sum::<f64>() / samples.len() as f64;
    let squares = samples.iter().map(|it| (it - mean).powi(2)).sum::<f64>();
    let sigma = (squares / samples.len().saturating_sub(1).max(1) as f64).sqrt();
    format!("({least:.1}..{most:.1}, sigma {sigma:.1})")
}

/// Tokens to measure with, always the same ones. Speed does not depend on them, as long as they
/// differ.
pub fn random_tokens(count: usize, vocabulary: u64) -> Vec<i32> {
    let mut state: u64 = 1;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % vocabulary.max(1)) as i32
    };
    (0..count).map(|_| next()).collect()
}

/// A model as a file that can be started: its own, or one for the moment.
struct Startable<'a> {
    path: Cow<'a, Path>,
}

impl<'a> Startable<'a> {
    /// `None` for a model that cannot continue a text, or where no file can be written.
    fn new(model: &'a Compiled) -> Option<Startable<'a>> {
        model.manifest().tokenizer.as_ref()?;
        match model {
            Compiled::File(container) => Some(Startable { path: container.path().into() }),
            Compiled::Memory { manifest, weights } => {
                let name = format!("treen-bench-{}", std::process::id());
                let path = std::env::temp_dir().join(name);
                write_executable(&path, manifest, weights).ok()?;
                Some(Startable { path: path.into() })
            }
        }
    }

    /// Milliseconds from starting it to its first output.
    fn first_token(&self, threads: Option<usize>) -> Option<f64> {
        let mut command = Command::new(&*self.path);
        command.args(["run", "-n", "1", "-p", FIRST_PROMPT]);
        if let Some(threads) = threads {
            command.args(["--threads", &threads.to_string()]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let start = Instant::now();
        let mut child = command.spawn().ok()?;
        let read = child.stdout.take().and_then(|mut it| it.read(&mut [0]).ok());
        let time = start.elapsed();
        child.wait().ok()?;
        (0 < read?).then_some(time.as_secs_f64() * 1e3)
    }
}

impl Drop for Startable<'_> {
    fn drop(&mut self) {
        if let Cow::Owned(path) = &self.path {
            // A file left in the folder of temporary files is no harm.
            let _ = fs::remove_file(path);
        }
    }
}
