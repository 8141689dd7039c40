//! Chooses kernels.

use std::collections::{BTreeMap, BTreeSet};

use ir::{DType, Function, Module, Name, Node, Op, Origin, Role, Stored, Value, ops::Call};

use crate::{Kernel, Site, half};

/// Makes each chosen claim of `kernels` a function with the origin `kernel::NAME` and a call of it.
///
/// Outputs first: a node that no chosen claim holds yet takes the claim that covers the most nodes.
/// `allows` is asked of each chosen claim, with the function that it is in and the kernel.
pub fn cover(
    module: &Module,
    kernels: &[&dyn Kernel],
    allows: &mut dyn FnMut(&Name, &str) -> bool,
) -> Module {
    let stored = Stored::new(module);
    let mut result = Module { axes: module.axes.clone(), functions: Vec::new() };
    for function in &module.functions {
        let scope = module.scope();
        let uses = function.uses();
        let stored = stored.values(&function.name);
        let site = Site { scope, function, uses: &uses, stored: &stored };
        let is_library = function.origin.is_some() && !is_group(function);
        let mut chosen = if is_library { BTreeMap::new() } else { choose(&site, kernels) };
        chosen.retain(|_, it| allows(&function.name, it.kernel));
        let rebuilt = outline(&mut result, module, &site, &chosen);
        result.functions.push(rebuilt);
    }
    result
}

/// Whether rules made the function, to be covered like any other code.
pub fn is_group(function: &Function) -> bool {
    function.origin.as_ref().is_some_and(|it| it.function.starts_with("fused::"))
}

/// A claim that was chosen.
struct Chosen {
    kernel: &'static str,
    root: usize,
    nodes: Vec<usize>,
}

impl Chosen {
    /// What is left of it: what its root gives, if that is its last node, and what is used
    /// elsewhere.
    fn results(&self, site: &Site<'_>) -> Vec<Value> {
        let nodes = site.function.nodes();
        let is_last = |it: usize| it == self.root && self.nodes.last() == Some(&it);
        let results = |&it: &usize| {
            let is_needed = move |v: &Value| {
                is_last(it) || uses_of(site, &self.nodes, *v) < site.uses[v.index()]
            };
            nodes[it].results().filter(is_needed)
        };
        self.nodes.iter().filter(|it| !is_number(&nodes[**it])).flat_map(results).collect()
    }
}

/// The chosen claims, by their roots.
fn choose(site: &Site<'_>, kernels: &[&dyn Kernel]) -> BTreeMap<usize, Chosen> {
    let mut taken = vec![false; site.function.nodes().len()];
    let mut chosen = BTreeMap::new();
    let live = site.function.live();
    for root in (0..taken.len()).rev().filter(|&it| live[it]) {
        let claims = kernels.iter().filter_map(|kernel| {
            let nodes = site_claim(site, *kernel, root)?;
            let free = nodes.iter().all(|&it| !taken[it]);
            free.then(|| Chosen { kernel: kernel.name(), root, nodes })
        });
        // `max_by_key` would prefer the last of equals; the first kernel is to win.
        let best = claims.reduce(|a, b| if a.nodes.len() < b.nodes.len() { b } else { a });
        if let Some(best) = best {
            let own = best.nodes.iter().filter(|it| !is_number(&site.function.nodes()[**it]));
            own.for_each(|&it| taken[it] = true);
            chosen.insert(root, best);
        }
    }
    chosen
}

/// Whether `node` is a number, which claims may share.
pub(crate) fn is_number(node: &Node) -> bool {
    matches!(&node.op, Op::Constant(it) if it.values.len() == 1)
}

/// How often `nodes` use `value`.
fn uses_of(site: &Site<'_>, nodes: &[usize], value: Value) -> usize {
    let operands = nodes.iter().flat_map(|&it| &site.function.nodes()[it].operands);
    operands.filter(|it| **it == value).count()
}

/// A claim whose inner values are used nowhere else, but for numbers, or by nodes after `root` and
/// the kernel gives them too; and whose operands are there at `root`.
fn site_claim(site: &Site<'_>, kernel: &dyn Kernel, root: usize) -> Option<Vec<usize>> {
    let nodes = kernel.claim(site, root)?;
    let function = site.function;
    let is_awaited = |value: Value| {
        let mut earlier = (0..root).filter(|it| !nodes.contains(it));
        kernel.gives_inner() && !earlier.any(|it| function.nodes()[it].operands.contains(&value))
    };
    let is_inside = |v: Value| site.uses[v.index()] == uses_of(site, &nodes, v) || is_awaited(v);
    let private = |&it: &usize| {
        let node = &function.nodes()[it];
        root <= it || is_number(node) || node.results().all(is_inside)
    };
    let computable = nodes.iter().all(|&it| fits(site, kernel, &function.nodes()[it]));
    let made_later = |value: &Value| {
        let later = function.nodes()[root..].iter().enumerate().map(|(i, node)| (root + i, node));
        let mut others = later.filter(|(i, _)| !nodes.contains(i));
        others.any(|(_, node)| node.results().any(|it| it == *value))
    };
    let mut operands = nodes.iter().flat_map(|&it| &function.nodes()[it].operands);
    (computable && nodes.iter().all(private) && !operands.any(made_later)).then_some(nodes)
}

