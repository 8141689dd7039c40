//! What a launch is called with: the words of a plan as sums over extents, and how many blocks.

use ir::{Axis, DType, Extent, Module, Name};
use kernels_cuda::{Grid, Map};
use plan::{Base, Counter, Place, Plan, Stride, Word};

use crate::program::{self, Blocks, Product, Sum, TensorMap};

/// Which words are passed, and whether they move.
pub(crate) type Passed = Vec<(usize, bool)>;

/// Turns words into what is passed.
pub(crate) struct Arguments<'a> {
    pub(crate) module: &'a Module,
    pub(crate) plan: &'a Plan,
    /// The extent that counts positions of earlier steps.
    pub(crate) past: Option<usize>,
}

impl Arguments<'_> {
    /// The words that are passed for those of `launch`: which, with whether they move, and what.
    pub(crate) fn passed(
        &self,
        launch: &plan::Launch,
    ) -> Result<(Passed, Vec<program::Word>), String> {
        let (mut passed, mut words) = (Passed::new(), Vec::new());
        for (i, word) in launch.words.iter().enumerate() {
            let Some(word) = self.word(word) else { continue };
            if word.moves {
                self.check_linear(&word.sum).map_err(|()| {
                    let name = self.plan.callee_name(launch.callee);
                    format!("{name}: a number that grows with the square of the context")
                })?;
            }
            passed.push((i, word.moves));
            words.push(word);
        }
        Ok((passed, words))
    }

    pub(crate) fn blocks(&self, launch: &plan::Launch, grid: &Grid) -> Blocks {
        let mut of: Vec<Sum> = grid.of.iter().map(|&it| self.factor(launch, it)).collect();
        of.extend((!grid.axes.is_empty()).then(|| self.size(&grid.axes)));
        Blocks { of, each: grid.each, most: grid.most }
    }

    pub(crate) fn map(&self, launch: &plan::Launch, map: &Map) -> TensorMap {
        let mut word = self.word(&launch.words[map.word]).expect("the word of an address");
        word.sum = word.sum.plus(Sum::number(map.offset));
        let (number, counted) = map.rows;
        let rows = counted.map_or(Sum::number(1), |it| self.factor(launch, it));
        TensorMap {
            word,
            element_bytes: if map.dtype == DType::BF16 { 2 } else { 1 },
            columns: map.columns,
            rows: Sum::number(number).times(&rows),
            boxed: map.boxed,
        }
    }

    /// The most that word `at` can be.
    pub(crate) fn bound(&self, launch: &plan::Launch, at: usize) -> u64 {
        match &launch.words[at] {
            Word::Bits(number) => *number,
            Word::Size(axes) => axes
                .iter()
                .map(|it| self.module.axes.bound(it).map_or(u64::MAX, |it| it as u64))
                .fold(1, u64::saturating_mul),
            _ => 1,
        }
    }

    /// Word `at`, which is a number.
    pub(crate) fn factor(&self, launch: &plan::Launch, at: usize) -> Sum {
        match &launch.words[at] {
            Word::Bits(number) => Sum::number(*number),
            Word::Size(axes) => self.size(axes),
            _ => Sum::number(1),
        }
    }

    /// What is passed for a word; `None` for one that is known or is code.
    fn word(&self, word: &Word) -> Option<program::Word> {
        let (base, sum) = match word {
            Word::Address(place) => self.address(place),
            Word::Size(axes) => {
                let fixed = axes.iter().all(|it| self.module.axes.fixed(it).is_some());
                (program::Base::Zero, (!fixed).then(|| self.size(axes))?)
            }
            Word::Scratch => (program::Base::Scratch, Sum::default()),
            Word::Bits(_) | Word::Format(_) | Word::Helper(_) | Word::Code(_) => return None,
        };
        let moves = self.past.is_some_and(|it| sum.has(it));
        Some(program::Word { base, sum, moves })
    }

    /// Refuses what is not a number plus a number for each position of the past.
    fn check_linear(&self, sum: &Sum) -> Result<(), ()> {
        let past = |it: &&program::Counter| {
            self.past.is_some_and(|past| **it == program::Counter::Extent(past))
        };
        let powers = sum.0.iter().map(|it| it.factors.iter().filter(past).count());
        if powers.max() <= Some(1) { Ok(()) } else { Err(()) }
    }

    fn address(&self, place: &Place) -> (program::Base, Sum) {
        let (base, mut sum) = match &place.base {
            Base::Arena(at) => (program::Base::Arena, Sum::number(self.plan.buffers[*at].offset)),
            Base::Weight(bank, layer) => {
                let layer = layer.as_ref().map(|it| self.counter(it));
                (program::Base::Weight(self.plan.banks[*bank].first, layer), Sum::default())
            }
            Base::Constant(at) => (program::Base::Constants, Sum::number(*at)),
            Base::State(at) => (program::Base::State(*at), Sum::default()),
            Base::Input(at) => (program::Base::Input(*at), Sum::default()),
            Base::Output(at) => (program::Base::Output(*at), Sum::default()),
        };
        for term in &place.terms {
            let counter = Product { number: 1, factors: vec![self.counter(&term.index)] };
            sum = sum.plus(Sum(vec![counter]).times(&self.stride(&term.stride)));
        }
        (base, sum)
    }

    fn counter(&self, counter: &Counter) -> program::Counter {
        match counter {
            Counter::Loop(id) => program::Counter::Loop(*id),
            Counter::Fixed(at) => program::Counter::Fixed(*at),
            Counter::Extent(name) => program::Counter::Extent(self.extent(name.as_str())),
        }
    }

    fn stride(&self, stride: &Stride) -> Sum {
        match stride {
            Stride::Elements(bytes, axes) => Sum::number(*bytes).times(&self.size(axes)),
            Stride::Bank(at) => {
                let state = &self.plan.states[*at];
                let capacity = program::Counter::Extent(self.extent(plan::CAPACITY));
                let grown = Product { number: state.position_bytes, factors: vec![capacity] };
                Sum::number(state.fixed_bytes).plus(Sum(vec![grown]))
            }
        }
    }

    fn extent(&self, name: &str) -> usize {
        self.plan.extents.iter().position(|it| *it == name).expect("a run-time extent")
    }

    /// The product of the extents of `axes`.
    pub(crate) fn size(&self, axes: &[Axis]) -> Sum {
        axes.iter().fold(Sum::number(1), |product, axis| product.times(&self.extent_of(axis)))
    }

    fn extent_of(&self, axis: &Axis) -> Sum {
        if let Some(size) = self.module.axes.fixed(axis) {
            return Sum::number(size as u64);
        }
        let atom = |atom: &Name| match self.module.axes.get(atom.as_str()).map(|it| &it.extent) {
            Some(Extent::Fixed { size, .. }) => Sum::number(*size as u64),
            _ => {
                let extent = program::Counter::Extent(self.extent(atom.as_str()));
                Sum(vec![Product { number: 1, factors: vec![extent] }])
            }
        };
        let segment =
            |it: &Vec<Name>| it.iter().fold(Sum::number(1), |product, it| product.times(&atom(it)));
        let resolved = self.module.axes.resolve(axis);
        resolved.segments().iter().map(segment).fold(Sum::default(), Sum::plus)
    }
}
