//! `verify`: compares the model with golden outputs, and the file with its digests.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{MachineArgs, write_json};
use crate::verify::{Agreement, Golden, verify, verify_batch};
use crate::{Compiled, Fault};

/// Texts that are read beside each other.
const SEQUENCES: u64 = 3;

/// Compare with golden outputs
#[derive(Args, Clone, Debug)]
pub struct VerifyArgs {
    /// A safetensors file with `input_ids`, `logits` and, perhaps, `greedy`
    #[arg(long, value_name = "FILE")]
    pub golden: PathBuf,
    /// The greatest error allowed: the norm of the difference over that of the golden logits
    #[arg(long, default_value_t = 1e-4)]
    pub tolerance: f64,
    /// How the machine is used.
    #[command(flatten)]
    pub machine: MachineArgs,
    /// Print figures as JSON
    #[arg(long)]
    pub json: bool,
}

impl VerifyArgs {
    /// Does it; disagreement is a fault.
    pub fn execute(&self, model: &Compiled, out: &mut dyn Write) -> Result<(), Fault> {
        let found = self.compare(model)?;
        if self.json {
            write_json(out, &json!(found))?;
        } else {
            writeln!(out, "{found}")?;
        }
        self.judge(&found)
    }

    /// How well a compiled model agrees.
    pub fn compare(&self, model: &Compiled) -> Result<Agreement, Fault> {
        let golden = Golden::read(&self.golden)?;
        if let Compiled::File(container) = model {
            container.check()?;
        }
        match model.batch(self.machine.threads, None, SEQUENCES) {
            Ok(mut batch) => {
                let mut found = verify(batch.alone(0)?, &golden)?;
                verify_batch(&mut batch, &golden, &mut found)?;
                Ok(found)
            }
            Err(fault) if fault.code == "R0304" => {
                verify(&mut model.session(self.machine.threads, None)?, &golden)
            }
            Err(fault) => Err(fault),
        }
    }

    /// Whether that is near enough.
    pub fn judge(&self, found: &Agreement) -> Result<(), Fault> {
        if found.within(self.tolerance) {
            return Ok(());
        }
        let message = "the model does not agree with its golden outputs";
        let help = format!(
            "the tolerance is {:e}, which is for 32 bits: what is stored or multiplied in fewer is \
             off by 1e-3 to 1e-1, for which `--tolerance` is; on a GPU, `--exact` rounds nothing",
            self.tolerance
        );
        Err(Fault::new("R0502", message).help(help))
    }
}
