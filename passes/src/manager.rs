//! Runs pipelines, and lets no pass break its word.

use std::{
    fmt,
    time::{Duration, Instant},
};

use ir::Module;

use crate::{
    Contract, Fault, Pipeline, Stage,
    check::{check, run_verified},
    effort::is_too_much,
};

/// Runs passes: verifies after each, checks its contract, and measures.
#[derive(Clone, Debug)]
pub struct Manager {
    /// Whether contracts are checked.
    pub check: bool,
    /// Where the noise of the checks begins.
    pub seed: u64,
}

impl Default for Manager {
    fn default() -> Manager {
        Manager { check: true, seed: 1 }
    }
}

/// One pass that has run.
pub struct Step<'a> {
    /// The pass and its options.
    pub stage: &'a Stage,
    /// What it took.
    pub before: &'a Module,
    /// What it made.
    pub after: &'a Module,
}

/// What one pass cost and did.
#[derive(Clone, Debug)]
pub struct Record {
    /// The pass and its options.
    pub stage: String,
    /// What was checked: the name of its contract.
    pub contract: &'static str,
    /// How long it ran.
    pub time: Duration,
    /// How long the check of its contract took.
    pub check_time: Duration,
    /// Nodes in all functions before.
    pub nodes_before: usize,
    /// Nodes in all functions after.
    pub nodes_after: usize,
}

/// A pass that failed, with all that is needed to see it fail again.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The pass and its options.
    pub stage: String,
    /// What it had promised.
    pub contract: Contract,
    /// What went wrong.
    pub fault: Fault,
    /// A module on which the pass fails, as text that `ir::parse` reads.
    pub reproducer: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { stage, contract, fault, .. } = self;
        write!(f, "pass `{stage}` (contract: {}): {fault}", contract.name())
    }
}

impl std::error::Error for Failure {}

impl Manager {
    /// Runs `pipeline` on `module`, which has no faults. `observe` sees each pass with what it took
    /// and made.
    ///
    /// # Errors
    ///
    /// The first pass that gives up, makes a faulty module or breaks its contract.
    pub fn run(
        &self,
        pipeline: &Pipeline,
        module: Module,
        observe: &mut dyn FnMut(&Step<'_>),
    ) -> Result<(Module, Vec<Record>), Box<Failure>> {
        let mut before = module;
        let mut records = Vec::new();
        for stage in pipeline.stages() {
            let (after, record) = self.run_stage(stage, &before)?;
            observe(&Step { stage, before: &before, after: &after });
            records.push(record);
            before = after;
        }
        Ok((before, records))
    }

    fn run_stage(&self, stage: &Stage, before: &Module) -> Result<(Module, Record), Box<Failure>> {
        let failure = |fault, at: &Module| {
            let reproducer = format!("// passes: {stage}\n{at}");
            let contract = stage.pass.contract();
            Box::new(Failure { stage: stage.to_string(), contract, fault, reproducer })
        };
        let start = Instant::now();
        let after = run_verified(&*stage.pass, before, &stage.cx);
        let after = after.map_err(|fault| failure(fault, before))?;
        let time = start.elapsed();
        let start = Instant::now();
        if self.check {
            let small = small(before).map_err(|fault| failure(fault, before))?;
            check(stage, &small, self.seed).map_err(|fault| failure(fault, &small))?;
        }
        let record = Record {
            stage: stage.to_string(),
            contract: stage.pass.contract().name(),
            time,
            check_time: start.elapsed(),
            nodes_before: n_nodes(before),
            nodes_after: n_nodes(&after),
        };
        Ok((after, record))
    }
}

/// The module that a contract is checked on.
fn small(module: &Module) -> Result<Module, Fault> {
    let small = ir::shrink(module).map_err(|faults| {
        Fault::new(format!("can not be checked over small axes: {}", faults.join("\n")))
    })?;
    match is_too_much(&small) {
        true => Err(Fault::new("can not be checked: even over small axes it is too much work")),
        false => Ok(small),
    }
}

fn n_nodes(module: &Module) -> usize {
    module.functions.iter().map(|it| it.nodes().len()).sum()
}
