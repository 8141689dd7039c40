//! Runs a program on a GPU.
//!
//! Everything has its address before the first step. A step of one position, or of the next one of
//! each of several sequences, is recorded once and replayed; what it has to know of how many
//! positions are past stands in the device's memory. Longer steps are enqueued launch by launch.

mod ceilings;

use std::collections::BTreeMap;
use std::sync::Arc;

use kernels_cuda::COUNTER_BYTES;
use runtime::{
    Answer, Ceilings, Engine, ExtentRole, Fault, Opened, Pages, Port, Positions, Program, Room,
    Rule,
};

use crate::code::{Code, functions};
use crate::driver::{Argument, Device, Function, Graph, Memory, Pinned, Shape};
use crate::library::{Library, Shape as Matrices, WORKSPACE};
use crate::program::{
    Base, Blocks, Choice, Counter, Form, GpuProgram, Launch, Multiplied, Step, Sum, TensorMap, Word,
};
use crate::room::{check_room, check_sequences, most_rows, port_bytes, uncountable};

/// The most rows that products are not left to cuBLASLt for: with so few, steps are recorded.
const FEW_ROWS: u64 = 128;

/// So many recorded steps are kept at most: an encoder's texts may have any length.
const MOST_GRAPHS: usize = 64;

/// A program in the memory of a GPU.
struct Gpu {
    name: String,
    /// Multiprocessors.
    processors: u32,
    /// The compute capability that its code is made for.
    made_for: u32,
    program: GpuProgram,
    /// Those kernels that are for this device.
    functions: Vec<Option<Function>>,
    weights: Memory,
    /// Where each weight begins.
    slots: Vec<u64>,
    constants: Memory,
    arena: Memory,
    scratch: Memory,
    /// Those of one sequence after those of another.
    states: Vec<Memory>,
    /// Bytes of each that belong to one sequence.
    state_bytes: Vec<u64>,
    /// How many sequences there is room for, and the one that a step is of.
    sequences: u64,
    sequence: u64,
    inputs: Vec<Shared>,
    outputs: Vec<Shared>,
    /// The token chosen for each row of the first output, and the rule of each sequence.
    tokens: Shared,
    rules: Shared,
    /// How many positions are past, for each sequence.
    past: Shared,
    /// Its place among the extents.
    past_at: Option<usize>,
    new_at: Option<usize>,
    capacity: u64,
    /// `None` where a step has to be enqueued anew each time.
    graphs: BTreeMap<(Vec<u64>, Way), Option<Graph>>,
    /// Whether cuBLASLt is still to be looked for: by the first step with products for it, since
    /// loading it takes time.
    seeks_library: bool,
    library: Option<Library>,
    weight_bytes: u64,
    /// The last to go: all of the above is its.
    device: Device,
}

/// What a step is besides its extents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Way {
    /// Whether each position is of a sequence of its own.
    is_batch: bool,
    /// What is brought back.
    answer: Brought,
}

/// What is brought back of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Brought {
    Nothing,
    Outputs,
    /// The most probable tokens.
    Greedy,
    /// Tokens that are drawn.
    Drawn,
}

impl Brought {
    fn of(answer: Answer<'_>) -> Brought {
        match answer {
            Answer::Nothing => Brought::Nothing,
            Answer::Outputs => Brought::Outputs,
            Answer::Tokens(rules) if rules.iter().all(Rule::is_greedy) => Brought::Greedy,
            Answer::Tokens(_) => Brought::Drawn,
        }
    }
}

/// A rule as `draw.cuh` reads it.
fn words(rule: &Rule) -> [u64; 5] {
    let Rule { scale, top_k, top_p, farthest, seed, sequence } = *rule;
    let both = u64::from(top_k) | u64::from(farthest) << 32;
    [seed, sequence, top_p, both, u64::from(scale.to_bits())]
}

/// Its bytes.
const RULE_BYTES: u64 = 40;

/// An input or output: on the device and here.
struct Shared {
    there: Memory,
    here: Pinned,
    port: Port,
}

impl Shared {
    fn new(device: &Device, port: Port, rows: u64) -> Result<Shared, Fault> {
        let bytes = port_bytes(&port, rows).ok_or_else(uncountable)?;
        Ok(Shared { there: device.poisoned(bytes)?, here: device.pinned(bytes)?, port })
    }

