//! What an executable needs at run time; no compiler inside.

pub mod abi;
mod program;

pub use program::{ExtentRole, ExtentSlot, Port, Program, StateSlot, WeightSlot};
