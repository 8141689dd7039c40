//! The plan: what runs in which order, on which memory. The lowest form that is printed.

use std::fmt;

use ir::{Axis, Name, Type};

/// Launches, loops over layers, and the memory they work on.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The run-time atoms, in the order in which the frame holds them; then [`CAPACITY`].
    pub extents: Vec<Name>,
    /// Intermediate values.
    pub buffers: Vec<Buffer>,
    /// What one run leaves to the next.
    pub states: Vec<State>,
    /// Weights as the launches want them.
    pub banks: Vec<Bank>,
    /// Kernels and functions of the runtime, by name.
    pub kernels: Vec<String>,
    /// Loop functions and tails of kernels, by name.
    pub loops: Vec<Name>,
    /// Tables of numbers, as bytes.
    pub constants: Vec<u8>,
    /// What runs.
    pub steps: Vec<Step>,
    /// Bytes of intermediate values at the largest extents.
    pub arena_bytes: u64,
}

impl Plan {
    /// Launches and barriers, those in loops once.
    pub fn counts(&self) -> (usize, usize) {
        count(&self.steps)
    }

    /// Every launch, those in loops once, in order.
    pub fn launches(&self) -> Vec<&Launch> {
        let mut found = Vec::new();
        collect(&self.steps, &mut found);
        found
    }
}

fn collect<'a>(steps: &'a [Step], found: &mut Vec<&'a Launch>) {
    for step in steps {
        match step {
            Step::Launch(launch) => found.push(launch),
            Step::Loop { steps, .. } => collect(steps, found),
            Step::Barrier => {}
        }
    }
}

fn count(steps: &[Step]) -> (usize, usize) {
    let of_step = |step: &Step| match step {
        Step::Launch(_) => (1, 0),
        Step::Barrier => (0, 1),
        Step::Loop { steps, .. } => count(steps),
    };
    steps.iter().map(of_step).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
}

/// The name under which the frame holds how many positions the states have room for; no axis can
/// have it.
pub const CAPACITY: &str = "(capacity)";

/// An intermediate value.
#[derive(Clone, Debug)]
pub struct Buffer {
    /// What it holds.
    pub ty: Type,
    /// Bytes at the largest extents.
    pub bytes: u64,
    /// Where it lies in the arena.
    pub offset: u64,
}

/// What one run leaves to the next, bank by bank.
#[derive(Clone, Debug)]
pub struct State {
    /// Its name.
    pub name: Name,
    /// How many banks.
    pub banks: u64,
    /// Bytes of a bank for each position, if it grows.
    pub position_bytes: u64,
    /// Bytes of a bank besides.
    pub fixed_bytes: u64,
    /// Whether the first step writes it, and no other one.
    pub once: bool,
}

/// A weight in one form, for each layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bank {
    /// The parameter.
    pub param: Name,
    /// Which layer of the parameter is the first.
    pub from: u64,
    /// How many layers.
    pub layers: u64,
    /// What each row of a layer is multiplied with when weights are bound: a parameter, and which
    /// layer of that is the first.
    pub times: Option<(Name, u64)>,
    /// Rows and columns of a layer.
    pub shape: [u64; 2],
    /// Whether it is packed for a kernel; plain `f32` otherwise.
    pub packed: bool,
    /// The place of its first layer among all weights.
    pub first: u64,
}

/// Where something lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// In which memory.
    pub base: Base,
    /// How far on.
    pub terms: Vec<Term>,
}

/// A piece of memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// A buffer.
    Arena(usize),
    /// A bank of weights, and which of its layers if it has several.
    Weight(usize, Option<Counter>),
    /// So many bytes into the constants.
    Constant(u64),
    /// A state.
    State(usize),
    /// An input.
    Input(usize),
    /// An output.
    Output(usize),
}

/// `index * stride` bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// What counts.
    pub index: Counter,
    /// How far apart.
    pub stride: Stride,
}

/// What counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Counter {
    /// The steps of a loop.
    Loop(usize),
    /// The positions of earlier runs.
    Extent(Name),
    /// Always the same.
    Fixed(u64),
}

/// How far neighbours are apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stride {
    /// So many bytes times the extents of these axes.
    Elements(u64, Vec<Axis>),
    /// A whole bank of a state.
    Bank(usize),
}

/// One step of the plan.
#[derive(Clone, Debug)]
pub enum Step {
    /// Work for all threads.
    Launch(Launch),
    /// All threads wait for each other.
    Barrier,
    /// Steps for each place along an axis.
    Loop {
        /// Its number.
        id: usize,
        /// The axis.
        axis: Axis,
        /// Whether it counts down.
        reverse: bool,
        /// What runs.
        steps: Vec<Step>,
    },
}

