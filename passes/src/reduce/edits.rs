//! Ways to make a graph smaller. Each answers for a number: `None` when there are no more such
//! edits, `Some(None)` for one that does not apply.

use std::collections::BTreeMap;

use ir::{
    Axes, DType, Extent, Function, Module, Name, Node, Op, Role, Type, Value,
    ops::{Call, Constant},
};

use crate::rebuild::{Rebuild, live_nodes};

/// An edit, by its number.
type Edit = fn(&Module, usize) -> Option<Option<Module>>;

/// Every edit, those that remove most first.
pub(super) const ALL: &[Edit] = &[
    function_alone,
    without_output,
    inlined,
    without_nodes,
    output_of_operands,
    bypassed,
    without_parameter,
    shorter_axis,
];

/// The `i`th function as the entry.
fn function_alone(module: &Module, i: usize) -> Option<Option<Module>> {
    let (_, called) = module.functions.split_last()?;
    let mut functions = called.get(..=i)?.to_vec();
    let entry = functions.last_mut()?;
    entry.origin = None;
    entry.params.iter_mut().for_each(|it| it.role = Role::Input);
    Some(Some(Module { axes: module.axes.clone(), functions }))
}

/// The entry without its `i`th output. The state that it gives becomes an input.
fn without_output(module: &Module, i: usize) -> Option<Option<Module>> {
    let name = &module.entry().outputs.get(i)?.name;
    if module.entry().outputs.len() == 1 {
        return Some(None);
    }
    let mut entry = module.entry().clone();
    entry.outputs.retain(|it| it.name != *name);
    entry.params.iter_mut().filter(|it| it.name == *name).for_each(|it| it.role = Role::Input);
    Some(Some(with_entry(module, entry)))
}

/// The `i`th call of all expanded.
fn inlined(module: &Module, i: usize) -> Option<Option<Module>> {
    let is_call = |(_, node): &(usize, &Node)| matches!(node.op, Op::Call(_));
    let (at, node) = places(module).filter(is_call).nth(i)?;
    let Op::Call(Call { function: callee }) = &node.op else { return Some(None) };
    let callee = module.function(callee.as_str())?;
    let types = module.functions[at].operand_types(&node.operands);
    if !callee.params.iter().map(|it| &it.ty).eq(&types) {
        return Some(None);
    }
    Some(Some(rebuilt(module, at, |new, it| {
        let here = it.results().eq(node.results());
        here.then(|| new.new.inline(None, module.scope(), callee, &new.operands(it)))
    })))
}

/// Nodes of a function replaced by inputs, or by numbers in functions that are called: all, halves,
/// quarters and so on.
fn without_nodes(module: &Module, i: usize) -> Option<Option<Module>> {
    let parts = module.functions.iter().enumerate().rev();
    let parts = parts.flat_map(|(at, it)| chunks(it.nodes().len()).map(move |chunk| (at, chunk)));
    let (at, (from, to)) = parts.into_iter().nth(i)?;
    let function = &module.functions[at];
    let chunk = &function.nodes()[from..to];
    let replaced = chunk.iter().filter(|it| !is_trivial(&it.op));
    let values: Vec<Value> = replaced.flat_map(Node::results).collect();
    if values.is_empty() {
        return Some(None);
    }
    let is_entry = at + 1 == module.functions.len();
    Some(Some(match is_entry {
        true => with_entry(module, given(module, function, &values)),
        false => rebuilt(module, at, |new, node| {
            let is_replaced = node.results().any(|it| values.contains(&it));
            let mut number = |it| {
                let fill = filling(function.ty(it).clone());
                new.new.add(module.scope(), fill, &[])
            };
            is_replaced.then(|| node.results().map(&mut number).collect())
        }),
    }))
}

/// `function`, the entry, with `values` given as inputs.
fn given(module: &Module, function: &Function, values: &[Value]) -> Function {
    let mut new = Rebuild::new(function, &function.name);
    function.param_values().for_each(|it| new.param(it));
    let taken = |name: &str| function.params.iter().any(|it| it.name == *name);
    let mut names = (0..).map(|i| format!("cut.{i}")).filter(|it| !taken(it));
    let mut inputs: BTreeMap<Value, Value> = BTreeMap::new();
    for &value in values {
        let name = names.next().unwrap_or_default();
        let input = new.new.param(name, Role::Input, function.ty(value).clone());
        inputs.insert(value, input);
    }
    for node in function.nodes() {
        if !node.results().any(|it| inputs.contains_key(&it)) {
            new.copy(module.scope(), node);
        }
        for value in node.results() {
            inputs.get(&value).into_iter().for_each(|&it| new.set(value, it));
        }
    }
    new.outputs();
    new.new
}

