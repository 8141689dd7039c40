//! `reduce`: the smallest graph on which something goes wrong.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use ir::Module;
use treen::Error;

use super::{
    file_error, reproducer::Reproducer, rules::RulesArg, try_command::TryCommand, unwritable,
};

/// Find the smallest graph on which something goes wrong
///
/// Without a command, that is the first pass that fails or breaks its contract. With one, it is the
/// command: it is given the path of a graph in text form, and fails on what is to be kept.
#[derive(Args)]
pub(super) struct ReduceArgs {
    /// The graph in text form
    file: PathBuf,
    /// The passes [default: those of the line `// passes: ...` of the file]
    #[arg(long, value_name = "LIST")]
    passes: Option<String>,
    /// Where to write the graph, instead of to standard output
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// The command, after `--`
    #[arg(last = true)]
    command: Vec<String>,
}

impl ReduceArgs {
    pub(super) fn execute(&self, out: &mut dyn Write) -> Result<(), Error> {
        let given = Reproducer::read(&self.file, self.passes.as_deref(), &RulesArg::default().0)?;
        let text = match TryCommand::new(&self.command)? {
            Some(command) => format!("{}", self.by_command(&given.module, &command)?),
            None => match given.manager.run(&given.pipeline, given.module, &mut |_| {}) {
                Ok(_) => return Err(Error::new("C0304", "no pass fails on this graph")),
                Err(failure) => failure.reproducer(),
            },
        };
        match &self.output {
            Some(path) => std::fs::write(path, text).map_err(|error| file_error(path, &error)),
            None => out.write_all(text.as_bytes()).map_err(unwritable),
        }
    }

    fn by_command(&self, module: &Module, command: &TryCommand) -> Result<Module, Error> {
        if command.succeeds_on(module)? {
            return Err(Error::new("C0304", "the command does not fail on this graph"));
        }
        // What can not be tried is not kept.
        Ok(passes::reduce(module, &mut |it| !command.succeeds_on(it).unwrap_or(true)))
    }
}