/// A call of a kernel or of a loop.
#[derive(Clone, Debug)]
pub struct Launch {
    /// What is called.
    pub callee: Callee,
    /// The function of the module that it computes; `None` for what only moves numbers.
    pub function: Option<Name>,
    /// With which words.
    pub words: Vec<Word>,
    /// What it reads.
    pub reads: Vec<Place>,
    /// What it writes.
    pub writes: Vec<Place>,
}

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callee {
    /// A kernel, by its place in [`Plan::kernels`].
    Kernel(usize),
    /// A generated loop, by its place in [`Plan::loops`].
    Loop(usize),
}

/// An argument word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// An address.
    Address(Place),
    /// The storage format of a weight.
    Format(Place),
    /// A product of extents.
    Size(Vec<Axis>),
    /// A number.
    Bits(u64),
    /// A function of the runtime, by its place in [`Plan::kernels`].
    Helper(usize),
    /// The code of a generated loop, by its place in [`Plan::loops`].
    Code(usize),
    /// Scratch memory of the thread.
    Scratch,
}

impl Place {
    /// The beginning of `base`.
    pub fn new(base: Base) -> Place {
        Place { base, terms: Vec::new() }
    }

    /// A place further on.
    pub fn ahead(&self, index: Counter, stride: Stride) -> Place {
        let mut place = self.clone();
        place.terms.push(Term { index, stride });
        place
    }
}

impl Counter {
    fn subscript(&self) -> String {
        match self {
            Counter::Loop(id) => format!("[i{id}]"),
            Counter::Extent(name) => format!("[{name}]"),
            Counter::Fixed(at) => format!("[{at}]"),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "arena {} bytes", self.arena_bytes)?;
        for (i, buffer) in self.buffers.iter().enumerate() {
            writeln!(
                f,
                "buffer b{i} : {} at {}, {} bytes",
                buffer.ty, buffer.offset, buffer.bytes
            )?;
        }
        for state in &self.states {
            let State { name, banks, position_bytes, fixed_bytes, once } = state;
            let once = if *once { " once" } else { "" };
            writeln!(
                f,
                "state {name} : {banks} x ({fixed_bytes} + {position_bytes} a position) bytes{once}"
            )?;
        }
        for bank in &self.banks {
            let [n, k] = bank.shape;
            let form = if bank.packed { "packed" } else { "f32" };
            let times = bank.times.as_ref().map(|(it, _)| format!(" times {it}"));
            let times = times.unwrap_or_default();
            writeln!(f, "weight {} : {} x [{n}, {k}] {form}{times}", bank.param, bank.layers)?;
        }
        self.write_steps(f, &self.steps, 0)
    }
}

impl Plan {
    fn write_steps(&self, f: &mut fmt::Formatter<'_>, steps: &[Step], depth: usize) -> fmt::Result {
        for step in steps {
            write!(f, "{:1$}", "", 2 * depth)?;
            match step {
                Step::Barrier => writeln!(f, "barrier")?,
                Step::Loop { id, axis, reverse, steps } => {
                    let order = if *reverse { " in reverse" } else { "" };
                    writeln!(f, "for i{id} in {axis}{order}")?;
                    self.write_steps(f, steps, depth + 1)?;
                }
                Step::Launch(launch) => {
                    let words: Vec<String> = launch.words.iter().map(|it| self.word(it)).collect();
                    writeln!(f, "{}({})", self.callee_name(launch.callee), words.join(", "))?;
                }
            }
        }
        Ok(())
    }

    /// What `callee` is called.
    pub fn callee_name(&self, callee: Callee) -> &str {
        match callee {
            Callee::Kernel(i) => &self.kernels[i],
            Callee::Loop(i) => self.loops[i].as_str(),
        }
    }

    fn word(&self, word: &Word) -> String {
        match word {
            Word::Address(place) => self.place(place),
            Word::Format(place) => format!("format of {}", self.place(place)),
            Word::Size(axes) if axes.is_empty() => "1".to_owned(),
            Word::Size(axes) => {
                let names: Vec<String> = axes.iter().map(Axis::to_string).collect();
                format!("|{}|", names.join(" "))
            }
            Word::Bits(bits) if *bits < 1 << 32 => bits.to_string(),
            Word::Bits(bits) => f64::from_bits(*bits).to_string(),
            Word::Helper(i) => self.kernels[*i].clone(),
            Word::Code(i) => self.loops[*i].to_string(),
            Word::Scratch => "scratch".to_owned(),
        }
    }

    fn place(&self, place: &Place) -> String {
        let base = match &place.base {
            Base::Arena(i) => format!("b{i}"),
            Base::Weight(i, None) => self.banks[*i].param.to_string(),
            Base::Weight(i, Some(layer)) => {
                format!("{}{}", self.banks[*i].param, layer.subscript())
            }
            Base::Constant(at) => format!("constant {at}"),
            Base::State(i) => self.states[*i].name.to_string(),
            Base::Input(i) => format!("input {i}"),
            Base::Output(i) => format!("output {i}"),
        };
        let terms = place.terms.iter().map(|it| it.index.subscript());
        std::iter::once(base).chain(terms).collect()
    }
}
