//! A model at work: its memory, its threads, and how far it has read.

#![expect(unsafe_code, reason = "reads outputs as numbers")]

use std::ops::Range;
use std::sync::Arc;

use text::Rule;

use crate::code::Code;
use crate::engine::{Answer, Ceilings, Engine, Positions, Room};
use crate::memory::Pages;
use crate::pool::Pool;
use crate::processor::Processor;
use crate::program::{ExtentRole, ExtentSlot, Port, Program};
use crate::{Fault, Model};

/// Capacities are multiples of this, so that every bank of a state begins at a cache line.
const CAPACITY_STEP: u64 = 16;

/// A model that reads tokens and gives logits.
pub struct Session {
    engine: Box<dyn Engine>,
    extents: Vec<ExtentSlot>,
    /// Their values in the last step.
    sizes: Vec<u64>,
    /// States that each step changes as a whole: they must be zeros at the beginning.
    fixed_states: Vec<usize>,
    logits: Logits,
    /// Where the last step's logits lie in the first output.
    answer: Range<usize>,
    outputs: Vec<Port>,
    /// Which output is one vector for a whole text, and its width.
    vector: Option<(usize, usize)>,
    bounds: Bounds,
    /// Which input takes the tokens of a step.
    tokens: usize,
    /// Which input takes what an encoder reads.
    source: Option<usize>,
    /// Tokens that the encoder reads.
    source_tokens: u64,
    /// Which sequence it reads, of those that the engine has room for.
    sequence: usize,
    /// Positions of that sequence that are past.
    past: u64,
}

/// What is known of the first output.
#[derive(Clone, Copy, Debug)]
struct Logits {
    /// Logits of one position.
    row: usize,
    /// Which extent counts the positions.
    rows: Option<usize>,
}

/// What a step may ask for.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// Positions of one step.
    new: u64,
    /// Positions of one step whose logits can be had.
    last: u64,
    /// Positions in all.
    capacity: u64,
    /// The largest capacity that the program was made for.
    most: u64,
    /// Tokens that an encoder can read.
    source: u64,
    /// Tokens are below it.
    vocabulary: u64,
}

impl Session {
    /// Makes a program ready to run, with room for at least `capacity` positions, or for as many as
    /// it was made for.
    pub fn new(
        program: &Program,
        code: Code,
        weights: Arc<Pages>,
        pool: Pool,
        capacity: Option<u64>,
    ) -> Result<Session, Fault> {
        Session::of_sequences(1, program, code, weights, pool, capacity)
    }

    /// The same with room for so many sequences.
    pub(crate) fn of_sequences(
        sequences: u64,
        program: &Program,
        code: Code,
        weights: Arc<Pages>,
        pool: Pool,
        capacity: Option<u64>,
    ) -> Result<Session, Fault> {
        program.check(code.len() as u64, weights.len() as u64)?;
        Session::open(program, capacity, |positions| {
            let room = Room { positions, sequences };
            let processor = Processor::new(program, code, weights, pool, room)?;
            Ok(Box::new(processor))
        })
    }

    /// The same on an engine that `open` makes, with room for so many positions of a sequence.
    pub fn open(
        program: &Program,
        capacity: Option<u64>,
        open: impl FnOnce(u64) -> Result<Box<dyn Engine>, Fault>,
    ) -> Result<Session, Fault> {
        let bounds = bounds(program, capacity)?;
        let output = program.outputs.first();
        Ok(Session {
            engine: open(bounds.capacity)?,
            extents: program.extents.clone(),
            sizes: vec![0; program.extents.len()],
            fixed_states: (0..program.states.len())
                .filter(|&it| 0 < program.states[it].fixed_bytes && !program.states[it].once)
                .collect(),
            logits: Logits {
                row: output.map_or(0, |it| it.row as usize),
                rows: output.and_then(|it| it.rows),
            },
            answer: 0..0,
            outputs: program.outputs.clone(),
            vector: vector(program),
            bounds,
            tokens: program.input_of(ExtentRole::New).unwrap_or(0),
            source: program.input_of(ExtentRole::Source),
            source_tokens: 0,
            sequence: 0,
            past: 0,
        })
    }

