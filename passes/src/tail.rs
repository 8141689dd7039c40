//! Gives the outputs at the last positions only: a model that is asked for the next token need not
//! compute logits for all the others.
//!
//! The cut moves towards the inputs through whatever treats each position alone, and through calls
//! of functions that do: these get a copy over fewer positions, of the same origin. It stops where
//! positions meet.
//!
//! ```ir
//! axis E = 4
//! axis S <= 8
//! axis V = 5
//!
//! fn @square (%x : f32[S, E]) {
//!   %0 = mul %x %x : f32[S, E]
//!   return y = %0
//! }
//!
//! fn @model (input %tokens : i32[S], weight %embed : f32[V, E], weight %head : f32[V, E]) {
//!   %0 = gather %embed %tokens {axis = V} : f32[S, E]
//!   %1 = call %0 {function = @square} : f32[S, E]
//!   %2 = contract %1 %head {over = [E]} : f32[S, V]
//!   return logits = %2
//! }
//! ```
//! becomes
//! ```ir
//! axis E = 4
//! axis O <= 8
//! axis S <= 8
//! axis V = 5
//!
//! fn @square.tail (%x : f32[O, E]) {
//!   %0 = mul %x %x : f32[O, E]
//!   return y = %0
//! }
//!
//! fn @model (input %tokens : i32[S], weight %embed : f32[V, E], weight %head : f32[V, E]) {
//!   %0 = slice %tokens {axis = S, after = [], last = true, into = O} : i32[O]
//!   %1 = gather %embed %0 {axis = V} : f32[O, E]
//!   %2 = call %1 {function = @square.tail} : f32[O, E]
//!   %3 = contract %2 %head {over = [E]} : f32[O, V]
//!   return logits = %3
//! }
//! ```

use std::collections::{BTreeMap, BTreeSet};

use ir::{
    Axes, Axis, Extent, Function, Module, Name, Node, Op, Role, Tensor, Type, Value, ops::Slice,
};

use crate::{
    Contract, Cx, Fault, Noise, Pass, PassOption,
    check::{run, same_numbers},
    rebuild::{Rebuild, live_nodes},
};

/// See the module.
pub struct Tail;

impl Pass for Tail {
    fn name(&self) -> &'static str {
        "tail"
    }

    fn about(&self) -> &'static str {
        "gives the outputs at the last positions only"
    }

    fn options(&self) -> &'static [PassOption] {
        &[
            PassOption { name: "axis", default: "S", doc: "the axis of positions" },
            PassOption { name: "rows", default: "O", doc: "the axis of the positions asked for" },
        ]
    }

    fn contract(&self) -> Contract {
        Contract::Lowers(gives_the_last_rows)
    }

    fn run(&self, module: &Module, cx: &mut Cx) -> Result<Module, Fault> {
        let (axis, rows) = (cx.option("axis"), cx.option("rows"));
        let decl = module.axes.get(axis);
        let Some(Extent::Runtime { max }) = decl.map(|it| &it.extent) else {
            return Err(Fault::new(format!("there is no run-time axis `{axis}`")));
        };
        if module.axes.get(rows).is_some() || !Name::is_valid(rows) {
            return Err(Fault::new(format!("`{rows}` is an axis already, or no name")));
        }
        let mut axes = module.axes.clone();
        axes.declare(rows, Extent::Runtime { max: *max });
        let mut cut = Cut {
            done: Module { axes, functions: Vec::new() },
            axis: Axis::atom(axis),
            rows: Axis::atom(rows),
            copies: BTreeMap::new(),
        };
        let (entry, called) =
            module.functions.split_last().ok_or_else(|| Fault::new("no entry"))?;
        called.iter().for_each(|it| cut.copy(module, it));
        let entry = cut.entry(entry);
        cut.done.functions.push(entry);
        cut.done.prune();
        Ok(cut.done)
    }
}

