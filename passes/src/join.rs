//! Makes products of one value with several weights one product with the weights laid end to end.
//!
//! The value is then read once, and the parts of the result lie side by side: queries, keys and
//! values, or the gate and the rest of a feed-forward.
//!
//! ```ir
//! axis E = 4
//! axis F = 6
//! axis G = 3
//! axis S <= 8
//!
//! fn @model (input %x : f32[S, E], weight %f : f32[F, E], weight %g : f32[G, E]) {
//!   %0 = contract %x %f {over = [E]} : f32[S, F]
//!   %1 = contract %x %g {over = [E]} : f32[S, G]
//!   return f = %0, g = %1
//! }
//! ```
//! becomes
//! ```ir
//! axis E = 4
//! axis F = 6
//! axis G = 3
//! axis S <= 8
//!
//! fn @model (input %x : f32[S, E], weight %f : f32[F, E], weight %g : f32[G, E]) {
//!   %0 = concat %f %g {parts = [F, G]} : f32[F | G, E]
//!   %1 = contract %x %0 {over = [E]} : f32[S, F | G]
//!   %2 = slice %1 {axis = F | G, after = [], last = false, into = F} : f32[S, F]
//!   %3 = slice %1 {axis = F | G, after = [F], last = false, into = G} : f32[S, G]
//!   return f = %2, g = %3
//! }
//! ```

use ir::{
    Axis, Function, Module, Node, Op, Scope, Stored, Value,
    ops::{Concat, Contract, Slice},
};

use crate::{
    Contract as Promise, Cx, Fault, Pass,
    rebuild::{Rebuild, live_nodes},
};

/// See the module.
pub struct Join;

impl Pass for Join {
    fn name(&self) -> &'static str {
        "join"
    }

    fn about(&self) -> &'static str {
        "makes products of one value with several weights one product"
    }

    fn contract(&self) -> Promise {
        Promise::Exact
    }

    fn run(&self, module: &Module, cx: &mut Cx) -> Result<Module, Fault> {
        let stored = Stored::new(module);
        Ok(module.map(|done, function| match function.origin {
            Some(_) => function.clone(),
            None => joined(done.scope(), function, &stored.values(&function.name), cx),
        }))
    }
}

/// Products that can be one.
struct Group {
    x: Value,
    over: Vec<Axis>,
    /// For each product: its result, its weight, and the axis that only that has.
    parts: Vec<(Value, Value, Axis)>,
}

fn joined(scope: Scope<'_>, function: &Function, stored: &[bool], cx: &mut Cx) -> Function {
    let mut groups = groups(function, stored);
    groups.retain(|it| 1 < it.parts.len() && fits(scope, function, it));
    groups.retain(|it| cx.allows(&function.name, names(function, it)));
    let mut new = Rebuild::new(function, &function.name);
    function.param_values().for_each(|it| new.param(it));
    for node in live_nodes(function) {
        let results: Vec<Value> = node.results().collect();
        if results.iter().all(|it| new.known(*it)) {
            continue;
        }
        let group = groups.iter().find(|it| it.parts.iter().any(|part| part.0 == results[0]));
        match group {
            Some(group) => join(scope, &mut new, group),
            None => new.copy(scope, node),
        }
    }
    new.outputs();
    new.new
}

/// The products of `function` with weights, by the value that they share.
fn groups(function: &Function, stored: &[bool]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for node in live_nodes(function) {
        let Some((contract, own)) = product(function, stored, node) else { continue };
        let (x, part) = (node.operands[0], (node.result(), node.operands[1], own));
        match groups.iter_mut().find(|it| it.x == x && it.over == contract.over) {
            Some(group) => group.parts.push(part),
            None => groups.push(Group { x, over: contract.over.clone(), parts: vec![part] }),
        }
    }
    groups
}

/// A product with a weight that has one axis of its own before those that are summed over.
fn product<'a>(
    function: &Function,
    stored: &[bool],
    node: &'a Node,
) -> Option<(&'a Contract, Axis)> {
    let Op::Contract(contract) = &node.op else { return None };
    let [x, w] = node.operands[..] else { return None };
    let (own, rest) = function.ty(w).axes.split_first()?;
    let is_weight = |it: Value| stored.get(it.index()) == Some(&true);
    let fits = is_weight(w) && !is_weight(x) && rest == contract.over;
    (fits && function.ty(x).position(own).is_none()).then(|| (contract, own.clone()))
}

/// Whether the product of all has a type.
fn fits(scope: Scope<'_>, function: &Function, group: &Group) -> bool {
    let types: Vec<_> = group.parts.iter().map(|it| function.ty(it.1).clone()).collect();
    let concat: Op = concat(group).into();
    let whole = concat.rules().infer(&types, scope).ok().and_then(|mut it| it.pop());
    let same = types.iter().all(|it| it.dtype == types[0].dtype);
    let contract: Op = Contract { over: group.over.clone() }.into();
    let product = |whole| contract.rules().infer(&[function.ty(group.x).clone(), whole], scope);
    same && whole.is_some_and(|it| product(it).is_ok())
}

fn concat(group: &Group) -> Concat {
    Concat { parts: group.parts.iter().map(|it| it.2.clone()).collect() }
}

/// Adds the one product, and its parts in place of the products.
fn join(scope: Scope<'_>, new: &mut Rebuild<'_>, group: &Group) {
    let weights: Vec<Value> = group.parts.iter().map(|it| new.fetch(scope, it.1)).collect();
    let concat = concat(group);
    let axis = concat.whole();
    let weights = new.new.add(scope, concat.clone(), &weights);
    let x = new.get(group.x);
    let whole = new.new.add(scope, Contract { over: group.over.clone() }, &[x, weights]);
    for (i, (result, _, into)) in group.parts.iter().enumerate() {
        let after = concat.parts[..i].to_vec();
        let slice = Slice { axis: axis.clone(), after, last: false, into: into.clone() };
        let line = new.old.maker(*result).and_then(|it| new.old.line(it));
        let part = new.new.add_all_at(line, scope, slice.into(), &[whole]);
        new.set(*result, part[0]);
    }
}

/// The weights of a group, by name.
fn names(function: &Function, group: &Group) -> String {
    let name = |value: Value| match function.as_param(value) {
        Some(param) => param.name.to_string(),
        None => value.to_string(),
    };
    group.parts.iter().map(|it| name(it.1)).collect::<Vec<_>>().join(" | ")
}
