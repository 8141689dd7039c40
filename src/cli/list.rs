//! `pull`, `passes`, `ops` and `targets`: what there is.

use std::io::Write;

use clap::Args;
use treen::{
    Error,
    catalog::{self, Entry},
};

use super::{rules, unwritable};

/// Fetch the weights of a model of the catalog
#[derive(Args)]
pub(super) struct PullArgs {
    /// Its name; without one, the catalog is listed. Files are kept in `$TREEN_CACHE`, or in
    /// `treen` of the user's cache folder
    name: Option<String>,
}

impl PullArgs {
    pub(super) fn execute(&self, out: &mut dyn Write) -> Result<(), Error> {
        match &self.name {
            Some(name) => match catalog::entry(name)? {
                Entry::Weights(weights) => {
                    let path = catalog::fetch(name, &weights, &mut super::progress)?;
                    writeln!(out, "{}", path.display()).map_err(unwritable)
                }
                Entry::Numbers(_) => {
                    let message = format!("of `{name}` the catalog has the numbers alone");
                    Err(Error::new("C0204", message)
                        .help("give a checkpoint with --weights to the command that needs it"))
                }
            },
            None => catalog::entries().iter().try_for_each(|(name, entry)| {
                let (about, rest) = match entry {
                    Entry::Weights(it) => (&it.about, ""),
                    Entry::Numbers(it) => (&it.about, ", its numbers alone"),
                };
                writeln!(out, "{name:<20} {about}{rest}").map_err(unwritable)
            }),
        }
    }
}

/// List the passes
#[derive(Args)]
pub(super) struct PassesArgs {
    /// List the rules of `fuse` instead
    #[arg(long)]
    rules: bool,
}

impl PassesArgs {
    pub(super) fn execute(&self, out: &mut dyn Write) -> Result<(), Error> {
        if self.rules {
            return rules::list(out);
        }
        for pass in treen::passes() {
            let contract = pass.contract();
            let line = format!("{:<14} {:<14} {}", pass.name(), contract.name(), pass.about());
            writeln!(out, "{}", line.trim_end()).map_err(unwritable)?;
            for option in pass.options() {
                let default = option.default;
                writeln!(out, "    {} = {default}: {}", option.name, option.doc)
                    .map_err(unwritable)?;
            }
        }
        writeln!(out, "\nthe usual ones: {}", treen::DEFAULT_PIPELINE).map_err(unwritable)
    }
}

/// List the ops of the graph
#[derive(Args)]
pub(super) struct OpsArgs {}

impl OpsArgs {
    pub(super) fn execute(&self, out: &mut dyn Write) -> Result<(), Error> {
        let mut names: Vec<_> = ir::Op::all().iter().map(|it| it.rules().name()).collect();
        names.sort_unstable();
        names.iter().try_for_each(|it| writeln!(out, "{it}").map_err(unwritable))
    }
}

/// List the targets
#[derive(Args)]
pub(super) struct TargetsArgs {}

impl TargetsArgs {
    pub(super) fn execute(&self, out: &mut dyn Write) -> Result<(), Error> {
        let cpu = "cpu    x86-64, with kernels for AVX-512, AVX2 and without vectors";
        let cuda = cuda::ARCHITECTURES.join(", ");
        writeln!(out, "{cpu}\ncuda   NVIDIA GPUs: {cuda}").map_err(unwritable)
    }
}
