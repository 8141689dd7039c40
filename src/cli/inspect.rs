//! `inspect`: what is in a file.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use cuda::GpuProgram;
use import::{Checkpoint, Stored};
use runtime::{Compiled, Container, Target};
use treen::Error;

use super::unwritable;

/// Show what a checkpoint or an executable holds
#[derive(Args)]
pub(super) struct InspectArgs {
    /// A GGUF file, a safetensors file, a Hugging Face folder or an executable
    path: PathBuf,
    /// Print the kernels that an executable runs on a GPU
    #[arg(long)]
    emit: Option<Emit>,
}

/// As what kernels can be printed.
#[derive(Clone, Copy, ValueEnum)]
enum Emit {
    /// CUDA C++
    Cuda,
    /// NVIDIA's assembly language
    Ptx,
    /// What they take of a GPU: registers, memory
    Resources,
}

impl InspectArgs {
    pub(super) fn execute(&self, out: &mut dyn Write) -> Result<(), Error> {
        if self.path.is_file()
            && let Ok(container) = Container::open(&self.path)
        {
            if let Some(emit) = self.emit {
                return write!(out, "{}", kernels(&container, emit)?).map_err(unwritable);
            }
            let info = runtime::commands::InfoArgs::default();
            return Ok(info.execute(&Compiled::File(container), out)?);
        }
        let checkpoint = Checkpoint::open(&self.path)?;
        if self.emit.is_some() {
            return Err(no_kernels());
        }
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

/// The kernels in an executable.
fn kernels(container: &Container, emit: Emit) -> Result<String, Error> {
    if container.manifest().program.target != Target::Cuda {
        return Err(no_kernels());
    }
    let program = GpuProgram::from_bytes(&container.code_bytes()?)?;
    Ok(match emit {
        Emit::Cuda => program.to_string(),
        Emit::Ptx => program.ptx(),
        Emit::Resources => program.resources(),
    })
}

fn no_kernels() -> Error {
    let message = "kernels are in executables for GPUs alone";
    Error::new("C0305", message).help("build one with `--target cuda`")
}
