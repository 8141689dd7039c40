//! Which values are weights, all the way down.

use std::collections::BTreeMap;

use ir::{Module, Name, Op, Role};

/// For each function, which of its parameters are weights at every call.
pub struct Stored(BTreeMap<Name, Vec<bool>>);

impl Stored {
    /// Follows the entry's weights through calls and loops.
    pub fn new(module: &Module) -> Stored {
        let mut stored: BTreeMap<Name, Vec<bool>> = BTreeMap::new();
        let entry = module.entry();
        let is_weight = entry.params.iter().map(|it| it.role == Role::Weight).collect();
        stored.insert(entry.name.clone(), is_weight);
        for function in module.functions.iter().rev() {
            let Some(known) = stored.get(&function.name).cloned() else { continue };
            for node in function.nodes() {
                let carries = if let Op::Scan(scan) = &node.op { scan.carries } else { 0 };
                let Some(callee) = node.op.callee() else { continue };
                let here = node
                    .operands
                    .iter()
                    .enumerate()
                    .map(|(i, it)| carries <= i && known.get(it.index()).is_some_and(|it| *it));
                let here: Vec<bool> = here.collect();
                stored
                    .entry(callee.clone())
                    .and_modify(|it| it.iter_mut().zip(&here).for_each(|(all, here)| *all &= here))
                    .or_insert(here);
            }
        }
        Stored(stored)
    }

    /// Which parameters of `function` are weights.
    pub fn params(&self, function: &Name) -> &[bool] {
        self.0.get(function).map_or(&[], Vec::as_slice)
    }
}
