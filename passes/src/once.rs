//! Computes what depends on what an encoder reads, and on nothing that changes from step to step,
//! in the first step alone, and keeps it for the others.
//!
//! Inputs along the positions of a step are new each time; other inputs are read once. What is made
//! of those becomes states, written by a loop along `First`, which is 1 in the first step and 0 in
//! all others. A loop over layers that needs only some of them at each step is split in two before.
//!
//! ```ir
//! axis L = 2
//! axis Past <= 8
//! axis R <= 8
//! axis S <= 8 from Past
//!
//! fn @layer (%x : f32[S], %w : f32[], %memory : f32[R]) {
//!   %0 = mul %memory %w : f32[R]
//!   %1 = mul %x %0 : f32[S, R]
//!   %2 = reduce %1 {over = [R], kind = sum} : f32[S]
//!   return x = %2
//! }
//!
//! fn @m (input %r : f32[R], input %x : f32[S], weight %w : f32[L]) {
//!   %0 = scan %x %w %r {body = @layer, axis = L, carries = 1, banked = 1, reverse = false} : f32[S]
//!   return y = %0
//! }
//! ```
//! becomes
//! ```ir
//! axis First <= 1
//! axis L = 2
//! axis Past <= 8
//! axis R <= 8
//! axis S <= 8 from Past
//!
//! fn @layer.once (%w : f32[], %memory : f32[R]) {
//!   %0 = mul %memory %w : f32[R]
//!   return kept.0 = %0
//! }
//!
//! fn @layer.step (%x : f32[S], %kept.0 : f32[R]) {
//!   %0 = mul %x %kept.0 : f32[S, R]
//!   %1 = reduce %0 {over = [R], kind = sum} : f32[S]
//!   return x = %1
//! }
//!
//! fn @m.once (%kept.0 : f32[L, R], %r : f32[R], %w : f32[L]) {
//!   %0 = scan %w %r {body = @layer.once, axis = L, carries = 0, banked = 1, reverse = false} : f32[L, R]
//!   return kept.0 = %0
//! }
//!
//! fn @m (input %r : f32[R], input %x : f32[S], weight %w : f32[L], state %kept.0 : f32[L, R]) {
//!   %0 = scan %kept.0 %r %w {body = @m.once, axis = First, carries = 1, banked = 0, reverse = false} : f32[L, R]
//!   %1 = scan %x %0 {body = @layer.step, axis = L, carries = 1, banked = 1, reverse = false} : f32[S]
//!   return y = %1, kept.0 = %0
//! }
//! ```

mod keeps;

use std::collections::BTreeSet;

use ir::{
    Axis, Extent, Function, Module, Name, Node, Op, Param, Role, Scope, Type, Value, ops::Scan,
};

use crate::{
    Contract, Cx, Fault, Pass, PassOption,
    canonicalise::unused::without_unused_parameters,
    rebuild::{Rebuild, define, live_nodes},
};

/// See the module.
pub struct Once;

impl Pass for Once {
    fn name(&self) -> &'static str {
        "once"
    }

    fn about(&self) -> &'static str {
        "computes what depends on an encoder's input in the first step alone"
    }

    fn options(&self) -> &'static [PassOption] {
        &[PassOption {
            name: "axis",
            default: "First",
            doc: "the axis that is 1 in the first step",
        }]
    }

    fn contract(&self) -> Contract {
        Contract::Lowers(keeps::what_the_first_step_made)
    }

    fn run(&self, module: &Module, cx: &mut Cx) -> Result<Module, Fault> {
        let axis = Name::from(cx.option("axis"));
        if module.axes.get(axis.as_str()).is_some() || !Name::is_valid(axis.as_str()) {
            return Err(Fault::new(format!("`{axis}` is an axis already, or no name")));
        }
        let split = Clock::new(module).map(|it| it.split_loops(module));
        let split = split.map(|it| without_unused_parameters(&it, cx));
        // Parts of loops are functions of their own by now.
        let kept = split.and_then(|it| Clock::new(&it)?.keep(&it, &axis));
        Ok(kept.unwrap_or_else(|| module.clone()))
    }
}

