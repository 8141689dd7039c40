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
    /// The first rewrite with which it goes wrong, and its number from 1: in which function of the
    /// model, and by which rule. None where the pass tells of no rewrites.
    pub first: Option<(usize, Rewrite)>,
    /// The smallest module found on which the pass fails in the same way.
    pub reduced: Module,
    /// Whether that is another module than the one that it failed on.
    pub is_reduced: bool,
    /// The first rewrite of that module with which it goes wrong.
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

    /// Where it goes wrong, the smallest graph that shows it, and what the first wrong rewrite
    /// changes there.
    pub fn details(&self) -> String {
        let mut text = String::new();
        if let Some((number, rewrite)) = &self.first {
            text += &format!("it goes wrong with rewrite {number}, {rewrite}\n\n");
        }
        if self.is_reduced {
            text += &format!("the smallest graph that shows it:\n\n{}\n", self.reduced);
        }
        if let Some(Guilty { diff, .. }) = &self.guilty {
            text += &format!("where it changes this:\n\n{diff}");
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
