//! `inspect`: what is in a file.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use import::{Checkpoint, Stored};
use runtime::{Compiled, Container};
use treen::Error;

use super::unwritable;

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