/// What changes from step to step.
struct Clock {
    /// The atoms that may have another extent, or count from elsewhere, at each step.
    moving: BTreeSet<Name>,
    /// The functions that name no such atom.
    still: BTreeSet<Name>,
}

impl Clock {
    /// `None` for a module that is not in step form, or that reads nothing just once.
    fn new(module: &Module) -> Option<Clock> {
        let axes = &module.axes;
        let (new, _) = axes.iter().find(|(_, decl)| decl.origin.is_some())?;
        let mentions =
            |ty: &Type| ty.axes.iter().any(|it| axes.resolve(it).atoms().any(|atom| atom == new));
        let inputs = module.entry().params.iter().filter(|it| it.role == Role::Input);
        let read: Vec<&Type> = inputs.map(|it| &it.ty).filter(|it| !mentions(it)).collect();
        let known: BTreeSet<&Name> =
            read.iter().flat_map(|it| &it.axes).flat_map(Axis::atoms).collect();
        let is_still = |atom: &Name| known.contains(atom) || axes.fixed(&atom.into()).is_some();
        let moves = |atom: &&Name| !axes.resolve(&Axis::from(*atom)).atoms().all(is_still);
        let moving = axes.iter().map(|it| it.0).filter(moves).cloned().collect();
        let mut clock = Clock { moving, still: BTreeSet::new() };
        for function in &module.functions {
            let types = function.values().all(|it| clock.is_still(function.ty(it)));
            if types && function.nodes().iter().all(|it| clock.does_the_same(function, it)) {
                clock.still.insert(function.name.clone());
            }
        }
        (!read.is_empty()).then_some(clock)
    }

    fn is_still(&self, ty: &Type) -> bool {
        ty.axes.iter().flat_map(Axis::atoms).all(|it| !self.moving.contains(it))
    }

    /// Whether `node` gives the same at every step for the same operands.
    fn does_the_same(&self, function: &Function, node: &Node) -> bool {
        node.op.named_axes().iter().all(|it| !self.moving.contains(it))
            && node.results().all(|it| self.is_still(function.ty(it)))
            && node.op.callee().is_none_or(|it| self.still.contains(it))
    }

    /// What each parameter of the entry is.
    fn sort(&self, params: &[Param]) -> Vec<Kind> {
        let kind = |it: &Param| match it.role {
            Role::Weight => Kind::Still,
            Role::Input if self.is_still(&it.ty) => Kind::Read,
            Role::Input | Role::State | Role::Value => Kind::Moving,
        };
        params.iter().map(kind).collect()
    }

    /// What each value of `function` is, whose parameters are `params`.
    fn kinds(&self, function: &Function, params: &[Kind]) -> Vec<Kind> {
        let mut kinds = params.to_vec();
        kinds.resize(function.n_values(), Kind::Moving);
        for node in function.nodes() {
            let operands = node.operands.iter().map(|it| kinds[it.index()]);
            let kind = operands.max().unwrap_or(Kind::Still);
            let same = self.does_the_same(function, node);
            node.results().for_each(|it| {
                kinds[it.index()] = if same { kind } else { Kind::Moving };
            });
        }
        kinds
    }

    /// `module` with the loops of its entry split of which a part would do the same at every step.
    fn split_loops(&self, module: &Module) -> Module {
        let (entry, mut done) = (module.entry(), module.clone());
        done.functions.pop();
        let kinds = self.kinds(entry, &self.sort(&entry.params));
        let mut new = Rebuild::new(entry, &entry.name);
        entry.param_values().for_each(|it| new.param(it));
        for node in live_nodes(entry) {
            let values = match &node.op {
                Op::Scan(scan) => self.split_loop(module, &mut done, &mut new, node, scan, &kinds),
                _ => None,
            };
            match values {
                Some(values) => new.set_results(node, &values),
                None => new.copy(done.scope(), node),
            }
        }
        new.outputs();
        done.functions.push(new.new);
        done.prune();
        done
    }

