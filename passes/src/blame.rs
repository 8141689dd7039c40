//! Which rewrite of a pass does harm.

use ir::Module;

use crate::{Fault, FaultKind, Guilty, Rewrite, Stage, check::run_told, diff, effort::effort};

/// The most elements that are read and written to tell more of a failure: some seconds.
const MAX_ELEMENTS: u128 = 1 << 27;

/// Runs a pass with so many rewrites, and checks it.
type Judge<'a> = &'a dyn Fn(&Module, Option<usize>) -> Result<(), Fault>;

/// A pass that goes wrong in some way.
pub(crate) struct Blame<'a> {
    stage: &'a Stage,
    /// How many rewrites were allowed when it did, if not all.
    limit: Option<usize>,
    kind: FaultKind,
    judge: Judge<'a>,
    /// How many elements more may be read and written.
    left: u128,
}

impl<'a> Blame<'a> {
    pub(crate) fn new(
        stage: &'a Stage,
        limit: Option<usize>,
        kind: FaultKind,
        judge: Judge<'a>,
    ) -> Blame<'a> {
        Blame { stage, limit, kind, judge, left: MAX_ELEMENTS }
    }

    /// Whether the pass goes wrong in the same way on `module`; false as well when enough was
    /// tried, and for what no other module could show.
    pub(crate) fn fails(&mut self, module: &Module, limit: Option<usize>) -> bool {
        if matches!(self.kind, FaultKind::Refusal | FaultKind::Unchecked) {
            return false;
        }
        self.left = self.left.saturating_sub(effort(module));
        0 < self.left && (self.judge)(module, limit).is_err_and(|it| it.kind() == self.kind)
    }

    /// The first rewrite of `module` with which it goes wrong, found by halving, and its number.
    pub(crate) fn first_rewrite(&mut self, module: &Module) -> Option<(usize, Rewrite)> {
        let rewrites = run_told(self.stage, module, self.limit).1.rewrites().to_vec();
        let (mut good, mut bad) = (0, rewrites.len());
        if bad == 0 || !self.fails(module, Some(bad)) {
            return None;
        }
        while good + 1 < bad {
            let middle = usize::midpoint(good, bad);
            if self.fails(module, Some(middle)) { bad = middle } else { good = middle }
        }
        Some((bad, rewrites[bad - 1].clone()))
    }

    /// The same with what it changes.
    pub(crate) fn guilty(&mut self, module: &Module) -> Option<Guilty> {
        let (number, rewrite) = self.first_rewrite(module)?;
        let after = |limit| run_told(self.stage, module, Some(limit)).0.ok();
        let (with, without) = (after(number), after(number - 1));
        let diff = with.zip(without).map(|(with, without)| diff(&without, &with));
        Some(Guilty { rewrite, number, diff: diff.unwrap_or_default() })
    }
}