    /// Positions read since the beginning.
    pub fn past(&self) -> u64 {
        self.past
    }

    /// Positions that there is room for in all.
    pub fn capacity(&self) -> u64 {
        self.bounds.capacity
    }

    /// Tokens are below this number.
    pub fn vocabulary(&self) -> u64 {
        self.bounds.vocabulary
    }

    /// Threads or devices that run each step.
    pub fn width(&self) -> usize {
        self.engine.width()
    }

    /// The device that runs it; `None` for the processor.
    pub fn device(&self) -> Option<String> {
        self.engine.device()
    }

    /// Measures what the machine could do.
    pub(crate) fn ceilings(&mut self) -> Result<Ceilings, Fault> {
        self.engine.ceilings()
    }

    /// Reads a text of any length, in as many steps as it takes: the logits that follow it.
    pub fn prefill(&mut self, tokens: &[i32]) -> Result<&[f32], Fault> {
        self.read(tokens, Answer::Outputs)?;
        Ok(self.logits())
    }

    /// The same; the token that follows it by `rule`.
    pub fn pick(&mut self, tokens: &[i32], rule: &Rule) -> Result<u32, Fault> {
        self.read(tokens, Answer::Tokens(std::slice::from_ref(rule)))?;
        Ok(self.engine.tokens().first().map_or(0, |it| *it as u32))
    }

    fn read(&mut self, tokens: &[i32], answer: Answer<'_>) -> Result<(), Fault> {
        self.check_room(tokens.len() as u64)?;
        let split = tokens.len().saturating_sub(1) / self.bounds.new as usize;
        let (whole, rest) = tokens.split_at(split * self.bounds.new as usize);
        for part in whole.chunks(self.bounds.new as usize) {
            self.run(part, 1, Answer::Nothing)?;
        }
        self.run(rest, 1, answer)
    }

    /// Turns to another sequence, which has so many positions.
    pub(crate) fn turn_to(&mut self, sequence: usize, past: u64) {
        (self.sequence, self.past) = (sequence, past);
    }

    /// Reads the next token of each sequence, of which they have `past` positions.
    pub(crate) fn step_each(
        &mut self,
        tokens: &[i32],
        past: &[u64],
        answer: Answer<'_>,
    ) -> Result<(), Fault> {
        self.check_tokens(tokens)?;
        for &past in past {
            self.past = past;
            self.check_room(1)?;
        }
        self.fill(self.tokens, tokens);
        self.set_extents(tokens.len() as u64, tokens.len() as u64);
        self.engine.run(&self.sizes, Positions::Each(past), answer)?;
        self.answer = 0..tokens.len() * self.logits.row;
        Ok(())
    }

    /// The tokens that the last step chose, if it was asked for them.
    pub(crate) fn picked(&self) -> &[i32] {
        self.engine.tokens()
    }

    /// A step, whose answer has the last so many rows.
    fn run(&mut self, tokens: &[i32], last: usize, answer: Answer<'_>) -> Result<(), Fault> {
        self.check_step(tokens, last as u64)?;
        self.fill(self.tokens, tokens);
        self.set_extents(tokens.len() as u64, last as u64);
        self.engine.run(&self.sizes, Positions::Of(self.sequence), answer)?;
        if self.is_stepwise() {
            self.past += tokens.len() as u64;
        }
        let Logits { row, rows } = self.logits;
        let rows = rows.map_or(1, |it| self.sizes[it] as usize);
        self.answer = rows.saturating_sub(last) * row..rows * row;
        Ok(())
    }

    /// Refuses a model that writes no text.
    pub(crate) fn check_writes(&self) -> Result<(), Fault> {
        if self.is_stepwise() {
            return Ok(());
        }
        Err(Fault::new("R0604", "the model reads texts and writes none"))
    }

    /// Whether an encoder has to be given something to read first.
    pub fn has_source(&self) -> bool {
        self.source.is_some()
    }

    /// Reads a text as a whole: the last of the outputs that are one vector for all of it. `None`
    /// when there is no such output.
    pub fn vector(&mut self, tokens: &[i32]) -> Result<Option<&[f32]>, Fault> {
        let Some((output, width)) = self.vector else { return Ok(None) };
        self.reset()?;
        self.step(tokens, 1)?;
        Ok(Some(&floats(self.engine.output(output))[..width]))
    }