    /// Writes words here, as many as there is room for.
    fn fill(&mut self, words: impl IntoIterator<Item = u64>) {
        let places = self.here.get_mut().chunks_exact_mut(8);
        places.zip(words).for_each(|(to, it)| to.copy_from_slice(&it.to_ne_bytes()));
    }

    /// Bytes in a step with these extents.
    fn bytes(&self, extents: &[u64]) -> u64 {
        let rows = self.port.rows.map_or(1, |it| extents[it]);
        rows * self.port.row * self.port.element_bytes
    }
}

fn no_logits() -> Fault {
    Fault::new("R0604", "the model gives no logits to choose from")
}

/// Makes a program ready to run on the first GPU of this machine.
///
/// # Errors
///
/// When there is none, none that it was compiled for, or not enough memory on it.
pub fn open(program: &Program, code: &[u8], weights: Arc<Pages>, room: Room) -> Opened {
    let gpu = GpuProgram::from_bytes(code)?;
    check_sequences(&gpu, room.sequences)?;
    let device = Device::open()?;
    let properties = device.properties()?;
    let code = Code::choose(&gpu.architectures, properties.capability)?;
    // What has no room anyway is refused before a driver compiles anything.
    check_room(program, gpu.scratch_bytes, room, properties.memory[0])?;
    let functions = functions(&device, &gpu, code, properties.shared)?;
    let has_products = gpu.has_products();
    let workspace = if has_products { WORKSPACE } else { 0 };
    let runs = |it: &Form| it.runs_with(|kernel| functions[kernel].is_some(), has_products);
    let scratch_bytes = gpu.scratch_where(runs);
    check_room(program, scratch_bytes.saturating_add(workspace), room, properties.memory[0])?;
    let shared = |it: &Port| Shared::new(&device, it.clone(), most_rows(program, it));
    let at = |role| program.extents.iter().position(|it| it.role == role);
    let of_each = |element_bytes| {
        Shared::new(&device, Port { row: room.sequences, element_bytes, ..Port::default() }, 1)
    };
    let on_device = device.zeros(weights.len() as u64)?;
    if gpu.made_up.is_empty() {
        device.upload(&on_device, &weights)?;
    }
    let scratch = device.poisoned(scratch_bytes)?;
    device.clear(&scratch, 0, COUNTER_BYTES.min(scratch_bytes))?;
    let constants = device.zeros(program.constants.len() as u64)?;
    device.upload(&constants, &program.constants)?;
    let state_bytes = program.states.iter().map(|it| it.bytes(room.positions));
    let state_bytes: Vec<u64> = state_bytes.collect::<Option<_>>().ok_or_else(uncountable)?;
    let states = state_bytes.iter().map(|it| device.zeros(it * room.sequences));
    let gpu = Gpu {
        name: properties.name,
        processors: properties.processors,
        made_for: code.made_for,
        functions,
        slots: program.weights.iter().map(|it| it.offset).collect(),
        weights: on_device,
        constants,
        arena: device.poisoned(program.arena_bytes)?,
        scratch,
        states: states.collect::<Result<_, _>>()?,
        state_bytes,
        sequences: room.sequences,
        sequence: 0,
        inputs: program.inputs.iter().map(shared).collect::<Result<_, _>>()?,
        outputs: program.outputs.iter().map(shared).collect::<Result<_, _>>()?,
        tokens: of_each(4)?,
        rules: of_each(RULE_BYTES)?,
        past: of_each(8)?,
        past_at: at(ExtentRole::Past),
        new_at: at(ExtentRole::New),
        capacity: room.positions,
        graphs: BTreeMap::new(),
        seeks_library: has_products,
        library: None,
        weight_bytes: weights.len() as u64,
        program: gpu,
        device,
    };
    gpu.make_up(program.extents.len())?;
    Ok(Box::new(gpu))
}

impl Gpu {
    /// Whether kernels wait by themselves for those before them.
    fn overlaps(&self) -> bool {
        90 <= self.made_for
    }

    /// Makes up the weights, if nobody brings them.
    fn make_up(&self, extents: usize) -> Result<(), Fault> {
        let extents = vec![0; extents];
        for launch in &self.program.made_up {
            self.launch(launch, &extents, &[], &mut true)?;
        }
        self.device.wait()
    }

