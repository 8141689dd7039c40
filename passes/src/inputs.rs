//! Adds outputs that give what weights are multiplied with: what calibrated rounding goes by.
//!
//! An output is called `inputs.PLACE.N'PARAM'PARAM..`: the parameters that one value is multiplied
//! with, the layer that they are of, or `all` where the layers are one loop, and a number. It holds
//! the value at every position of a step, laid out along the layers first where they are a loop.
//! Weights count that reach their product as they are, or with rows and axes arranged otherwise.
//!
//! ```ir
//! axis E = 4
//! axis F = 8
//! axis S <= 8
//!
//! fn @mlp (%x : f32[S, E], %up : f32[F, E], %down : f32[E, F]) {
//!   %0 = contract %x %up {over = [E]} : f32[S, F]
//!   %1 = contract %0 %down {over = [F]} : f32[S, E]
//!   return y = %1
//! }
//!
//! fn @model (input %x : f32[S, E], weight %up : f32[F, E], weight %down : f32[E, F]) {
//!   %0 = call %x %up %down {function = @mlp} : f32[S, E]
//!   return y = %0
//! }
//! ```
//! becomes
//! ```ir
//! axis E = 4
//! axis F = 8
//! axis S <= 8
//!
//! fn @mlp (%x : f32[S, E], %up : f32[F, E], %down : f32[E, F]) {
//!   %0 = contract %x %up {over = [E]} : f32[S, F]
//!   %1 = contract %0 %down {over = [F]} : f32[S, E]
//!   return y = %1, inputs.0 = %x, inputs.1 = %0
//! }
//!
//! fn @model (input %x : f32[S, E], weight %up : f32[F, E], weight %down : f32[E, F]) {
//!   %0 %1 %2 = call %x %up %down {function = @mlp} : f32[S, E], f32[S, E], f32[S, F]
//!   return y = %0, inputs.all.0'up = %1, inputs.all.1'down = %2
//! }
//! ```

use std::collections::{BTreeMap, BTreeSet};

use ir::{Axis, Function, Module, Name, Node, Op, Value, ops::Gather};

use crate::{
    Contract, Cx, Fault, Noise, Pass, PassOption,
    check::outputs_stay,
    rebuild::{Rebuild, live_nodes},
};

/// How the names of the added outputs begin.
pub const INPUTS: &str = "inputs.";

/// See the module.
pub struct Inputs;

impl Pass for Inputs {
    fn name(&self) -> &'static str {
        "inputs"
    }

    fn about(&self) -> &'static str {
        "adds outputs that give what weights are multiplied with"
    }

    fn options(&self) -> &'static [PassOption] {
        &[
            PassOption {
                name: "of",
                default: "",
                doc: "of these parameters alone, such as `a.b c`",
            },
            PassOption { name: "axis", default: "S", doc: "the axis of positions" },
        ]
    }

    fn contract(&self) -> Contract {
        Contract::Lowers(leaves_all_else)
    }

    fn run(&self, module: &Module, cx: &mut Cx) -> Result<Module, Fault> {
        let wanted = parameters(module, cx.option("of"))?;
        let positions = Axis::atom(cx.option("axis"));
        let mut search = Search { module, positions, wanted, added: BTreeMap::new() };
        let mut done = Module { axes: module.axes.clone(), functions: Vec::new() };
        for function in &module.functions[..module.functions.len() - 1] {
            let new = search.function(&done, function);
            done.functions.push(new);
        }
        let entry = search.entry(&done, module.entry());
        done.functions.push(entry);
        Ok(done)
    }
}

fn leaves_all_else(
    before: &Module,
    after: &Module,
    _: &Cx,
    noise: &mut Noise,
) -> Result<(), Fault> {
    outputs_stay(before, after, noise).map(|_| ())
}

/// The parameters of those names.
fn parameters(module: &Module, names: &str) -> Result<BTreeSet<Name>, Fault> {
    let params = &module.entry().params;
    let find = |name: &str| {
        let param = params.iter().find(|it| it.name == *name);
        param.map(|it| it.name.clone())
    };
    let known = |name| find(name).ok_or_else(|| Fault::new(format!("there is no `{name}`")));
    names.split_whitespace().map(known).collect()
}

/// A value and the weights that it is multiplied with.
struct Product<W> {
    weights: Vec<W>,
    value: Value,
}

struct Search<'a> {
    module: &'a Module,
    positions: Axis,
    /// The parameters that are asked for; none for all.
    wanted: BTreeSet<Name>,
    /// For each output that was added to a function, which of its parameters are multiplied with
    /// it.
    added: BTreeMap<Name, Vec<Vec<usize>>>,
}

