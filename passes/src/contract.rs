//! What passes promise.

use ir::Module;

use crate::{Cx, Fault, Noise};

/// What holds between a module and what a pass makes of it.
///
/// All but [`Contract::Slices`] and [`Contract::Lowers`] keep the interface: parameters, outputs
/// and the axes in them.
#[derive(Clone, Copy)]
pub enum Contract {
    /// The same numbers: in double precision to within 1e-12 of the scale of an output, and bit for
    /// bit where every result is rounded to its type.
    Exact,
    /// The same bits where every result is rounded to its type. Double precision sees roundings
    /// that were done while compiling.
    Rounds,
    /// The same sums in another order: in double precision to within 1e-9 of the scale of an
    /// output.
    Reassociates,
    /// Fewer places of axes. What it computes with weights that are cut, the module before computes
    /// with those places left out, for every choice of extents, to within 1e-6 in double precision
    /// and 1e-4 where every result is rounded to its type.
    Slices,
    /// Another interface. The pass says how the old meaning is found in the new one.
    Lowers(Recovers),
}

/// Runs the module before (first) and after a pass on noise, and says where the one can not be
/// recovered from the other. Both have small axes; the options are those that the pass ran with.
pub type Recovers = fn(&Module, &Module, &Cx, &mut Noise) -> Result<(), Fault>;

impl Contract {
    /// How it is checked.
    pub fn check(self) -> &'static str {
        match self {
            Contract::Exact => "equal within 1e-12 in double precision, and to the bit as typed",
            Contract::Rounds => "equal to the bit as typed",
            Contract::Reassociates => "equal within 1e-9 in double precision",
            Contract::Slices => "equal to the old graph with those places left out",
            Contract::Lowers(_) => "the old outputs recovered from the new ones",
        }
    }

    /// Its name in messages and reports.
    pub fn name(self) -> &'static str {
        match self {
            Contract::Exact => "exact",
            Contract::Rounds => "rounds",
            Contract::Reassociates => "reassociates",
            Contract::Slices => "slices",
            Contract::Lowers(_) => "lowers",
        }
    }
}

impl std::fmt::Debug for Contract {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
