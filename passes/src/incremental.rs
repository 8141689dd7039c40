//! Turns a model over a whole sequence into a step that takes the next positions and what earlier
//! steps left.
//!
//! Where positions get an index of their own to be looked back at (a `rename` of `S` to an axis
//! that is as long), the earlier ones come from a state, and a recurrence along `S` begins with
//! what the last step carried. States go through calls and loops to the entry. The axis `Past`
//! counts the positions before the first of `S`, so that `iota` tells true positions.
//!
//! ```ir
//! axis E = 4
//! axis S <= 8
//! axis T = S
//!
//! fn @model (input %x : f32[S, E]) {
//!   %0 = rename %x {axis = S, into = T} : f32[T, E]
//!   %1 = contract %x %0 {over = [E]} : f32[S, T]
//!   %2 = iota {axis = S} : i32[S]
//!   %3 = iota {axis = T} : i32[T]
//!   %4 = less %2 %3 : bool[S, T]
//!   %5 = constant {dtype = f32, axes = [], values = [0.0]} : f32[]
//!   %6 = select %4 %5 %1 : f32[S, T]
//!   %7 = contract %6 %0 {over = [T]} : f32[S, E]
//!   return y = %7
//! }
//! ```
//! becomes
//! ```ir
//! axis E = 4
//! axis Past <= 8
//! axis S <= 8 from Past
//! axis T = Past | S
//!
//! fn @model (input %x : f32[S, E], state %model.0 : f32[Past, E]) {
//!   %0 = concat %model.0 %x {parts = [Past, S]} : f32[Past | S, E]
//!   %1 = rename %0 {axis = Past | S, into = T} : f32[T, E]
//!   %2 = contract %x %1 {over = [E]} : f32[S, T]
//!   %3 = iota {axis = S} : i32[S]
//!   %4 = iota {axis = T} : i32[T]
//!   %5 = less %3 %4 : bool[S, T]
//!   %6 = constant {dtype = f32, axes = [], values = [0.0]} : f32[]
//!   %7 = select %5 %6 %2 : f32[S, T]
//!   %8 = contract %7 %1 {over = [T]} : f32[S, E]
//!   return y = %8, model.0 = %0
//! }
//! ```

mod steps;

use std::collections::{BTreeMap, BTreeSet};

use ir::{
    Axis, DType, Extent, Function, Module, Name, Node, Op, Role, Type, Value,
    ops::{BinaryFn, Concat, Constant, ExtentOf, Rename, Scan, Select, Transpose},
};

use crate::{
    Contract, Cx, Fault, Pass, PassOption,
    rebuild::{Rebuild, live_nodes},
};

/// See the module.
pub struct Incremental;

impl Pass for Incremental {
    fn name(&self) -> &'static str {
        "incremental"
    }

    fn about(&self) -> &'static str {
        "turns a model over a sequence into a step with state"
    }

    fn options(&self) -> &'static [PassOption] {
        &[
            PassOption { name: "axis", default: "S", doc: "the axis of positions" },
            PassOption { name: "past", default: "Past", doc: "the axis of earlier positions" },
        ]
    }

    fn contract(&self) -> Contract {
        Contract::Lowers(steps::make_the_whole)
    }

    fn run(&self, module: &Module, cx: &mut Cx) -> Result<Module, Fault> {
        let mut stepping = Stepping::new(module, cx)?;
        for (i, function) in module.functions.iter().enumerate() {
            let is_entry = i + 1 == module.functions.len();
            let role = if is_entry { Role::State } else { Role::Value };
            let stepped = stepping.step(function, role)?;
            stepping.module.functions.push(stepped);
        }
        Ok(stepping.module)
    }
}

/// What a function takes from the step before and gives to the next.
#[derive(Clone)]
struct State {
    name: Name,
    ty: Type,
}

impl State {
    /// A state named after `function`.
    fn first(function: &Name, ty: Type) -> State {
        State { name: format!("{function}.0").into(), ty }
    }

    /// The same for all turns of a loop along `axis`.
    fn banked(&self, axis: &Axis) -> State {
        let axes = [std::slice::from_ref(axis), &self.ty.axes].concat();
        State { name: self.name.clone(), ty: Type::new(self.ty.dtype, axes) }
    }
}

struct Stepping {
    /// What is done so far.
    module: Module,
    axis: Axis,
    past: Axis,
    /// The axes that are as long as all positions.
    lookback: BTreeSet<Axis>,
    /// The states of each function done.
    states: BTreeMap<Name, Vec<State>>,
    /// Where the states stand among the parameters of a function that is the body of a loop.
    place: BTreeMap<Name, usize>,
}

