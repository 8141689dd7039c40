//! `bench`: how fast a model reads and writes, and how near that is to what the machine can do.

use std::borrow::Cow;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use clap::Args;
use serde_json::json;

use super::{MachineArgs, write_json};
use crate::measure::{Placement, median, peak_memory};
use crate::{Compiled, Fault, Model, Session, write_executable};

/// A prompt of about five tokens.
const FIRST_PROMPT: &str = "The capital of France is";

/// Measure speed
#[derive(Args, Clone, Debug)]
pub struct BenchArgs {
    /// Tokens of the prompt
    #[arg(short, long, default_value_t = 512)]
    pub prompt: usize,
    /// Tokens to generate
    #[arg(short, long, default_value_t = 128)]
    pub n: usize,
    /// Positions that are read before generating begins
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub past: usize,
    /// Repetitions
    #[arg(short, long, default_value_t = 5)]
    pub repetitions: usize,
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
}

impl BenchArgs {
    /// Does it.
    pub fn execute(&self, model: &Compiled, out: &mut dyn Write) -> Result<(), Fault> {
        if [self.prompt, self.n, self.repetitions].contains(&0) {
            return Err(Fault::new("R0603", "nothing of nothing cannot be measured")
                .help("`-p`, `-n` and `-r` are at least 1"));
        }
        let context = self.prompt.max(self.past + self.n) as u64;
        let mut session = model.session(self.machine.threads, Some(context))?;
        let help = "`embed --json` tells how fast it reads them";
        session.check_writes().map_err(|it| it.help(help))?;
        let mut samples = Samples::default();
        self.repeat(&mut session, None)?;
        for _ in 0..self.repetitions {
            self.repeat(&mut session, Some(&mut samples))?;
        }
        let (width, device) = (session.width(), session.device());
        drop(session);
        if let Some(file) = Startable::new(model) {
            let attempts = std::iter::repeat_with(|| file.first_token(self.machine.threads));
            samples.first_token = attempts.take(self.repetitions).map_while(|it| it).collect();
        }
        let report = self.report(model, (width, device), &samples);
        if self.json { write_json(out, &report) } else { self.write_table(out, &report) }
    }

    /// One repetition, measured unless it is there to warm up. What the machine can do is measured
    /// in between: cores may be moved at any time.
    fn repeat(&self, session: &mut Session, samples: Option<&mut Samples>) -> Result<(), Fault> {
        let prompt = random_tokens(self.prompt, session.vocabulary());
        session.reset()?;
        if session.has_source() {
            session.read_source(&prompt)?;
        }
        let start = Instant::now();
        session.prefill(&prompt)?;
        let prompt_rate = self.prompt as f64 / start.elapsed().as_secs_f64();
        session.reset()?;
        if 0 < self.past {
            session.prefill(&random_tokens(self.past, session.vocabulary()))?;
        }
        let start = Instant::now();
        for token in random_tokens(self.n, session.vocabulary()) {
            session.step(&[token], 1)?;
        }
        let generate_rate = self.n as f64 / start.elapsed().as_secs_f64();
        let Some(samples) = samples else { return Ok(()) };
        samples.prompt.push(prompt_rate);
        samples.generate.push(generate_rate);
        let ceilings = session.ceilings()?;
        samples.bandwidth.push(ceilings.bandwidth);
        samples.peak.push(ceilings.arithmetic);
        samples.latency.extend(ceilings.latency);
        Ok(())
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
        let prompt_flops = costs.prompt_flops(self.prompt as u64) / self.prompt as f64;
        let mut report = json!({
            "model": model.manifest().program.name,
            "device": device,
            "threads": width,
            "prompt_tokens": self.prompt,
            "past_tokens": self.past,
            "generated_tokens": self.n,
            "prompt_tokens_per_s": prompt,
            "prompt_tokens_per_s_all": samples.prompt,
            "generate_tokens_per_s": generate,
            "generate_tokens_per_s_all": samples.generate,
            "peak_rss_bytes": peak_memory(),
            "bytes_per_token": costs.step_bytes,
            "bandwidth_gb_per_s": bandwidth / 1e9,
            "bandwidth_share": share(generate * costs.step_bytes as f64, bandwidth),
            "peak_gflops": peak / 1e9,
            "prompt_flops_share": share(prompt * prompt_flops, peak),
            "placement": placement.map(Placement::name),
            "core_to_core_ns": placement.map(|it| it.nanoseconds),
        });
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
        let rows = [
            ("read", self.prompt, "prompt_tokens_per_s", "prompt_flops_share", "arithmetic"),
            ("write", self.n, "generate_tokens_per_s", "bandwidth_share", "bandwidth"),
        ];
        for (name, tokens, key, share, of) in rows {
            let all: Vec<f64> = report[format!("{key}_all")]
                .as_array()
                .map_or_else(Vec::new, |it| it.iter().filter_map(|it| it.as_f64()).collect());
            writeln!(
                out,
                "{name:<6} {tokens:>6} tokens {:>9.1} tok/s  {}  {:.0} % of {of}",
                number(key),
                spread(&all),
                100.0 * number(share),
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

/// `(least..most, sigma)`.
fn spread(samples: &[f64]) -> String {
    let least = samples.iter().copied().fold(f64::INFINITY, f64::min);
    let most = samples.iter().copied().fold(0.0, f64::max);
    let mean = samples.iter().sum::<f64>() / samples.len() as f64;
    let squares = samples.iter().map(|it| (it - mean).powi(2)).sum::<f64>();
    let sigma = (squares / samples.len().saturating_sub(1).max(1) as f64).sqrt();
    format!("({least:.1}..{most:.1}, sigma {sigma:.1})")
}

/// Always the same ones. Speed does not depend on them, as long as they differ.
fn random_tokens(count: usize, vocabulary: u64) -> Vec<i32> {
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
