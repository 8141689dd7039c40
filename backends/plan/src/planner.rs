//! Makes the plan of a module whose functions hold only calls of kernels and loops, scans, views,
//! appends to states and tables of constants.

mod body;
mod launch;

use std::collections::BTreeMap;

use ir::{
    Axis, DType, Extent, Function, Module, Name, Node, Op, Role, Type, Value,
    ops::{Concat, Gather, Scan},
};
use kernels::Update;

use crate::plan::{Base, Buffer, CAPACITY, Counter, Place, Plan, State, Step, Stride};
use body::{Body, Located, is_renaming};

/// Bytes of an element of a value.
fn element(ty: &Type) -> u64 {
    if matches!(ty.dtype, DType::F16 | DType::BF16) { 2 } else { 4 }
}

/// No buffer and no state is larger than the memory that a processor can address, so that sums of
/// them do not overflow.
const LARGEST: u64 = 1 << 47;

/// The most elements of a table of constants.
const LARGEST_CONSTANT: u64 = 1 << 24;

/// Tells what the code of a loop function is called with, whose first parameters are so many
/// products of a kernel.
type LoopWords<'a> = dyn FnMut(&Module, &Function, usize) -> Result<Vec<LoopWord>, String> + 'a;

/// One argument word of a loop.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LoopWord {
    /// Where the output goes.
    Output,
    /// Where operand `i` lies.
    Operand(usize),
    /// The extent of a run-time atom.
    Extent(Name),
    /// A function of the runtime.
    Helper(&'static str),
}

/// The run-time extents that the code of `function` has to be told.
pub fn loop_extents(module: &Module, function: &Function) -> Vec<LoopWord> {
    let mut atoms: Vec<Name> = Vec::new();
    let mut name_atoms = |axis: &Axis| {
        for atom in module.axes.resolve(axis).atoms() {
            let decl = module.axes.get(atom.as_str());
            atoms.extend(decl.and_then(|it| it.origin.clone()));
            if decl.is_some_and(|it| matches!(it.extent, Extent::Runtime { .. })) {
                atoms.push(atom.clone());
            }
        }
    };
    for value in function.values() {
        function.ty(value).axes.iter().for_each(&mut name_atoms);
    }
    for node in function.nodes() {
        node.op.clone().visit_axes(&mut |it| name_atoms(it));
    }
    atoms.sort();
    atoms.dedup();
    atoms.into_iter().map(LoopWord::Extent).collect()
}

/// The plan of `module`. `loop_words` tells what the code of a loop function is called with.
///
/// # Errors
///
/// What this backend can not run, in a sentence.
pub fn plan<'a>(module: &'a Module, loop_words: &'a mut LoopWords<'a>) -> Result<Plan, String> {
    let runtime = module.axes.iter().filter(|(_, it)| matches!(it.extent, Extent::Runtime { .. }));
    let extents = runtime.map(|(name, _)| name.clone()).chain([CAPACITY.into()]).collect();
    let plan = Plan { extents, ..Plan::default() };
    let mut planner = Planner { module, plan, loop_words, n_loops: 0, steps: vec![Vec::new()] };
    planner.entry()?;
    let mut plan = planner.plan;
    plan.steps = planner.steps.pop().unwrap_or_default();
    crate::memory::assign(&mut plan);
    Ok(plan)
}

struct Planner<'a> {
    module: &'a Module,
    plan: Plan,
    loop_words: &'a mut LoopWords<'a>,
    n_loops: usize,
    /// The steps of each loop that is open.
    steps: Vec<Vec<Step>>,
}

impl<'a> Planner<'a> {
    fn entry(&mut self) -> Result<(), String> {
        let entry = self.module.entry();
        let mut inputs = 0;
        let mut located = Vec::new();
        for param in &entry.params {
            located.push(match param.role {
                Role::Weight => Located::Weight { param: param.name.clone(), layer: None },
                Role::State => Located::At(Place::new(Base::State(self.state(param)?))),
                Role::Input | Role::Value => {
                    inputs += 1;
                    Located::At(Place::new(Base::Input(inputs - 1)))
                }
            });
        }
        let is_state =
            |name: &Name| entry.params.iter().any(|it| it.role == Role::State && it.name == *name);
        let mut wanted = Vec::new();
        let mut outputs = 0;
        for output in &entry.outputs {
            wanted.push(if is_state(&output.name) {
                let at = self.plan.states.iter().position(|it| it.name == output.name);
                Place::new(Base::State(at.expect("a declared state")))
            } else {
                outputs += 1;
                Place::new(Base::Output(outputs - 1))
            });
        }
        self.function(entry, located, 0, &wanted)
    }

