//! A function being planned: where its values are, and until when they are needed.

use std::collections::BTreeMap;

use ir::{Axes, Axis, Function, Name, Op, Value, ops::Gather};

use crate::plan::{Base, Counter, Place};

/// Where a value is.
#[derive(Clone, Debug)]
pub(super) enum Located {
    /// In memory, densely.
    At(Place),
    /// A weight, whose form its user decides: the whole of `param`, or one layer along an axis.
    Weight { param: Name, layer: Option<(Axis, Counter)> },
    /// A layer of a weight, each row times a layer of another.
    Scaled { param: Name, layer: (Axis, Counter), by: Name, by_layer: Counter },
}

/// A function being planned.
pub(super) struct Body<'a> {
    /// The function.
    pub(super) function: &'a Function,
    /// Where its values are, of those planned so far.
    pub(super) located: BTreeMap<Value, Located>,
    /// The value of which each value is all elements under other names.
    whole: Vec<Value>,
    /// The value in whose memory each value lies.
    owner: Vec<Value>,
    /// For each owner, the last node that uses it; outputs are used after all nodes.
    last_use: Vec<usize>,
    /// Where values are to be, by the value that they are all elements of.
    wanted: BTreeMap<Value, Place>,
    n_carries: usize,
}

impl<'a> Body<'a> {
    /// `function`, whose parameters are at `params`, and which may overwrite the first `n_carries`
    /// of them.
    pub(super) fn new(
        axes: &Axes,
        function: &'a Function,
        params: Vec<Located>,
        n_carries: usize,
    ) -> Body<'a> {
        let mut whole: Vec<Value> = function.values().collect();
        let mut owner = whole.clone();
        let mut last_use = vec![0; owner.len()];
        let live = function.live();
        for (i, node) in function.nodes().iter().enumerate().filter(|(i, _)| live[*i]) {
            let is_part = Gather::known_place(axes, function, node).is_some();
            if is_part || is_renaming(&node.op) {
                let (from, to) = (node.operands[0].index(), node.result().index());
                owner[to] = owner[from];
                whole[to] = if is_part { whole[to] } else { whole[from] };
            } else {
                node.operands.iter().for_each(|it| last_use[owner[it.index()].index()] = i);
            }
        }
        for output in &function.outputs {
            last_use[owner[output.value.index()].index()] = usize::MAX;
        }
        let located = function.param_values().zip(params).collect();
        Body { function, located, whole, owner, last_use, wanted: BTreeMap::new(), n_carries }
    }

    /// Whether a value that is still needed at node `at` lies at `place`.
    pub(super) fn holds(&self, place: &Place, at: usize) -> bool {
        self.located.iter().any(|(&value, located)| {
            at <= self.last_use(value) && matches!(located, Located::At(it) if it == place)
        })
    }

    /// Whether no value at `place` is needed at or after node `at`, but for those among `taken`,
    /// which the node takes once and nobody afterwards: an old state that the new one replaces.
    pub(super) fn only_takes(&self, place: &Place, at: usize, taken: &[Value]) -> bool {
        self.located.iter().all(|(&value, located)| {
            let here = matches!(located, Located::At(it) if it == place);
            let last = self.last_use(value);
            let is_taken = || taken.iter().any(|&it| self.shares_memory(it, value));
            !here || last < at || (last == at && is_taken() && self.is_taken_once(value, at))
        })
    }

    /// Whether node `at` may leave a result where its operand `value` is: nobody needs that
    /// afterwards, and the node itself takes it just once.
    pub(super) fn may_reuse(&self, value: Value, place: &Place, at: usize) -> bool {
        let last = self.last_use(value) == at;
        last && self.may_overwrite(value, place) && self.is_taken_once(value, at)
    }

    /// `value` is to be at `place`, and so is what it is a view of.
    pub(super) fn want(&mut self, value: Value, place: Place) {
        self.wanted.insert(self.whole[value.index()], place);
    }

    /// Where `value` is to be.
    pub(super) fn wanted(&self, value: Value) -> Option<&Place> {
        self.wanted.get(&value)
    }

    /// Whether both are all elements of the same value.
    pub(super) fn is_same(&self, a: Value, b: Value) -> bool {
        self.whole[a.index()] == self.whole[b.index()]
    }

    /// Whether a node needs the elements of `value`, or they are an output.
    pub(super) fn is_used(&self, value: Value) -> bool {
        self.last_use(value) != 0
    }

    /// Where `value` is in memory.
    ///
    /// # Errors
    ///
    /// When it is a weight.
    pub(super) fn place(&self, value: Value) -> Result<Place, String> {
        match &self.located[&value] {
            Located::At(place) => Ok(place.clone()),
            Located::Weight { param, .. } | Located::Scaled { param, .. } => {
                Err(format!("weight {param} is used as a value; add it to something"))
            }
        }
    }

    fn last_use(&self, value: Value) -> usize {
        self.last_use[self.owner[value.index()].index()]
    }

    fn shares_memory(&self, a: Value, b: Value) -> bool {
        self.owner[a.index()] == self.owner[b.index()]
    }

    fn is_taken_once(&self, value: Value, at: usize) -> bool {
        let operands = &self.function.nodes()[at].operands;
        operands.iter().filter(|it| self.shares_memory(**it, value)).count() == 1
    }

    /// Whether the memory of `value` belongs to this function. What callers share does not.
    fn may_overwrite(&self, value: Value, place: &Place) -> bool {
        let owner = self.owner[value.index()].index();
        let own = owner < self.n_carries || self.function.params.len() <= owner;
        own && matches!(place.base, Base::Arena(_))
    }
}

/// Whether `op` gives all elements of its operand, in order, under other names.
pub(super) fn is_renaming(op: &Op) -> bool {
    matches!(op, Op::Split(_) | Op::Merge(_) | Op::Rename(_))
}