impl Stepping {
    fn new(module: &Module, cx: &Cx) -> Result<Stepping, Fault> {
        let (name, past) = (Name::from(cx.option("axis")), Name::from(cx.option("past")));
        let decl = module.axes.get(name.as_str());
        let Some(Extent::Runtime { max }) = decl.map(|it| &it.extent) else {
            return Err(Fault::new(format!("there is no run-time axis `{name}`")));
        };
        if decl.is_some_and(|it| it.origin.is_some()) || !Name::is_valid(past.as_str()) {
            return Err(Fault::new(format!("`{name}` has a past already, or `{past}` is no name")));
        }
        if module.axes.get(past.as_str()).is_some() {
            return Err(Fault::new(format!("there is an axis `{past}` already")));
        }
        let mut axes = module.axes.clone();
        axes.declare(&past, Extent::Runtime { max: *max });
        axes.set_origin(&name, past.clone());
        let (axis, past) = (Axis::atom(&name), Axis::atom(&past));
        let lookback = followers(module, &axis);
        for atom in lookback.iter().filter_map(Axis::as_atom) {
            axes.declare(atom, Extent::Like(Axis::concat([&past, &axis])));
        }
        Ok(Stepping {
            module: Module { axes, functions: Vec::new() },
            axis,
            past,
            lookback,
            states: BTreeMap::new(),
            place: places(module)?,
        })
    }

    /// The step form of `function`, whose callees are done, with states of the given role.
    fn step(&mut self, function: &Function, role: Role) -> Result<Function, Fault> {
        let mut needs = Vec::new();
        for node in live_nodes(function) {
            needs.push(self.needs(function, node)?);
        }
        let mut own = Vec::new();
        for state in needs.iter().flatten() {
            let name = fresh(function, &own, &state.name);
            own.push(State { name, ty: state.ty.clone() });
        }
        let mut new = Rebuild::new(function, &function.name);
        let place = self.place.get(&function.name).copied().unwrap_or(function.params.len());
        let params: Vec<Value> = function.param_values().collect();
        params[..place].iter().for_each(|&it| new.param(it));
        let given: Vec<Value> =
            own.iter().map(|it| new.new.param(&it.name, role, it.ty.clone())).collect();
        params[place..].iter().for_each(|&it| new.param(it));
        let (mut given, mut left) = (given.as_slice(), Vec::new());
        for (node, needs) in live_nodes(function).zip(&needs) {
            let (mine, rest) = given.split_at(needs.len());
            left.extend(self.rebuild(&mut new, node, mine)?);
            given = rest;
        }
        new.outputs();
        own.iter().zip(left).for_each(|(state, value)| new.new.output(&state.name, value));
        self.states.insert(function.name.clone(), own);
        Ok(new.new)
    }

    /// The states that a node takes.
    fn needs(&self, function: &Function, node: &Node) -> Result<Vec<State>, Fault> {
        let inner = node.op.callee().and_then(|it| self.states.get(it)).into_iter().flatten();
        Ok(match &node.op {
            Op::Rename(it) if self.looks_back(it) => {
                vec![State::first(&function.name, self.past_of(function.ty(node.operands[0])))]
            }
            Op::Scan(scan) if scan.axis == self.axis => {
                if inner.count() != 0 || (scan.reverse && scan.carries != 0) {
                    let why = format!("@{} can not run step by step along it", scan.body);
                    return Err(self.not_causal(&why));
                }
                let carry = |it: Value| State::first(&scan.body, function.ty(it).clone());
                node.results().take(scan.carries).map(carry).collect()
            }
            Op::Scan(scan) => inner.map(|it| it.banked(&scan.axis)).collect(),
            _ => inner.cloned().collect(),
        })
    }

    /// Rebuilds `node`, which takes the states `given`; what it leaves in their place.
    fn rebuild(
        &self,
        new: &mut Rebuild<'_>,
        node: &Node,
        given: &[Value],
    ) -> Result<Vec<Value>, Fault> {
        let operands = new.operands(node);
        Ok(match &node.op {
            Op::Rename(it) if self.looks_back(it) => {
                let (whole, all) = self.append(&mut new.new, given[0], operands[0], &it.into);
                new.set_results(node, &[all]);
                vec![whole]
            }
            Op::Scan(scan) if scan.axis == self.axis && !given.is_empty() => {
                let first = operands.iter().zip(given);
                let first = first.map(|(&init, &it)| self.begin(&mut new.new, init, it)).collect();
                let operands = [first, operands[scan.carries..].to_vec()].concat();
                let results = new.new.copy(self.module.scope(), new.old, node, &operands);
                new.set_results(node, &results);
                results[..scan.carries].to_vec()
            }
            Op::Scan(scan) => {
                let at = scan.carries + scan.banked;
                let operands = [&operands[..at], given, &operands[at..]].concat();
                let scan = Scan { banked: scan.banked + given.len(), ..scan.clone() };
                self.add_with_states(new, node, scan.into(), &operands)
            }
            Op::Call(call) => {
                let at = self.place.get(&call.function).copied().unwrap_or(operands.len());
                let operands = [&operands[..at], given, &operands[at..]].concat();
                self.add_with_states(new, node, node.op.clone(), &operands)
            }
            op => {
                // An axis that is as long as all positions may not be as long as the new ones.
                let (line, scope) = (new.old.line(node), self.module.scope());
                let values = new.new.try_add_at(line, scope, op.clone(), &operands);
                new.set_results(node, &values.map_err(|why| self.not_causal(&why))?);
                Vec::new()
            }
        })
    }