    /// Declares a state: banks of positions, if one axis is that of the positions so far.
    fn state(&mut self, param: &ir::Param) -> Result<usize, String> {
        let (axes, element) = (&param.ty.axes, element(&param.ty));
        let at = axes.iter().position(|it| self.is_past(it));
        let size = |part: &[Axis]| {
            let size = self.largest_size(part).filter(|it| *it <= LARGEST / element);
            size.ok_or_else(|| {
                format!("state {} grows along two axes, or is too large: {}", param.name, param.ty)
            })
        };
        let (banks, position_bytes, fixed_bytes) = match at {
            Some(at @ 0..=1) => (size(&axes[..at])?, element * size(&axes[at + 1..])?, 0),
            Some(_) => {
                return Err(format!("state {} is a bank of banks: {}", param.name, param.ty));
            }
            None => (1, 0, element * size(axes)?),
        };
        let name = param.name.clone();
        let once = at.is_none() && axes.iter().any(|it| self.grows(it));
        self.plan.states.push(State { name, banks, position_bytes, fixed_bytes, once });
        Ok(self.plan.states.len() - 1)
    }

    /// Whether `axis` counts the positions of earlier steps.
    fn is_past(&self, axis: &Axis) -> bool {
        let mut origins = self.module.axes.iter().filter_map(|(_, decl)| decl.origin.as_ref());
        origins.any(|it| axis.as_atom() == Some(it))
    }

    /// How many elements there are along `axes` at their bounds, if that can be counted.
    fn largest_size(&self, axes: &[Axis]) -> Option<u64> {
        let mut sizes = axes.iter().map(|it| self.module.axes.bound(it));
        sizes.try_fold(1u64, |product, it| product.checked_mul(it? as u64))
    }

    fn grows(&self, axis: &Axis) -> bool {
        self.module.axes.fixed(axis).is_none()
    }

    /// How many elements there are along `axes`, if that is known and can be counted.
    fn fixed_size(&self, axes: &[Axis]) -> Option<u64> {
        let mut sizes = axes.iter().map(|it| self.module.axes.fixed(it));
        sizes.try_fold(1u64, |product, it| product.checked_mul(it? as u64))
    }

    /// Plans the nodes of `function`, the first `n_carries` of whose parameters it may overwrite;
    /// its outputs end up at `wanted`.
    fn function(
        &mut self,
        function: &'a Function,
        params: Vec<Located>,
        n_carries: usize,
        wanted: &[Place],
    ) -> Result<(), String> {
        let mut body = Body::new(&self.module.axes, function, params, n_carries);
        for (output, place) in function.outputs.iter().zip(wanted) {
            body.want(output.value, place.clone());
        }
        let live = function.live();
        for (i, node) in function.nodes().iter().enumerate().filter(|(i, _)| live[*i]) {
            self.node(&mut body, i, node)?;
        }
        self.deliver(&body, wanted)
    }

    /// Copies outputs that are not where they are wanted. Where one copy would overwrite what
    /// another reads, all go through buffers of their own.
    fn deliver(&mut self, body: &Body<'a>, wanted: &[Place]) -> Result<(), String> {
        let mut copies = Vec::new();
        for (output, to) in body.function.outputs.iter().zip(wanted) {
            let from = body.place(output.value)?;
            if from != *to {
                copies.push((body.function.ty(output.value), from, to.clone()));
            }
        }
        let clash = copies.iter().any(|(_, _, to)| copies.iter().any(|(_, from, _)| from == to));
        if clash {
            for (ty, from, _) in &mut copies {
                let buffer = self.buffer(ty)?;
                self.copy(ty, std::mem::replace(from, buffer.clone()), buffer);
            }
        }
        copies.into_iter().for_each(|(ty, from, to)| self.copy(ty, from, to));
        Ok(())
    }

