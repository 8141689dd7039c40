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

mod clock;
mod keeps;
mod parts;

use ir::{Axis, Extent, Module, Name, Node, Op, Role, Value, ops::Scan};

use crate::{
    Contract, Cx, Fault, Pass, PassOption,
    canonicalise::unused::without_unused_parameters,
    rebuild::{Rebuild, define, live_nodes},
};

use clock::{Clock, Kind, frontier};
use parts::{add_params, fresh, outline, replace, without};

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

impl Clock {
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
