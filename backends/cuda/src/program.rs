//! What the engine runs: images, and launches with expressions for their arguments.

use std::collections::BTreeSet;
use std::fmt;

use kernels_cuda::Tunable;
use runtime::Fault;
use serde::{Deserialize, Serialize};

use crate::lines::Lines;
use crate::{Image, Resources};

/// A compiled model for GPUs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GpuProgram {
    /// The architectures, such as `sm_90a`, in the order of [`Kernel::images`].
    pub architectures: Vec<String>,
    /// The kernels.
    pub kernels: Vec<Kernel>,
    /// What a step runs.
    pub steps: Vec<Step>,
    /// What a step runs in which each position is the next one of a sequence of its own; or why
    /// there is no such step.
    pub batch: Result<Vec<Step>, String>,
    /// The kernels that choose tokens from the first output, if that is logits.
    pub choice: Option<Choice>,
    /// The fewest bytes of scratch memory, which some forms want more of.
    pub scratch_bytes: u64,
    /// The kernel that measures how fast memory is read.
    pub reader: usize,
    /// Those that measure how fast is multiplied, the best first, and the operations of a block.
    pub multipliers: Vec<(usize, u64)>,
    /// What could be chosen otherwise.
    #[serde(skip)]
    pub choices: BTreeSet<Tunable>,
    /// What makes up the weights, before the first step; none where they are brought.
    pub made_up: Vec<Launch>,
}

impl Default for GpuProgram {
    fn default() -> GpuProgram {
        GpuProgram {
            architectures: Vec::new(),
            kernels: Vec::new(),
            steps: Vec::new(),
            batch: Ok(Vec::new()),
            choice: None,
            scratch_bytes: 0,
            reader: 0,
            multipliers: Vec::new(),
            choices: BTreeSet::new(),
            made_up: Vec::new(),
        }
    }
}

impl GpuProgram {
    /// It as bytes, for [`runtime::Program::code`].
    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_stdvec(self).unwrap_or_default()
    }

    /// Whether cuBLASLt computes some of it, where it is there.
    pub(crate) fn has_products(&self) -> bool {
        self.steps.iter().any(Step::has_products)
    }

    /// The forms that are come to where some run, and those behind one with which that `ends` are
    /// not.
    fn reached(&self, runs: &dyn Fn(&Form) -> bool, ends: &dyn Fn(&Form) -> bool) -> Vec<&Form> {
        let mut reached = Vec::new();
        for step in self.steps.iter().chain(self.batch.iter().flatten()) {
            step.reach(runs, ends, &mut reached);
        }
        reached
    }

    /// Bytes of scratch memory that it wants where only forms run for which `runs` holds.
    pub(crate) fn scratch_where(&self, runs: impl Fn(&Form) -> bool) -> u64 {
        let reached = self.reached(&runs, &Form::always_fits);
        reached.iter().map(|it| it.scratch).fold(self.scratch_bytes, u64::max)
    }

    /// Whether what runs code for `architecture` ever comes to each of the kernels.
    pub(crate) fn reached_on(&self, architecture: &str) -> Vec<bool> {
        let only = |kernel: usize| self.kernels[kernel].only.as_deref();
        let has = |kernel| only(kernel).is_none_or(|it| it == architecture);
        // What is for one architecture alone asks no more of a device than that has. What is for
        // several may ask for too much shared memory of some.
        let is_own = |it: &Launch| only(it.kernel).is_some();
        let ends = |it: &Form| it.always_fits() && it.launches.iter().any(is_own);
        let mut reached = vec![false; self.kernels.len()];
        for form in self.reached(&|it| it.runs_with(has, true), &ends) {
            form.launches.iter().for_each(|it| reached[it.kernel] = true);
        }
        self.multipliers.iter().for_each(|it| reached[it.0] = true);
        self.made_up.iter().for_each(|it| reached[it.kernel] = true);
        self.choice.iter().for_each(|it| (reached[it.greedy], reached[it.draw]) = (true, true));
        reached[self.reader] = true;
        (0..reached.len()).map(|it| reached[it] && has(it)).collect()
    }

    /// The place of `kernel` among the program's, from now on: equal texts are one.
    pub(crate) fn add(&mut self, kernel: Kernel) -> usize {
        let same = self.kernels.iter().position(|it| it.source == kernel.source);
        if let Some(at) = same {
            self.kernels[at].lines.merge(kernel.lines);
            return at;
        }
        self.kernels.push(kernel);
        self.kernels.len() - 1
    }

    /// What [`GpuProgram::to_bytes`] gave.
    ///
    /// # Errors
    ///
    /// When it is something else, or contradicts itself.
    pub fn from_bytes(bytes: &[u8]) -> Result<GpuProgram, Fault> {
        let damaged = || Fault::new("R0103", "the kernels of the model can not be read");
        let program: GpuProgram = postcard::from_bytes(bytes).map_err(|_| damaged())?;
        let compiled = |it: &Kernel| it.images.len() == program.architectures.len();
        let is_whole = program.kernels.iter().all(compiled)
            && program.reader < program.kernels.len()
            && are_known(&program.steps, program.kernels.len())
            && program.batch.iter().all(|it| are_known(it, program.kernels.len()))
            && program.multipliers.iter().all(|it| it.0 < program.kernels.len())
            && program.made_up.iter().all(|it| it.kernel < program.kernels.len())
            && program.choice.is_none_or(|it| it.greedy.max(it.draw) < program.kernels.len());
        is_whole.then_some(program).ok_or_else(damaged)
    }
}

