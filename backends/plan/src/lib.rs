//! The plan that backends share: what runs in which order, on which memory.
//!
//! A module in step form, whose functions hold only calls of kernels and loops, becomes launches
//! with argument words, loops over layers, and buffers that lie where nothing alive is overwritten.
//! What a launch's code looks like, a backend knows.

mod conflict;
mod memory;
mod plan;
mod planner;
mod program;

pub use conflict::conflict;
pub use memory::{Life, assign, lives};
pub use plan::{
    Bank, Base, Buffer, CAPACITY, Callee, Counter, Launch, Place, Plan, State, Step, Stride, Term,
    Word,
};
pub use planner::{LoopWord, loop_extents, plan};
pub use program::program;
