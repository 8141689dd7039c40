//! What holds of every module. All faults are reported, each with its function and line.

use std::collections::BTreeSet;

use crate::{Axis, Extent, Function, Module, Name, Node, Role, Scope, Type};

/// Every fault of `module`; none means that it can be run. Checked are: declared axes, the order of
/// functions and nodes, the types of all results, roles and names.
pub fn verify(module: &Module) -> Vec<String> {
    let mut faults = Vec::new();
    verify_axes(module, &mut faults);
    if !faults.is_empty() {
        // Nothing can be said of types over such axes.
        return faults;
    }
    if module.functions.is_empty() {
        faults.push("there is no function".to_owned());
    }
    let mut names = BTreeSet::new();
    for (i, function) in module.functions.iter().enumerate() {
        let mut fault = |it: String| faults.push(format!("@{}: {it}", function.name));
        if !names.insert(&function.name) {
            fault("there is another function of that name".to_owned());
        }
        let scope = Scope { axes: &module.axes, functions: &module.functions[..i] };
        let is_entry = i + 1 == module.functions.len();
        verify_signature(function, is_entry, &mut fault);
        verify_states(function, scope, &mut fault);
        function.values().for_each(|it| verify_type(function.ty(it), scope, &mut fault));
        for node in function.nodes() {
            verify_node(function, node, scope, &mut fault);
        }
    }
    faults
}

fn verify_axes(module: &Module, faults: &mut Vec<String>) {
    for (name, decl) in module.axes.iter() {
        let axis = Axis::atom(name);
        if module.axes.resolved_len(&axis).and_then(|_| module.axes.bound(&axis)).is_none() {
            faults.push(format!("axis {name}: its extent is undeclared, circular or overflows"));
        }
        if let Some(origin) = decl.origin.iter().find(|it| module.axes.get(it.as_str()).is_none()) {
            faults.push(format!("axis {name}: its origin {origin} is not declared"));
        }
        if let Extent::Fixed { size, choices } = &decl.extent {
            let nested = std::iter::once(size).chain(choices).zip(choices).all(|(a, b)| b < a);
            if !nested || choices.contains(&0) {
                faults.push(format!("axis {name}: choices fall from the extent and stay above 0"));
            }
        }
    }
}

fn verify_signature(function: &Function, is_entry: bool, fault: &mut impl FnMut(String)) {
    let mut names: BTreeSet<&Name> = BTreeSet::new();
    for param in &function.params {
        if !names.insert(&param.name) {
            fault(format!("%{} stands twice", param.name));
        }
        if is_entry == (param.role == Role::Value) {
            let place = if is_entry { "needs a role" } else { "has a role" };
            fault(format!("%{} {place}; only the entry's parameters have one", param.name));
        }
        if param.role == Role::State && !function.outputs.iter().any(|it| it.name == param.name) {
            fault(format!("state %{} has no output of its name", param.name));
        }
    }
    if function.outputs.is_empty() {
        fault("it gives nothing".to_owned());
    }
    let mut outputs = BTreeSet::new();
    if let Some(twice) = function.outputs.iter().find(|it| !outputs.insert(&it.name)) {
        fault(format!("output {} stands twice", twice.name));
    }
}

/// What a run leaves of a state is what the next one takes: of the same type, but that the new
/// positions lie behind those of earlier runs.
fn verify_states(function: &Function, scope: Scope<'_>, fault: &mut impl FnMut(String)) {
    let behind = |past: &Axis, all: &Axis| {
        let mut windows =
            scope.axes.iter().filter_map(|(new, it)| Some((new, it.origin.as_ref()?)));
        let all = scope.axes.resolve(all);
        windows.any(|(new, origin)| {
            let (origin, new) = (Axis::from(origin), Axis::from(new));
            *past == origin && all == scope.axes.resolve(&Axis::concat([&origin, &new]))
        })
    };
    for param in function.params.iter().filter(|it| it.role == Role::State) {
        let Some(output) = function.outputs.iter().find(|it| it.name == param.name) else {
            continue;
        };
        let left = function.ty(output.value);
        let mut axes = param.ty.axes.iter().zip(&left.axes);
        let fits = left.dtype == param.ty.dtype
            && left.axes.len() == param.ty.axes.len()
            && axes.all(|(taken, left)| taken == left || behind(taken, left));
        if !fits {
            fault(format!("state %{} is {}, but {left} is left of it", param.name, param.ty));
        }
    }
}

fn verify_type(ty: &Type, scope: Scope<'_>, fault: &mut impl FnMut(String)) {
    for axis in ty.axes.iter().filter(|it| scope.axes.bound(it).is_none()) {
        fault(format!("`{axis}` of {ty} is not declared"));
    }
    if let Some(atom) = ty.repeated_atom() {
        fault(format!("`{atom}` stands twice in {ty}"));
    }
}

fn verify_node(function: &Function, node: &Node, scope: Scope<'_>, fault: &mut impl FnMut(String)) {
    let op = node.op.rules().name();
    let results: Vec<Type> = node.results().map(|it| function.ty(it).clone()).collect();
    let at = node.results().next().map(|it| it.to_string()).unwrap_or_default();
    if node.operands.iter().any(|&it| node.results().any(|result| result <= it)) {
        fault(format!("{at} = {op}: an operand does not come before it"));
        return;
    }
    match node.op.rules().infer(&function.operand_types(&node.operands), scope) {
        Err(why) => fault(format!("{at} = {op}: {why}")),
        Ok(types) if types != results => {
            let show = |it: &[Type]| it.iter().map(Type::to_string).collect::<Vec<_>>().join(" ");
            fault(format!("{at} = {op}: gives {}, not {}", show(&types), show(&results)));
        }
        Ok(_) => {}
    }
}
