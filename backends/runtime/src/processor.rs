//! The engine that runs machine code on the threads of this machine.

#![expect(unsafe_code, reason = "runs generated code")]

use std::sync::Arc;

use text::{Rule, Sampler};

use crate::abi::{Frame, HostFn};
use crate::code::Code;
use crate::engine::{Answer, Ceilings, Engine, Positions, Room};
use crate::measure::{Placement, arithmetic_peak, bandwidth};
use crate::pool::Pool;
use crate::program::{ExtentRole, Port};
use crate::session::floats;
use crate::workspace::Workspace;
use crate::{Fault, Pages, Program};

/// A program's host code with its memory and threads.
pub(crate) struct Processor {
    host: HostFn,
    /// What `host` points into.
    _code: Option<Code>,
    workspace: Workspace,
    pool: Pool,
    layout: Layout,
    sampler: Sampler,
    tokens: Vec<i32>,
    /// The outputs of a batch, row by row.
    rows: Vec<Vec<u8>>,
}

/// A step of so many positions is long: its launches are worth cutting into more pieces than there
/// are threads.
const LONG: u64 = 16;

/// Pieces of a long step's launches for each thread. With more of them threads wait less for each
/// other, and each launch begins more often.
const PIECES: u64 = 8;

/// What has to be known of a program to run the rows of a batch one after the other.
struct Layout {
    extents: Vec<ExtentRole>,
    /// Bytes of a row of each input and output, where they have rows of a step.
    inputs: Vec<Option<usize>>,
    outputs: Vec<Option<usize>>,
    /// Numbers of a row of the first output, and the extent that counts its rows.
    logits: usize,
    rows: Option<usize>,
}

impl Layout {
    fn new(program: &Program) -> Layout {
        let roles = [ExtentRole::New, ExtentRole::Last];
        let row = |it: &Port| {
            let is_row = it.rows.is_some_and(|it| roles.contains(&program.extents[it].role));
            is_row.then_some((it.row * it.element_bytes) as usize)
        };
        Layout {
            extents: program.extents.iter().map(|it| it.role).collect(),
            inputs: program.inputs.iter().map(row).collect(),
            outputs: program.outputs.iter().map(row).collect(),
            logits: program.outputs.first().map_or(0, |it| it.row as usize),
            rows: program.outputs.first().and_then(|it| it.rows),
        }
    }

    /// Into how many pieces the launches of a step are cut for so many threads.
    fn pieces(&self, extents: &[u64], threads: u64) -> u64 {
        let size = |role| {
            let mut all = self.extents.iter().zip(extents);
            all.find(|it| *it.0 == role).map_or(0, |it| *it.1)
        };
        let read = size(ExtentRole::First) * size(ExtentRole::Source);
        let is_long = LONG <= size(ExtentRole::New) + read;
        if is_long && 1 < threads { PIECES * threads } else { threads }
    }

    /// The positions of the tokens that follow a step.
    fn positions(&self, extents: &[u64], of: Positions<'_>) -> Vec<u64> {
        match of {
            Positions::Each(past) => past.iter().map(|it| it + 1).collect(),
            Positions::Of(_) => {
                let counted = [ExtentRole::Past, ExtentRole::New];
                let pairs = extents.iter().zip(&self.extents);
                vec![pairs.filter(|it| counted.contains(it.1)).map(|it| it.0).sum()]
            }
        }
    }
}

impl Processor {
    /// The engine of a program that has been checked.
    pub(crate) fn new(
        program: &Program,
        code: Code,
        weights: Arc<Pages>,
        pool: Pool,
        room: Room,
    ) -> Result<Processor, Fault> {
        let outside = || Fault::new("R0201", "the program begins outside its code");
        let entry = program.entries.iter().find(|it| it.level.is_supported());
        let host = entry.and_then(|it| code.host(it.at)).ok_or_else(outside)?;
        let processor = Processor::with_host(program, host, weights, pool, room)?;
        Ok(Processor { _code: Some(code), ..processor })
    }

    /// Runs `host` instead of the program's code.
    pub(crate) fn with_host(
        program: &Program,
        host: HostFn,
        weights: Arc<Pages>,
        pool: Pool,
        room: Room,
    ) -> Result<Processor, Fault> {
        let workspace = Workspace::new(program, weights, pool.threads(), room)?;
        let (layout, rows) = (Layout::new(program), vec![Vec::new(); program.outputs.len()]);
        let (sampler, tokens) = (Sampler::default(), Vec::new());
        Ok(Processor { host, _code: None, workspace, pool, layout, sampler, tokens, rows })
    }