    fn node(&mut self, body: &mut Body<'a>, at: usize, node: &'a Node) -> Result<(), String> {
        match &node.op {
            op if is_renaming(op) => {
                let located = body.located[&node.operands[0]].clone();
                body.located.insert(node.result(), located);
            }
            Op::Gather(_) => self.known_part(body, node)?,
            // The number of a layer is read while compiling.
            Op::Constant(_) if !body.is_used(node.result()) => {}
            Op::Constant(constant) => {
                let ty = body.function.ty(node.result());
                let at = self.constant(ty, &constant.values)?;
                body.located.insert(node.result(), Located::At(Place::new(Base::Constant(at))));
            }
            Op::Concat(concat) => self.append(body, node, concat)?,
            Op::Binary(_) => scale(body, node)?,
            Op::Scan(scan) => self.scan(body, at, node, scan)?,
            Op::Call(call) => {
                let callee = self.module.function(call.function.as_str()).expect("a verified call");
                self.call(body, at, node, callee)?;
            }
            op => return Err(format!("`{}` was left outside any loop", op.rules().name())),
        }
        Ok(())
    }

    /// Numbers as bytes among the constants; where they begin.
    fn constant(&mut self, ty: &Type, values: &[ir::Real]) -> Result<u64, String> {
        let n = self.fixed_size(&ty.axes).filter(|it| *it <= LARGEST_CONSTANT);
        let n = n.ok_or_else(|| format!("{ty} is no table of constants"))?;
        let padded = self.plan.constants.len().next_multiple_of(64);
        self.plan.constants.resize(padded, 0);
        for i in 0..n as usize {
            let value = values.get(i).or(values.first()).map_or(0.0, |it| it.0);
            let bytes = match ty.dtype {
                DType::F32 => (value as f32).to_le_bytes(),
                DType::Bool => (-i32::from(value != 0.0)).to_le_bytes(),
                _ => (value as i32).to_le_bytes(),
            };
            self.plan.constants.extend(bytes);
        }
        Ok(padded as u64)
    }

    /// The part of a table at a known place.
    fn known_part(&mut self, body: &mut Body<'a>, node: &Node) -> Result<(), String> {
        let place = Gather::known_place(&self.module.axes, body.function, node)
            .ok_or("a look-up was left outside any loop")?;
        let table = node.operands[0];
        let (ty, located) = (body.function.ty(table), body.located[&table].clone());
        let located = self.part(ty, located, Counter::Fixed(place))?;
        body.located.insert(node.result(), located);
        Ok(())
    }

    /// New positions behind the old ones in a state: they are computed right there.
    fn append(&mut self, body: &mut Body<'a>, node: &Node, concat: &Concat) -> Result<(), String> {
        let ([old, new], [past, _]) = (&node.operands[..], &concat.parts[..]) else {
            return Err("a concatenation was left outside any loop".into());
        };
        let state = body.place(*old)?;
        let target = self.behind(body.function.ty(*old), &state, past)?;
        let from = body.place(*new)?;
        if from != target {
            self.copy(body.function.ty(*new), from, target);
        }
        body.located.insert(node.result(), Located::At(state));
        Ok(())
    }

    /// The place behind the positions `past` of an old state of type `ty`.
    fn behind(&self, ty: &Type, state: &Place, past: &Axis) -> Result<Place, String> {
        let Base::State(at) = state.base else {
            return Err(format!("{ty} is extended, but it is no state"));
        };
        let row = ty.axes.get(1..).and_then(|it| self.fixed_size(it)?.checked_mul(element(ty)));
        let begins =
            ty.axes.first() == Some(past) && row == Some(self.plan.states[at].position_bytes);
        let atom = past.as_atom().filter(|it| begins && self.plan.extents.contains(it));
        let atom =
            atom.ok_or_else(|| format!("{ty} does not begin with the positions that grow"))?;
        let stride = Stride::Elements(element(ty), ty.axes[1..].to_vec());
        Ok(state.ahead(Counter::Extent(atom.clone()), stride))
    }

    fn scan(
        &mut self,
        body: &mut Body<'a>,
        at: usize,
        node: &'a Node,
        scan: &'a Scan,
    ) -> Result<(), String> {
        let id = self.n_loops;
        self.n_loops += 1;
        let callee = self.module.function(scan.body.as_str()).expect("a verified body");
        let mut params = Vec::new();
        let mut wanted = Vec::new();
        let results: Vec<Value> = node.results().collect();
        for (i, &operand) in node.operands.iter().enumerate() {
            let located = body.located[&operand].clone();
            params.push(if i < scan.carries {
                let place = self.update(body, at, operand, results[i])?;
                wanted.push(place.clone());
                Located::At(place)
            } else if i < scan.carries + scan.banked {
                self.part(body.function.ty(operand), located, Counter::Loop(id))?
            } else {
                located
            });
        }
        let banked = &node.operands[scan.carries..][..scan.banked];
        for &bank in &results[scan.carries..] {
            let ty = body.function.ty(bank);
            let target = body.wanted(bank).filter(|it| body.only_takes(it, at, banked));
            let place = match target.cloned() {
                Some(place) => place,
                None => self.buffer(ty)?,
            };
            body.located.insert(bank, Located::At(place.clone()));
            wanted.push(self.part_at(ty, &place, Counter::Loop(id)));
        }
        self.steps.push(Vec::new());
        self.function(callee, params, scan.carries, &wanted)?;
        let steps = self.steps.pop().unwrap_or_default();
        self.push(Step::Loop { id, axis: scan.axis.clone(), reverse: scan.reverse, steps });
        Ok(())
    }

