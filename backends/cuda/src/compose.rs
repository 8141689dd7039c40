//! Launches that work on the same rows become one: a norm and the loops before and after it, and a
//! convolution and what is made of each of its numbers.
//!
//! A launch is taken into a later one if that alone reads what it writes, and if all that it reads
//! is still there.

use std::collections::BTreeMap;

use ir::{
    Axis, DType, Function, Module, Name, Op, Role, Value,
    ops::{Merge, Rename, Split},
};
use plan::{Base, Callee, Launch, LoopWord, Place, Plan, Step, Word};

use crate::emit::Generated;
use crate::{
    loops::{self, Loop},
    rows,
};

/// Composes what can be composed in `plan`, whose memory is to be laid out anew.
pub(crate) fn compose(module: &Module, plan: &mut Plan, generated: &mut BTreeMap<Name, Generated>) {
    let all = reads(plan.launches(), plan.buffers.len());
    let mut steps = std::mem::take(&mut plan.steps);
    Composer { module, plan, generated, all }.steps(&mut steps);
    plan.steps = steps;
}

struct Composer<'a> {
    module: &'a Module,
    plan: &'a mut Plan,
    generated: &'a mut BTreeMap<Name, Generated>,
    /// How many launches read each buffer.
    all: Vec<usize>,
}

/// What launches become.
struct Body {
    function: Function,
    operands: Vec<Operand>,
    /// The places of the launches among the steps.
    launches: Vec<usize>,
}

/// An operand: where it lies, and the launch that wrote it there.
#[derive(Clone, PartialEq)]
struct Operand {
    place: Place,
    writer: Option<usize>,
}