    /// Enqueues a step: what it takes, its launches, what it gives.
    fn enqueue(&self, extents: &[u64], way: Way) -> Result<(), Fault> {
        let rows = self.new_at.map_or(1, |it| extents[it]);
        let sequences = if way.is_batch { rows } else { 1 };
        self.device.send(&self.past.there, &self.past.here, 8 * sequences)?;
        if way.answer == Brought::Drawn {
            self.device.send(&self.rules.there, &self.rules.here, RULE_BYTES * sequences)?;
        }
        for input in &self.inputs {
            self.device.send(&input.there, &input.here, input.bytes(extents))?;
        }
        let mut loops = Vec::new();
        let mut first = true;
        self.steps(self.steps_of(way), extents, &mut loops, &mut first)?;
        match way.answer {
            Brought::Nothing => Ok(()),
            Brought::Greedy | Brought::Drawn => {
                let logits = self.last_rows(extents, sequences)?;
                self.choose_greedily(logits, sequences)?;
                if way.answer == Brought::Drawn {
                    self.draw(logits, sequences, rows / sequences)?;
                }
                self.device.fetch(&self.tokens.here, &self.tokens.there, 4 * sequences)
            }
            Brought::Outputs => self
                .outputs
                .iter()
                .try_for_each(|it| self.device.fetch(&it.here, &it.there, it.bytes(extents))),
        }
    }

    /// Where the last so many rows of the first output begin.
    fn last_rows(&self, extents: &[u64], rows: u64) -> Result<u64, Fault> {
        let output = self.outputs.first().ok_or_else(no_logits)?;
        let row = output.port.row * output.port.element_bytes;
        let before = output.bytes(extents).saturating_sub(rows * row);
        Ok(output.there.address() + before)
    }

    /// Finds the most probable token of each row.
    fn choose_greedily(&self, logits: u64, rows: u64) -> Result<(), Fault> {
        let Choice { greedy, parts, .. } = self.choice()?;
        let counters = self.scratch.address();
        let words = [
            self.past.there.address(),
            logits,
            self.tokens.there.address(),
            counters + COUNTER_BYTES,
            counters,
        ];
        self.launch_alone(greedy, [parts as u32, rows as u32], &words)
    }

    /// Draws a token for each row by its rule, after the most probable one was found, in a step of
    /// so many positions of each sequence.
    fn draw(&self, logits: u64, rows: u64, positions: u64) -> Result<(), Fault> {
        let words = [
            self.past.there.address(),
            logits,
            self.tokens.there.address(),
            self.rules.there.address(),
            positions,
        ];
        self.launch_alone(self.choice()?.draw, [rows as u32, 1], &words)
    }

    fn choice(&self) -> Result<Choice, Fault> {
        self.program.choice.ok_or_else(no_logits)
    }

    /// Launches a kernel that belongs to no launch of the plan.
    fn launch_alone(&self, kernel: usize, blocks: [u32; 2], words: &[u64]) -> Result<(), Fault> {
        let Some(function) = self.functions[kernel] else { return Ok(()) };
        let threads = self.program.kernels[kernel].threads;
        let shape = Shape { function, blocks, threads, shared: 0, overlaps: self.overlaps() };
        let mut arguments: Vec<Argument> = words.iter().copied().map(Argument::Word).collect();
        self.device.launch(&shape, &mut arguments)
    }

    fn steps_of(&self, way: Way) -> &[Step] {
        match &self.program.batch {
            Ok(batch) if way.is_batch => batch,
            // A batch of one is a step of that sequence.
            _ => &self.program.steps,
        }
    }

    /// Whether how many positions are past decides what is launched, and not only what launches
    /// read of it on the device.
    fn follows(&self, steps: &[Step], extents: &[u64], loops: &mut Vec<u64>) -> bool {
        let Some(past) = self.past_at else { return false };
        steps.iter().any(|step| match step {
            Step::Launch(forms) => {
                let fits = |it: &Form| self.fits(it, extents, loops);
                let tried = forms.iter().position(fits).map_or(&forms[..], |it| &forms[..=it]);
                tried.iter().any(|it| it.rows.as_ref().is_some_and(|it| it.0.has(past)))
                    || tried.last().is_some_and(|it| it.maps_have(past))
            }
            Step::Loop { id, size, steps, .. } => {
                loops.resize(loops.len().max(id + 1), 0);
                size.has(past)
                    || (0..size.value(extents, loops)).any(|at| {
                        loops[*id] = at;
                        self.follows(steps, extents, loops)
                    })
            }
        })
    }

