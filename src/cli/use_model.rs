//! `run`, `chat`, `bench` and `verify`: a model compiled on the spot.

use std::io::Write;
use std::path::Path;

use clap::Args;
use runtime::verify::{Agreement, Golden, verify};
use runtime::{Compiled, Container, commands};
use treen::Error;

use super::{CacheType, ModelArgs, build::Unbound, unwritable};

/// The model: an executable that was built, or anything that can be compiled.
pub(super) fn model(args: &ModelArgs) -> Result<Compiled, Error> {
    match executable(args)? {
        Some(container) => Ok(Compiled::File(container)),
        None => Unbound::compile(args)?.bind(),
    }
}

/// The executable that was named, if it is one. How it is compiled can not be changed any more.
pub(super) fn executable(args: &ModelArgs) -> Result<Option<Container>, Error> {
    let container = match Container::open(Path::new(&args.spec)) {
        Ok(container) => container,
        // No file of that name, or none that holds a model.
        Err(fault) if ["R0101", "R0102"].contains(&fault.code) => return Ok(None),
        Err(fault) => return Err(Error::Fault(fault)),
    };
    let is_told = args.passes.is_some() || args.cache.is_some();
    let is_told = is_told || args.budget.is_some() || args.precision.precision.is_some();
    let is_told = is_told || args.exact;
    let compiles = args.weights.is_some() || !args.set.is_empty() || is_told;
    if compiles {
        let message = format!("`{}` is compiled already", args.spec);
        let help = "what changes how a model is compiled goes with a spec or a checkpoint";
        return Err(Error::new("C0305", message).help(help));
    }
    let target = container.manifest().program.target;
    if args.target.as_ref().is_some_and(|it| it.target() != target) {
        let message = format!("`{}` is compiled for {target}", args.spec);
        let help = "`--target` goes with a spec or a checkpoint";
        return Err(Error::new("C0305", message).help(help));
    }
    Ok(Some(container))
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
    /// Give a vector for each text
    Embed: commands::EmbedArgs,
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
        if let Some(container) = executable(&self.model)? {
            return Ok(self.inner.execute(&Compiled::File(container), out)?);
        }
        // What differs from golden outputs is then the compiler's doing alone.
        let cache = self.model.cache.or(Some(CacheType::F32));
        let unbound = Unbound::compile(&ModelArgs { cache, ..self.model.clone() })?;
        let target = unbound.lowered.target.to_string();
        let mut found = Vec::new();
        if !self.no_reference {
            found.push(("reference", self.reference(&unbound)?));
        }
        found.push((&target, self.inner.compare(&unbound.bind()?)?));
        if self.inner.json {
            let object: serde_json::Map<_, _> = found
                .iter()
                .map(|(name, it)| ((*name).to_owned(), serde_json::json!(it)))
                .collect();
            writeln!(out, "{:#}", serde_json::Value::Object(object)).map_err(unwritable)?;
        } else {
            for (name, it) in &found {
                writeln!(out, "{name}\n{it}").map_err(unwritable)?;
            }
        }
        Ok(found.iter().try_for_each(|(_, it)| self.inner.judge(it))?)
    }

    fn reference(&self, of: &Unbound) -> Result<Agreement, Error> {
        let mut model = of.weights.reference(&of.lowered, &of.maps)?;
        Ok(verify(&mut model, &Golden::read(&self.inner.golden)?)?)
    }
}