/// Whether a node works on what `kernel` can: `f32` values and `i32` places, for some kernels
/// values of 16 bits, and weights that are stored as floats.
fn fits(site: &Site<'_>, kernel: &dyn Kernel, node: &Node) -> bool {
    let is_half = |dtype| kernel.takes_half() && half(dtype);
    let operand = |it: &Value| {
        let dtype = site.function.ty(*it).dtype;
        match site.is_stored(*it) {
            true => dtype.is_float() && dtype != DType::F64,
            false => matches!(dtype, DType::F32 | DType::I32) || is_half(dtype),
        }
    };
    let result = |it: Value| {
        let dtype = site.function.ty(it).dtype;
        dtype == DType::F32 || is_half(dtype)
    };
    node.operands.iter().all(operand) && node.results().all(result)
}

/// Rebuilds the function of `site` in `old` with calls for the chosen claims, whose functions go
/// to `module`.
fn outline(
    module: &mut Module,
    old: &Module,
    site: &Site<'_>,
    chosen: &BTreeMap<usize, Chosen>,
) -> Function {
    let function = site.function;
    let mut result = function.signature();
    let mut new: Vec<Value> = function.values().collect();
    let live = function.live();
    let inner = inner(site, chosen);
    for (i, node) in function.nodes().iter().enumerate() {
        if !live[i] || inner.contains(&i) {
            continue;
        }
        let (op, operands, results) = match chosen.get(&i) {
            None => (node.op.clone(), node.operands.clone(), node.results().collect()),
            Some(claim) => {
                let (function, operands) = define(module, old, site, claim);
                (Call { function }.into(), operands, claim.results(site))
            }
        };
        let operands: Vec<Value> = operands.iter().map(|it| new[it.index()]).collect();
        let values = result.add_all_at(function.line(node), module.scope(), op, &operands);
        results.iter().zip(values).for_each(|(old, value)| new[old.index()] = value);
    }
    for output in &function.outputs {
        result.output(&output.name, new[output.value.index()]);
    }
    result
}

/// The nodes for which calls stand elsewhere, but for numbers that others need too.
fn inner(site: &Site<'_>, chosen: &BTreeMap<usize, Chosen>) -> Vec<usize> {
    let nodes = site.function.nodes();
    let mut left = site.uses.to_vec();
    let claimed: BTreeSet<usize> = chosen.values().flat_map(|it| it.nodes.clone()).collect();
    let operands = claimed.iter().flat_map(|&it| &nodes[it].operands);
    operands.for_each(|it| left[it.index()] -= 1);
    let is_needed = |it: usize| nodes[it].results().any(|value| left[value.index()] != 0);
    let stays = |it: usize| chosen.contains_key(&it) || is_number(&nodes[it]) && is_needed(it);
    claimed.into_iter().filter(|it| !stays(*it)).collect()
}

/// Adds a function of the claimed nodes under a name that `old` does not have either, or finds an
/// equal one; its name and operands.
fn define(
    module: &mut Module,
    old: &Module,
    site: &Site<'_>,
    claim: &Chosen,
) -> (Name, Vec<Value>) {
    let function = site.function;
    let nodes: Vec<_> = claim.nodes.iter().map(|&it| &function.nodes()[it]).collect();
    let made: Vec<Value> = nodes.iter().flat_map(|it| it.results()).collect();
    let mut operands: Vec<Value> = Vec::new();
    for &value in nodes.iter().flat_map(|it| &it.operands) {
        if !made.contains(&value) && !operands.contains(&value) {
            operands.push(value);
        }
    }
    let mut body = Function::new("body");
    body.origin =
        Some(Origin { function: format!("kernel::{}", claim.kernel), ..Origin::default() });
    let mut new: Vec<Value> = function.values().collect();
    for (i, &operand) in operands.iter().enumerate() {
        let ty = function.ty(operand);
        // Every storage of a weight reads as `f32`.
        let ty = if site.is_stored(operand) { ty.with_dtype(DType::F32) } else { ty.clone() };
        new[operand.index()] = body.param(format!("x{i}"), Role::Value, ty);
    }
    for node in &nodes {
        let operands: Vec<Value> = node.operands.iter().map(|it| new[it.index()]).collect();
        let values = body.copy(module.scope(), function, node, &operands);
        node.results().zip(values).for_each(|(old, value)| new[old.index()] = value);
    }
    for (i, result) in claim.results(site).into_iter().enumerate() {
        let name = if i == 0 { "y".to_owned() } else { format!("y.{i}") };
        body.output(name, new[result.index()]);
    }
    let same = module.functions.iter().find(|it| {
        body.name = it.name.clone();
        **it == body
    });
    if let Some(same) = same {
        return (same.name.clone(), operands);
    }
    let numbered = (1..).map(|i| format!("{}.{i}", claim.kernel));
    let mut names = std::iter::once(claim.kernel.to_owned()).chain(numbered);
    let is_free = |it: &str| [&*module, old].iter().all(|m| m.function(it).is_none());
    body.name = names.find(|it| is_free(it)).unwrap_or_default().into();
    let name = body.name.clone();
    module.functions.push(body);
    (name, operands)
}
