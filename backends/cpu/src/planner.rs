//! Makes the plan of a module whose functions hold only calls of kernels and loops, scans, views,
//! appends to states and tables of constants.

use std::collections::BTreeMap;

use ir::{Axis, DType, Extent, Function, Module, Name, Node, Op, Role, Type, Value, ops::Scan};
use kernels::Word as KernelWord;

use crate::{
    loops::LoopWord,
    plan::{
        Bank, Base, Buffer, CAPACITY, Callee, Counter, Launch, Place, Plan, State, Step, Stride,
        Word,
    },
};

/// Bytes of an element of an intermediate value.
const ELEMENT: u64 = 4;

/// Tells what the code of a loop function is called with.
type LoopWords<'a> = dyn FnMut(&Module, &Function) -> Result<Vec<LoopWord>, String> + 'a;

/// The plan of `module`. `loop_words` tells what the code of a loop function is called with.
///
/// # Errors
///
/// What this backend can not run, in a sentence.
pub(crate) fn plan<'a>(
    module: &'a Module,
    loop_words: &'a mut LoopWords<'a>,
) -> Result<Plan, String> {
    let runtime = module.axes.iter().filter(|(_, it)| matches!(it.extent, Extent::Runtime { .. }));
    let extents = runtime.map(|(name, _)| name.clone()).chain([CAPACITY.into()]).collect();
    let plan = Plan { extents, ..Plan::default() };
    let mut planner = Planner { module, plan, loop_words, n_loops: 0, steps: vec![Vec::new()] };
    planner.entry()?;
    let mut plan = planner.plan;
    plan.steps = planner.steps.pop().unwrap_or_default();
    crate::memory::assign(&mut plan);
    crate::barriers::insert(&mut plan, &module.axes);
    Ok(plan)
}

/// Where a value is.
#[derive(Clone, Debug)]
enum Located {
    /// In memory, densely.
    At(Place),
    /// A weight, whose form its user decides. `layer` is the loop that counts its layers.
    Weight { param: Name, layers: Option<Axis>, layer: Option<usize> },
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
                Role::Weight => {
                    Located::Weight { param: param.name.clone(), layers: None, layer: None }
                }
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

