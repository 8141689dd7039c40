//! `inspect` and `plan`: what is in a file, and what a model will take.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use import::{Checkpoint, Stored};
use runtime::{Compiled, Container, ExtentRole};
use treen::Error;

use super::{ModelArgs, unwritable};

/// Show what a checkpoint or an executable holds
#[derive(Args)]
pub(super) struct InspectArgs {
    /// A GGUF file, a safetensors file, a Hugging Face folder or an executable
    path: PathBuf,
}

impl InspectArgs {
    pub(super) fn execute(&self, out: &mut dyn Write) -> Result<(), Error> {
        if self.path.is_file()
            && let Ok(container) = Container::open(&self.path)
        {
            let info = runtime::commands::InfoArgs::default();
            return Ok(info.execute(&Compiled::File(container), out)?);
        }
        let checkpoint = Checkpoint::open(&self.path)?;
        let mut total = 0;
        for entry in checkpoint.tensors() {
            let bytes = entry.range.len();
            total += bytes;
            let stored = match &entry.stored {
                Stored::Known(dtype) => dtype.name(),
                Stored::Foreign(name) => name,
            };
            writeln!(out, "{:<48} {stored:<6} {:?} {bytes}", entry.name, entry.shape)
                .map_err(unwritable)?;
        }
        writeln!(out, "{} tensors, {total} bytes", checkpoint.tensors().len()).map_err(unwritable)
    }
}

/// Show the memory and the work of a model before anything runs
#[derive(Args)]
pub(super) struct PlanArgs {
    /// Which model.
    #[command(flatten)]
    model: ModelArgs,
    /// Positions to plan for [default: as many as the spec allows]
    #[arg(long)]
    context: Option<u64>,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
}

impl PlanArgs {
    pub(super) fn execute(&self, out: &mut dyn Write) -> Result<(), Error> {
        let spec = self.model.open()?;
        let compiled = spec.compile()?;
        let mut lowered = treen::lower(compiled.module, &self.model.options(), &mut |_| {})?;
        if let Some(path) = spec.weights.as_deref().filter(|it: &&Path| it.exists()) {
            treen::bind(&mut lowered, &compiled.weights, &Checkpoint::open(path)?)?;
        }
        let program = &lowered.program;
        let most = program
            .extents
            .iter()
            .find(|it| it.role == ExtentRole::Capacity)
            .map_or(0, |it| it.max);
        let context = self.context.unwrap_or(most);
        if most < context {
            let message = format!("a context of {context}, where the spec allows {most}");
            return Err(Error::new("C0305", message).help("`--set S=...` changes what it allows"));
        }
        let states: u64 = program.states.iter().filter_map(|it| it.bytes(context)).sum();
        let end = |it: &runtime::WeightSlot| it.offset + it.bytes;
        let weights = program.weights.iter().map(end).max().unwrap_or(0);
        let mut figures = vec![
            ("parameters", lowered.costs.parameters),
            ("context", context),
            ("state_bytes", states),
            ("arena_bytes", program.arena_bytes),
            ("flops_per_position", lowered.costs.position_flops),
            ("flops_per_pair_of_positions", lowered.costs.pair_flops),
            ("flops_of_the_head", lowered.costs.head_flops),
        ];
        if 0 < weights {
            figures.push(("weight_bytes", weights));
            figures.push(("weight_bytes_per_step", lowered.costs.step_bytes));
        }
        if self.json {
            let object: serde_json::Map<String, serde_json::Value> =
                figures.iter().map(|(name, n)| ((*name).to_owned(), (*n).into())).collect();
            return writeln!(out, "{:#}", serde_json::Value::Object(object)).map_err(unwritable);
        }
        for (name, n) in figures {
            writeln!(out, "{:<28} {n:>16}", name.replace('_', " ")).map_err(unwritable)?;
        }
        write!(out, "\n{}", lowered.plan).map_err(unwritable)
    }
}