impl Composer<'_> {
    fn steps(&mut self, steps: &mut Vec<Step>) {
        for step in steps.iter_mut() {
            if let Step::Loop { steps, .. } = step {
                self.steps(steps);
            }
        }
        let here = reads(steps.iter().filter_map(as_launch), self.all.len());
        let private: Vec<bool> =
            self.all.iter().zip(here).map(|(all, here)| *all == here).collect();
        let mut at = steps.len();
        while 0 < at {
            at -= 1;
            let composed =
                self.rows(steps, at, &private).or_else(|| self.tail(steps, at, &private));
            let Some((launch, mut gone)) = composed else { continue };
            steps[at] = Step::Launch(launch);
            gone.sort_unstable();
            gone.iter().rev().for_each(|it| drop(steps.remove(*it)));
            at -= gone.len();
        }
    }

    /// The loop at `at` with the norms and loops whose results it reads, if that is a loop over
    /// rows with their sums; and what is no longer needed for that.
    fn rows(
        &mut self,
        steps: &[Step],
        at: usize,
        private: &[bool],
    ) -> Option<(Launch, Vec<usize>)> {
        let launch = as_launch(&steps[at])?;
        let function = self.as_loop(launch)?.clone();
        let operands = operands(steps, at);
        let mut body = Body { function, operands, launches: vec![at] };
        while self.grow(steps, &mut body, private) {}
        let [_, gone @ ..] = &body.launches[..] else { return None };
        let writes = launch.writes[0].clone();
        let stays = |it: &Operand| {
            it.place.base != writes.base && writer(steps, at, &it.place, gone) == it.writer
        };
        if gone.is_empty() || !body.operands.iter().all(stays) {
            return None;
        }
        let Body { function, .. } = &body;
        rows::kernel(&Loop {
            module: self.module,
            function,
            words: &[],
            out: DType::F32,
            own: &[],
            constant: &[],
        })?;
        let places: Vec<Place> = body.operands.iter().map(|it| it.place.clone()).collect();
        let gone = gone.to_vec();
        let (callee, words) = self.generate(body.function, 0, &places, &writes).ok()?;
        let (reads, writes) = (places, vec![writes]);
        let callee = Callee::Loop(callee);
        Some((Launch { callee, function: None, words, reads, writes }, gone))
    }

    /// Takes in one more launch; whether there was one.
    fn grow(&self, steps: &[Step], body: &mut Body, private: &[bool]) -> bool {
        let found = body.operands.iter().enumerate().find_map(|(i, operand)| {
            let from = self.producer(steps, operand, &body.launches, private)?;
            Some((i, from, self.as_function(as_launch(&steps[from])?)?))
        });
        let Some((i, from, function)) = found else { return false };
        let theirs = operands(steps, from);
        let mut all: Vec<Operand> = body.operands.clone();
        all.remove(i);
        let added = theirs.iter().filter(|it| !all.contains(it)).cloned().collect::<Vec<_>>();
        all.extend(added);
        let Some(joined) = self.joined(body, i, &function, &theirs, &all) else { return false };
        body.function = joined;
        body.operands = all;
        body.launches.push(from);
        true
    }

    /// `body` with `function` of the operands `theirs` for its parameter `i`; it takes `all`.
    fn joined(
        &self,
        body: &Body,
        i: usize,
        function: &Function,
        theirs: &[Operand],
        all: &[Operand],
    ) -> Option<Function> {
        let scope = self.module.scope();
        let mut joined = Function::new(body.function.name.clone());
        joined.origin = body.function.origin.clone();
        let params = body.operands.iter().zip(&body.function.params).enumerate();
        let params = params.filter(|it| it.0 != i).map(|it| it.1);
        let params: Vec<_> = params.chain(theirs.iter().zip(&function.params)).collect();
        let mut values = Vec::new();
        for (at, it) in all.iter().enumerate() {
            let ty = &params.iter().find(|param| param.0 == it)?.1.ty;
            values.push(joined.param(format!("x{at}"), Role::Value, ty.clone()));
        }
        let value = |it: &Operand| all.iter().position(|other| other == it).map(|at| values[at]);
        let mut arguments = Vec::new();
        for (operand, param) in theirs.iter().zip(&function.params) {
            arguments.push(self.viewed(&mut joined, value(operand)?, &param.ty.axes)?);
        }
        let inner = joined.inline(None, scope, function, &arguments);
        let mut arguments = Vec::new();
        for (at, (operand, param)) in body.operands.iter().zip(&body.function.params).enumerate() {
            let given = if at == i { inner[0] } else { value(operand)? };
            arguments.push(self.viewed(&mut joined, given, &param.ty.axes)?);
        }
        let outer = joined.inline(None, scope, &body.function, &arguments);
        joined.output("y", outer[0]);
        Some(joined)
    }

    /// `value`, whose numbers stand in memory as those of a value with the axes `to`, as that.
    fn viewed(&self, function: &mut Function, mut value: Value, to: &[Axis]) -> Option<Value> {
        for (i, axis) in to.iter().enumerate() {
            let from = function.ty(value).axes.clone();
            let is = |parts: &[Axis], whole: &Axis| Axis::product(parts).as_ref() == Some(whole);
            let count =
                |list: &[Axis], whole: &Axis| (1..=list.len()).find(|n| is(&list[..*n], whole));
            let (from, rest) = (&from[i..], &to[i..]);
            let first = from.first()?;
            let op: Op = if first == axis {
                continue;
            } else if let Some(n) = count(rest, first) {
                Split { axis: first.clone(), into: rest[..n].to_vec() }.into()
            } else if let Some(n) = count(from, axis) {
                Merge { axes: from[..n].to_vec(), into: axis.clone() }.into()
            } else {
                Rename { axis: first.clone(), into: axis.clone() }.into()
            };
            value = *function.try_add(self.module.scope(), op, &[value]).ok()?.first()?;
        }
        (function.ty(value).axes == to).then_some(value)
    }

    /// What a launch of a generated loop computes.
    fn as_loop(&self, launch: &Launch) -> Option<&Function> {
        let Callee::Loop(at) = launch.callee else { return None };
        Some(&self.generated[&self.plan.loops[at]].function)
    }

    /// What a launch computes, where that is a function of one result, without calls.
    fn as_function(&self, launch: &Launch) -> Option<Function> {
        let function = match launch.callee {
            Callee::Loop(_) => self.as_loop(launch)?,
            Callee::Kernel(_) if self.plan.callee_name(launch.callee) == "rms_norm" => {
                self.module.function(launch.function.as_ref()?.as_str())?
            }
            Callee::Kernel(_) => return None,
        };
        let scope = self.module.scope();
        Some(function.rewrite(scope, |result, op, operands| match op {
            Op::Call(call) => {
                let callee = self.module.function(call.function.as_str())?;
                Some(result.inline(None, scope, callee, operands))
            }
            _ => None,
        }))
    }

    /// The launch that wrote `operand`, if nothing but `readers` reads what it wrote.
    fn producer(
        &self,
        steps: &[Step],
        operand: &Operand,
        readers: &[usize],
        private: &[bool],
    ) -> Option<usize> {
        let Base::Arena(buffer) = operand.place.base else { return None };
        let from = operand.writer?;
        let is_only = as_launch(&steps[from])?.writes == [operand.place.clone()];
        let is_read_by_others = (0..steps.len()).any(|at| {
            let is_it = |it: &Place| it.base == operand.place.base;
            if !as_launch(&steps[at]).is_some_and(|it| it.reads.iter().any(is_it)) {
                return false;
            }
            let version = writer(steps, at, &operand.place, &[]);
            version.is_none() || version == Some(from) && !readers.contains(&at)
        });
        let last = *readers.iter().max()?;
        let in_a_row = steps[from..last].iter().all(|it| !matches!(it, Step::Loop { .. }));
        (private[buffer] && is_only && !is_read_by_others && in_a_row).then_some(from)
    }

    /// The convolution before the loop at `at`, with that as its tail.
    fn tail(
        &mut self,
        steps: &[Step],
        at: usize,
        private: &[bool],
    ) -> Option<(Launch, Vec<usize>)> {
        let launch = as_launch(&steps[at])?;
        let function = self.as_loop(launch)?;
        if !is_pointwise(function) {
            return None;
        }
        let [operand] = &operands(steps, at)[..] else { return None };
        let Base::Arena(_) = operand.place.base else { return None };
        let from = operand.writer?;
        let conv = as_launch(&steps[from])?;
        let [y, _] = &conv.writes[..] else { return None };
        let unread = Operand { place: y.clone(), writer: Some(from) };
        let is_conv = self.plan.callee_name(conv.callee) == "conv1d" && *operand == unread;
        self.all_stay(steps, from, at, is_conv.then_some(&unread)?, private)?;
        let (result, function) = (launch.writes[0].clone(), function.clone());
        let (code, tail) = self.generate(function, 1, &[], &result).ok()?;
        let mut words = conv.words.clone();
        words[0] = Word::Address(result.clone());
        words.extend([Word::Code(code), Word::Bits(words.len() as u64 + 2)]);
        words.extend(tail);
        let writes = vec![result, conv.writes[1].clone()];
        Some((Launch { words, writes, ..conv.clone() }, vec![from]))
    }

    /// Whether the launch at `from` may run at `at`, which alone reads its `result`.
    fn all_stay(
        &self,
        steps: &[Step],
        from: usize,
        at: usize,
        result: &Operand,
        private: &[bool],
    ) -> Option<()> {
        let Base::Arena(buffer) = result.place.base else { return None };
        let launch = as_launch(&steps[from])?;
        let between = steps[from + 1..at].iter();
        let disturbs = |step: &Step| match step {
            Step::Launch(other) => {
                let theirs = other.reads.iter().chain(&other.writes);
                other.writes.iter().any(|it| launch.reads.iter().any(|own| own.base == it.base))
                    || theirs.clone().any(|it| launch.writes.iter().any(|own| own.base == it.base))
            }
            Step::Barrier => false,
            Step::Loop { .. } => true,
        };
        let is_read_by_others = (at + 1..steps.len()).any(|later| {
            let reads = as_launch(&steps[later]).is_some_and(|it| it.reads.contains(&result.place));
            reads && writer(steps, later, &result.place, &[]) == Some(from)
        });
        let in_place = as_launch(&steps[at])?.writes[0] == result.place;
        let is_private = private[buffer] || in_place;
        (!between.clone().any(disturbs) && !is_read_by_others && is_private).then_some(())
    }

    /// A loop or a tail, whose first parameters are `products`, among those of the plan; its place
    /// and what it is called with.
    fn generate(
        &mut self,
        mut function: Function,
        products: usize,
        operands: &[Place],
        result: &Place,
    ) -> Result<(usize, Vec<Word>), String> {
        let words = loops::words(self.module, &function, products)?;
        let stem = format!("{}.{}", function.name, if products == 0 { "rows" } else { "tail" });
        let mut names = std::iter::once(stem.clone()).chain((1..).map(|i| format!("{stem}.{i}")));
        let name = names.find(|name| {
            function.name = name.as_str().into();
            self.generated.get(&function.name).is_none_or(|it| it.function == function)
        });
        function.name = name.unwrap_or(stem).into();
        let word = |it: &LoopWord| match it {
            LoopWord::Output => Word::Address(result.clone()),
            LoopWord::Operand(i) => Word::Address(operands[i - products].clone()),
            LoopWord::Extent(name) => Word::Size(vec![Axis::atom(name)]),
            LoopWord::Helper(_) => unreachable!("a device has no helpers"),
        };
        let given = words.iter().map(word).collect();
        let at = self.plan.loops.iter().position(|it| *it == function.name);
        let at = at.unwrap_or(self.plan.loops.len());
        if at == self.plan.loops.len() {
            self.plan.loops.push(function.name.clone());
        }
        self.generated.insert(function.name.clone(), Generated { function, products, words });
        Ok((at, given))
    }
}