    /// Where node `at` finds `operand` and leaves `result` instead: where the operand is, if nobody
    /// needs it afterwards, or else in a copy.
    fn update(
        &mut self,
        body: &mut Body<'a>,
        at: usize,
        operand: Value,
        result: Value,
    ) -> Result<Place, String> {
        let from = body.place(operand)?;
        let wanted = body.wanted(result);
        let is_replaced = wanted == Some(&from) && body.only_takes(&from, at, &[operand]);
        let place = if is_replaced || body.may_reuse(operand, &from, at) {
            from
        } else {
            let ty = body.function.ty(result);
            let place = match wanted.filter(|it| !body.holds(it, at)).cloned() {
                Some(place) => place,
                None => self.buffer(ty)?,
            };
            self.copy(ty, from, place.clone());
            place
        };
        body.located.insert(result, Located::At(place.clone()));
        Ok(place)
    }

    /// What lies at `index` along the first axis of a value of type `ty`.
    fn part(&mut self, ty: &Type, whole: Located, index: Counter) -> Result<Located, String> {
        let axis = ty.axes.first().ok_or_else(|| format!("{ty} has no parts"))?;
        Ok(match whole {
            Located::At(place) => Located::At(self.part_at(ty, &place, index)),
            Located::Weight { param, layer: None } => {
                Located::Weight { param, layer: Some((axis.clone(), index)) }
            }
            // Only whole layers of a weight are packed.
            Located::Weight { .. } | Located::Scaled { .. } => {
                let place = self.plain(ty, &whole)?;
                Located::At(self.part_at(ty, &place, index))
            }
        })
    }

    /// The place of the part `index` of a value of type `ty` at `whole`.
    fn part_at(&self, ty: &Type, whole: &Place, index: Counter) -> Place {
        let part = &ty.axes[1..];
        let stride = match whole.base {
            // Its banks have room for more positions than there are.
            Base::State(state)
                if 0 < self.plan.states[state].position_bytes
                    && part.iter().any(|it| self.grows(it)) =>
            {
                Stride::Bank(state)
            }
            _ => Stride::Elements(element(ty), part.to_vec()),
        };
        whole.ahead(index, stride)
    }

    fn call(
        &mut self,
        body: &mut Body<'a>,
        at: usize,
        node: &Node,
        callee: &'a Function,
    ) -> Result<(), String> {
        let kernel = kernels::of_function(callee);
        let updates = kernel.map_or_else(Vec::new, |it| it.updates(callee));
        let mut operands = BTreeMap::new();
        let mut results = Vec::new();
        for (i, result) in node.results().enumerate() {
            let update = updates.iter().find(|it| it.result == i);
            results.push(match update {
                Some(&Update { operand, .. }) => {
                    let place = self.update(body, at, node.operands[operand], result)?;
                    operands.insert(operand, place.clone());
                    place
                }
                None => self.output(body, at, node, callee, i)?,
            });
        }
        let launch = match kernel {
            Some(kernel) => self.kernel_launch(body, node, callee, kernel, &operands, &results)?,
            None => self.loop_launch(body, node, callee, &results)?,
        };
        self.push(Step::Launch(launch));
        let located = results.into_iter().map(Located::At);
        body.located.extend(node.results().zip(located));
        Ok(())
    }

