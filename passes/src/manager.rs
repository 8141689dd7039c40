//! Runs pipelines, and lets no pass break its word.

use std::time::{Duration, Instant};

use ir::Module;

use crate::{
    Failure, Fault, FaultKind, Pipeline, Rewrite, Stage,
    blame::Blame,
    check::{check, run_verified},
    effort::is_too_much,
    reduce,
};

/// Runs passes: verifies after each, checks its contract, and measures.
#[derive(Clone, Debug)]
pub struct Manager {
    /// Whether contracts are checked.
    pub check: bool,
    /// Whether they were before, on the same module by the same pipeline, and held.
    pub trusts: bool,
    /// Where the noise of the checks begins.
    pub seed: u64,
    /// How many rewrites all passes together may make, but for those that are needed.
    pub limit: Option<usize>,
}

impl Default for Manager {
    fn default() -> Manager {
        Manager { check: true, trusts: false, seed: 1, limit: None }
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
    /// What it cost and did.
    pub record: &'a Record,
}

/// What one pass cost and did.
#[derive(Clone, Debug)]
pub struct Record {
    /// The pass and its options.
    pub stage: String,
    /// What was checked: the name of its contract.
    pub contract: &'static str,
    /// How that was checked; `None` if it was not.
    pub check: Option<&'static str>,
    /// How long it ran.
    pub time: Duration,
    /// How long the check of its contract took.
    pub check_time: Duration,
    /// Nodes in all functions before.
    pub nodes_before: usize,
    /// Nodes in all functions after.
    pub nodes_after: usize,
    /// What it rewrote, in order.
    pub rewrites: Vec<Rewrite>,
    /// What a user should know of it, such as a limit that it met.
    pub notes: Vec<String>,
    /// Whether what follows depends on it, so that a limit does not stop it.
    pub is_needed: bool,
}

impl Record {
    /// How many of its rewrites count against a limit.
    pub fn n_counted(&self) -> usize {
        if self.is_needed { 0 } else { self.rewrites.len() }
    }
}

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
        let mut records: Vec<Record> = Vec::new();
        let mut left = self.limit;
        for stage in pipeline.stages() {
            let limit = left.filter(|_| !stage.pass.is_needed());
            let (after, record) = self.run_stage(stage, &before, limit)?;
            left = left.map(|it| it.saturating_sub(record.n_counted()));
            observe(&Step { stage, before: &before, after: &after, record: &record });
            records.push(record);
            before = after;
        }
        Ok((before, records))
    }

    fn run_stage(
        &self,
        stage: &Stage,
        before: &Module,
        limit: Option<usize>,
    ) -> Result<(Module, Record), Box<Failure>> {
        let start = Instant::now();
        let ran = run_verified(stage, before, limit);
        let (after, cx) = ran.map_err(|it| self.failure(stage, before, limit, it))?;
        let time = start.elapsed();
        let start = Instant::now();
        if self.check && !self.trusts {
            let checked = self.judge(stage, before, limit);
            checked.map_err(|it| self.failure(stage, before, limit, it))?;
        }
        let record = Record {
            stage: stage.to_string(),
            contract: stage.pass.contract().name(),
            check: self.check.then(|| stage.pass.contract().check()),
            time,
            check_time: start.elapsed(),
            nodes_before: n_nodes(before),
            nodes_after: n_nodes(&after),
            rewrites: cx.rewrites().to_vec(),
            notes: cx.notes().to_vec(),
            is_needed: stage.pass.is_needed(),
        };
        Ok((after, record))
    }

    /// Runs the pass of `stage` once more, over small axes, and holds it to its contract.
    fn judge(&self, stage: &Stage, module: &Module, limit: Option<usize>) -> Result<(), Fault> {
        check(stage, &small(module)?, limit, self.seed)
    }

    /// What is told of a pass with a fault.
    fn failure(
        &self,
        stage: &Stage,
        module: &Module,
        limit: Option<usize>,
        fault: Fault,
    ) -> Box<Failure> {
        let judge = |it: &Module, limit| self.judge(stage, it, limit);
        let mut blame = Blame::new(stage, limit, fault.kind(), &judge);
        let small = small(module).ok().filter(|it| blame.fails(it, limit));
        let first = small.as_ref().and_then(|it| blame.first_rewrite(it));
        let reduced = small.map(|it| reduce(&it, &mut |it| blame.fails(it, limit)));
        let guilty = reduced.as_ref().and_then(|it| blame.guilty(it));
        Box::new(Failure {
            stage: stage.to_string(),
            contract: stage.pass.contract(),
            fault,
            first,
            is_reduced: reduced.is_some(),
            reduced: reduced.unwrap_or_else(|| module.clone()),
            guilty,
            seed: self.seed,
            limit,
        })
    }
}

/// The module that a contract is checked on.
fn small(module: &Module) -> Result<Module, Fault> {
    let small = ir::shrink(module).map_err(|faults| {
        Fault::of(
            FaultKind::Unchecked,
            format!("can not be checked over small axes: {}", faults.join("\n")),
        )
    })?;
    match is_too_much(&small) {
        true => {
            let why = "can not be checked: even over small axes it is too much work";
            Err(Fault::of(FaultKind::Unchecked, why))
        }
        false => Ok(small),
    }
}

fn n_nodes(module: &Module) -> usize {
    module.functions.iter().map(|it| it.nodes().len()).sum()
}
