//! What generated code and the runtime agree on.
//!
//! Every thread calls the host program with the same [`Frame`]; it calls kernels and loops for a
//! piece of their work at a time, and meets the others at barriers where one reads what another
//! wrote. Generated code reaches the runtime only through this table, so it needs no relocation.

use std::sync::atomic::AtomicU64;

/// The version of this interface; a program made for another one is refused.
pub const ABI: u32 = 4;

/// The host program: runs one step.
pub type HostFn = unsafe extern "C" fn(frame: *const Frame, thread: u64, threads: u64);

/// A kernel or a generated loop: does a piece of its work. `args` are words whose meaning the
/// kernel documents.
pub use kernels_cpu::KernelFn;

/// Where one weight lies.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct WeightRef {
    /// Its bytes, packed or plain as its entry says.
    pub data: *const u8,
    /// Its storage format: an `ir::DType` as a number.
    pub dtype: u64,
}

/// What generated code finds at fixed offsets, in words of 8 bytes.
#[repr(C)]
#[derive(Debug)]
pub struct Frame {
    /// Word 0: waits until every thread has called it.
    pub barrier: unsafe extern "C" fn(frame: *const Frame, thread: u64),
    /// Word 1: the kernels, in the order of the program's list.
    pub kernels: *const KernelFn,
    /// Word 2: the weights, in the order of the program's list.
    pub weights: *const WeightRef,
    /// Word 3: the constant tables.
    pub constants: *const u8,
    /// Word 4: room for intermediate values.
    pub arena: *mut u8,
    /// Word 5: one address for each state.
    pub states: *const *mut u8,
    /// Word 6: one address for each input.
    pub inputs: *const *const u8,
    /// Word 7: one address for each output.
    pub outputs: *const *mut u8,
    /// Word 8: the run-time extents, in the order of the program's list.
    pub extents: *const u64,
    /// Word 9: scratch memory of thread 0.
    pub scratch: *mut u8,
    /// Word 10: bytes from one thread's scratch memory to the next one's.
    pub scratch_stride: u64,
    /// Word 11: pieces that each launch is cut into.
    pub pieces: u64,
    /// Word 12: how many tickets for pieces have been drawn; a step begins with none.
    pub tickets: *const AtomicU64,
    /// What the barrier needs; generated code does not look here.
    pub private: *const core::ffi::c_void,
}