    /// Runs a step of the sequence that the workspace is turned to.
    fn run_one(&mut self, extents: &[u64]) {
        self.workspace.extents.copy_from_slice(extents);
        let pieces = self.layout.pieces(extents, self.pool.threads() as u64);
        let frame = Lent(self.workspace.frame(&self.pool, pieces));
        let host = self.host;
        self.pool.run(&|thread, threads| {
            // SAFETY: the frame is as the program's description says, and the step was checked
            // against it. That the code keeps to the description is the compiler's promise.
            unsafe { host(frame.get(), thread as u64, threads as u64) };
        });
    }

    /// Runs the rows of a batch one after the other.
    fn run_each(&mut self, extents: &[u64], past: &[u64]) {
        let Workspace { inputs, .. } = &self.workspace;
        let given: Vec<Vec<u8>> = inputs.pages.iter().map(|it| it.to_vec()).collect();
        self.rows.iter_mut().for_each(Vec::clear);
        for (sequence, &past) in past.iter().enumerate() {
            let extents: Vec<u64> = extents
                .iter()
                .zip(&self.layout.extents)
                .map(|(&all, role)| match role {
                    ExtentRole::New | ExtentRole::Last => 1,
                    ExtentRole::Past => past,
                    ExtentRole::First => u64::from(past == 0),
                    ExtentRole::Capacity | ExtentRole::Source => all,
                })
                .collect();
            self.workspace.states.turn_to(sequence);
            for (at, row) in self.layout.inputs.iter().enumerate() {
                let Some(row) = *row else { continue };
                let own = &given[at][sequence * row..][..row];
                self.workspace.inputs.pages[at][..row].copy_from_slice(own);
            }
            self.run_one(&extents);
            for (at, row) in self.layout.outputs.iter().enumerate() {
                let row = row.unwrap_or(0);
                self.rows[at].extend(&self.workspace.outputs.pages[at][..row]);
            }
        }
        for (at, rows) in self.rows.iter().enumerate() {
            self.workspace.outputs.pages[at][..rows.len()].copy_from_slice(rows);
        }
    }

    /// Chooses a token for each of the last rows: by its rule, and by the position it will have.
    fn choose(&mut self, extents: &[u64], rules: &[Rule], positions: &[u64]) {
        let logits = floats(&self.workspace.outputs.pages[0]);
        let rows = self.layout.rows.map_or(1, |it| extents[it] as usize);
        let rows = logits.chunks_exact(self.layout.logits.max(1)).take(rows);
        let before = rows.len().saturating_sub(positions.len());
        let chosen = rows.skip(before).zip(rules.iter().zip(positions));
        let sampler = &mut self.sampler;
        self.tokens.clear();
        self.tokens.extend(
            chosen.map(|(logits, (rule, position))| sampler.sample(logits, rule, *position) as i32),
        );
    }
}

impl Engine for Processor {
    fn input(&mut self, at: usize) -> &mut [u8] {
        &mut self.workspace.inputs.pages[at]
    }

    fn output(&self, at: usize) -> &[u8] {
        &self.workspace.outputs.pages[at]
    }

    fn tokens(&self) -> &[i32] {
        &self.tokens
    }

    fn clear(&mut self, state: usize, sequence: usize) -> Result<(), Fault> {
        self.workspace.states.of_sequence(state, sequence).fill(0);
        Ok(())
    }

    fn run(&mut self, extents: &[u64], of: Positions<'_>, answer: Answer<'_>) -> Result<(), Fault> {
        match of {
            Positions::Of(sequence) => {
                self.workspace.states.turn_to(sequence);
                self.run_one(extents);
            }
            Positions::Each(past) => self.run_each(extents, past),
        }
        if let Answer::Tokens(rules) = answer {
            let positions = self.layout.positions(extents, of);
            self.choose(extents, rules, &positions);
        }
        Ok(())
    }

    fn width(&self) -> usize {
        self.pool.threads()
    }

    fn ceilings(&mut self) -> Result<Ceilings, Fault> {
        Ok(Ceilings {
            bandwidth: bandwidth(&mut self.pool, self.workspace.weights()),
            arithmetic: arithmetic_peak(&mut self.pool),
            latency: Placement::measure(&mut self.pool).map(|it| it.nanoseconds),
        })
    }
}

/// A frame that threads read at once.
struct Lent(Frame);

// SAFETY: the frame itself is only read; who may write where it points is what barriers order.
unsafe impl Sync for Lent {}

impl Lent {
    fn get(&self) -> *const Frame {
        &self.0
    }
}