/// The `i`th output of the entry replaced by what it is made from.
fn output_of_operands(module: &Module, i: usize) -> Option<Option<Module>> {
    let mut entry = module.entry().clone();
    let output = entry.outputs.get(i)?.clone();
    let is_state = entry.params.iter().any(|it| it.name == output.name);
    let Some(maker) = entry.maker(output.value).filter(|_| !is_state).cloned() else {
        return Some(None);
    };
    let taken = |entry: &Function, it: &str| entry.outputs.iter().any(|o| o.name == *it);
    entry.outputs.remove(i);
    for operand in maker.operands {
        if entry.outputs.iter().all(|it| it.value != operand) && entry.maker(operand).is_some() {
            let mut names = (0..).map(|i| format!("out.{i}"));
            let name = names.find(|it| !taken(&entry, it)).unwrap_or_default();
            entry.output(name, operand);
        }
    }
    let is_left = !entry.outputs.is_empty();
    Some(is_left.then(|| with_entry(module, entry)))
}

/// The `i`th node of all replaced by an operand of the same type.
fn bypassed(module: &Module, i: usize) -> Option<Option<Module>> {
    let (at, node) = places(module).nth(i)?;
    let function = &module.functions[at];
    if node.results().len() != 1 {
        return Some(None);
    }
    let ty = function.ty(node.result());
    let operand = node.operands.iter().copied().find(|&it| function.ty(it) == ty);
    Some(operand.map(|operand| {
        rebuilt(module, at, |new, it| {
            it.results().eq(node.results()).then(|| vec![new.get(operand)])
        })
    }))
}

/// The entry without its `i`th parameter, which nothing takes.
fn without_parameter(module: &Module, i: usize) -> Option<Option<Module>> {
    let entry = module.entry();
    let param = entry.param_values().nth(i)?;
    let is_taken = live_nodes(entry).any(|it| it.operands.contains(&param))
        || entry.outputs.iter().any(|it| it.value == param);
    if is_taken || entry.params[i].role == Role::State {
        return Some(None);
    }
    let mut new = Rebuild::new(entry, &entry.name);
    entry.param_values().filter(|it| *it != param).for_each(|it| new.param(it));
    live_nodes(entry).for_each(|it| new.copy(module.scope(), it));
    new.outputs();
    Some(Some(with_entry(module, new.new)))
}

/// The `i`th axis with 1 element, then with 2.
fn shorter_axis(module: &Module, i: usize) -> Option<Option<Module>> {
    let (name, decl) = module.axes.iter().nth(i / 2)?;
    let size = 1 + i % 2;
    let shorter = match decl.extent {
        Extent::Fixed { size: old, .. } if size < old => {
            Some(Extent::Fixed { size, choices: Vec::new() })
        }
        Extent::Runtime { max } if size < max => Some(Extent::Runtime { max: size }),
        Extent::Fixed { .. } | Extent::Runtime { .. } | Extent::Like(_) => None,
    };
    Some(shorter.map(|it| Module {
        axes: with_extent(&module.axes, name, it),
        functions: module.functions.clone(),
    }))
}

fn with_extent(axes: &Axes, name: &Name, extent: Extent) -> Axes {
    let mut axes = axes.clone();
    let origin = axes.get(name.as_str()).and_then(|it| it.origin.clone());
    axes.declare(name, extent);
    origin.into_iter().for_each(|it| axes.set_origin(name, it));
    axes
}

/// Every node with the place of its function, the entry's first.
fn places(module: &Module) -> impl Iterator<Item = (usize, &Node)> {
    let functions = module.functions.iter().enumerate().rev();
    functions.flat_map(|(at, it)| it.nodes().iter().map(move |node| (at, node)))
}

/// The whole of `n`, its halves, their halves, down to each alone.
fn chunks(n: usize) -> impl Iterator<Item = (usize, usize)> {
    let sizes = std::iter::successors(Some(n), |it| (1 < *it).then(|| it.div_ceil(2)));
    let parts = move |size: usize| {
        (0..n).step_by(size.max(1)).map(move |from| (from, (from + size).min(n)))
    };
    sizes.filter(|it| 0 < *it).flat_map(parts)
}

/// Whether the op is as small as what would replace it.
fn is_trivial(op: &Op) -> bool {
    matches!(op, Op::Constant(_) | Op::Iota(_) | Op::ExtentOf(_))
}

/// A value of type `ty`: ones, or first places.
fn filling(ty: Type) -> Constant {
    let number = if ty.dtype == DType::I32 { 0.0 } else { 1.0 };
    Constant::fill(ty, number)
}

/// `module` with the function at `at` rebuilt, where `rule` may answer for the results of a node.
fn rebuilt(
    module: &Module,
    at: usize,
    mut rule: impl FnMut(&mut Rebuild<'_>, &Node) -> Option<Vec<Value>>,
) -> Module {
    let function = &module.functions[at];
    let mut new = Rebuild::new(function, &function.name);
    function.param_values().for_each(|it| new.param(it));
    for node in function.nodes() {
        match rule(&mut new, node) {
            Some(values) => new.set_results(node, &values),
            None => new.copy(module.scope(), node),
        }
    }
    new.outputs();
    let mut result = module.clone();
    result.functions[at] = new.new;
    result
}

fn with_entry(module: &Module, entry: Function) -> Module {
    let mut result = module.clone();
    result.functions.pop();
    result.functions.push(entry);
    result
}