    fn steps(
        &self,
        steps: &[Step],
        extents: &[u64],
        loops: &mut Vec<u64>,
        first: &mut bool,
    ) -> Result<(), Fault> {
        for step in steps {
            match step {
                Step::Launch(forms) => {
                    let form = forms.iter().find(|it| self.fits(it, extents, loops));
                    let form =
                        form.ok_or_else(|| Fault::new("R0201", "no form of a launch fits"))?;
                    for launch in &form.launches {
                        self.launch(launch, extents, loops, first)?;
                    }
                    for product in &form.products {
                        self.multiply(product, extents, loops)?;
                        *first = false;
                    }
                }
                Step::Loop { id, size, reverse, steps } => {
                    let size = size.value(extents, loops);
                    loops.resize(loops.len().max(id + 1), 0);
                    for at in 0..size {
                        loops[*id] = if *reverse { size - 1 - at } else { at };
                        self.steps(steps, extents, loops, first)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether `form` is for this device, this layer and so many rows.
    fn fits(&self, form: &Form, extents: &[u64], loops: &[u64]) -> bool {
        let layer = |(id, layers): &(usize, Vec<u64>)| layers.contains(&loops[*id]);
        let few = |(rows, most): &(Sum, u64)| rows.value(extents, loops) <= *most;
        let many = |it: &Multiplied| FEW_ROWS < it.rows.value(extents, loops);
        form.runs_with(|kernel| self.functions[kernel].is_some(), self.library.is_some())
            && form.products.iter().all(many)
            && form.layers.as_ref().is_none_or(layer)
            && form.rows.as_ref().is_none_or(few)
    }

    fn launch(
        &self,
        launch: &Launch,
        extents: &[u64],
        loops: &[u64],
        first: &mut bool,
    ) -> Result<(), Fault> {
        let mut blocks = launch.blocks.each_ref().map(|it| self.blocks(it, extents, loops));
        let mut ends = Vec::new();
        for part in &launch.parts {
            ends.push(ends.last().copied().unwrap_or(0) + self.blocks(part, extents, loops));
        }
        if let Some(last) = ends.last() {
            blocks[0] = *last;
        }
        let Some(function) = self.functions[launch.kernel].filter(|_| !blocks.contains(&0)) else {
            return Ok(());
        };
        let kernel = &self.program.kernels[launch.kernel];
        let mut arguments = vec![Argument::Word(self.past.there.address())];
        for map in &launch.maps {
            arguments.push(self.map(map, extents, loops)?);
        }
        for word in &launch.words {
            self.argument(word, extents, loops, &mut arguments);
        }
        arguments.extend(ends.into_iter().map(|it| Argument::Word(u64::from(it))));
        let shape = Shape {
            function,
            blocks,
            threads: kernel.threads,
            shared: kernel.shared_for(self.made_for),
            // The copies before the first kernel do not know of kernels that wait by themselves.
            overlaps: self.overlaps() && !std::mem::take(first),
        };
        self.device.launch(&shape, &mut arguments)
    }

    /// Has the library compute a product, in a step that is not recorded: of what is past, it is
    /// told as it is now.
    fn multiply(&self, of: &Multiplied, extents: &[u64], loops: &[u64]) -> Result<(), Fault> {
        let Multiplied { columns, depth, stride, is_narrow, adds, .. } = *of;
        let Some(library) = &self.library else { return Ok(()) };
        let shape =
            Matrices { rows: of.rows.value(extents, loops), columns, depth, stride, is_narrow };
        let at = |it: &Word| self.base(&it.base, loops, extents) + it.sum.value(extents, loops);
        library.multiply(&self.device, shape, adds, [&of.x, &of.weights, &of.y].map(at))
    }

    /// The blocks of a launch, as if as many positions were past as there is room for.
    fn blocks(&self, blocks: &Blocks, extents: &[u64], loops: &[u64]) -> u32 {
        let extents = self.with_past(extents, self.capacity);
        let factors = blocks.of.iter().map(|it| it.value(&extents, loops));
        let work = factors.fold(1, u64::saturating_mul);
        let wanted = if blocks.of.is_empty() { blocks.most } else { work.div_ceil(blocks.each) };
        wanted.min(blocks.most) as u32
    }

    fn with_past(&self, extents: &[u64], past: u64) -> Vec<u64> {
        let mut extents = extents.to_vec();
        self.past_at.into_iter().for_each(|at| extents[at] = past);
        extents
    }

    /// Where a piece of memory begins.
    fn base(&self, base: &Base, loops: &[u64], extents: &[u64]) -> u64 {
        match base {
            Base::Zero => 0,
            Base::Arena => self.arena.address(),
            Base::Weight(first, layer) => {
                let layer = layer.as_ref().map_or(0, |it| match it {
                    Counter::Loop(id) => loops[*id],
                    Counter::Fixed(at) => *at,
                    Counter::Extent(at) => extents[*at],
                });
                self.weights.address() + self.slots[(first + layer) as usize]
            }
            Base::Constants => self.constants.address(),
            Base::State(at) => self.states[*at].address() + self.sequence * self.state_bytes[*at],
            Base::Input(at) => self.inputs[*at].there.address(),
            Base::Output(at) => self.outputs[*at].there.address(),
            Base::Scratch => self.scratch.address(),
        }
    }

    fn argument(&self, word: &Word, extents: &[u64], loops: &[u64], into: &mut Vec<Argument>) {
        let base = self.base(&word.base, loops, extents);
        if !word.moves && word.pitch.is_none() {
            into.push(Argument::Word(base + word.sum.value(extents, loops)));
            return;
        }
        let at = |past| word.sum.value(&self.with_past(extents, past), loops);
        into.extend([base + at(0), at(1) - at(0)].map(Argument::Word));
        into.extend(word.pitch.iter().map(|it| Argument::Word(it.value(extents, loops))));
    }

    /// A matrix as the copy engine wants it described.
    fn map(&self, map: &TensorMap, extents: &[u64], loops: &[u64]) -> Result<Argument, Fault> {
        let mut begin = Vec::new();
        self.argument(&map.word, extents, loops, &mut begin);
        let [Argument::Word(address)] = begin[..] else {
            return Err(Fault::new("R0201", "a matrix that moves"));
        };
        let rows = map.rows.value(extents, loops);
        self.device.tensor_map(address, map.element_bytes, [map.columns, rows], map.boxed)
    }
}

impl Engine for Gpu {
    fn input(&mut self, at: usize) -> &mut [u8] {
        self.inputs[at].here.get_mut()
    }

    fn output(&self, at: usize) -> &[u8] {
        self.outputs[at].here.get()
    }

    fn tokens(&self) -> &[i32] {
        self.tokens.here.integers()
    }

    fn clear(&mut self, state: usize, sequence: usize) -> Result<(), Fault> {
        let bytes = self.state_bytes[state];
        self.device.clear(&self.states[state], sequence as u64 * bytes, bytes)
    }

    fn run(&mut self, extents: &[u64], of: Positions<'_>, answer: Answer<'_>) -> Result<(), Fault> {
        let is_batch = matches!(of, Positions::Each(_));
        let way = Way { is_batch, answer: Brought::of(answer) };
        let (first, past) = match of {
            Positions::Of(sequence) => {
                (sequence as u64, vec![self.past_at.map_or(0, |it| extents[it])])
            }
            Positions::Each(past) => (0, past.to_vec()),
        };
        if self.sequences < first + past.len() as u64 {
            return Err(Fault::new("R0303", "a sequence that there is no room for"));
        }
        self.sequence = first;
        self.past.fill(past);
        if let Answer::Tokens(rules) = answer {
            self.rules.fill(rules.iter().flat_map(words));
        }
        let many = self.new_at.is_none_or(|it| FEW_ROWS < extents[it]);
        if many && !is_batch && std::mem::take(&mut self.seeks_library) {
            self.library = Library::open(&self.device)?;
        }
        // The last parts of many prompts are not worth a graph each.
        let is_short = self.sequences == 1 && self.new_at.is_some_and(|it| extents[it] == 1);
        if !is_short && !way.is_batch {
            self.enqueue(extents, way)?;
            return self.device.wait();
        }
        let key = (self.with_past(extents, 0), way);
        if !self.graphs.contains_key(&key) {
            let steps = self.steps_of(way);
            let follows = self.follows(steps, extents, &mut Vec::new());
            let graph = || self.device.record(|| self.enqueue(extents, way));
            let graph = (!follows).then(graph).transpose()?;
            if self.graphs.len() == MOST_GRAPHS {
                self.graphs.clear();
            }
            self.graphs.insert(key.clone(), graph);
        }
        match &self.graphs[&key] {
            Some(graph) => self.device.replay(graph)?,
            None => self.enqueue(extents, way)?,
        }
        self.device.wait()
    }

    fn width(&self) -> usize {
        1
    }

    fn device(&self) -> Option<String> {
        Some(self.name.clone())
    }

    fn ceilings(&mut self) -> Result<Ceilings, Fault> {
        self.measure()
    }
}