    /// The results of `node`, which runs `scan`, from two loops; `None` when one has to do it all.
    fn split_loop(
        &self,
        module: &Module,
        done: &mut Module,
        new: &mut Rebuild<'_>,
        node: &Node,
        scan: &Scan,
        kinds: &[Kind],
    ) -> Option<Vec<Value>> {
        let body = module.function(scan.body.as_str())?;
        let mut given: Vec<Kind> = node.operands.iter().map(|it| kinds[it.index()]).collect();
        given[..scan.carries].fill(Kind::Moving);
        let kept = frontier(body, &self.kinds(body, &given));
        if kept.is_empty() {
            return None;
        }
        let operands = new.operands(node);
        let (part, used) = outline(done.scope(), body, &kept, &[]);
        let part = define(done, module, part, &format!("{}.once", body.name));
        let banked = used.iter().filter(|it| it.index() < scan.carries + scan.banked).count();
        let made = Scan { body: part, carries: 0, banked, ..scan.clone() };
        let arguments: Vec<Value> = used.iter().map(|it| operands[it.index()]).collect();
        let banks = new.new.add_all(done.scope(), made, &arguments);
        let at = scan.carries + scan.banked;
        let rest = without(done.scope(), body, &kept, at);
        let rest = define(done, module, rest, &format!("{}.step", body.name));
        let rest = Scan { body: rest, banked: scan.banked + kept.len(), ..scan.clone() };
        let (before, after) = operands.split_at(at);
        Some(new.new.add_all(done.scope(), rest, &[before, &banks, after].concat()))
    }

    /// `module` with states for what is to be computed once, in a loop along the new axis `first`;
    /// `None` when there is no such thing.
    fn keep(&self, module: &Module, first: &Name) -> Option<Module> {
        let (entry, mut done) = (module.entry(), module.clone());
        done.functions.pop();
        done.axes.declare(first, Extent::Runtime { max: 1 });
        let kept = frontier(entry, &self.kinds(entry, &self.sort(&entry.params)));
        let names = fresh(entry, kept.len());
        let (body, used) = outline(done.scope(), entry, &kept, &names);
        let body = define(&mut done, module, body, &format!("{}.once", entry.name));
        let mut new = Rebuild::new(entry, &entry.name);
        entry.param_values().for_each(|it| new.param(it));
        let given = add_params(&mut new.new, &names, Role::State, entry, &kept);
        let arguments = given.iter().copied().chain(used.iter().map(|it| new.get(*it)));
        let arguments: Vec<Value> = arguments.collect();
        let axis = Axis::from(first);
        let once = Scan { body, axis, carries: kept.len(), banked: 0, reverse: false };
        let made = new.new.add_all(done.scope(), once, &arguments);
        for node in live_nodes(entry) {
            new.copy(done.scope(), node);
            replace(&mut new, node, &kept, &made);
        }
        new.outputs();
        names.iter().zip(&made).for_each(|(name, it)| new.new.output(name, *it));
        done.functions.push(new.new.rewrite(done.scope(), |_, _, _| None));
        done.prune();
        (!kept.is_empty()).then_some(done)
    }
}

/// What a value is from step to step. What is made of several kinds is of the greatest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// The same for every text.
    Still,
    /// Made of what is read once.
    Read,
    /// New at every step.
    Moving,
}

