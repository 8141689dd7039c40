//! `opt`: passes on a graph in text form.

use std::io::{Read, Write};
use std::path::PathBuf;

use clap::Args;
use passes::{Manager, Pipeline};
use treen::Error;

use super::{file_error, unwritable};

/// Run passes on a graph in text form
#[derive(Args)]
pub(super) struct OptArgs {
    /// The file; `-` for standard input
    file: PathBuf,
    /// The passes, such as `fold,loops`
    #[arg(long, value_name = "LIST", default_value = "", hide_default_value = true)]
    passes: String,
    /// Print the graph after a pass, or what each pass changed
    #[arg(long, value_name = "PASS|changed")]
    print_after: Option<String>,
    /// Print how long each pass took
    #[arg(long)]
    time_passes: bool,
    /// Do not check the contracts of passes
    #[arg(long)]
    no_check: bool,
}

impl OptArgs {
    pub(super) fn execute(&self, out: &mut dyn Write) -> Result<(), Error> {
        check_name(self.print_after.as_deref())?;
        let mut text = String::new();
        if self.file.as_os_str() == "-" {
            let read = std::io::stdin().lock().read_to_string(&mut text);
            read.map_err(|error| file_error(&self.file, &error))?;
        } else {
            let read = std::fs::read_to_string(&self.file);
            text = read.map_err(|error| file_error(&self.file, &error))?;
        }
        let at = |why: String| Error::new("C0301", format!("{}: {why}", self.file.display()));
        let module = ir::parse(&text).map_err(at)?;
        let faults = ir::verify(&module);
        if !faults.is_empty() {
            return Err(at(faults.join("\n")));
        }
        let pipeline = Pipeline::parse(&self.passes, &treen::passes())
            .map_err(|why| Error::new("C0302", why.to_string()))?;
        let manager = Manager { check: !self.no_check, ..Manager::default() };
        let mut shown = String::new();
        let outcome = manager.run(&pipeline, module, &mut |step| {
            shown += &print_after(self.print_after.as_deref(), step);
        });
        // Before a fault is told, what led to it.
        out.write_all(shown.as_bytes()).map_err(unwritable)?;
        let (module, records) = outcome?;
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
    writeln!(out, "{:<24} {:>10} {:>10}  nodes", "pass", "ms", "check ms").map_err(unwritable)?;
    for it in records {
        let ms = |time: std::time::Duration| time.as_secs_f64() * 1e3;
        let (time, check) = (ms(it.time), ms(it.check_time));
        let nodes = format!("{} -> {}", it.nodes_before, it.nodes_after);
        writeln!(out, "{:<24} {time:>10.2} {check:>10.2}  {nodes}", it.stage)
            .map_err(unwritable)?;
    }
    Ok(())
}
