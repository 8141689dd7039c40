//! `opt`: passes on a graph in text form.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use passes::Manager;
use treen::Error;

use super::{reproducer::Reproducer, rules::RulesArg, unwritable};

/// Run passes on a graph in text form
#[derive(Args)]
pub(super) struct OptArgs {
    /// The file; `-` for standard input
    file: PathBuf,
    /// The passes, such as `fold,loops` [default: those of the line `// passes: ...` of the file]
    #[arg(long, value_name = "LIST")]
    passes: Option<String>,
    /// A file with more rules for `fuse`
    #[arg(long, value_name = "FILE", default_value = "", hide_default_value = true)]
    rules: RulesArg,
    /// Print the graph after a pass, or what each pass changed
    #[arg(long, value_name = "PASS|changed")]
    print_after: Option<String>,
    /// Print how long each pass took
    #[arg(long)]
    time_passes: bool,
    /// Do not check the contracts of passes
    #[arg(long)]
    no_check: bool,
    /// Let the passes make only so many rewrites, but for those that what follows needs
    #[arg(long, value_name = "N")]
    bisect_limit: Option<usize>,
}

impl OptArgs {
    pub(super) fn execute(&self, out: &mut dyn Write) -> Result<(), Error> {
        check_name(self.print_after.as_deref())?;
        let Reproducer { module, pipeline, manager } =
            Reproducer::read(&self.file, self.passes.as_deref(), &self.rules.0)?;
        let limit = self.bisect_limit.or(manager.limit);
        let manager = Manager { check: !self.no_check, limit, ..manager };
        let mut shown = String::new();
        let outcome = manager.run(&pipeline, module, &mut |step| {
            shown += &print_after(self.print_after.as_deref(), step);
        });
        // Before a fault is told, what led to it.
        out.write_all(shown.as_bytes()).map_err(unwritable)?;
        let (module, records) = outcome?;
        super::tell_notes(&records);
        write!(out, "{module}").map_err(unwritable)?;
        if self.time_passes {
            write_times(out, &records)?;
        }
        Ok(())
    }
}

/// A pass that `--print-after` may name.
pub(super) fn check_name(wanted: Option<&str>) -> Result<(), Error> {
    let Some(wanted) = wanted.filter(|it| *it != "changed") else { return Ok(()) };
    let passes = treen::passes();
    let names: Vec<&str> = passes.iter().map(|it| it.name()).collect();
    if names.contains(&wanted) {
        return Ok(());
    }
    let help = format!("there is `changed`, {}", names.join(", "));
    Err(Error::new("C0302", format!("no pass `{wanted}` to print after")).help(help))
}

/// What `--print-after` shows of one pass.
pub(super) fn print_after(wanted: Option<&str>, step: &passes::Step<'_>) -> String {
    let name = step.stage.pass.name();
    match wanted {
        Some("changed") => {
            let diff = passes::diff(step.before, step.after);
            if diff.is_empty() {
                String::new()
            } else {
                format!("// {} changed\n{diff}\n", step.stage)
            }
        }
        Some(wanted) if wanted == name => format!("// after {}\n{}\n", step.stage, step.after),
        _ => String::new(),
    }
}

/// What each pass cost.
pub(super) fn write_times(out: &mut dyn Write, records: &[passes::Record]) -> Result<(), Error> {
    writeln!(out, "{:<24} {:>10} {:>10} {:>9}  nodes", "pass", "ms", "check ms", "rewrites")
        .map_err(unwritable)?;
    for it in records {
        let ms = |time: std::time::Duration| time.as_secs_f64() * 1e3;
        let (time, check) = (ms(it.time), ms(it.check_time));
        let nodes = format!("{} -> {}", it.nodes_before, it.nodes_after);
        let rewrites = it.rewrites.len();
        writeln!(out, "{:<24} {time:>10.2} {check:>10.2} {rewrites:>9}  {nodes}", it.stage)
            .map_err(unwritable)?;
    }
    Ok(())
}
