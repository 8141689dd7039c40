//! `plan`: what memory and work a model takes, and where it fits.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use frontend::Compiled;
use import::Checkpoint;
use ir::{DType, storage::Encoding};
use passes::Widths;
use serde_json::json;
use treen::memory::{Format, Memory, stored_bytes};
use treen::precision::Request;
use treen::{Budget, Error, Ranking, Spec, slices};

use super::{CacheType, unwritable};

/// GPUs and their bytes: as their makers write them, but for the A10G, which has this much to give.
const GPUS: [(&str, u64); 6] = [
    ("A10G", 23_686_744_965),
    ("L4", 24_000_000_000),
    ("L40S", 48_000_000_000),
    ("A100, H100", 80_000_000_000),
    ("H200", 141_000_000_000),
    ("B200", 192_000_000_000),
];

/// How many of them work together.
const COUNTS: [u64; 4] = [1, 2, 4, 8];

/// Show the memory and the work of a model before anything runs
#[derive(Args)]
pub(super) struct PlanArgs {
    /// A `.tn` file, a Hugging Face folder, a GGUF file, or a name in the catalog
    spec: String,
    /// The checkpoint, where the spec is a text
    #[arg(long, value_name = "PATH")]
    weights: Option<PathBuf>,
    /// Another number or text for an axis or value of the spec, such as `S=4096`
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// What the model may cost, as in a build
    #[arg(long, value_name = "LIMITS")]
    budget: Option<Budget>,
    /// Positions of each sequence [default: as many as the spec allows]
    #[arg(long, value_name = "N")]
    context: Option<u64>,
    /// Sequences at a time
    #[arg(long, value_name = "N", default_value_t = 1)]
    batch: u64,
    /// How matrices are stored: fp8, nvfp4, f32, f16, bf16, q4_0, q8_0 and so on; the rest is in
    /// bf16, or in f32 with f32 [default: as the checkpoint has them, or bf16]
    #[arg(long, value_name = "FORMAT")]
    weights_as: Option<String>,
    /// What is stored otherwise, as in a build: `nvfp4`, a published recipe and so on
    #[arg(long, value_name = "FORMAT,..")]
    precision: Option<String>,
    /// How keys and values are stored
    #[arg(long, value_name = "TYPE", default_value = "bf16")]
    cache: CacheType,
    /// The share of each GPU's memory to leave to activations, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 10,
        value_parser = clap::value_parser!(u64).range(0..100))]
    reserve: u64,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
}

/// What was asked for and what came of it.
struct Figures {
    memory: Memory,
    /// How the weights are stored.
    stored: String,
    cache: DType,
    context: u64,
    batch: u64,
    /// Bytes of all keys and values, of all recurrent states, and of these and the weights.
    cache_bytes: u64,
    state_bytes: u64,
    total_bytes: u64,
    /// Percent of a GPU's memory that are not to be filled.
    reserve: u64,
}

impl PlanArgs {
    pub(super) fn execute(&self, out: &mut dyn Write) -> Result<(), Error> {
        let figures = self.figures()?;
        if self.json {
            return writeln!(out, "{:#}", figures.to_json()).map_err(unwritable);
        }
        out.write_all(figures.to_text().as_bytes()).map_err(unwritable)
    }

    fn figures(&self) -> Result<Figures, Error> {
        let (memory, stored) = self.memory()?;
        let (most, batch) = (memory.most_positions, self.batch);
        let context = self.context.unwrap_or(most);
        if most < context {
            let message = format!("a context of {context}, where the spec allows {most}");
            return Err(Error::new("C0305", message).help("`--set S=...` changes what it allows"));
        }
        let too_many = || Error::new("C0305", format!("{batch} sequences are too many"));
        Ok(Figures {
            cache_bytes: memory.cache_bytes(context, batch).ok_or_else(too_many)?,
            state_bytes: memory.state_bytes(batch).ok_or_else(too_many)?,
            total_bytes: memory.total_bytes(context, batch).ok_or_else(too_many)?,
            cache: self.cache.dtype(),
            reserve: self.reserve,
            memory,
            stored,
            context,
            batch,
        })
    }

    /// The model, and what is kept of its axes.
    fn compile(&self, spec: Spec) -> Result<(Compiled, Widths), Error> {
        let compiled = spec.compile()?;
        let Some(budget) = &self.budget else { return Ok((compiled, Widths::default())) };
        let path = self.weights.as_ref().or(spec.weights.as_ref());
        let ranking = match path {
            Some(path) => Ranking::read(&compiled.module, &Checkpoint::open_described(path)?)?,
            None => Ranking::default(),
        };
        let choice = budget.choose(&spec, &compiled, &ranking)?;
        let sliced = slices::slice(spec, compiled, &choice, &ranking.orders)?;
        Ok((sliced.compiled, sliced.widths))
    }