    /// What the last step answered.
    pub fn logits(&self) -> &[f32] {
        &floats(self.engine.output(0))[self.answer.clone()]
    }

    /// What the last step gave as the output of that name, one row after the other. `None` when
    /// there is no such output of `f32`.
    pub fn output(&self, name: &str) -> Option<&[f32]> {
        let is_wanted = |it: &Port| it.name == name && it.ty.starts_with("f32");
        let at = self.outputs.iter().position(is_wanted)?;
        let rows = self.outputs[at].rows.map_or(1, |it| self.sizes[it] as usize);
        floats(self.engine.output(at)).get(..rows * self.outputs[at].row as usize)
    }

    /// Forgets what was read after the first `positions`, or everything where a state mixes
    /// positions. How many are left.
    pub fn rewind(&mut self, positions: u64) -> Result<u64, Fault> {
        if self.fixed_states.is_empty() {
            self.past = self.past.min(positions);
        } else if positions < self.past {
            self.reset()?;
        }
        Ok(self.past)
    }

    /// Generated code must not see what it was not made for.
    fn check_step(&self, tokens: &[i32], last: u64) -> Result<(), Fault> {
        let new = tokens.len() as u64;
        let Bounds { new: most, last: most_last, .. } = self.bounds;
        if !(1..=most).contains(&new) {
            let message = format!("a step of {new} tokens, where 1 to {most} can be read");
            return Err(Fault::new("R0303", message));
        }
        if !(1..=most_last.min(new)).contains(&last) {
            let most = most_last.min(new);
            let message = format!("logits of {last} positions, where 1 to {most} can be had");
            return Err(Fault::new("R0303", message));
        }
        if self.source.is_some() && self.source_tokens == 0 {
            return Err(Fault::new("R0303", "the encoder has read nothing yet"));
        }
        self.check_tokens(tokens)?;
        self.check_room(new)
    }

    fn check_tokens(&self, tokens: &[i32]) -> Result<(), Fault> {
        let vocabulary = self.bounds.vocabulary;
        let known = |it: &i32| (0..vocabulary as i64).contains(&i64::from(*it));
        match tokens.iter().find(|it| !known(it)) {
            None => Ok(()),
            Some(token) => {
                let message = format!("token {token} is not in the vocabulary of {vocabulary}");
                Err(Fault::new("R0301", message))
            }
        }
    }

    fn check_room(&self, new: u64) -> Result<(), Fault> {
        let (past, Bounds { capacity, most, .. }) = (self.past, self.bounds);
        if new <= capacity - past {
            return Ok(());
        }
        let help = match capacity < most {
            true => "a larger `--context`, or a shorter text",
            false => "a shorter text: the model was compiled for no more positions",
        };
        let message = format!("{past} + {new} tokens do not fit into a context of {capacity}");
        Err(Fault::new("R0302", message).help(help))
    }

    /// Puts tokens into an input.
    fn fill(&mut self, input: usize, tokens: &[i32]) {
        let elements = self.engine.input(input).chunks_exact_mut(4);
        elements.zip(tokens).for_each(|(to, token)| to.copy_from_slice(&token.to_ne_bytes()));
    }

    fn set_extents(&mut self, new: u64, last: u64) {
        for (value, slot) in self.sizes.iter_mut().zip(&self.extents) {
            *value = match slot.role {
                ExtentRole::New => new,
                ExtentRole::Past => self.past,
                ExtentRole::Last => last,
                ExtentRole::Capacity => self.bounds.capacity,
                ExtentRole::Source => self.source_tokens,
                ExtentRole::First => u64::from(self.past == 0),
            };
        }
    }
}

impl Model for Session {
    fn reset(&mut self) -> Result<(), Fault> {
        for &state in &self.fixed_states {
            self.engine.clear(state, self.sequence)?;
        }
        self.past = 0;
        Ok(())
    }

    fn step(&mut self, tokens: &[i32], last: usize) -> Result<&[f32], Fault> {
        self.run(tokens, last, Answer::Outputs)?;
        Ok(self.logits())
    }

