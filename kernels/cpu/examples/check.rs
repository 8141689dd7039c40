//! Runs the checks of `tests/` for every instruction set of this CPU and prints a summary:
//! `cargo run --release -p kernels-cpu --example check`.
#![expect(clippy::print_stdout, reason = "the summary is the purpose")]

#[path = "../tests/support/mod.rs"]
mod support;

use kernels_cpu::{Isa, kernels_for};

fn main() {
    for isa in Isa::ALL {
        let Some(kernels) = kernels_for(isa) else {
            println!("{isa:?}: not on this CPU");
            continue;
        };
        for (name, check) in support::CHECKS {
            println!("{isa:?}: {name}: right; worst error {:.1} units", check(kernels));
        }
    }
}
