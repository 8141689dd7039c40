//! Which values are weights, all the way down.

use std::collections::BTreeMap;

use crate::{
    Function, Module, Name, Node, Op, Role, Value,
    ops::{BinaryFn, Gather},
};

/// For each function, what its values have to do with weights.
pub struct Stored(BTreeMap<Name, Vec<Form>>);

/// What a value is at every call of its function.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    /// Computed, given or left by an earlier run.
    Computed,
    /// One layer of a weight, each row times one layer of another.
    Scaled,
    /// One layer of a weight.
    Layer,
    /// A weight of the entry.
    Whole,
}

impl Stored {
    /// Follows the entry's weights through calls, loops over layers and look-ups of one layer. What
    /// one layer gives times another is a layer, too: that is known when weights are.
    pub fn new(module: &Module) -> Stored {
        let mut stored: BTreeMap<Name, Vec<Form>> = BTreeMap::new();
        let entry = module.entry();
        let form = |role| if role == Role::Weight { Form::Whole } else { Form::Computed };
        let params = entry.params.iter().map(|it| form(it.role)).collect();
        stored.insert(entry.name.clone(), params);
        for function in module.functions.iter().rev() {
            let Some(forms) = stored.get_mut(&function.name) else { continue };
            let forms = with_layers(module, function, std::mem::take(forms));
            for node in function.nodes() {
                let Some(callee) = node.op.callee() else { continue };
                let here = handed_on(&node.op, node.operands.iter().map(|it| forms[it.index()]));
                let same = |it: &mut Vec<Form>| {
                    it.iter_mut().zip(&here).for_each(|(all, here)| *all = (*all).min(*here));
                };
                stored.entry(callee.clone()).and_modify(same).or_insert(here);
            }
            stored.insert(function.name.clone(), forms);
        }
        Stored(stored)
    }

    /// For each value of `function`, whether it is a weight, one layer of a weight, or such a layer
    /// times another.
    pub fn values(&self, function: &Name) -> Vec<bool> {
        let forms = self.0.get(function).map_or(&[][..], Vec::as_slice);
        forms.iter().map(|it| *it != Form::Computed).collect()
    }
}

/// The forms of all values of `function`, whose parameters are `forms`.
fn with_layers(module: &Module, function: &Function, mut forms: Vec<Form>) -> Vec<Form> {
    forms.resize(function.n_values(), Form::Computed);
    for node in function.nodes() {
        let of_whole = |it: &&Value| forms[it.index()] == Form::Whole;
        if node.operands.first().as_ref().is_some_and(of_whole)
            && Gather::known_place(&module.axes, function, node).is_some()
        {
            forms[node.result().index()] = Form::Layer;
        }
        if scaled(function, node).is_some_and(|it| it.map(|it| forms[it.index()]) == LAYERS) {
            forms[node.result().index()] = Form::Scaled;
        }
    }
    forms
}

const LAYERS: [Form; 2] = [Form::Layer; 2];

/// What `node` multiplies with what, if its result has the type of the first, and the last axes of
/// that are those of the second: each row of a matrix times one row.
pub fn scaled(function: &Function, node: &Node) -> Option<[Value; 2]> {
    let [of, by] = *node.operands.as_slice() else { return None };
    let (whole, row) = (function.ty(of), function.ty(by));
    let is_product = node.op.as_binary() == Some(BinaryFn::Mul);
    let fits = is_product && function.ty(node.result()) == whole && whole.axes.ends_with(&row.axes);
    (fits && row.axes.len() < whole.axes.len()).then_some([of, by])
}

/// What `operands` are to the function that `op` runs.
fn handed_on(op: &Op, operands: impl Iterator<Item = Form>) -> Vec<Form> {
    let (carries, banked) = match op {
        Op::Scan(scan) => (scan.carries, scan.banked),
        _ => (0, 0),
    };
    let handed = |(i, form)| match form {
        _ if i < carries => Form::Computed,
        Form::Whole if i < carries + banked => Form::Layer,
        _ if i < carries + banked => Form::Computed,
        form => form,
    };
    operands.enumerate().map(handed).collect()
}
