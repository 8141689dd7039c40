//! Everything meets here.

#[cfg(test)]
mod caches;
#[cfg(test)]
mod catalog;
#[cfg(test)]
mod cuda;
#[cfg(test)]
mod device;
#[cfg(test)]
mod draws;
#[cfg(test)]
mod fusion;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod gpu;
#[cfg(test)]
mod laws;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod loops;
#[cfg(test)]
mod made_up;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod models;
#[cfg(test)]
mod mutants;
#[cfg(test)]
mod on_gpu;
#[cfg(test)]
mod passes;
#[cfg(test)]
mod patterns;
#[cfg(test)]
mod products;
#[cfg(test)]
mod quantised;
#[cfg(test)]
mod random;
#[cfg(test)]
mod recurrences;
#[cfg(test)]
mod reports;
#[cfg(test)]
mod slices;
#[cfg(test)]
mod snapshots;
#[cfg(test)]
mod tidy;
#[cfg(test)]
mod walks;

/// Says what a test does not do, and why: past what holds back the output of tests that pass.
#[cfg(test)]
fn not_tested(what: &str, why: impl std::fmt::Display) {
    use std::io::Write;
    let told = writeln!(std::io::stderr(), "not tested: {what}: {why}");
    told.expect("standard error");
}