    fn read_source(&mut self, tokens: &[i32]) -> Result<(), Fault> {
        let most = self.bounds.source;
        let Some(input) = self.source.filter(|_| (1..=most).contains(&(tokens.len() as u64)))
        else {
            let message = format!("{} tokens to encode, where {most} can be", tokens.len());
            return Err(Fault::new("R0303", message));
        };
        self.check_tokens(tokens)?;
        self.reset()?;
        self.fill(input, tokens);
        self.source_tokens = tokens.len() as u64;
        Ok(())
    }

    fn is_stepwise(&self) -> bool {
        self.extents.iter().any(|it| it.role == ExtentRole::Past)
    }

    fn longest_step(&self) -> usize {
        self.bounds.new.min(self.bounds.last) as usize
    }
}

/// The last output of a program that is a vector of floats, and its width.
fn vector(program: &Program) -> Option<(usize, usize)> {
    let is_vector = |it: &Port| it.rows.is_none() && it.ty.starts_with("f32");
    let at = program.outputs.iter().rposition(is_vector)?;
    Some((at, program.outputs[at].row as usize))
}

/// What a checked program allows.
fn bounds(program: &Program, capacity: Option<u64>) -> Result<Bounds, Fault> {
    let new = program.bound(ExtentRole::New).unwrap_or(0);
    let most = program.capacity();
    let wanted = capacity.unwrap_or(most);
    if !(1..=most).contains(&wanted) {
        let message = format!("a context of {wanted}, where 1 to {most} is possible");
        return Err(Fault::new("R0302", message));
    }
    let rows = program.outputs.first().and_then(|it| it.rows);
    let last = program.bound(ExtentRole::Last).unwrap_or(rows.map_or(1, |_| new));
    let capacity = wanted.next_multiple_of(CAPACITY_STEP).min(most);
    let source = program.bound(ExtentRole::Source).unwrap_or(0);
    let (new, vocabulary) = (new.min(capacity), program.vocabulary);
    Ok(Bounds { new, last, capacity, most, source, vocabulary })
}