    /// Declares a state: banks of positions, if one axis is the run-time one that grows.
    fn state(&mut self, param: &ir::Param) -> Result<usize, String> {
        let axes = &self.module.axes;
        let grows = |it: &Axis| axes.fixed(it).is_none();
        let at = param.ty.axes.iter().position(grows);
        let size = |part: &[Axis]| -> Result<u64, String> {
            let mut sizes = part.iter().map(|it| axes.fixed(it).map(|it| it as u64));
            let product = sizes.try_fold(1u64, |product, it| product.checked_mul(it?));
            product
                .ok_or_else(|| format!("state {} grows along two axes: {}", param.name, param.ty))
        };
        let (banks, position_bytes, fixed_bytes) = match at {
            Some(at) => (size(&param.ty.axes[..at])?, ELEMENT * size(&param.ty.axes[at + 1..])?, 0),
            None => (1, 0, ELEMENT * size(&param.ty.axes)?),
        };
        let name = param.name.clone();
        self.plan.states.push(State { name, banks, position_bytes, fixed_bytes });
        Ok(self.plan.states.len() - 1)
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
        let mut body = Body::new(function, params, n_carries);
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
                self.copy(ty, std::mem::replace(from, buffer.clone()), buffer)?;
            }
        }
        copies.into_iter().try_for_each(|(ty, from, to)| self.copy(ty, from, to))
    }

    fn node(&mut self, body: &mut Body<'a>, at: usize, node: &'a Node) -> Result<(), String> {
        match &node.op {
            Op::Split(_) | Op::Merge(_) | Op::Rename(_) => {
                let located = body.located[&node.operands[0]].clone();
                body.located.insert(node.result(), located);
            }
            Op::Constant(constant) => {
                let ty = body.function.ty(node.result());
                let at = self.constant(ty, &constant.values)?;
                body.located.insert(node.result(), Located::At(Place::new(Base::Constant(at))));
            }
            Op::Concat(_) => self.append(body, node)?,
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
        let mut sizes = ty.axes.iter().map(|it| self.module.axes.fixed(it));
        let n = sizes.try_fold(1usize, |n, it| n.checked_mul(it?));
        let n = n.ok_or_else(|| format!("a constant {ty} of a run-time extent was left"))?;
        let padded = self.plan.constants.len().next_multiple_of(64);
        self.plan.constants.resize(padded, 0);
        for i in 0..n {
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

    /// New positions behind the old ones in a state: they are computed right there.
    fn append(&mut self, body: &mut Body<'a>, node: &Node) -> Result<(), String> {
        let [old, new] = node.operands[..] else {
            return Err("a concatenation was left outside any loop".into());
        };
        let state = body.place(old)?;
        let target = self.behind(body.function, &state, old)?;
        if body.place(new)? != target {
            let ty = body.function.ty(new);
            self.copy(ty, body.place(new)?, target)?;
        }
        body.located.insert(node.result(), Located::At(state));
        Ok(())
    }

    /// The place behind the old positions `old` of a state.
    fn behind(&self, function: &Function, state: &Place, old: Value) -> Result<Place, String> {
        let ty = function.ty(old);
        let (Base::State(_), Some(past)) = (&state.base, ty.axes.first()) else {
            return Err(format!(
                "{ty} is extended, but it is no state that begins with its positions"
            ));
        };
        let atom = past.as_atom().ok_or_else(|| format!("`{past}` counts no positions"))?;
        let stride = Stride::Elements(ELEMENT, ty.axes[1..].to_vec());
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
                let place = self.carry(body, at, operand, results[i])?;
                wanted.push(place.clone());
                Located::At(place)
            } else if i < scan.carries + scan.banked {
                self.bank_part(body.function.ty(operand), located, scan, id)?
            } else {
                located
            });
        }
        for &bank in &results[scan.carries..] {
            let ty = body.function.ty(bank);
            let target = body.wanted.get(&bank).filter(|it| body.only_banked(it, scan, at));
            let place = match target.cloned() {
                Some(place) => place,
                None => self.buffer(ty)?,
            };
            body.located.insert(bank, Located::At(place.clone()));
            wanted.push(self.part(ty, place, id));
        }
        self.steps.push(Vec::new());
        self.function(callee, params, scan.carries, &wanted)?;
        let steps = self.steps.pop().unwrap_or_default();
        self.push(Step::Loop { id, axis: scan.axis.clone(), reverse: scan.reverse, steps });
        Ok(())
    }

    /// The buffer that steps hand on: that of the operand, if nobody needs it afterwards.
    fn carry(
        &mut self,
        body: &mut Body<'a>,
        at: usize,
        operand: Value,
        result: Value,
    ) -> Result<Place, String> {
        let from = body.place(operand)?;
        let place = if body.may_reuse(operand, &from, at) {
            from
        } else {
            let ty = body.function.ty(result);
            let place = self.buffer(ty)?;
            self.copy(ty, from, place.clone())?;
            place
        };
        body.located.insert(result, Located::At(place.clone()));
        Ok(place)
    }

    fn bank_part(
        &self,
        ty: &Type,
        located: Located,
        scan: &Scan,
        id: usize,
    ) -> Result<Located, String> {
        match located {
            Located::At(place) => Ok(Located::At(self.part(ty, place, id))),
            Located::Weight { param, layer: Some(_), .. } => {
                Err(format!("weight {param} is a bank of banks; give each its own axis of layers"))
            }
            Located::Weight { param, .. } => {
                Ok(Located::Weight { param, layers: Some(scan.axis.clone()), layer: Some(id) })
            }
        }
    }

    /// The part of a bank for one step of loop `id`.
    fn part(&self, bank: &Type, place: Place, id: usize) -> Place {
        let stride = match place.base {
            Base::State(state) => Stride::Bank(state),
            _ => Stride::Elements(ELEMENT, bank.axes[1..].to_vec()),
        };
        place.ahead(Counter::Loop(id), stride)
    }

    fn call(
        &mut self,
        body: &mut Body<'a>,
        at: usize,
        node: &Node,
        callee: &'a Function,
    ) -> Result<(), String> {
        let kernel = kernels::of_function(callee);
        let result = node.result();
        let ty = body.function.ty(result);
        let in_place = kernel.and_then(|it| it.in_place(callee)).map(|it| node.operands[it]);
        let mut output = body.wanted.get(&result).filter(|it| !body.holds(it, at)).cloned();
        if let Some(operand) = in_place {
            let place = body.place(operand)?;
            let free = body.may_reuse(operand, &place, at);
            output = Some(match output {
                _ if free => place,
                other => {
                    let target = match other {
                        Some(it) => it,
                        None => self.buffer(ty)?,
                    };
                    self.copy(ty, place, target.clone())?;
                    target
                }
            });
        }
        let output = match output {
            Some(it) => it,
            None => match self.append_target(body, result)? {
                Some(it) => it,
                None => self.buffer(ty)?,
            },
        };
        let launch = match kernel {
            Some(kernel) => self.kernel_launch(body, node, callee, kernel, output.clone())?,
            None => self.loop_launch(body, node, callee, output.clone())?,
        };
        self.push(Step::Launch(launch));
        body.located.insert(result, Located::At(output));
        Ok(())
    }

    /// Where `value` goes when it, or a view of it, is appended to a state.
    fn append_target(&self, body: &Body<'a>, value: Value) -> Result<Option<Place>, String> {
        let same = |it: &Value| body.root[it.index()] == body.root[value.index()];
        let append = body.function.nodes().iter().find(|node| {
            matches!(node.op, Op::Concat(_)) && node.operands.get(1).is_some_and(same)
        });
        let Some(node) = append else { return Ok(None) };
        let old = node.operands[0];
        match body.located.get(&old) {
            Some(Located::At(state)) => Ok(Some(self.behind(body.function, state, old)?)),
            _ => Ok(None),
        }
    }

    fn kernel_launch(
        &mut self,
        body: &Body<'a>,
        node: &Node,
        callee: &Function,
        kernel: &dyn kernels::Kernel,
        output: Place,
    ) -> Result<Launch, String> {
        let words = kernel.words(self.module.scope(), callee);
        let packed = |i: usize| {
            words.iter().find_map(|it| match it {
                KernelWord::Format { operand, rows, columns } if *operand == i => {
                    Some([rows.clone(), columns.clone()])
                }
                _ => None,
            })
        };
        let mut places = Vec::new();
        for (i, &operand) in node.operands.iter().enumerate() {
            places.push(self.operand(body, operand, packed(i))?);
        }
        let word = |it: &KernelWord| match it {
            KernelWord::Output => Word::Address(output.clone()),
            KernelWord::Operand(i) => Word::Address(places[*i].clone()),
            KernelWord::Format { operand, .. } => Word::Format(places[*operand].clone()),
            KernelWord::Size(axes) => Word::Size(axes.clone()),
            KernelWord::Bits(bits) => Word::Bits(*bits),
            KernelWord::Scratch => Word::Scratch,
        };
        let words = words.iter().map(word).collect();
        let callee = Callee::Kernel(self.kernel(kernel.name()));
        Ok(Launch { callee, words, reads: places, writes: output })
    }

    fn loop_launch(
        &mut self,
        body: &Body<'a>,
        node: &Node,
        callee: &Function,
        output: Place,
    ) -> Result<Launch, String> {
        let mut places = Vec::new();
        for &operand in &node.operands {
            places.push(self.operand(body, operand, None)?);
        }
        let loop_words = (self.loop_words)(self.module, callee)?;
        let word = |it: LoopWord| match it {
            LoopWord::Output => Word::Address(output.clone()),
            LoopWord::Operand(i) => Word::Address(places[i].clone()),
            LoopWord::Extent(name) => Word::Size(vec![Axis::atom(name)]),
            LoopWord::Helper(name) => Word::Helper(self.kernel(name)),
        };
        let words = loop_words.into_iter().map(word).collect();
        let at = self.plan.loops.iter().position(|it| *it == callee.name);
        let at = at.unwrap_or_else(|| {
            self.plan.loops.push(callee.name.clone());
            self.plan.loops.len() - 1
        });
        Ok(Launch { callee: Callee::Loop(at), words, reads: places, writes: output })
    }

    /// Where an operand is; a weight with a `shape` is wanted packed, one without as plain numbers.
    fn operand(
        &mut self,
        body: &Body<'a>,
        operand: Value,
        shape: Option<[Vec<Axis>; 2]>,
    ) -> Result<Place, String> {
        match &body.located[&operand] {
            Located::At(place) => Ok(place.clone()),
            Located::Weight { param, layers, layer } => {
                let ty = body.function.ty(operand);
                let packed = shape.is_some();
                let shape = shape.unwrap_or([Vec::new(), ty.axes.clone()]);
                let bank = self.bank(param, layers.as_ref(), shape, packed)?;
                Ok(Place::new(Base::Weight(bank, *layer)))
            }
        }
    }

    fn bank(
        &mut self,
        param: &Name,
        layers: Option<&Axis>,
        shape: [Vec<Axis>; 2],
        packed: bool,
    ) -> Result<usize, String> {
        let size = |axes: &[Axis]| -> Result<u64, String> {
            let mut sizes = axes.iter().map(|it| self.module.axes.fixed(it).map(|it| it as u64));
            sizes
                .try_fold(1u64, |product, it| product.checked_mul(it?))
                .ok_or_else(|| format!("weight {param} has an axis without a fixed extent"))
        };
        let layers = layers.map_or(Ok(1), |it| size(std::slice::from_ref(it)))?;
        let shape = [size(&shape[0])?, size(&shape[1])?];
        let first = self.plan.banks.iter().map(|it| it.layers).sum();
        let bank = Bank { param: param.clone(), layers, shape, packed, first };
        let same = |it: &Bank| Bank { first, ..it.clone() } == bank;
        Ok(self.plan.banks.iter().position(same).unwrap_or_else(|| {
            self.plan.banks.push(bank);
            self.plan.banks.len() - 1
        }))
    }

    fn kernel(&mut self, name: &str) -> usize {
        let at = self.plan.kernels.iter().position(|it| it == name);
        at.unwrap_or_else(|| {
            self.plan.kernels.push(name.to_owned());
            self.plan.kernels.len() - 1
        })
    }

    fn buffer(&mut self, ty: &Type) -> Result<Place, String> {
        let mut sizes = ty.axes.iter().map(|it| self.module.axes.bound(it));
        let elements = sizes.try_fold(1u64, |n, it| n.checked_mul(it? as u64));
        let bytes = elements.and_then(|it| it.checked_mul(ELEMENT));
        let bytes = bytes.ok_or_else(|| format!("{ty} is larger than any memory"))?;
        self.plan.buffers.push(Buffer { ty: ty.clone(), bytes, offset: 0 });
        Ok(Place::new(Base::Arena(self.plan.buffers.len() - 1)))
    }

    fn copy(&mut self, ty: &Type, from: Place, to: Place) -> Result<(), String> {
        let words = vec![
            Word::Address(to.clone()),
            Word::Address(from.clone()),
            Word::Size(ty.axes.clone()),
        ];
        let callee = Callee::Kernel(self.kernel("copy"));
        self.push(Step::Launch(Launch { callee, words, reads: vec![from], writes: to }));
        Ok(())
    }

    fn push(&mut self, step: Step) {
        self.steps.last_mut().expect("the outermost steps stay open").push(step);
    }
}