impl GpuProgram {
    /// The kernels that were compiled, by place, each with what it became for an architecture.
    fn compiled(&self) -> impl Iterator<Item = (usize, &Kernel, &String, &Image)> {
        let kernels = self.kernels.iter().enumerate();
        kernels.flat_map(|(i, kernel)| {
            let images = self.architectures.iter().zip(&kernel.images);
            let images = images.filter(|it| !it.1.cubin.is_empty());
            images.map(move |(architecture, image)| (i, kernel, architecture, image))
        })
    }

    /// What was compiled as PTX.
    pub fn ptx(&self) -> String {
        let text = |(i, kernel, architecture, image): (usize, &Kernel, &String, &Image)| {
            format!("// {i}: {} for {architecture}\n{}\n", kernel.name, image.ptx.trim_end())
        };
        self.compiled().map(text).collect()
    }

    /// A table of what each kernel takes on each architecture that it was compiled for: threads of
    /// a block, registers of a thread, bytes that go to memory for want of them, bytes of shared
    /// memory.
    pub fn resources(&self) -> String {
        let mut table = "kernel architecture threads registers spilled shared\n".to_owned();
        for (i, kernel, architecture, image) in self.compiled() {
            let Resources { registers, spilled, .. } = image.resources;
            let Kernel { name, threads, .. } = kernel;
            let shared = kernel.shared_for(capability_of(architecture).unwrap_or(0));
            let row = [*threads, registers, spilled, shared].map(|it| it.to_string());
            table += &format!("{i}:{name} {architecture} {}\n", row.join(" "));
        }
        table
    }
}

impl Kernel {
    /// Bytes of shared memory of a block, where its code is made for such a compute capability.
    pub(crate) fn shared_for(&self, capability: u32) -> u32 {
        self.shared_before_hopper.filter(|_| capability < 90).unwrap_or(self.shared)
    }
}

/// The compute capability that an architecture names, such as 90 for `sm_90a`.
pub(crate) fn capability_of(architecture: &str) -> Option<u32> {
    architecture.strip_prefix("sm_")?.trim_end_matches('a').parse().ok()
}

impl fmt::Display for GpuProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, kernel) in self.kernels.iter().enumerate() {
            let Kernel { name, threads, lines, .. } = kernel;
            writeln!(f, "// {i}: {name}, {threads} threads{lines}")?;
            writeln!(f, "{}", kernel.source)?;
        }
        if let Err(why) = &self.batch {
            writeln!(f, "// reads one text at a time: {why}")?;
        }
        Ok(())
    }
}

/// Whether every launch has a kernel.
fn are_known(steps: &[Step], kernels: usize) -> bool {
    steps.iter().all(|step| match step {
        Step::Launch(forms) => {
            forms.iter().flat_map(|it| &it.launches).all(|it| it.kernel < kernels)
        }
        Step::Loop { steps, .. } => are_known(steps, kernels),
    })
}

/// A kernel: one entry point, compiled for each architecture.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Kernel {
    /// What it is called in tables.
    pub name: String,
    /// What of the spec it computes.
    pub lines: Lines,
    /// The name of its function.
    pub entry: String,
    /// CUDA C++.
    pub source: String,
    /// The architecture whose instructions it needs; any where there is none.
    pub only: Option<String>,
    /// What it became, architecture by architecture; empty for those that it is not for.
    pub images: Vec<Image>,
    /// Threads of a block.
    pub threads: u32,
    /// Bytes of shared memory that a launch gives each block.
    pub shared: u32,
    /// As many where its code is made for a GPU before Hopper, if that is less.
    pub shared_before_hopper: Option<u32>,
}

/// The kernels that choose a token for each row of logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// The one that finds the most probable token, with the words of logits, tokens, scratch memory
    /// and counters.
    pub greedy: usize,
    /// Its blocks for a row.
    pub parts: u64,
    /// The one that then draws a token by the rule of the row, with the words of logits, tokens,
    /// rules and the positions of a sequence that the step has.
    pub draw: usize,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Step {
    /// Launches in one of several forms: the first that fits.
    Launch(Vec<Form>),
    /// Steps for each place along an axis.
    Loop {
        /// Its number.
        id: usize,
        /// How many places.
        size: Sum,
        /// Whether it counts down.
        reverse: bool,
        /// What runs.
        steps: Vec<Step>,
    },
}

