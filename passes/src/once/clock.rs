//! What changes from step to step, and what does not.

use std::collections::BTreeSet;

use ir::{Axis, Function, Module, Name, Node, Op, Param, Role, Type, Value};

use crate::rebuild::live_nodes;

/// What changes from step to step.
pub(super) struct Clock {
    /// The atoms that may have another extent, or count from elsewhere, at each step.
    moving: BTreeSet<Name>,
    /// The functions that name no such atom.
    still: BTreeSet<Name>,
}

impl Clock {
    /// `None` for a module that is not in step form, or that reads nothing just once.
    pub(super) fn new(module: &Module) -> Option<Clock> {
        let axes = &module.axes;
        let (new, _) = axes.iter().find(|(_, decl)| decl.origin.is_some())?;
        let mentions =
            |ty: &Type| ty.axes.iter().any(|it| axes.resolve(it).atoms().any(|atom| atom == new));
        let inputs = module.entry().params.iter().filter(|it| it.role == Role::Input);
        let read: Vec<&Type> = inputs.map(|it| &it.ty).filter(|it| !mentions(it)).collect();
        let known: BTreeSet<&Name> =
            read.iter().flat_map(|it| &it.axes).flat_map(Axis::atoms).collect();
        let is_still = |atom: &Name| known.contains(atom) || axes.fixed(&atom.into()).is_some();
        let moves = |atom: &&Name| !axes.resolve(&Axis::from(*atom)).atoms().all(is_still);
        let moving = axes.iter().map(|it| it.0).filter(moves).cloned().collect();
        let mut clock = Clock { moving, still: BTreeSet::new() };
        for function in &module.functions {
            let types = function.values().all(|it| clock.is_still(function.ty(it)));
            if types && function.nodes().iter().all(|it| clock.does_the_same(function, it)) {
                clock.still.insert(function.name.clone());
            }
        }
        (!read.is_empty()).then_some(clock)
    }

    fn is_still(&self, ty: &Type) -> bool {
        ty.axes.iter().flat_map(Axis::atoms).all(|it| !self.moving.contains(it))
    }

    /// Whether `node` gives the same at every step for the same operands.
    fn does_the_same(&self, function: &Function, node: &Node) -> bool {
        node.op.named_axes().iter().all(|it| !self.moving.contains(it))
            && node.results().all(|it| self.is_still(function.ty(it)))
            && node.op.callee().is_none_or(|it| self.still.contains(it))
    }

    /// What each parameter of the entry is.
    pub(super) fn sort(&self, params: &[Param]) -> Vec<Kind> {
        let kind = |it: &Param| match it.role {
            Role::Weight => Kind::Still,
            Role::Input if self.is_still(&it.ty) => Kind::Read,
            Role::Input | Role::State | Role::Value => Kind::Moving,
        };
        params.iter().map(kind).collect()
    }

    /// What each value of `function` is, whose parameters are `params`.
    pub(super) fn kinds(&self, function: &Function, params: &[Kind]) -> Vec<Kind> {
        let mut kinds = params.to_vec();
        kinds.resize(function.n_values(), Kind::Moving);
        for node in function.nodes() {
            let operands = node.operands.iter().map(|it| kinds[it.index()]);
            let kind = operands.max().unwrap_or(Kind::Still);
            let same = self.does_the_same(function, node);
            node.results().for_each(|it| {
                kinds[it.index()] = if same { kind } else { Kind::Moving };
            });
        }
        kinds
    }
}

/// What a value is from step to step. What is made of several kinds is of the greatest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// The same for every text.
    Still,
    /// Made of what is read once.
    Read,
    /// New at every step.
    Moving,
}

/// The values made of what is read once that are needed at every step. Views of parameters cost
/// nothing to have again.
pub(super) fn frontier(function: &Function, kinds: &[Kind]) -> Vec<Value> {
    let moving = live_nodes(function)
        .filter(|it| it.results().any(|result| kinds[result.index()] == Kind::Moving));
    let outputs = function.outputs.iter().map(|it| it.value);
    let used = moving.flat_map(|it| it.operands.iter().copied()).chain(outputs);
    let is_kept = |it: &Value| {
        kinds[it.index()] == Kind::Read && function.as_param(whole(function, *it)).is_none()
    };
    used.filter(is_kept).collect::<BTreeSet<Value>>().into_iter().collect()
}

/// The value of which `value` is all elements under other names.
fn whole(function: &Function, value: Value) -> Value {
    match function.maker(value) {
        Some(Node { op: Op::Split(_) | Op::Merge(_) | Op::Rename(_), operands, .. }) => {
            whole(function, operands[0])
        }
        _ => value,
    }
}
