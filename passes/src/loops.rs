//! Groups everything that no kernel claims into functions of origin `loop`, each of which a backend
//! runs as one nest of loops that writes one value.
//!
//! Afterwards functions hold calls, loops over functions (`scan`), views (`split`, `merge`,
//! `rename`, `gather` of one known place), appends to a state (`concat` of a parameter and what
//! follows it) and constants; the rest stands in loop functions. Arithmetic joins its only consumer
//! unless that would repeat work; sums, maxima and products begin a loop of their own.
//!
//! ```ir
//! axis E = 4
//! axis S <= 8
//!
//! fn @model (input %x : f32[S, E]) {
//!   %0 = exp %x : f32[S, E]
//!   %1 = mul %0 %x : f32[S, E]
//!   %2 = reduce %1 {over = [E], kind = sum} : f32[S]
//!   %3 = extent {axis = E} : f32[]
//!   %4 = div %2 %3 : f32[S]
//!   %5 = sub %x %4 : f32[S, E]
//!   return y = %5
//! }
//! ```
//! becomes
//! ```ir
//! axis E = 4
//! axis S <= 8
//!
//! fn @loop.reduce of "loop" (%x0 : f32[S, E]) {
//!   %0 = exp %x0 : f32[S, E]
//!   %1 = mul %0 %x0 : f32[S, E]
//!   %2 = reduce %1 {over = [E], kind = sum} : f32[S]
//!   return y = %2
//! }
//!
//! fn @loop.div of "loop" (%x0 : f32[S]) {
//!   %0 = extent {axis = E} : f32[]
//!   %1 = div %x0 %0 : f32[S]
//!   return y = %1
//! }
//!
//! fn @loop.sub of "loop" (%x0 : f32[S, E], %x1 : f32[S]) {
//!   %0 = sub %x0 %x1 : f32[S, E]
//!   return y = %0
//! }
//!
//! fn @model (input %x : f32[S, E]) {
//!   %0 = call %x {function = @loop.reduce} : f32[S]
//!   %1 = call %0 {function = @loop.div} : f32[S]
//!   %2 = call %x %1 {function = @loop.sub} : f32[S, E]
//!   return y = %2
//! }
//! ```

mod groups;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ir::{Function, Module, Name, Node, Op, Origin, Role, Stored, Value, ops::Call};

use crate::{
    Contract, Cx, Fault, Pass,
    rebuild::{Rebuild, define},
};

use groups::Groups;

/// See the module.
pub struct Loops {
    kept: Arc<Kept>,
}

type Kept = dyn Fn(&Function, &Node) -> bool + Send + Sync;

impl Loops {
    /// The pass that leaves the nodes for which `kept` is true, such as products that a kernel
    /// claims. Calls and scans are left in any case.
    pub fn except(kept: impl Fn(&Function, &Node) -> bool + Send + Sync + 'static) -> Loops {
        Loops { kept: Arc::new(kept) }
    }
}

impl Default for Loops {
    fn default() -> Loops {
        Loops::except(|_, _| false)
    }
}

impl Pass for Loops {
    fn name(&self) -> &'static str {
        "loops"
    }

    fn about(&self) -> &'static str {
        "groups what no kernel claims into functions that run as one nest of loops"
    }

    fn contract(&self) -> Contract {
        Contract::Exact
    }

    fn is_needed(&self) -> bool {
        true
    }

    fn run(&self, module: &Module, cx: &mut Cx) -> Result<Module, Fault> {
        let steps = run_directly(module);
        let stored = Stored::new(module);
        let mut result = Module { axes: module.axes.clone(), functions: Vec::new() };
        for function in &module.functions {
            let rebuilt = match steps.contains(&function.name) {
                true => {
                    let stored = stored.values(&function.name);
                    // What weights alone make is known when they are.
                    let of_weights = |it: &Node| it.results().all(|it| stored[it.index()]);
                    let kept = |f: &Function, it: &Node| (self.kept)(f, it) || of_weights(it);
                    outline(&mut result, module, function, &kept, cx)
                }
                false => function.clone(),
            };
            result.functions.push(rebuilt);
        }
        Ok(result)
    }
}

/// The entry and the bodies of loops that it runs: what a backend goes through node by node.
fn run_directly(module: &Module) -> BTreeSet<Name> {
    let mut names: BTreeSet<Name> =
        module.functions.last().map(|it| it.name.clone()).into_iter().collect();
    for function in module.functions.iter().rev() {
        if names.contains(&function.name) {
            let bodies = function.nodes().iter().filter_map(|it| match &it.op {
                Op::Scan(scan) => Some(scan.body.clone()),
                _ => None,
            });
            names.extend(bodies);
        }
    }
    names
}

/// `function` with its groups as calls; their functions are added to `result`.
fn outline(
    result: &mut Module,
    module: &Module,
    function: &Function,
    kept: &dyn Fn(&Function, &Node) -> bool,
    cx: &mut Cx,
) -> Function {
    let groups = Groups::new(module, function, kept);
    let mut new = Rebuild::new(function, &function.name);
    function.param_values().for_each(|it| new.param(it));
    for (i, node) in function.nodes().iter().enumerate() {
        if groups.stays(i) {
            new.copy(result.scope(), node);
        } else if groups.is_root(i) && !cx.allows(&function.name, node.op.rules().name()) {
            groups.members(i).into_iter().for_each(|it| new.copy(result.scope(), it));
        } else if groups.is_root(i) {
            let (group, arguments) = loop_function(module, function, &groups, i);
            let stem = format!("loop.{}", node.op.rules().name());
            let call = Call { function: define(result, module, group, &stem) };
            let arguments: Vec<Value> = arguments.into_iter().map(|it| new.get(it)).collect();
            let value = new.new.add(result.scope(), call, &arguments);
            new.set(node.result(), value);
        }
    }
    new.outputs();
    new.new
}

/// The function of the group of `root`, and what it takes.
fn loop_function(
    module: &Module,
    function: &Function,
    groups: &Groups<'_>,
    root: usize,
) -> (Function, Vec<Value>) {
    let members = groups.members(root);
    let made: BTreeSet<Value> = members.iter().flat_map(|it| it.results()).collect();
    let mut arguments: Vec<Value> = Vec::new();
    for &operand in members.iter().flat_map(|it| &it.operands) {
        if !made.contains(&operand) && !arguments.contains(&operand) {
            arguments.push(operand);
        }
    }
    let mut group = Function::new("loop");
    group.origin = Some(Origin { function: "loop".to_owned(), ..Origin::default() });
    let mut new = BTreeMap::new();
    for (i, &argument) in arguments.iter().enumerate() {
        let ty = function.ty(argument).clone();
        new.insert(argument, group.param(format!("x{i}"), Role::Value, ty));
    }
    for node in members {
        let operands: Vec<Value> = node.operands.iter().map(|it| new[it]).collect();
        let values = group.copy(module.scope(), function, node, &operands);
        new.extend(node.results().zip(values));
    }
    group.output("y", new[&function.nodes()[root].result()]);
    (group, arguments)
}