    /// What the model takes, and how its weights are stored.
    fn memory(&self) -> Result<(Memory, String), Error> {
        let spec = Spec::open(&self.spec, &self.set, &mut super::progress)?;
        let (compiled, widths) = self.compile(spec.clone())?;
        let format = Format::from_name(self.weights_as.as_deref().unwrap_or("bf16"));
        let format = format.ok_or_else(|| {
            let names: Vec<&str> = Encoding::names().collect();
            Error::new("C0305", "weights are not stored in such a format")
                .help(format!("{}, q4_1, q5_0, q5_1, q5_k or q6_k", names.join(", ")))
        })?;
        let format = match &self.precision {
            Some(it) => format.with(Request::parse(it)?)?,
            None => format,
        };
        let (maps, cache) = (&compiled.weights, self.cache.dtype());
        let mut module = compiled.module.clone();
        widths.iter().for_each(|(name, size)| module.axes.fix(name, size));
        let mut memory = Memory::of(&module, maps, &format, cache)?;
        let path = self.weights.as_deref().or(spec.weights.as_deref());
        let is_told = self.weights_as.is_some() || self.precision.is_some();
        let is_whole = !is_told && self.budget.is_none();
        let checkpoint = path.filter(|_| is_whole).map(Checkpoint::open_described).transpose()?;
        let Some(checkpoint) = checkpoint.filter(|it| !it.is_bare()) else {
            return Ok((memory, format.name));
        };
        memory.weight_bytes = stored_bytes(&compiled.module, maps, &checkpoint)?;
        Ok((memory, "as in the checkpoint".to_owned()))
    }
}

impl Figures {
    /// How much of so many GPUs is filled, in percent, if there is room enough.
    fn filled(&self, bytes: u64, count: u64) -> Option<u64> {
        let (all, wanted) = (u128::from(bytes * count), u128::from(self.total_bytes));
        let room = all * u128::from(100 - self.reserve) / 100;
        (wanted <= room).then(|| (wanted * 100).div_ceil(all) as u64)
    }

    fn to_text(&self) -> String {
        let Figures { memory, stored, cache, context, batch, .. } = self;
        let costs = &memory.costs;
        let counts = [
            ("parameters", memory.parameters),
            ("flops per position", costs.position_flops),
            ("flops per pair of positions", costs.pair_flops),
            ("flops of the head", costs.head_flops),
        ];
        let mut text: String =
            counts.iter().map(|(name, n)| format!("{name:<28} {n:>16}\n")).collect();
        let (position, sequence) = (memory.position_bytes, memory.sequence_bytes);
        let cached = format!("{batch} x {context} positions of {position} bytes, {cache}");
        let lines = [
            ("bytes of weights", memory.weight_bytes, stored.clone()),
            ("bytes of keys and values", self.cache_bytes, cached),
            ("bytes of states", self.state_bytes, format!("{batch} x {sequence} bytes, f32")),
            ("bytes of it all", self.total_bytes, String::new()),
        ];
        text.push('\n');
        for (name, bytes, note) in lines {
            let (gb, gib) = (bytes as f64 / 1e9, bytes as f64 / f64::from(1 << 30));
            let line = format!("{name:<28} {bytes:>16} {gb:>9.2} GB {gib:>9.2} GiB  {note}");
            text += &format!("{}\n", line.trim_end());
        }
        text + "\n" + &self.table()
    }

    /// Which GPUs have room, a line for each kind.
    fn table(&self) -> String {
        let cells = |line: &mut dyn Iterator<Item = String>| -> String {
            line.map(|it| format!("{it:>8}")).collect()
        };
        let left = format!("filled, with {} % to spare", self.reserve);
        let head = cells(&mut COUNTS.iter().map(|it| format!("{it} GPU")));
        let mut text = format!("{left:<28}{head}\n");
        for (name, bytes) in GPUS {
            let kind = format!("{name}, {:.1} GB", bytes as f64 / 1e9);
            let filled = |count: &u64| match self.filled(bytes, *count) {
                Some(percent) => format!("{percent} %"),
                None => "-".to_owned(),
            };
            text += &format!("{kind:<28}{}\n", cells(&mut COUNTS.iter().map(filled)));
        }
        text
    }

    fn to_json(&self) -> serde_json::Value {
        let gpus: Vec<_> = GPUS
            .iter()
            .map(|&(name, bytes)| {
                let fits = COUNTS.iter().find(|it| self.filled(bytes, **it).is_some());
                json!({ "name": name, "bytes": bytes, "fits_from": fits })
            })
            .collect();
        let costs = &self.memory.costs;
        json!({
            "model": self.memory.name,
            "parameters": self.memory.parameters,
            "flops_per_position": costs.position_flops,
            "flops_per_pair_of_positions": costs.pair_flops,
            "flops_of_the_head": costs.head_flops,
            "context": self.context,
            "batch": self.batch,
            "weights_as": self.stored,
            "weight_bytes": self.memory.weight_bytes,
            "cache": self.cache.name(),
            "cache_bytes_per_position": self.memory.position_bytes,
            "cache_bytes": self.cache_bytes,
            "state_bytes_per_sequence": self.memory.sequence_bytes,
            "state_bytes": self.state_bytes,
            "total_bytes": self.total_bytes,
            "reserve_percent": self.reserve,
            "gpus": gpus,
        })
    }
}