struct Cut {
    /// What is done so far.
    done: Module,
    axis: Axis,
    rows: Axis,
    /// The functions that treat each position alone, with their copies over fewer.
    copies: BTreeMap<Name, Name>,
}

impl Cut {
    /// Takes `function`, and makes a copy of it if it treats each position alone.
    fn copy(&mut self, module: &Module, function: &Function) {
        self.done.functions.push(function.clone());
        let alone = function.values().all(|it| self.has_whole(function.ty(it)))
            && live_nodes(function).all(|it| self.treats_alone(function, it));
        if !alone {
            return;
        }
        let stem = format!("{}.tail", function.name);
        let name =
            if module.function(&stem).is_some() { self.done.fresh(&stem) } else { stem.into() };
        let mut new = Rebuild::new(function, &name);
        for (value, param) in function.param_values().zip(&function.params) {
            let given = new.new.param(&param.name, param.role, self.shortened(&param.ty));
            new.set(value, given);
        }
        for node in live_nodes(function) {
            let op = self.shortened_op(&node.op);
            let values =
                new.new.add_all_at(function.line(node), self.done.scope(), op, &new.operands(node));
            new.set_results(node, &values);
        }
        new.outputs();
        self.done.functions.push(new.new);
        self.copies.insert(function.name.clone(), name);
    }

    /// The entry with its outputs cut; states stay whole.
    fn entry(&self, function: &Function) -> Function {
        let states = function.params.iter().filter(|it| it.role == Role::State);
        let states: BTreeSet<&Name> = states.map(|it| &it.name).collect();
        let is_cut = |it: &&ir::Output| {
            !states.contains(&it.name) && function.ty(it.value).position(&self.axis).is_some()
        };
        let outputs = function.outputs.iter().filter(is_cut).map(|it| it.value);
        let wanted = self.wanted(function, outputs.collect());
        let mut new = Rebuild::new(function, &function.name);
        function.param_values().for_each(|it| new.param(it));
        let mut short: BTreeMap<Value, Value> = BTreeMap::new();
        for value in function.param_values().filter(|it| wanted.contains(it)) {
            let cut = self.slice(&mut new.new, value);
            short.insert(value, cut);
        }
        for node in live_nodes(function) {
            new.copy(self.done.scope(), node);
            let results: Vec<Value> = node.results().collect();
            if !results.iter().any(|it| wanted.contains(it)) {
                continue;
            }
            let values = if self.passes(function, node) {
                let operands = node.operands.iter();
                let operands =
                    operands.map(|it| short.get(it).copied().unwrap_or_else(|| new.get(*it)));
                let operands: Vec<Value> = operands.collect();
                let (line, op) = (function.line(node), self.shortened_op(&node.op));
                new.new.add_all_at(line, self.done.scope(), op, &operands)
            } else {
                let whole: Vec<Value> = results.iter().map(|&it| new.get(it)).collect();
                whole.into_iter().map(|it| self.slice(&mut new.new, it)).collect()
            };
            short.extend(results.into_iter().zip(values));
        }
        for output in &function.outputs {
            let value = if is_cut(&output) { short[&output.value] } else { new.get(output.value) };
            new.new.output(&output.name, value);
        }
        new.new.rewrite(self.done.scope(), |_, _, _| None)
    }

    /// The values that are needed at the last positions for `outputs` to be.
    fn wanted(&self, function: &Function, outputs: Vec<Value>) -> BTreeSet<Value> {
        let mut wanted: BTreeSet<Value> = outputs.into_iter().collect();
        let has_axis = |it: &&Value| function.ty(**it).position(&self.axis).is_some();
        for node in function.nodes().iter().rev() {
            if node.results().any(|it| wanted.contains(&it)) && self.passes(function, node) {
                wanted.extend(node.operands.iter().filter(has_axis));
            }
        }
        wanted
    }