/// A function being planned.
struct Body<'a> {
    function: &'a Function,
    located: BTreeMap<Value, Located>,
    /// The value that each value is a view of.
    root: Vec<Value>,
    /// For each root, the last node that uses it; outputs are used after all nodes.
    last_use: Vec<usize>,
    wanted: BTreeMap<Value, Place>,
    n_carries: usize,
}

impl<'a> Body<'a> {
    fn new(function: &'a Function, params: Vec<Located>, n_carries: usize) -> Body<'a> {
        let mut root: Vec<Value> = function.values().collect();
        let mut last_use = vec![0; root.len()];
        let live = function.live();
        for (i, node) in function.nodes().iter().enumerate().filter(|(i, _)| live[*i]) {
            if matches!(node.op, Op::Split(_) | Op::Merge(_) | Op::Rename(_)) {
                root[node.result().index()] = root[node.operands[0].index()];
            } else {
                node.operands.iter().for_each(|it| last_use[root[it.index()].index()] = i);
            }
        }
        for output in &function.outputs {
            last_use[root[output.value.index()].index()] = usize::MAX;
        }
        let located = function.param_values().zip(params).collect();
        Body { function, located, root, last_use, wanted: BTreeMap::new(), n_carries }
    }

    fn last_use(&self, value: Value) -> usize {
        self.last_use[self.root[value.index()].index()]
    }

    /// Whether a value that is still needed at node `at` lies at `place`.
    fn holds(&self, place: &Place, at: usize) -> bool {
        self.located.iter().any(|(&value, located)| {
            at <= self.last_use(value) && matches!(located, Located::At(it) if it == place)
        })
    }

    /// Whether the memory of `value` belongs to this function. What callers share does not.
    fn may_overwrite(&self, value: Value, place: &Place) -> bool {
        let root = self.root[value.index()].index();
        let own = root < self.n_carries || self.function.params.len() <= root;
        own && matches!(place.base, Base::Arena(_))
    }

    /// Whether no value at `place` is needed at or after the loop `at`, but for what the loop
    /// itself takes part by part: an old state that the new one replaces.
    fn only_banked(&self, place: &Place, scan: &Scan, at: usize) -> bool {
        let operands = &self.function.nodes()[at].operands;
        let banked = &operands[scan.carries..scan.carries + scan.banked];
        self.located.iter().all(|(value, located)| {
            let here = matches!(located, Located::At(it) if it == place);
            let last = self.last_use(*value);
            let as_bank = banked.contains(value)
                && last == at
                && operands.iter().filter(|it| *it == value).count() == 1;
            !here || last < at || as_bank
        })
    }

    /// Whether node `at` may leave a result where its operand `value` is: nobody needs that
    /// afterwards, and the node itself takes it just once.
    fn may_reuse(&self, value: Value, place: &Place, at: usize) -> bool {
        let same = |it: &&Value| self.root[it.index()] == self.root[value.index()];
        let once = self.function.nodes()[at].operands.iter().filter(same).count() == 1;
        once && self.may_overwrite(value, place) && self.last_use(value) == at
    }

    /// `value` is to be at `place`, and so is what it is a view of.
    fn want(&mut self, value: Value, place: Place) {
        self.wanted.insert(self.root[value.index()], place);
    }

    fn place(&self, value: Value) -> Result<Place, String> {
        match &self.located[&value] {
            Located::At(place) => Ok(place.clone()),
            Located::Weight { param, .. } => {
                Err(format!("weight {param} is used as a value; add it to something"))
            }
        }
    }
}
