//! What the run-time axes of a module in step form count.

use std::collections::BTreeMap;

use crate::Name;

/// The run-time axes of a step, by name.
#[derive(Clone, Debug)]
pub struct StepAxes {
    /// New positions.
    pub new: Name,
    /// Positions of earlier steps; `None` where a text is read as a whole.
    pub past: Option<Name>,
    /// The last positions, for which there are outputs, if not for all.
    pub last: Option<Name>,
    /// The positions of what an encoder reads, if there is one.
    pub source: Option<Name>,
    /// What is 1 in the first step and 0 in all others, if something is done just once.
    pub first: Option<Name>,
}

impl StepAxes {
    /// The extents of a step with so many positions of each kind; kinds that the step does not have
    /// are left out.
    pub fn extents(
        &self,
        new: usize,
        past: usize,
        last: usize,
        source: usize,
    ) -> BTreeMap<Name, usize> {
        let kinds = [
            (Some(&self.new), new),
            (self.past.as_ref(), past),
            (self.last.as_ref(), last),
            (self.source.as_ref(), source),
            (self.first.as_ref(), usize::from(past == 0)),
        ];
        kinds.into_iter().filter_map(|(name, n)| Some((name?.clone(), n))).collect()
    }
}
