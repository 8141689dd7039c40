//! The smallest graph on which something still goes wrong: delta debugging (Zeller and Hildebrandt,
//! 2002) over functions, outputs, nodes, parameters and extents.

mod edits;

use ir::Module;

/// The most graphs that are tried.
const MAX_TRIALS: usize = 4000;

/// Makes `module` smaller as long as `fails` is true of what comes out, which is always sound. The
/// same module and answers give the same result; the number of questions is bounded.
pub fn reduce(module: &Module, fails: &mut dyn FnMut(&Module) -> bool) -> Module {
    let mut smallest = module.clone();
    let mut trials = 0;
    loop {
        let before = trials;
        let mut progress = false;
        for edit in edits::ALL {
            let mut i = 0;
            while let Some(edited) = edit(&smallest, i) {
                let candidate = edited.filter(|it| ir::verify(it).is_empty()).map(pruned);
                trials += usize::from(candidate.is_some());
                if MAX_TRIALS < trials {
                    return smallest;
                }
                match candidate.filter(|it| fails(it)) {
                    // What stood behind the edit has moved up.
                    Some(it) => (smallest, progress) = (it, true),
                    None => i += 1,
                }
            }
        }
        if !progress || trials == before {
            return smallest;
        }
    }
}

/// Without dead nodes, functions that are not called, and axes that nothing names.
fn pruned(module: Module) -> Module {
    let mut pruned = module.map(|done, function| function.rewrite(done.scope(), |_, _, _| None));
    pruned.prune();
    pruned
}
