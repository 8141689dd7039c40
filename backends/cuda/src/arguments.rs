//! What a launch is called with: the words of a plan as sums over extents, and how many blocks.

use ir::{Axis, DType, Extent, Module, Name};
use kernels_cuda::{Grid, Map, MatrixProduct};
use plan::{Base, Counter, Place, Plan, Stride, Word};

use crate::program::{self, Blocks, Product, Sum, TensorMap};

/// Which words are passed, and as what.
pub(crate) type Passed = Vec<(usize, Kind)>;

/// As what a word is passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// As its value.
    Plain,
    /// As its value where nothing is past, and what each position adds.
    Moving,
    /// For a batch: as what the first row has where nothing is past, what each position adds, and
    /// how far it is to the next row's.
    Own,
}

impl Kind {
    /// The names under which word `i` is passed.
    pub(crate) fn names(self, i: usize) -> Vec<String> {
        match self {
            Kind::Plain => vec![format!("w{i}")],
            Kind::Moving => vec![format!("a{i}"), format!("b{i}")],
            Kind::Own => vec![format!("w{i}"), format!("b{i}"), format!("c{i}")],
        }
    }

    /// What gives word `i` its value on the device.
    pub(crate) fn preface(self, i: usize) -> String {
        match self {
            Kind::Moving => format!("  const long w{i} = a{i} + b{i} * *past;\n"),
            Kind::Plain | Kind::Own => String::new(),
        }
    }
}

/// Turns words into what is passed.
pub(crate) struct Arguments<'a> {
    pub(crate) module: &'a Module,
    pub(crate) plan: &'a Plan,
    /// The extent that counts positions of earlier steps.
    pub(crate) past: Option<usize>,
    /// Whether rows are positions of sequences of their own.
    pub(crate) batch: bool,
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
            if word.moves && self.batch && word.pitch.is_none() {
                // Each row has another number, which it finds by itself.
                continue;
            }
            if word.moves {
                self.check_linear(&word.sum).map_err(|()| {
                    let name = self.plan.callee_name(launch.callee);
                    format!("{name}: a number that grows with the square of the context")
                })?;
            }
            let kind = match word.moves {
                _ if word.pitch.is_some() => Kind::Own,
                true => Kind::Moving,
                false => Kind::Plain,
            };
            passed.push((i, kind));
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
        let mut word = self.place(launch, (map.word, map.offset));
        if let Some((bytes, counted)) = map.behind {
            word.sum = word.sum.plus(Sum::number(bytes).times(&self.factor(launch, counted)));
        }
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

    /// What the library computes.
    pub(crate) fn product(&self, launch: &plan::Launch, it: &MatrixProduct) -> program::Multiplied {
        program::Multiplied {
            x: self.place(launch, it.x),
            weights: self.place(launch, it.weights),
            y: self.place(launch, it.y),
            is_narrow: it.dtype == DType::BF16,
            rows: self.factor(launch, it.rows),
            columns: it.columns,
            depth: it.depth,
            stride: it.stride,
            adds: it.adds,
        }
    }

    /// So many bytes behind the address that is word `at`.
    fn place(&self, launch: &plan::Launch, (at, bytes): (usize, u64)) -> program::Word {
        let mut word = self.word(&launch.words[at]).expect("the word of an address");
        word.sum = word.sum.plus(Sum::number(bytes));
        word
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
        let pitch = match base {
            program::Base::State(at) if self.batch => Some(self.state_bytes(at)),
            _ => None,
        };
        Some(program::Word { base, sum, moves, pitch })
    }

    /// Whether a word is not the same for all rows of a batch.
    pub(crate) fn is_own(&self, word: &Word) -> bool {
        self.batch && self.word(word).is_some_and(|it| it.moves || it.pitch.is_some())
    }

    /// Bytes of all banks of a state of one sequence.
    fn state_bytes(&self, at: usize) -> Sum {
        self.stride(&Stride::Bank(at)).times(&Sum::number(self.plan.states[at].banks))
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
