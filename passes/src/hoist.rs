//! Moves what is the same in every turn of a loop to the function that runs the loop.
//!
//! Numbers, cheap arithmetic on indices (masks) and views of what comes from outside stay: having
//! them again costs less than reading them back. What a called function does by itself is out of
//! reach until the call is expanded; a call whose operands do not change moves as it is.
//!
//! ```ir
//! axis E = 4
//! axis L = 2
//! axis S <= 8
//!
//! fn @layer (%x : f32[S, E], %w : f32[E]) {
//!   %0 = iota {axis = S} : i32[S]
//!   %1 = cast %0 {dtype = f32} : f32[S]
//!   %2 = cos %1 : f32[S]
//!   %3 = mul %x %2 : f32[S, E]
//!   %4 = mul %3 %w : f32[S, E]
//!   return x = %4
//! }
//!
//! fn @model (input %x : f32[S, E], weight %w : f32[L, E]) {
//!   %0 = scan %x %w {body = @layer, axis = L, carries = 1, banked = 1, reverse = false} : f32[S, E]
//!   return y = %0
//! }
//! ```
//! becomes
//! ```ir
//! axis E = 4
//! axis L = 2
//! axis S <= 8
//!
//! fn @layer (%x : f32[S, E], %w : f32[E], %hoisted.0 : f32[S]) {
//!   %0 = mul %x %hoisted.0 : f32[S, E]
//!   %1 = mul %0 %w : f32[S, E]
//!   return x = %1
//! }
//!
//! fn @model (input %x : f32[S, E], weight %w : f32[L, E]) {
//!   %0 = iota {axis = S} : i32[S]
//!   %1 = cast %0 {dtype = f32} : f32[S]
//!   %2 = cos %1 : f32[S]
//!   %3 = scan %x %w %2 {body = @layer, axis = L, carries = 1, banked = 1, reverse = false} : f32[S, E]
//!   return y = %3
//! }
//! ```

use std::collections::{BTreeMap, BTreeSet};

use ir::{
    Function, Module, Name, Node, Op, Role, Scope, Value,
    ops::{Cast, Scan},
};

use crate::{
    Contract, Cx, Fault, Pass,
    cost::{is_costly, is_pointwise},
    rebuild::{Rebuild, define, live_nodes},
};

/// See the module.
pub struct Hoist;

impl Pass for Hoist {
    fn name(&self) -> &'static str {
        "hoist"
    }

    fn about(&self) -> &'static str {
        "moves what is the same in every turn of a loop out of it"
    }

    fn contract(&self) -> Contract {
        Contract::Exact
    }

    fn run(&self, module: &Module, cx: &mut Cx) -> Result<Module, Fault> {
        let mut result = Module { axes: module.axes.clone(), functions: Vec::new() };
        for function in &module.functions {
            let hoisted = hoist(&mut result, module, function, cx);
            result.functions.push(hoisted);
        }
        result.prune();
        Ok(result)
    }
}

/// `function` with what its loops need not do; their new bodies are added to `result`.
fn hoist(result: &mut Module, module: &Module, function: &Function, cx: &mut Cx) -> Function {
    let mut new = Rebuild::new(function, &function.name);
    function.param_values().for_each(|it| new.param(it));
    for node in live_nodes(function) {
        let scan = if let Op::Scan(scan) = &node.op { Some(scan) } else { None };
        let plan = scan.and_then(|it| Plan::new(result.function(it.body.as_str())?, it));
        let plan =
            plan.filter(|it| cx.allows(&function.name, format!("scan of @{}", it.body.name)));
        let (Some(scan), Some(plan)) = (scan, plan) else {
            new.copy(result.scope(), node);
            continue;
        };
        let mut operands = new.operands(node);
        let shared = &operands[scan.carries + scan.banked..];
        let more = plan.outside(result.scope(), scan, &mut new.new, shared);
        operands.extend(more);
        let body = plan.inside(result.scope());
        let name = replace(result, module, body);
        let scan = Scan { body: name, ..scan.clone() };
        let values = new.new.add_all(result.scope(), scan, &operands);
        new.set_results(node, &values);
    }
    new.outputs();
    new.new
}

/// Adds the new form of a body in place of the old one, or under another name where another loop
/// runs that; its name.
fn replace(result: &mut Module, module: &Module, body: Function) -> Name {
    let name = body.name.clone();
    let nodes = module.functions.iter().flat_map(Function::nodes);
    if 1 < nodes.filter(|it| it.op.callee() == Some(&name)).count() {
        return define(result, module, body, name.as_str());
    }
    result.functions.retain(|it| it.name != name);
    result.functions.push(body);
    name
}

