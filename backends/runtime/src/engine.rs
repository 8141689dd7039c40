//! What runs the steps of a program: the processor, or a device.

use std::sync::{Arc, OnceLock};

use text::Rule;

use crate::{Fault, Pages, Program};

/// A program in the memory of what runs it.
pub trait Engine {
    /// Where a step finds input `at`.
    fn input(&mut self, at: usize) -> &mut [u8];

    /// What the last step left as output `at`; aligned for `f32`.
    fn output(&self, at: usize) -> &[u8];

    /// The tokens that the last step chose: one for each row of the first output.
    fn tokens(&self) -> &[i32];

    /// Makes a state of a sequence zeros.
    fn clear(&mut self, state: usize, sequence: usize) -> Result<(), Fault>;

    /// Runs a step with these extents, in the order of [`Program::extents`].
    fn run(&mut self, extents: &[u64], of: Positions<'_>, answer: Answer<'_>) -> Result<(), Fault>;

    /// Threads or devices that take part.
    fn width(&self) -> usize;

    /// What runs it, in words; `None` for the processor.
    fn device(&self) -> Option<String> {
        None
    }

    /// Measures what could be done with the same memory and units.
    fn ceilings(&mut self) -> Result<Ceilings, Fault>;
}

/// Whose the positions of a step are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Positions<'a> {
    /// They come one after the other, in the sequence of that number.
    Of(usize),
    /// Each is the next one of a sequence of its own, which has so many already. Extents are those
    /// of a step of as many positions, all of them the last.
    Each(&'a [u64]),
}

/// What a step leaves to be looked at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Answer<'a> {
    /// Nothing.
    Nothing,
    /// All outputs.
    Outputs,
    /// The tokens that follow alone, each chosen by the rule of its sequence.
    Tokens(&'a [Rule]),
}

/// What an engine makes room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Positions of a sequence.
    pub positions: u64,
    /// Sequences.
    pub sequences: u64,
}

/// What a machine can do.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Ceilings {
    /// Bytes of memory that are read a second.
    pub bandwidth: f64,
    /// Floating-point operations a second, of the kind that products need.
    pub arithmetic: f64,
    /// Nanoseconds from core to core.
    pub latency: Option<f64>,
}

/// What a program was compiled for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Target {
    /// Machine code for the processor.
    #[default]
    Cpu,
    /// What a device's engine takes.
    Cuda,
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Target::Cpu => "cpu",
            Target::Cuda => "cuda",
        })
    }
}

/// Makes an engine of a program's code and weights.
pub type OpenDevice = fn(program: &Program, code: &[u8], weights: Arc<Pages>, room: Room) -> Opened;

/// An engine, or why there is none.
pub type Opened = Result<Box<dyn Engine>, Fault>;

static DEVICE: OnceLock<OpenDevice> = OnceLock::new();

/// Says who runs programs for [`Target::Cuda`]. The first one counts.
pub fn register_device(open: OpenDevice) {
    DEVICE.get_or_init(|| open);
}

/// Who runs them.
pub(crate) fn device() -> Result<OpenDevice, Fault> {
    let none = || Fault::new("R0701", "this program was made without the part that runs on GPUs");
    DEVICE.get().copied().ok_or_else(none)
}
