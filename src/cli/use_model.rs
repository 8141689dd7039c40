//! `run`, `chat`, `bench` and `verify`: a model compiled on the spot.

use std::io::Write;
use std::path::Path;

use clap::Args;
use runtime::{Compiled, Container, commands, verify::Golden};
use treen::{Error, ReferenceModel};

use super::{ModelArgs, build, unwritable};

/// The model: an executable that was built, or anything that can be compiled.
fn model(args: &ModelArgs) -> Result<Compiled, Error> {
    match Container::open(Path::new(&args.spec)) {
        Ok(container) => Ok(Compiled::File(container)),
        Err(_) => build::compile(args),
    }
}

/// Commands that the runtime knows, on a model that is compiled first.
macro_rules! commands {
    ($($(#[$doc:meta])* $name:ident: $inner:ty,)*) => {$(
        $(#[$doc])*
        #[derive(Args)]
        pub(super) struct $name {
            /// Which model.
            #[command(flatten)]
            model: ModelArgs,
            /// What to do with it.
            #[command(flatten)]
            inner: $inner,
        }

        impl $name {
            pub(super) fn execute(&self, out: &mut dyn Write) -> Result<(), Error> {
                Ok(self.inner.execute(&model(&self.model)?, out)?)
            }
        }
    )*};
}

commands! {
    /// Continue a text or answer a question
    Run: commands::RunArgs,
    /// Talk to a model, turn by turn
    Chat: commands::ChatArgs,
    /// Measure speed
    Bench: commands::BenchArgs,
}

/// Compare with golden outputs: the reference and the compiled model
#[derive(Args)]
pub(super) struct Verify {
    /// Which model.
    #[command(flatten)]
    model: ModelArgs,
    /// Leave out the reference interpreter, which is slow on large models
    #[arg(long)]
    no_reference: bool,
    /// What to compare with.
    #[command(flatten)]
    inner: commands::VerifyArgs,
}

impl Verify {
    pub(super) fn execute(&self, out: &mut dyn Write) -> Result<(), Error> {
        if let Ok(container) = Container::open(Path::new(&self.model.spec)) {
            return Ok(self.inner.execute(&Compiled::File(container), out)?);
        }
        let reference = if self.no_reference { None } else { Some(self.reference()?) };
        let outcome = self.inner.execute(&build::compile(&self.model)?, out);
        if let Some(agreement) = reference {
            writeln!(out, "the reference:\n{agreement}").map_err(unwritable)?;
            self.inner.judge(&agreement)?;
        }
        Ok(outcome?)
    }

    fn reference(&self) -> Result<runtime::verify::Agreement, Error> {
        let spec = self.model.open()?;
        let compiled = spec.compile()?;
        let lowered = treen::lower(compiled.module, &self.model.options(), &mut |_| {})?;
        let checkpoint = build::open_weights(&spec)?;
        let mut model = ReferenceModel::new(&lowered, &compiled.weights, &checkpoint)?;
        let golden = Golden::read(&self.inner.golden)?;
        Ok(runtime::verify::verify(&mut model, &golden)?)
    }
}
