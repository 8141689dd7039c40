//! The command line: `treen`, or, where a model is attached to this program, that model's own.

use std::process::ExitCode;

mod cli;

fn main() -> ExitCode {
    runtime::register_device(cuda::open);
    match runtime::Container::of_this_program() {
        Ok(Some(model)) => runtime::commands::main(model),
        Ok(None) => cli::main(),
        Err(fault) => runtime::commands::finish(Err(fault)),
    }
}
