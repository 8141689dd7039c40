//! The engine that runs machine code on the threads of this machine.

#![expect(unsafe_code, reason = "runs generated code")]

use std::sync::Arc;

use crate::abi::{Frame, HostFn};
use crate::code::Code;
use crate::engine::{Ceilings, Engine};
use crate::measure::{Placement, arithmetic_peak, bandwidth};
use crate::pool::Pool;
use crate::workspace::Workspace;
use crate::{Fault, Pages, Program};

/// A program's host code with its memory and threads.
pub(crate) struct Processor {
    host: HostFn,
    /// What `host` points into.
    _code: Option<Code>,
    workspace: Workspace,
    pool: Pool,
}

impl Processor {
    /// The engine of a program that has been checked.
    pub(crate) fn new(
        program: &Program,
        code: Code,
        weights: Arc<Pages>,
        pool: Pool,
        capacity: u64,
    ) -> Result<Processor, Fault> {
        let outside = || Fault::new("R0201", "the program begins outside its code");
        let host = code.host(program.entry).ok_or_else(outside)?;
        let processor = Processor::with_host(program, host, weights, pool, capacity)?;
        Ok(Processor { _code: Some(code), ..processor })
    }

    /// Runs `host` instead of the program's code.
    pub(crate) fn with_host(
        program: &Program,
        host: HostFn,
        weights: Arc<Pages>,
        pool: Pool,
        capacity: u64,
    ) -> Result<Processor, Fault> {
        let workspace = Workspace::new(program, weights, pool.threads(), capacity)?;
        Ok(Processor { host, _code: None, workspace, pool })
    }
}

impl Engine for Processor {
    fn input(&mut self, at: usize) -> &mut [u8] {
        &mut self.workspace.inputs.pages[at]
    }

    fn output(&self, at: usize) -> &[u8] {
        &self.workspace.outputs.pages[at]
    }

    fn clear(&mut self, state: usize) -> Result<(), Fault> {
        self.workspace.states.pages[state].fill(0);
        Ok(())
    }

    fn run(&mut self, extents: &[u64]) -> Result<(), Fault> {
        self.workspace.extents.copy_from_slice(extents);
        let frame = Lent(self.workspace.frame(&self.pool));
        let host = self.host;
        self.pool.run(&|thread, threads| {
            // SAFETY: the frame is as the program's description says, and the step was checked
            // against it. That the code keeps to the description is the compiler's promise.
            unsafe { host(frame.get(), thread as u64, threads as u64) };
        });
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