    /// Adds what `node` has become; its results beyond those of `node` are what states become.
    fn add_with_states(
        &self,
        new: &mut Rebuild<'_>,
        node: &Node,
        op: Op,
        operands: &[Value],
    ) -> Vec<Value> {
        let (line, scope) = (new.old.line(node), self.module.scope());
        let mut results = new.new.add_all_at(line, scope, op, operands);
        let left = results.split_off(node.results().len());
        new.set_results(node, &results);
        left
    }

    /// Lays `x` behind `state`: the whole as the next step takes it, and by the name `into` with
    /// its axes in the order of `x`.
    fn append(&self, f: &mut Function, state: Value, x: Value, into: &Axis) -> (Value, Value) {
        let scope = self.module.scope();
        let order = f.ty(x).axes.clone();
        let first = position_first(&order, &self.axis);
        let renamed = |axes: &[Axis], to: &Axis| -> Vec<Axis> {
            let swap = |it: &Axis| if *it == self.axis { to.clone() } else { it.clone() };
            axes.iter().map(swap).collect()
        };
        let new =
            if first == order { x } else { f.add(scope, Transpose { to: first.clone() }, &[x]) };
        let concat = Concat { parts: vec![self.past.clone(), self.axis.clone()] };
        let axis = concat.whole();
        let whole = f.add(scope, concat, &[state, new]);
        let all = f.add(scope, Rename { axis, into: into.clone() }, &[whole]);
        let back = Transpose { to: renamed(&order, into) };
        (whole, if first == order { all } else { f.add(scope, back, &[all]) })
    }

    /// What a recurrence begins with: `init` at the first position of all, else the state.
    fn begin(&self, f: &mut Function, init: Value, state: Value) -> Value {
        let scope = self.module.scope();
        let past = f.add(scope, ExtentOf { axis: self.past.clone() }, &[]);
        let zero = f.add(scope, Constant::scalar(DType::F32, 0.0), &[]);
        let is_first = f.add(scope, Op::binary(BinaryFn::Equal), &[past, zero]);
        f.add(scope, Select, &[is_first, init, state])
    }

    fn looks_back(&self, rename: &Rename) -> bool {
        rename.axis == self.axis && self.lookback.contains(&rename.into)
    }

    /// The type of the earlier part of `ty`: those positions first.
    fn past_of(&self, ty: &Type) -> Type {
        let mut axes = position_first(&ty.axes, &self.axis);
        axes[0] = self.past.clone();
        Type::new(ty.dtype.value_type(), axes)
    }

    fn not_causal(&self, why: &str) -> Fault {
        Fault::new(format!("the model is not causal in `{}`: {why}", self.axis))
    }
}

/// The axes that are as long as `axis` by declaration.
fn followers(module: &Module, axis: &Axis) -> BTreeSet<Axis> {
    let atoms = module.axes.iter().map(|(name, _)| Axis::atom(name));
    atoms.filter(|it| it != axis && module.axes.resolve(it) == *axis).collect()
}

/// Behind how many parameters the body of each loop takes more banks.
fn places(module: &Module) -> Result<BTreeMap<Name, usize>, Fault> {
    let mut places = BTreeMap::new();
    let nodes = module.functions.iter().flat_map(live_nodes);
    for scan in nodes.filter_map(|it| if let Op::Scan(scan) = &it.op { Some(scan) } else { None }) {
        let place = scan.carries + scan.banked;
        if places.insert(scan.body.clone(), place).is_some_and(|it| it != place) {
            let why = format!("loops over @{} disagree about what is banked", scan.body);
            return Err(Fault::new(why));
        }
    }
    Ok(places)
}

/// `axes` with `axis` moved to the front.
fn position_first(axes: &[Axis], axis: &Axis) -> Vec<Axis> {
    let rest = axes.iter().filter(|it| *it != axis).cloned();
    std::iter::once(axis.clone()).chain(rest).collect()
}

/// A name for a state that neither `function` nor its other states have: `stem`, with its last
/// number counted up.
fn fresh(function: &Function, states: &[State], stem: &Name) -> Name {
    let params = function.params.iter().map(|it| &it.name);
    let outputs = function.outputs.iter().map(|it| &it.name);
    let states = states.iter().map(|it| &it.name);
    let taken: BTreeSet<&Name> = params.chain(outputs).chain(states).collect();
    let stem = stem.as_str();
    let stem =
        stem.rsplit_once('.').filter(|it| it.1.parse::<u32>().is_ok()).map_or(stem, |it| it.0);
    let mut numbered = (0..).map(|i| Name::from(format!("{stem}.{i}")));
    numbered.find(|it| !taken.contains(it)).unwrap_or_default()
}
