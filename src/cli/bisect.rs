//! `bisect`: the first rewrite with which something goes wrong.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use ir::Module;
use passes::{Manager, Pipeline, Step};
use runtime::verify::{Golden, verify};
use treen::Error;

use super::{
    ModelArgs, build::Unbound, reproducer::Reproducer, try_command::TryCommand, unwritable,
};

/// Find the first rewrite with which something goes wrong
///
/// A file `*.ir` is a graph in text form; anything else is a model. Without --golden and a command,
/// what goes wrong is the first contract that is broken. With --golden it is that outputs differ.
/// A command is given the path of the graph after all passes, or of the executable of a model, and
/// fails where something is wrong.
#[derive(Args)]
pub(super) struct BisectArgs {
    /// Which model or graph.
    #[command(flatten)]
    model: ModelArgs,
    /// Outputs to compare with, as in `verify`
    #[arg(long, value_name = "FILE", conflicts_with = "command")]
    golden: Option<PathBuf>,
    /// The greatest error allowed
    #[arg(long, default_value_t = 1e-3, requires = "golden")]
    tolerance: f64,
    /// The command, after `--`
    #[arg(last = true)]
    command: Vec<String>,
}

/// What the passes run on.
struct Subject {
    module: Module,
    pipeline: Pipeline,
    manager: Manager,
}

impl BisectArgs {
    pub(super) fn execute(&self, out: &mut dyn Write) -> Result<(), Error> {
        let path = Path::new(&self.model.spec);
        let is_graph = path.extension().is_some_and(|it| it == "ir");
        let subject = if is_graph { self.graph(path)? } else { self.spec()? };
        let command = TryCommand::new(&self.command)?;
        let text = match (&self.golden, &command) {
            (None, None) => subject.first_broken_contract()?,
            (Some(golden), _) => {
                let golden = Golden::read(golden)?;
                subject.first_bad_rewrite(&mut |limit| {
                    let mut session = self.unbound(limit)?.bind()?.session(None, None)?;
                    Ok(verify(&mut session, &golden)?.within(self.tolerance))
                })?
            }
            (None, Some(command)) if is_graph => subject.first_bad_rewrite(&mut |limit| {
                command.succeeds_on(&subject.run(limit, &mut |_| {})?)
            })?,
            (None, Some(command)) => subject.first_bad_rewrite(&mut |limit| {
                let path = command.file("model");
                self.unbound(limit)?.write(&path)?;
                command.succeeds(&path)
            })?,
        };
        out.write_all(text.as_bytes()).map_err(unwritable)
    }

    fn graph(&self, path: &Path) -> Result<Subject, Error> {
        let read = Reproducer::read(path, self.model.passes.as_deref(), &self.model.rules.0)?;
        Ok(Subject { module: read.module, pipeline: read.pipeline, manager: read.manager })
    }

    fn spec(&self) -> Result<Subject, Error> {
        let module = self.model.open()?.compile()?.module;
        let pipeline = self.model.options().pipeline(&module)?;
        Ok(Subject { module, pipeline, manager: Manager::default() })
    }

    /// The model compiled with so many rewrites, whether contracts hold or not.
    fn unbound(&self, limit: usize) -> Result<Unbound, Error> {
        Unbound::compile(&ModelArgs {
            no_check: true,
            bisect_limit: Some(limit),
            ..self.model.clone()
        })
    }
}

impl Subject {
    /// What the first pass that breaks its contract does wrong.
    fn first_broken_contract(self) -> Result<String, Error> {
        match self.manager.run(&self.pipeline, self.module, &mut |_| {}) {
            Ok(_) => Err(Error::new("C0304", "no pass fails or breaks its contract")),
            Err(failure) => Ok(format!("{failure}\n\n{}", failure.details())),
        }
    }

    /// The first rewrite with which `is_right` is false, found by halving. `is_right` is told how
    /// many rewrites are allowed.
    fn first_bad_rewrite(
        &self,
        is_right: &mut dyn FnMut(usize) -> Result<bool, Error>,
    ) -> Result<String, Error> {
        let mut total = 0;
        self.run(usize::MAX, &mut |step| total += step.record.n_counted())?;
        let (mut good, mut bad) = (0, total);
        if is_right(bad)? {
            return Err(Error::new("C0304", format!("nothing is wrong with all {total} rewrites")));
        }
        if !is_right(good)? {
            let help = "a pass that the target needs may be wrong, or what runs the graph";
            return Err(Error::new("C0304", "it is wrong without any rewrite").help(help));
        }
        while good + 1 < bad {
            let middle = usize::midpoint(good, bad);
            if is_right(middle)? { good = middle } else { bad = middle }
        }
        self.tell(bad, total)
    }

    /// Rewrite `number` of `total`: the pass, where it is, and what it changes.
    fn tell(&self, number: usize, total: usize) -> Result<String, Error> {
        let after = |limit, wanted: Option<usize>| {
            let (mut done, mut stage, mut found) = (0, 0, None);
            self.run(limit, &mut |step: &Step<'_>| {
                done += step.record.n_counted();
                let is_it = wanted.map_or(number <= done, |it| it == stage);
                if is_it && found.is_none() {
                    let rewrite = step.record.rewrites.last().map(ToString::to_string);
                    let text = format!("pass `{}`, {}", step.stage, rewrite.unwrap_or_default());
                    found = Some((stage, text, step.after.clone()));
                }
                stage += 1;
            })?;
            Ok::<_, Error>(found)
        };
        let Some((stage, text, with)) = after(number, None)? else { return Ok(String::new()) };
        let without = after(number - 1, Some(stage))?.map_or_else(|| with.clone(), |it| it.2);
        let diff = passes::diff(&without, &with);
        Ok(format!("rewrite {number} of {total}: {text}\n\n{diff}"))
    }

    /// Runs the passes with so many rewrites; contracts are not checked.
    fn run(&self, limit: usize, observe: &mut dyn FnMut(&Step<'_>)) -> Result<Module, Error> {
        let manager = Manager { check: false, limit: Some(limit), ..self.manager.clone() };
        Ok(manager.run(&self.pipeline, self.module.clone(), observe)?.0)
    }
}
