//! Which intermediate values are kept in 16 bits: those that all who read them round anyway, or
//! make something of that is kept so itself.
//!
//! A residual stream, which is added to again and again, stays as exact as it is, and so does what
//! there is little of.

use std::collections::BTreeMap;

use ir::{Axis, DType, Module, Name};
use plan::{Base, Callee, Launch, LoopWord, Plan, Word};

use crate::emit::Generated;

/// What a launch does with the buffer that one of its words is the address of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// Writes it, in any type.
    Writes,
    /// Rounds what it reads.
    Rounds,
    /// The same, if what is at all of these words has one type.
    RoundsAll(&'static [usize]),
    /// Makes of each number one of the buffer at this word.
    Follows(usize),
    /// The same, of rows that a product, or what looks back at positions, gave.
    FollowsMade(usize),
    /// Wants it as it is.
    Keeps,
}

/// What is known of a plan.
pub(crate) struct Narrow<'a> {
    pub(crate) module: &'a Module,
    pub(crate) plan: &'a Plan,
    pub(crate) generated: &'a BTreeMap<Name, Generated>,
    /// Whether a product rounds what it multiplies with its weights.
    pub(crate) rounds: &'a dyn Fn(&Launch) -> bool,
}

impl Narrow<'_> {
    /// For each buffer whether its numbers are `bf16`.
    pub(crate) fn buffers(&self) -> Vec<bool> {
        let mut narrow: Vec<bool> =
            self.plan.buffers.iter().map(|it| it.ty.dtype == DType::F32).collect();
        let uses: Vec<(&Launch, usize, usize, Use)> = self.uses();
        let mut made = vec![true; narrow.len()];
        for (launch, _, buffer, _) in uses.iter().filter(|it| it.3 == Use::Writes) {
            made[*buffer] &= self.makes(launch);
        }
        loop {
            let before = narrow.clone();
            for (launch, _, buffer, it) in &uses {
                narrow[*buffer] &= match it {
                    Use::Writes | Use::Rounds => true,
                    Use::Keeps => false,
                    Use::RoundsAll(at) => at.iter().all(|it| self.is_narrow(launch, *it, &narrow)),
                    Use::Follows(to) => self.is_narrow(launch, *to, &narrow),
                    Use::FollowsMade(to) => made[*buffer] && self.is_narrow(launch, *to, &narrow),
                };
            }
            if narrow == before {
                return narrow;
            }
        }
    }

    /// Every word that is the address of a buffer: whose, which, of what, and what for.
    fn uses(&self) -> Vec<(&Launch, usize, usize, Use)> {
        let mut uses = Vec::new();
        for launch in self.plan.launches() {
            for (at, word) in launch.words.iter().enumerate() {
                let Word::Address(place) = word else { continue };
                let Base::Arena(buffer) = place.base else { continue };
                let is_whole = place.terms.is_empty();
                let it = if is_whole { self.usage(launch, at) } else { Use::Keeps };
                uses.push((launch, at, buffer, it));
            }
        }
        uses
    }

    /// Whether what is at word `at` has 16 bits.
    fn is_narrow(&self, launch: &Launch, at: usize, narrow: &[bool]) -> bool {
        match &launch.words[at] {
            Word::Address(place) => match place.base {
                Base::Arena(buffer) => narrow[buffer],
                _ => self.result(launch).is_some_and(is_half),
            },
            _ => false,
        }
    }

    /// The type of the first result of a launch.
    fn result(&self, launch: &Launch) -> Option<DType> {
        let function = match launch.callee {
            Callee::Loop(it) => &self.generated[&self.plan.loops[it]].function,
            Callee::Kernel(_) => self.module.function(launch.function.as_ref()?.as_str())?,
        };
        function.outputs.first().map(|it| function.ty(it.value).dtype)
    }

    fn usage(&self, launch: &Launch, at: usize) -> Use {
        if let Callee::Loop(it) = launch.callee {
            return self.usage_of_loop(&self.generated[&self.plan.loops[it]], at);
        }
        match (self.plan.callee_name(launch.callee), at) {
            ("matmul", 0) if (self.rounds)(launch) => Use::Rounds,
            ("matmul" | "norm_matmul", _) if is_result(launch, at) => Use::Writes,
            ("attention" | "ssd" | "conv1d" | "rms_norm" | "layer_norm", 0) => Use::Writes,
            ("attention", 2) => Use::Rounds,
            ("attention", 4 | 7) => Use::RoundsAll(&[4, 7]),
            ("ssd", 1 | 4 | 5) => Use::RoundsAll(&[1, 4, 5]),
            ("conv1d", 1) => Use::Follows(0),
            // A tail begins with where its result goes.
            ("conv1d", 10) => Use::Writes,
            ("rms_norm" | "layer_norm", 2) => Use::FollowsMade(0),
            _ => Use::Keeps,
        }
    }

    fn usage_of_loop(&self, it: &Generated, at: usize) -> Use {
        let function = &it.function;
        let output = &function.ty(function.outputs[0].value).axes;
        match &it.words[at] {
            LoopWord::Output => Use::Writes,
            LoopWord::Operand(i)
                if self.count(&function.params[*i].ty.axes) == self.count(output) =>
            {
                Use::Follows(0)
            }
            _ => Use::Keeps,
        }
    }

    /// How many elements: a number times extents that are known when running.
    fn count(&self, axes: &[Axis]) -> (usize, Vec<Axis>) {
        let fixed = axes.iter().filter_map(|it| self.module.axes.fixed(it));
        let free = axes.iter().filter(|it| self.module.axes.fixed(it).is_none());
        let mut free: Vec<Axis> = free.map(|it| self.module.axes.resolve(it)).collect();
        free.sort();
        (fixed.fold(1, usize::saturating_mul), free)
    }

    /// Whether all that a launch writes is new, rather than something added to what was there.
    fn makes(&self, launch: &Launch) -> bool {
        match self.plan.callee_name(launch.callee) {
            "attention" | "ssd" | "conv1d" => true,
            "matmul" | "norm_matmul" => launch.words.iter().enumerate().skip(1).all(|(at, it)| {
                let is_buffer =
                    matches!(it, Word::Address(it) if matches!(it.base, Base::Arena(_)));
                !is_buffer || is_result(launch, at)
            }),
            _ => false,
        }
    }
}

fn is_half(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16)
}

/// Whether word `at` of a product is where a result goes; the words of a tail begin with that too.
fn is_result(launch: &Launch, at: usize) -> bool {
    let Word::Bits(results) = launch.words[4] else { return false };
    let mut results = (0..results as usize).map(|it| 6 + 6 * it);
    results.any(|it| {
        let has_tail = matches!(launch.words[it + 2], Word::Code(_));
        at == it || has_tail && launch.words[it + 3] == Word::Bits(at as u64)
    })
}
