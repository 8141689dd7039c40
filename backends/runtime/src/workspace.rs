//! The memory that a program runs in, and the frame through which it finds it.

#![expect(unsafe_code, reason = "the barrier is found through the frame")]

use std::ffi::c_void;
use std::sync::Arc;

use kernels_cpu::kernels;

use crate::Fault;
use crate::abi::{Frame, KernelFn, WeightRef};
use crate::barrier::{Barrier, Line};
use crate::builtin;
use crate::engine::Room;
use crate::memory::Pages;
use crate::pool::Pool;
use crate::program::{Port, Program};

/// Bytes between the scratch memories of two threads are a multiple of this: a page.
const SCRATCH_ALIGN: u64 = 4096;

/// Memory for one program and one number of threads.
pub(crate) struct Workspace {
    /// The run-time extents of the next step.
    pub(crate) extents: Vec<u64>,
    /// What the next step takes.
    pub(crate) inputs: Areas,
    /// What the last step gave.
    pub(crate) outputs: Areas,
    /// What one step leaves to the next.
    pub(crate) states: Areas,
    kernels: Vec<KernelFn>,
    weight_refs: Vec<WeightRef>,
    weights: Arc<Pages>,
    constants: Pages,
    arena: Pages,
    scratch: Pages,
    scratch_stride: u64,
    tickets: Box<Line>,
}

/// Areas of memory, with their addresses side by side as the frame wants them.
pub(crate) struct Areas {
    pub(crate) pages: Vec<Pages>,
    addresses: Vec<*mut u8>,
    /// Bytes of each that belong to one sequence.
    strides: Vec<u64>,
}

impl Areas {
    fn new(sizes: impl Iterator<Item = Option<u64>>) -> Result<Areas, Fault> {
        // A text rarely fills them: they are not to take large pages for its beginning.
        let counted = |it: Option<u64>| it.ok_or_else(uncountable).and_then(Pages::sparse);
        let pages: Vec<Pages> = sizes.map(counted).collect::<Result<_, _>>()?;
        let addresses = pages.iter().map(Pages::address).collect();
        Ok(Areas { pages, addresses, strides: Vec::new() })
    }

    /// Areas with room for so many sequences, which lie one after the other.
    fn of_sequences(sequences: u64, sizes: Vec<Option<u64>>) -> Result<Areas, Fault> {
        let all = sizes.iter().map(|it| it.and_then(|it| it.checked_mul(sequences)));
        let areas = Areas::new(all)?;
        Ok(Areas { strides: sizes.into_iter().flatten().collect(), ..areas })
    }

    /// What belongs to a sequence in area `at`.
    pub(crate) fn of_sequence(&mut self, at: usize, sequence: usize) -> &mut [u8] {
        let stride = self.strides[at] as usize;
        &mut self.pages[at][sequence * stride..][..stride]
    }

    /// Has the frame find what belongs to a sequence.
    pub(crate) fn turn_to(&mut self, sequence: usize) {
        for at in 0..self.pages.len() {
            self.addresses[at] = self.of_sequence(at, sequence).as_mut_ptr();
        }
    }
}

impl Workspace {
    /// Room for `program`, which has been checked.
    pub(crate) fn new(
        program: &Program,
        weights: Arc<Pages>,
        threads: usize,
        room: Room,
    ) -> Result<Workspace, Fault> {
        let stride = program.scratch_bytes.checked_next_multiple_of(SCRATCH_ALIGN);
        let scratch = stride.and_then(|it| it.checked_mul(threads as u64));
        let port = |port: &Port| {
            let rows = port.rows.map_or(1, |it| program.extents[it].max);
            rows.checked_mul(port.row)?.checked_mul(port.element_bytes)
        };
        Ok(Workspace {
            extents: vec![0; program.extents.len()],
            inputs: Areas::new(program.inputs.iter().map(port))?,
            outputs: Areas::new(program.outputs.iter().map(port))?,
            states: Areas::of_sequences(
                room.sequences,
                program.states.iter().map(|it| it.bytes(room.positions)).collect(),
            )?,
            kernels: find_kernels(&program.kernels)?,
            weight_refs: weight_refs(program, &weights),
            weights,
            constants: Pages::copy_of(&program.constants)?,
            arena: Pages::zeroed(program.arena_bytes)?,
            scratch: Pages::zeroed(scratch.ok_or_else(uncountable)?)?,
            scratch_stride: stride.unwrap_or_default(),
            tickets: Box::default(),
        })
    }

    /// Where generated code finds everything for a step whose launches are cut into so many pieces.
    /// Valid as long as `self` and `pool` are.
    pub(crate) fn frame(&mut self, pool: &Pool, pieces: u64) -> Frame {
        *self.tickets.0.get_mut() = 0;
        Frame {
            barrier: meet,
            kernels: self.kernels.as_ptr(),
            weights: self.weight_refs.as_ptr(),
            constants: self.constants.as_ptr(),
            arena: self.arena.address(),
            states: self.states.addresses.as_ptr(),
            inputs: self.inputs.addresses.as_ptr().cast(),
            outputs: self.outputs.addresses.as_ptr(),
            extents: self.extents.as_ptr(),
            scratch: self.scratch.address(),
            scratch_stride: self.scratch_stride,
            pieces,
            tickets: &raw const self.tickets.0,
            private: std::ptr::from_ref(pool.barrier()).cast::<c_void>(),
        }
    }

    /// The weights' bytes.
    pub(crate) fn weights(&self) -> &Arc<Pages> {
        &self.weights
    }
}

fn uncountable() -> Fault {
    Fault::new("R0401", "the program wants more memory than can be counted")
}

fn find_kernels(names: &[String]) -> Result<Vec<KernelFn>, Fault> {
    let find = |name: &String| {
        let unknown = || Fault::new("R0202", format!("this runtime has no kernel `{name}`"));
        let kernel = kernels().iter().find(|it| it.name == name).map(|it| it.run);
        kernel.or_else(|| builtin::find(name)).ok_or_else(unknown)
    };
    names.iter().map(find).collect()
}

fn weight_refs(program: &Program, weights: &Pages) -> Vec<WeightRef> {
    let at = |offset: u64| weights.as_ptr().wrapping_add(offset as usize);
    let weights = program.weights.iter();
    weights.map(|it| WeightRef { data: at(it.offset), dtype: it.dtype as u64 }).collect()
}

/// The barrier that generated code calls.
///
/// # Safety
/// `frame` comes from [`Workspace::frame`], whose pool is alive.
unsafe extern "C" fn meet(frame: *const Frame, thread: u64) {
    // SAFETY: `private` points to the pool's barrier.
    unsafe { (*(*frame).private.cast::<Barrier>()).wait(thread as usize) }
}