impl Step {
    fn has_products(&self) -> bool {
        match self {
            Step::Launch(forms) => forms.iter().any(|it| !it.products.is_empty()),
            Step::Loop { steps, .. } => steps.iter().any(Step::has_products),
        }
    }

    /// See [`GpuProgram::reached`].
    fn reach<'a>(
        &'a self,
        runs: &dyn Fn(&Form) -> bool,
        ends: &dyn Fn(&Form) -> bool,
        to: &mut Vec<&'a Form>,
    ) {
        match self {
            Step::Launch(forms) => {
                for form in forms.iter().filter(|it| runs(it)) {
                    to.push(form);
                    if ends(form) {
                        break;
                    }
                }
            }
            Step::Loop { steps, .. } => steps.iter().for_each(|it| it.reach(runs, ends, to)),
        }
    }
}

/// Launches that do together what is to be done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Form {
    /// Layers for whose formats it is made, by the loop that counts them; all if there are none.
    pub layers: Option<(usize, Vec<u64>)>,
    /// The most rows that it is made for, and what counts them.
    pub rows: Option<(Sum, u64)>,
    /// What is launched, in order.
    pub launches: Vec<Launch>,
    /// What cuBLASLt computes then.
    pub products: Vec<Multiplied>,
    /// Bytes of scratch memory, from its beginning on.
    pub scratch: u64,
}

impl Form {
    /// Whether it can be where there are such kernels, and cuBLASLt or not.
    pub(crate) fn runs_with(&self, has: impl Fn(usize) -> bool, has_library: bool) -> bool {
        self.launches.iter().all(|it| has(it.kernel)) && (has_library || self.products.is_empty())
    }

    /// Whether it is for all layers and any number of rows.
    fn always_fits(&self) -> bool {
        self.layers.is_none() && self.rows.is_none() && self.products.is_empty()
    }

    /// Whether extent `past` is in what the copy engine reads.
    pub(crate) fn maps_have(&self, past: usize) -> bool {
        let mut maps = self.launches.iter().flat_map(|it| &it.maps);
        maps.any(|it| it.rows.has(past) || it.word.sum.has(past))
    }
}

/// A product `y = x w^T` by cuBLASLt, for which all matrices lie in rows, `x` and `w` in `bf16`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Multiplied {
    /// Where `x` begins.
    pub x: Word,
    /// Where `w` begins.
    pub weights: Word,
    /// Where `y` begins.
    pub y: Word,
    /// Whether `y` is in `bf16`, or else in `f32`.
    pub is_narrow: bool,
    /// Rows of `x` and `y`.
    pub rows: Sum,
    /// Columns of `y`, which are rows of `w`.
    pub columns: u64,
    /// Columns of `x` and `w`.
    pub depth: u64,
    /// Numbers from a row of `y` to the next.
    pub stride: u64,
    /// Whether it is added to what lies where `y` goes.
    pub adds: bool,
}

/// A launch of a kernel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Launch {
    /// Which kernel.
    pub kernel: usize,
    /// Its tensor maps, which come before its words.
    pub maps: Vec<TensorMap>,
    /// Its words. A word that moves is passed as its value where nothing is past, and what each
    /// position adds.
    pub words: Vec<Word>,
    /// Blocks along x and y.
    pub blocks: [Blocks; 2],
    /// The blocks of each part, where several launches are one: they come one after the other along
    /// x, and the kernel is told behind its words where each part ends.
    pub parts: Vec<Blocks>,
}

/// A matrix that the copy engine reads in boxes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TensorMap {
    /// Where it begins.
    pub word: Word,
    /// Bytes of an element: 2 for `bf16`, 1 for E4M3.
    pub element_bytes: u64,
    /// Elements of a row.
    pub columns: u64,
    /// How many rows.
    pub rows: Sum,
    /// Elements of a row in a box, and rows.
    pub boxed: [u32; 2],
}

/// How many blocks: the product of these sums over `each`, at most `most`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Blocks {
    /// Factors.
    pub of: Vec<Sum>,
    /// How much of their product one block does.
    pub each: u64,
    /// No more than so many.
    pub most: u64,
}

/// An argument.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Word {
    /// Where it begins.
    pub base: Base,
    /// What is added.
    pub sum: Sum,
    /// Whether it depends on how many positions are past, which is read on the device.
    pub moves: bool,
    /// In a batch, bytes from what the first row has to what the second has, if each has its own:
    /// then passed are the value where nothing is past, what each position adds, and this.
    pub pitch: Option<Sum>,
}