/// What can leave the body of a loop.
struct Plan {
    body: Function,
    /// The nodes that do the same in every turn, in order.
    moved: Vec<Node>,
    /// Their results that the rest of the body needs.
    needed: Vec<Value>,
}

impl Plan {
    /// `None` when there is nothing to gain.
    fn new(body: &Function, scan: &Scan) -> Option<Plan> {
        let shared = body.param_values().skip(scan.carries + scan.banked);
        let mut same: BTreeSet<Value> = shared.collect();
        let mut moved: Vec<Node> = Vec::new();
        for node in live_nodes(body).filter(|it| !matches!(it.op, Op::Scan(_))) {
            if node.operands.iter().all(|it| same.contains(it)) {
                same.extend(node.results());
                moved.push(node.clone());
            }
        }
        let is_moved = |it: &Value| same.contains(it) && body.as_param(*it).is_none();
        let stay = live_nodes(body).filter(|it| !it.results().all(|it| is_moved(&it)));
        let mut used: Vec<Value> = stay.flat_map(|it| it.operands.clone()).collect();
        used.extend(body.outputs.iter().map(|it| it.value));
        used.sort();
        used.dedup();
        let free = free_values(body);
        used.retain(|it| is_moved(it) && !free.contains(it));
        (!used.is_empty()).then(|| Plan { body: body.clone(), moved, needed: used })
    }

    /// Computes what is needed in `f`, where `shared` are the operands that all turns share.
    fn outside(
        &self,
        scope: Scope<'_>,
        scan: &Scan,
        f: &mut Function,
        shared: &[Value],
    ) -> Vec<Value> {
        let mut new: BTreeMap<Value, Value> = BTreeMap::new();
        let params = self.body.param_values().skip(scan.carries + scan.banked);
        for (param, &argument) in params.zip(shared) {
            let dtype = self.body.ty(param).dtype;
            let same = f.ty(argument).dtype == dtype;
            new.insert(
                param,
                if same { argument } else { f.add(scope, Cast { dtype }, &[argument]) },
            );
        }
        for node in &self.moved {
            let operands: Vec<Value> = node.operands.iter().map(|it| new[it]).collect();
            let values = f.copy(scope, &self.body, node, &operands);
            new.extend(node.results().zip(values));
        }
        self.needed.iter().map(|it| new[it]).collect()
    }

    /// The body that is given what is needed.
    fn inside(&self, scope: Scope<'_>) -> Function {
        let mut new = Rebuild::new(&self.body, &self.body.name);
        self.body.param_values().for_each(|it| new.param(it));
        let mut given = Vec::new();
        for (i, &value) in self.needed.iter().enumerate() {
            let ty = self.body.ty(value).clone();
            given.push((value, new.new.param(self.param_name(i), Role::Value, ty)));
        }
        for node in live_nodes(&self.body) {
            new.copy(scope, node);
            let given = given.iter().filter(|(value, _)| node.results().any(|it| it == *value));
            given.for_each(|&(value, param)| new.set(value, param));
        }
        new.outputs();
        new.new.rewrite(scope, |_, _, _| None)
    }

    /// A name for the `i`th value given that no parameter has.
    fn param_name(&self, i: usize) -> Name {
        let first = self.body.params.iter().filter(|it| it.name.as_str().starts_with("hoisted."));
        format!("hoisted.{}", first.count() + i).into()
    }
}

/// The values that cost next to nothing to have in every turn: parameters and their views, numbers,
/// indices and cheap arithmetic on those.
fn free_values(body: &Function) -> BTreeSet<Value> {
    let mut of_indices: BTreeSet<Value> = BTreeSet::new();
    let mut free: BTreeSet<Value> = body.param_values().collect();
    for node in body.nodes() {
        let (is_of_indices, is_free) = match &node.op {
            Op::Constant(_) | Op::ExtentOf(_) | Op::Iota(_) => (true, true),
            Op::Split(_) | Op::Merge(_) | Op::Rename(_) => {
                (of_indices.contains(&node.operands[0]), free.contains(&node.operands[0]))
            }
            op if is_pointwise(op) && !is_costly(op) => {
                let all = node.operands.iter().all(|it| of_indices.contains(it));
                (all, all)
            }
            _ => (false, false),
        };
        of_indices.extend(node.results().filter(|_| is_of_indices));
        free.extend(node.results().filter(|_| is_free));
    }
    free
}
