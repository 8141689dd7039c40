//! A pass that failed, with all that is needed to see it fail again and to see why.

use std::fmt;

use ir::Module;

use crate::{Contract, Fault, Rewrite};

/// See the module.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The pass and its options.
    pub stage: String,
    /// What it had promised.
    pub contract: Contract,
    /// What went wrong.
    pub fault: Fault,
    /// The smallest module found on which the pass fails in the same way.
    pub reduced: Module,
    /// The first rewrite of that module that does the harm, where the pass tells its rewrites.
    pub guilty: Option<Guilty>,
    /// Where the noise of the check began.
    pub seed: u64,
    /// How many rewrites were allowed, if not all.
    pub limit: Option<usize>,
}

/// The rewrite that does the harm.
#[derive(Clone, Debug)]
pub struct Guilty {
    /// The rewrite.
    pub rewrite: Rewrite,
    /// Its number among those of the pass, from 1.
    pub number: usize,
    /// What it changes.
    pub diff: String,
}

impl Failure {
    /// A text that `ir::parse` reads, with the passes to run and all else in comments above.
    pub fn reproducer(&self) -> String {
        let Failure { stage, reduced, seed, .. } = self;
        let limit = self.limit.map(|it| format!("// bisect-limit: {it}\n")).unwrap_or_default();
        let message = self.to_string();
        let message = message.lines().next().unwrap_or_default();
        format!("// {message}\n// passes: {stage}\n// seed: {seed}\n{limit}{reduced}")
    }

    /// Which functions the reduced module has, and which rewrite does the harm.
    pub fn details(&self) -> String {
        let names: Vec<String> =
            self.reduced.functions.iter().map(|it| format!("@{}", it.name)).collect();
        let mut text = format!("it fails on {} alone:\n\n{}", names.join(", "), self.reduced);
        if let Some(Guilty { rewrite, number, diff }) = &self.guilty {
            text += &format!("\nrewrite {number} of it, {rewrite}:\n\n{diff}");
        }
        text
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { stage, contract, fault, .. } = self;
        write!(f, "pass `{stage}` (contract: {}): {fault}", contract.name())
    }
}

impl std::error::Error for Failure {}