/// Bytes of an output as numbers.
pub(crate) fn floats(bytes: &[u8]) -> &[f32] {
    // SAFETY: every bit pattern is an `f32`, and engines align outputs.
    let (_, floats, _) = unsafe { bytes.align_to::<f32>() };
    floats
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::Frame;
    use crate::program::StateSlot;

    const VOCABULARY: u64 = 5;
    const MOST_NEW: u64 = 4;

    /// Logits are the token, how many were read before it, and the sum of all so far, which each
    /// thread but the first computes from what the first has left behind a barrier.
    unsafe extern "C" fn host(frame: *const Frame, thread: u64, threads: u64) {
        // SAFETY: the frame is made for the program below.
        unsafe {
            let frame_ref = &*frame;
            let [new, past, last] = *frame_ref.extents.cast::<[u64; 3]>();
            let tokens = (*frame_ref.inputs).cast::<i32>();
            let sums = frame_ref.arena.cast::<f32>();
            if thread == 0 {
                let total = (*frame_ref.states).cast::<f32>();
                for i in 0..new as usize {
                    *total += *tokens.add(i) as f32;
                    *sums.add(i) = *total;
                }
            }
            (frame_ref.barrier)(frame, thread);
            let logits = (*frame_ref.outputs).cast::<f32>();
            for row in (0..last).filter(|row| row % threads == thread) {
                let at = (new - last + row) as usize;
                let row = logits.add((row * VOCABULARY) as usize);
                *row = *tokens.add(at) as f32;
                *row.add(1) = past as f32 + at as f32;
                *row.add(2) = *sums.add(at);
            }
        }
    }

    fn program() -> Program {
        let extent = |role, max| ExtentSlot { name: format!("{role:?}"), role, max };
        let port = |rows, row, ty: &str| Port {
            name: ty.into(),
            ty: ty.into(),
            element_bytes: 4,
            row,
            rows: Some(rows),
        };
        Program {
            extents: vec![
                extent(ExtentRole::New, MOST_NEW),
                extent(ExtentRole::Past, 32),
                extent(ExtentRole::Last, MOST_NEW),
                extent(ExtentRole::Capacity, 32),
            ],
            vocabulary: VOCABULARY,
            inputs: vec![port(0, 1, "i32[S]")],
            outputs: vec![port(2, VOCABULARY, "f32[O, V]")],
            states: vec![StateSlot {
                name: "total".into(),
                banks: 1,
                position_bytes: 0,
                fixed_bytes: 4,
                once: false,
            }],
            arena_bytes: 4 * MOST_NEW,
            ..Program::default()
        }
    }

    fn session(threads: usize) -> Session {
        let weights = Arc::new(Pages::zeroed(0).unwrap());
        let pool = Pool::new(Some(threads)).unwrap();
        let program = program();
        let open = |positions| {
            let room = Room { positions, sequences: 1 };
            let processor = Processor::with_host(&program, host, weights, pool, room)?;
            Ok(Box::new(processor) as Box<dyn Engine>)
        };
        Session::open(&program, None, open).unwrap()
    }

    #[test]
    fn steps_go_on_where_the_last_one_ended() {
        for threads in 1..=4 {
            let mut session = session(threads);
            let logits = session.step(&[1, 2, 3], 2).unwrap();
            assert_eq!(logits, [2.0, 1.0, 3.0, 0.0, 0.0, 3.0, 2.0, 6.0, 0.0, 0.0]);
            assert_eq!(session.step(&[4], 1).unwrap(), [4.0, 3.0, 10.0, 0.0, 0.0]);
            assert_eq!(session.past(), 4);
            session.reset().unwrap();
            assert_eq!(session.step(&[4], 1).unwrap(), [4.0, 0.0, 4.0, 0.0, 0.0]);
        }
    }

    #[test]
    fn tokens_are_chosen_from_the_last_logits() {
        for length in 1..=13 {
            let tokens: Vec<i32> = (0..length).map(|it| it % 5).collect();
            let wanted = text::greedy(session(2).prefill(&tokens).unwrap());
            assert_eq!(session(2).pick(&tokens, &Rule::GREEDY), Ok(wanted));
        }
    }

    #[test]
    fn long_texts_are_read_in_parts() {
        for length in 1..=13 {
            let tokens: Vec<i32> = (0..length).map(|it| it % 5).collect();
            let sum = tokens.iter().sum::<i32>() as f32;
            let mut session = session(2);
            let logits = session.prefill(&tokens).unwrap();
            assert_eq!(logits[1..3], [length as f32 - 1.0, sum]);
        }
    }

    #[test]
    fn what_the_program_was_not_made_for_is_refused() {
        let mut session = session(2);
        let code = |outcome: Result<&[f32], Fault>| outcome.unwrap_err().code;
        assert_eq!(code(session.step(&[5], 1)), "R0301");
        assert_eq!(code(session.step(&[-1], 1)), "R0301");
        assert_eq!(code(session.step(&[], 1)), "R0303");
        assert_eq!(code(session.step(&[0; 5], 1)), "R0303");
        assert_eq!(code(session.step(&[0], 0)), "R0303");
        assert_eq!(code(session.step(&[0], 2)), "R0303");
        assert_eq!(code(session.prefill(&[])), "R0303");
        assert_eq!(code(session.prefill(&[0; 33])), "R0302");
        assert_eq!(session.past(), 0);
        session.prefill(&[0; 32]).unwrap();
        assert_eq!(code(session.step(&[0], 1)), "R0302");
    }

    #[test]
    fn a_state_that_mixes_positions_is_forgotten_whole() {
        let mut session = session(1);
        session.prefill(&[1, 1, 1]).unwrap();
        assert_eq!(session.rewind(3).unwrap(), 3);
        assert_eq!(session.rewind(2).unwrap(), 0);
        assert_eq!(session.step(&[2], 1).unwrap()[2], 2.0);
    }

    #[test]
    fn capacities_are_rounded_up_and_bounded() {
        let bounds = |capacity| bounds(&program(), capacity).map(|it| it.capacity);
        assert_eq!(bounds(None), Ok(32));
        assert_eq!(bounds(Some(3)), Ok(16));
        assert_eq!(bounds(Some(17)), Ok(32));
        assert_eq!(bounds(Some(33)).unwrap_err().code, "R0302");
        assert_eq!(bounds(Some(0)).unwrap_err().code, "R0302");
    }
}