    /// Whether the cut goes through `node` of the entry.
    fn passes(&self, function: &Function, node: &Node) -> bool {
        let mut values = node.operands.iter().copied().chain(node.results());
        values.all(|it| self.has_whole(function.ty(it))) && self.treats_alone(function, node)
    }

    /// Whether the axis stands in no product or concatenation of `ty`.
    fn has_whole(&self, ty: &Type) -> bool {
        ty.axes.iter().all(|it| *it == self.axis || !self.is_in(it))
    }

    fn is_in(&self, axis: &Axis) -> bool {
        axis.atoms().any(|it| Axis::from(it) == self.axis)
    }

    /// Whether each position of the results comes from that position of the operands, in the same
    /// way wherever it is.
    fn treats_alone(&self, function: &Function, node: &Node) -> bool {
        let mut named = false;
        node.op.clone().visit_axes(&mut |it| named |= self.is_in(it));
        match &node.op {
            Op::Unary(_) | Op::Binary(_) | Op::Select(_) | Op::Cast(_) | Op::Transpose(_) => true,
            Op::Constant(it) => it.values.len() == 1,
            Op::Call(it) => self.copies.contains_key(&it.function),
            Op::Scan(it) => !named && self.copies.contains_key(&it.body),
            Op::ScatterAdd(_) => {
                !named
                    && node
                        .operands
                        .iter()
                        .all(|&it| function.ty(it).position(&self.axis).is_none())
            }
            _ => !named,
        }
    }

    fn slice(&self, f: &mut Function, value: Value) -> Value {
        if f.ty(value).position(&self.axis).is_none() {
            return value;
        }
        let (axis, into) = (self.axis.clone(), self.rows.clone());
        f.add(self.done.scope(), Slice { axis, after: Vec::new(), last: true, into }, &[value])
    }

    fn shortened(&self, ty: &Type) -> Type {
        let swap = |it: &Axis| if *it == self.axis { self.rows.clone() } else { it.clone() };
        Type::new(ty.dtype, ty.axes.iter().map(swap).collect::<Vec<_>>())
    }

    /// What treats each of the last positions as `op` treats each position.
    fn shortened_op(&self, op: &Op) -> Op {
        let mut op = op.clone();
        op.visit_axes(&mut |it| {
            if *it == self.axis {
                *it = self.rows.clone();
            }
        });
        match &mut op {
            Op::Call(it) => it.function = self.copies[&it.function].clone(),
            Op::Scan(it) => it.body = self.copies[&it.body].clone(),
            _ => {}
        }
        op
    }
}

/// The outputs are those of the whole model at the last positions.
fn gives_the_last_rows(
    before: &Module,
    after: &Module,
    cx: &Cx,
    noise: &mut Noise,
) -> Result<(), Fault> {
    let extents = noise.extents(after);
    let sizes = |axes: &Axes| axes.sizes(&extents).map_err(Fault::new);
    let (all, few) = (sizes(&before.axes)?, sizes(&after.axes)?);
    let arguments = noise.arguments(before, &all);
    let old = run(before, &arguments, &all, false)?;
    let new = run(after, &arguments, &few, false)?;
    let axis = Axis::atom(cx.option("axis"));
    let skipped = all.of(&axis) - few.of(&Axis::atom(cx.option("rows")));
    let outputs = after.entry().output_types();
    for (((output, ty), old), new) in after.entry().outputs.iter().zip(outputs).zip(old).zip(new) {
        let strides = old.strides();
        let cut = old.ty.position(&axis).filter(|_| ty.position(&axis).is_none());
        let start = cut.map_or(0, |at| skipped * strides[at]);
        let old = Tensor::from_fn(ty, &few, |index| {
            old.data
                [start + index.iter().zip(&strides).map(|(i, stride)| i * stride).sum::<usize>()]
        });
        same_numbers(output.name.as_str(), &old, &new, 1e-12)?;
    }
    Ok(())
}
