//! A function in two: what gives some of its values, and what is left when they are given.

use std::collections::BTreeSet;

use ir::{Function, Name, Node, Role, Scope, Value};

use crate::rebuild::{Rebuild, live_nodes};

/// A function that gives `wanted`, of the parameters that takes, which come behind others called
/// `carries`; and which parameters those are.
pub(super) fn outline(
    scope: Scope<'_>,
    function: &Function,
    wanted: &[Value],
    carries: &[Name],
) -> (Function, Vec<Value>) {
    let mut needed: BTreeSet<Value> = wanted.iter().copied().collect();
    for node in function.nodes().iter().rev() {
        if node.results().any(|it| needed.contains(&it)) {
            needed.extend(&node.operands);
        }
    }
    let mut new = Rebuild::new(function, &function.name);
    new.new.origin = None;
    add_params(&mut new.new, carries, Role::Value, function, wanted);
    let used: Vec<Value> = function.param_values().filter(|it| needed.contains(it)).collect();
    for &value in &used {
        let param = &function.params[value.index()];
        let given = new.new.param(&param.name, Role::Value, param.ty.clone());
        new.set(value, given);
    }
    for node in function.nodes() {
        if node.results().any(|it| needed.contains(&it)) {
            new.copy(scope, node);
        }
    }
    for (i, &value) in wanted.iter().enumerate() {
        let name = carries.get(i).cloned().unwrap_or_else(|| format!("kept.{i}").into());
        let value = new.get(value);
        new.new.output(name, value);
    }
    (new.new, used)
}

/// `function` that is given `kept` as parameters, from place `at` on.
pub(super) fn without(
    scope: Scope<'_>,
    function: &Function,
    kept: &[Value],
    at: usize,
) -> Function {
    let mut new = Rebuild::new(function, &function.name);
    let params: Vec<Value> = function.param_values().collect();
    params[..at].iter().for_each(|&it| new.param(it));
    let names = fresh(function, kept.len());
    let given = add_params(&mut new.new, &names, Role::Value, function, kept);
    params[at..].iter().for_each(|&it| new.param(it));
    for node in live_nodes(function) {
        new.copy(scope, node);
        replace(&mut new, node, kept, &given);
    }
    new.outputs();
    new.new.rewrite(scope, |_, _, _| None)
}

/// Adds parameters of the types that `values` of `old` have.
pub(super) fn add_params(
    new: &mut Function,
    names: &[Name],
    role: Role,
    old: &Function,
    values: &[Value],
) -> Vec<Value> {
    let types = values.iter().map(|it| old.ty(*it).clone());
    names.iter().zip(types).map(|(name, ty)| new.param(name, role, ty)).collect()
}

/// What `node` gave is `given`, where it is one of `kept`.
pub(super) fn replace(new: &mut Rebuild<'_>, node: &Node, kept: &[Value], given: &[Value]) {
    let here = kept.iter().zip(given).filter(|(kept, _)| node.results().any(|it| it == **kept));
    here.for_each(|(&kept, &given)| new.set(kept, given));
}

/// Names that no parameter and no output of `function` has.
pub(super) fn fresh(function: &Function, n: usize) -> Vec<Name> {
    let params = function.params.iter().map(|it| &it.name);
    let taken: BTreeSet<&Name> = params.chain(function.outputs.iter().map(|it| &it.name)).collect();
    let numbered = (0..).map(|i| Name::from(format!("kept.{i}")));
    numbered.filter(|it| !taken.contains(it)).take(n).collect()
}
