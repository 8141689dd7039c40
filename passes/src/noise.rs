//! Random arguments for small modules, the same in every run.

use std::collections::{BTreeMap, BTreeSet};

use ir::{Axis, DType, Extent, Module, Name, Op, Param, Sizes, Tensor};

/// A source of random numbers (splitmix64: Steele, Lea and Flood, 2014).
#[derive(Clone, Debug)]
pub struct Noise {
    state: u64,
}

impl Noise {
    /// A source that gives the same numbers for the same seed.
    pub fn new(seed: u64) -> Noise {
        Noise { state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A whole number below `end`; 0 when `end` is.
    pub fn below(&mut self, end: usize) -> usize {
        self.next().checked_rem(end as u64).map_or(0, |it| it as usize)
    }

    /// A number in -1..1.
    pub fn real(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    /// Extents for the run-time axes of `module`: within their bounds, at least 1 but for what
    /// comes before another axis, and such that every slice lies within what it is cut from.
    pub fn extents(&mut self, module: &Module) -> BTreeMap<Name, usize> {
        let origins: BTreeSet<&Name> =
            module.axes.iter().filter_map(|(_, decl)| decl.origin.as_ref()).collect();
        let mut extents = BTreeMap::new();
        for (name, decl) in module.axes.iter() {
            if let Extent::Runtime { max } = decl.extent {
                let least = usize::from(!origins.contains(name)).min(max);
                extents.insert(name.clone(), least + self.below(max - least + 1));
            }
        }
        for (part, whole) in tails(module) {
            let Ok(sizes) = module.axes.sizes(&extents) else { continue };
            let (short, long) = (sizes.of(&part), sizes.of(&whole));
            if let Some(size) = part.as_atom().and_then(|it| extents.get_mut(it)) {
                *size = short.min(long);
            } else if let Some(size) = whole.as_atom().and_then(|it| extents.get_mut(it)) {
                *size = long.max(short);
            }
        }
        extents
    }

    /// An argument for each parameter of the entry, rounded to its type. Integers are places in
    /// the shortest table that is looked up anywhere.
    pub fn arguments(&mut self, module: &Module, sizes: &Sizes) -> Vec<Tensor> {
        let rows = shortest_table(module, sizes);
        module.entry().params.iter().map(|it| self.argument(it, sizes, rows)).collect()
    }

    fn argument(&mut self, param: &Param, sizes: &Sizes, rows: usize) -> Tensor {
        let dtype = param.ty.dtype;
        let tensor = Tensor::from_fn(param.ty.clone(), sizes, |_| match dtype {
            DType::I32 => self.below(rows) as f64,
            DType::Bool => self.below(2) as f64,
            _ => self.real(),
        });
        tensor.round()
    }
}

/// The axes that are cut from the end of others at run time, with those others.
fn tails(module: &Module) -> Vec<(Axis, Axis)> {
    let nodes = module.functions.iter().flat_map(|it| it.nodes());
    let tail = |op: &Op| match op {
        Op::Slice(it) if it.last => Some((it.into.clone(), it.axis.clone())),
        Op::Pad(it) if it.last => Some((it.axis.clone(), it.into.clone())),
        _ => None,
    };
    nodes.filter_map(|it| tail(&it.op)).collect()
}

fn shortest_table(module: &Module, sizes: &Sizes) -> usize {
    let nodes = module.functions.iter().flat_map(|it| it.nodes());
    let axis = |op: &Op| match op {
        Op::Gather(it) => Some(sizes.of(&it.axis)),
        Op::ScatterAdd(it) => Some(sizes.of(&it.axis)),
        _ => None,
    };
    nodes.filter_map(|it| axis(&it.op)).min().unwrap_or(4)
}