fn as_launch(step: &Step) -> Option<&Launch> {
    if let Step::Launch(it) = step { Some(it) } else { None }
}

/// How many launches read each of `n` buffers.
fn reads<'a>(launches: impl IntoIterator<Item = &'a Launch>, n: usize) -> Vec<usize> {
    let mut reads = vec![0; n];
    for place in launches.into_iter().flat_map(|it| &it.reads) {
        if let Base::Arena(buffer) = place.base {
            reads[buffer] += 1;
        }
    }
    reads
}

/// The last launch before `at` that writes where `place` is, but for those that are `gone`.
fn writer(steps: &[Step], at: usize, place: &Place, gone: &[usize]) -> Option<usize> {
    (0..at).rev().find(|it| {
        let launch = as_launch(&steps[*it]).filter(|_| !gone.contains(it));
        launch.is_some_and(|it| it.writes.iter().any(|to| to.base == place.base))
    })
}

/// What the launch at `at` reads.
fn operands(steps: &[Step], at: usize) -> Vec<Operand> {
    let reads = as_launch(&steps[at]).map_or(&[][..], |it| &it.reads);
    let operand = |place: &Place| {
        let writer = writer(steps, at, place, &[]);
        Operand { place: place.clone(), writer }
    };
    reads.iter().map(operand).collect()
}

/// Whether each element of the result is made of the element at the same place of one parameter.
fn is_pointwise(function: &Function) -> bool {
    let by_element = |op: &Op| {
        matches!(op, Op::Unary(_) | Op::Binary(_) | Op::Select(_) | Op::Cast(_) | Op::Constant(_))
    };
    let [param] = &function.params[..] else { return false };
    let output = function.ty(function.outputs[0].value);
    function.nodes().iter().all(|it| by_element(&it.op)) && param.ty.axes == output.axes
}
