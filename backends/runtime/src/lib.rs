//! What an executable needs at run time; no compiler inside.

pub mod abi;
mod barrier;
mod batch;
mod builtin;
mod check;
mod code;
pub mod commands;
mod compiled;
mod container;
mod cores;
mod engine;
mod fault;
mod generate;
mod manifest;
mod many;
mod measure;
mod memory;
mod model;
mod pool;
mod processor;
mod program;
mod session;
pub mod verify;
mod workspace;

pub use batch::Batch;
pub use code::Code;
pub use compiled::Compiled;
pub use container::{Container, write_executable};
pub use cores::default_threads;
pub use engine::{
    Answer, Ceilings, Engine, OpenDevice, Opened, Positions, Room, Target, register_device,
};
pub use fault::{CODES, Fault};
pub use generate::{Ending, Generated, chat_prompt, generate, plain_prompt};
pub use manifest::{Costs, Manifest};
pub use many::{Request, generate_many};
pub use memory::{Pages, give_back};
pub use model::Model;
pub use pool::{MAX_THREADS, Pool, Task};
pub use program::{Entry, ExtentRole, ExtentSlot, Level, Port, Program, StateSlot, WeightSlot};
pub use session::Session;
pub use text::Rule;