    /// Where result `i` of `node` goes: where it is wanted, if that is free, over an operand that
    /// nobody needs any more, or to a buffer.
    fn output(
        &mut self,
        body: &Body<'a>,
        at: usize,
        node: &Node,
        callee: &Function,
        i: usize,
    ) -> Result<Place, String> {
        let value = node.results().nth(i).expect("a result");
        if let Some(place) = body.wanted(value).filter(|it| !body.holds(it, at)) {
            return Ok(place.clone());
        }
        if let Some(place) = self.append_target(body, value)? {
            return Ok(place);
        }
        let operands = self.overwritable(callee, i);
        let places = operands.iter().filter_map(|&it| {
            let operand = node.operands[it];
            body.place(operand).ok().filter(|it| body.may_reuse(operand, it, at))
        });
        // That which is wanted needs no copy.
        match places.max_by_key(|it| body.wanted(value) == Some(it)) {
            Some(place) => Ok(place),
            None => self.buffer(body.function.ty(value)),
        }
    }

    /// The operands of `callee` that it may overwrite with result `i`.
    fn overwritable(&self, callee: &Function, i: usize) -> Vec<usize> {
        let Some(kernel) = kernels::of_function(callee) else { return overwritable(callee) };
        let tail =
            kernel.tail(self.module.scope(), callee, 0).filter(|_| callee.outputs.len() == 1);
        let Some(tail) = tail else {
            let reuses = kernel.reuses(callee).into_iter().filter(|it| it.result == i);
            return reuses.map(|it| it.operand).collect();
        };
        let of_tail = overwritable(&tail.function).into_iter();
        let further = of_tail.filter_map(|it| it.checked_sub(tail.products));
        let words = kernel.words(self.module.scope(), callee);
        let is_free = |it: &usize| !words.contains(&kernels::Word::Operand(*it));
        further.map(|it| tail.operands[it]).filter(is_free).collect()
    }

    /// Where `value` goes when it, or a view of it, is appended to a state.
    fn append_target(&self, body: &Body<'a>, value: Value) -> Result<Option<Place>, String> {
        let appended =
            body.function.nodes().iter().find_map(|node| match (&node.op, &node.operands[..]) {
                (Op::Concat(it), [old, new]) if body.is_same(*new, value) => Some((it, *old)),
                _ => None,
            });
        let Some((concat, old)) = appended else { return Ok(None) };
        match body.located.get(&old) {
            Some(Located::At(state)) => {
                Ok(Some(self.behind(body.function.ty(old), state, &concat.parts[0])?))
            }
            _ => Ok(None),
        }
    }

    fn buffer(&mut self, ty: &Type) -> Result<Place, String> {
        let mut sizes = ty.axes.iter().map(|it| self.module.axes.bound(it));
        let elements = sizes.try_fold(1u64, |n, it| n.checked_mul(it? as u64));
        let bytes = elements.and_then(|it| it.checked_mul(element(ty))).filter(|it| *it <= LARGEST);
        let bytes = bytes.ok_or_else(|| format!("{ty} is larger than any memory"))?;
        self.plan.buffers.push(Buffer { ty: ty.clone(), bytes, offset: 0 });
        Ok(Place::new(Base::Arena(self.plan.buffers.len() - 1)))
    }

    fn push(&mut self, step: Step) {
        self.steps.last_mut().expect("the outermost steps stay open").push(step);
    }
}

/// A layer of a weight times one of another, which is computed when weights are bound.
fn scale(body: &mut Body<'_>, node: &Node) -> Result<(), String> {
    let located = ir::scaled(body.function, node).map(|it| it.map(|it| &body.located[&it]));
    let Some(
        [
            Located::Weight { param, layer: Some(layer) },
            Located::Weight { param: by, layer: Some((_, by_layer)) },
        ],
    ) = located
    else {
        return Err(format!("`{}` was left outside any loop", node.op.rules().name()));
    };
    let (param, layer) = (param.clone(), layer.clone());
    let scaled = Located::Scaled { param, layer, by: by.clone(), by_layer: by_layer.clone() };
    body.located.insert(node.result(), scaled);
    Ok(())
}

/// The operands that the code of `function` may overwrite with its output: it reads each element of
/// them for the same element of the output alone.
fn overwritable(function: &Function) -> Vec<usize> {
    let by_element = |op: &Op| {
        matches!(
            op,
            Op::Unary(_)
                | Op::Binary(_)
                | Op::Select(_)
                | Op::Cast(_)
                | Op::Constant(_)
                | Op::ExtentOf(_)
                | Op::Iota(_)
        )
    };
    if !function.nodes().iter().all(|it| by_element(&it.op)) {
        return Vec::new();
    }
    let output = function.ty(function.outputs[0].value);
    let same = |i: &usize| function.params[*i].ty == *output;
    (0..function.params.len()).filter(same).collect()
}