/// The values made of what is read once that are needed at every step. Views of parameters cost
/// nothing to have again.
fn frontier(function: &Function, kinds: &[Kind]) -> Vec<Value> {
    let moving = live_nodes(function)
        .filter(|it| it.results().any(|result| kinds[result.index()] == Kind::Moving));
    let outputs = function.outputs.iter().map(|it| it.value);
    let used = moving.flat_map(|it| it.operands.iter().copied()).chain(outputs);
    let is_kept = |it: &Value| {
        kinds[it.index()] == Kind::Read && function.as_param(whole(function, *it)).is_none()
    };
    used.filter(is_kept).collect::<BTreeSet<Value>>().into_iter().collect()
}

/// The value of which `value` is all elements under other names.
fn whole(function: &Function, value: Value) -> Value {
    match function.maker(value) {
        Some(Node { op: Op::Split(_) | Op::Merge(_) | Op::Rename(_), operands, .. }) => {
            whole(function, operands[0])
        }
        _ => value,
    }
}

/// A function that gives `wanted`, of the parameters that takes, which come behind others called
/// `carries`; and which parameters those are.
fn outline(
    scope: Scope<'_>,
    function: &Function,
    wanted: &[Value],
    carries: &[Name],
) -> (Function, Vec<Value>) {
    let mut needed: BTreeSet<Value> = wanted.iter().copied().collect();
    for node in function.nodes().iter().rev() {
        if node.results().any(|it| needed.contains(&it)) {
            needed.extend(&node.operands);
        }
    }
    let mut new = Rebuild::new(function, &function.name);
    new.new.origin = None;
    add_params(&mut new.new, carries, Role::Value, function, wanted);
    let used: Vec<Value> = function.param_values().filter(|it| needed.contains(it)).collect();
    for &value in &used {
        let param = &function.params[value.index()];
        let given = new.new.param(&param.name, Role::Value, param.ty.clone());
        new.set(value, given);
    }
    for node in function.nodes() {
        if node.results().any(|it| needed.contains(&it)) {
            new.copy(scope, node);
        }
    }
    for (i, &value) in wanted.iter().enumerate() {
        let name = carries.get(i).cloned().unwrap_or_else(|| format!("kept.{i}").into());
        let value = new.get(value);
        new.new.output(name, value);
    }
    (new.new, used)
}

/// `function` that is given `kept` as parameters, from place `at` on.
fn without(scope: Scope<'_>, function: &Function, kept: &[Value], at: usize) -> Function {
    let mut new = Rebuild::new(function, &function.name);
    let params: Vec<Value> = function.param_values().collect();
    params[..at].iter().for_each(|&it| new.param(it));
    let names = fresh(function, kept.len());
    let given = add_params(&mut new.new, &names, Role::Value, function, kept);
    params[at..].iter().for_each(|&it| new.param(it));
    for node in live_nodes(function) {
        new.copy(scope, node);
        replace(&mut new, node, kept, &given);
    }
    new.outputs();
    new.new.rewrite(scope, |_, _, _| None)
}

/// Adds parameters of the types that `values` of `old` have.
fn add_params(
    new: &mut Function,
    names: &[Name],
    role: Role,
    old: &Function,
    values: &[Value],
) -> Vec<Value> {
    let types = values.iter().map(|it| old.ty(*it).clone());
    names.iter().zip(types).map(|(name, ty)| new.param(name, role, ty)).collect()
}

/// What `node` gave is `given`, where it is one of `kept`.
fn replace(new: &mut Rebuild<'_>, node: &Node, kept: &[Value], given: &[Value]) {
    let here = kept.iter().zip(given).filter(|(kept, _)| node.results().any(|it| it == **kept));
    here.for_each(|(&kept, &given)| new.set(kept, given));
}

/// Names that no parameter and no output of `function` has.
fn fresh(function: &Function, n: usize) -> Vec<Name> {
    let params = function.params.iter().map(|it| &it.name);
    let taken: BTreeSet<&Name> = params.chain(function.outputs.iter().map(|it| &it.name)).collect();
    let numbered = (0..).map(|i| Name::from(format!("kept.{i}")));
    numbered.filter(|it| !taken.contains(it)).take(n).collect()
}