impl Search<'_> {
    /// A function with what its parameters are multiplied with as outputs.
    fn function(&mut self, done: &Module, function: &Function) -> Function {
        let mut new = Rebuild::new(function, &function.name);
        function.param_values().for_each(|it| new.param(it));
        let found = self
            .products(done, &mut new, &|it| function.param_values().position(|param| param == it));
        new.outputs();
        for (i, it) in found.iter().enumerate() {
            new.new.output(format!("{INPUTS}{i}"), it.value);
        }
        let weights = found.into_iter().map(|it| it.weights).collect();
        self.added.insert(function.name.clone(), weights);
        new.new
    }

    /// The entry, with names for what was found.
    fn entry(&self, done: &Module, function: &Function) -> Function {
        let mut new = Rebuild::new(function, &function.name);
        function.param_values().for_each(|it| new.param(it));
        let found = self.products(done, &mut new, &|it| self.weight(function, it));
        new.outputs();
        for (i, Product { weights, value }) in found.iter().enumerate() {
            let place = weights[0].1.map_or("all".to_owned(), |it| it.to_string());
            let names: Vec<&str> = weights.iter().map(|it| it.0.as_str()).collect();
            new.new.output(format!("{INPUTS}{place}.{i}'{}", names.join("'")), *value);
        }
        new.new
    }

    /// Takes over all nodes; the products of what `known` knows among the values of the function.
    fn products<W: PartialEq>(
        &self,
        done: &Module,
        new: &mut Rebuild<'_>,
        known: &dyn Fn(Value) -> Option<W>,
    ) -> Vec<Product<W>> {
        let mut found: Vec<Product<W>> = Vec::new();
        for node in live_nodes(new.old) {
            let results = new.new.copy(done.scope(), new.old, node, &new.operands(node));
            new.set_results(node, &results);
            for (weights, value) in self.of_node(new, node, &results) {
                let weights: Vec<W> = weights.into_iter().filter_map(known).collect();
                match found.iter_mut().find(|it| it.value == value) {
                    Some(it) => it.weights.extend(weights),
                    None if weights.is_empty() => {}
                    None => found.push(Product { weights, value }),
                }
            }
        }
        found
    }

    /// The weights that a node multiplies, with what they are multiplied with in the new function.
    fn of_node(
        &self,
        new: &Rebuild<'_>,
        node: &Node,
        results: &[Value],
    ) -> Vec<(Vec<Value>, Value)> {
        if let Some(added) = node.op.callee().and_then(|it| self.added.get(it)) {
            let more = results.iter().skip(node.results().len());
            let operands = |it: &Vec<usize>| it.iter().map(|i| node.operands[*i]).collect();
            return added.iter().map(operands).zip(more.copied()).collect();
        }
        let (Op::Contract(product), &[x, y]) = (&node.op, &node.operands[..]) else {
            return Vec::new();
        };
        let [over] = &product.over[..] else { return Vec::new() };
        let has_positions = |it: Value| new.old.ty(it).position(&self.positions).is_some();
        let (value, weight) = if has_positions(x) { (x, y) } else { (y, x) };
        let is_last = new.old.ty(value).axes.last() == Some(over);
        if !has_positions(value) || has_positions(weight) || !is_last {
            return Vec::new();
        }
        vec![(vec![arranged(new.old, weight, over)], new.get(value))]
    }

    /// The parameter of the entry that a value is, if it is asked for, and the layer of it.
    fn weight(&self, function: &Function, value: Value) -> Option<(Name, Option<u64>)> {
        let maker = function.maker(value);
        let place = maker.and_then(|it| Gather::known_place(&self.module.axes, function, it));
        let bank = maker.filter(|_| place.is_some()).map_or(value, |it| it.operands[0]);
        let at = function.param_values().position(|it| it == bank)?;
        let name = &function.params[at].name;
        let is_wanted = self.wanted.is_empty() || self.wanted.contains(name);
        is_wanted.then(|| (name.clone(), place))
    }
}

/// What `weight` was before its rows and axes were arranged otherwise, the last one spared.
fn arranged(function: &Function, weight: Value, last: &Axis) -> Value {
    let mut weight = weight;
    while let Some(node) = function.maker(weight) {
        let arranges = matches!(
            node.op,
            Op::Rename(_) | Op::Split(_) | Op::Merge(_) | Op::Slice(_) | Op::Transpose(_)
        );
        let &[before] = &node.operands[..] else { break };
        if !arranges || function.ty(before).axes.last() != Some(last) {
            break;
        }
        weight = before;
    }
    weight
}