/// The beginning of a piece of memory, or 0 for a number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Base {
    /// A number.
    Zero,
    /// Intermediate values.
    Arena,
    /// A weight by its slot, and the loop that counts its layers.
    Weight(u64, Option<Counter>),
    /// Tables.
    Constants,
    /// A state.
    State(usize),
    /// An input.
    Input(usize),
    /// An output.
    Output(usize),
    /// Scratch memory.
    Scratch,
}

/// What counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Counter {
    /// The steps of a loop.
    Loop(usize),
    /// Always the same.
    Fixed(u64),
    /// A run-time extent.
    Extent(usize),
}

/// A sum of products.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sum(pub Vec<Product>);

/// A number times extents and counters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Product {
    /// The number.
    pub number: u64,
    /// What it is multiplied by.
    pub factors: Vec<Counter>,
}

impl Sum {
    /// A number.
    pub fn number(number: u64) -> Sum {
        Sum(vec![Product { number, factors: Vec::new() }])
    }

    /// Both added.
    pub fn plus(mut self, other: Sum) -> Sum {
        self.0.extend(other.0);
        self
    }

    /// Both multiplied.
    pub fn times(&self, other: &Sum) -> Sum {
        let product = |a: &Product, b: &Product| Product {
            number: a.number.saturating_mul(b.number),
            factors: a.factors.iter().chain(&b.factors).cloned().collect(),
        };
        Sum(self.0.iter().flat_map(|a| other.0.iter().map(move |b| product(a, b))).collect())
    }

    /// Whether extent `at` is in it.
    pub fn has(&self, at: usize) -> bool {
        self.0.iter().any(|it| it.factors.contains(&Counter::Extent(at)))
    }

    /// Its value.
    pub fn value(&self, extents: &[u64], loops: &[u64]) -> u64 {
        let factor = |it: &Counter| match it {
            Counter::Loop(id) => loops.get(*id).copied().unwrap_or(0),
            Counter::Fixed(at) => *at,
            Counter::Extent(at) => extents.get(*at).copied().unwrap_or(0),
        };
        let product = |it: &Product| {
            it.factors.iter().fold(it.number, |value, it| value.saturating_mul(factor(it)))
        };
        self.0.iter().fold(0, |sum, it| sum.saturating_add(product(it)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A form of so much scratch memory with that kernel alone.
    fn form(kernel: usize, scratch: u64) -> Form {
        let one = Blocks { of: Vec::new(), each: 1, most: 1 };
        let blocks = [one.clone(), one];
        let (maps, words, parts) = (Vec::new(), Vec::new(), Vec::new());
        let launches = vec![Launch { kernel, maps, words, blocks, parts }];
        Form { launches, scratch, ..Form::default() }
    }

    #[test]
    fn scratch_memory_is_for_what_runs() {
        let few = Form { rows: Some((Sum::number(1), 16)), ..form(0, 10) };
        let first = Form { layers: Some((0, vec![0])), ..form(0, 20) };
        let launch = Step::Launch(vec![few, first, form(1, 5), form(2, 1000)]);
        let (id, size, reverse) = (0, Sum::number(2), false);
        let steps = vec![Step::Loop { id, size, reverse, steps: vec![launch] }];
        let program = GpuProgram { steps, scratch_bytes: 7, ..GpuProgram::default() };
        let with = |kernels: &[usize]| {
            program.scratch_where(|it| it.runs_with(|kernel| kernels.contains(&kernel), false))
        };
        assert_eq!(with(&[0, 1, 2]), 20);
        assert_eq!(with(&[1, 2]), 7);
        assert_eq!(with(&[0, 2]), 1000);
        let batch = Ok(vec![Step::Launch(vec![form(0, 30)])]);
        assert_eq!(GpuProgram { batch, ..program }.scratch_where(|_| true), 30);
    }

    #[test]
    fn what_nothing_comes_to_is_not_compiled() {
        let kernel =
            |only: Option<&str>| Kernel { only: only.map(str::to_owned), ..Kernel::default() };
        let few = Form { rows: Some((Sum::number(1), 16)), ..form(1, 0) };
        let both =
            Form { launches: [form(0, 0).launches, form(2, 0).launches].concat(), ..form(0, 0) };
        let program = GpuProgram {
            kernels: [None, None, Some("sm_90a"), None, None].map(kernel).to_vec(),
            steps: vec![Step::Launch(vec![few, both, form(3, 0)])],
            reader: 4,
            ..GpuProgram::default()
        };
        assert_eq!(program.reached_on("sm_90a"), [true, true, true, false, true]);
        assert_eq!(program.reached_on("sm_80"), [false, true, false, true, true]);
    }
}
