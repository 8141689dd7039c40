//! What runs the steps of a program: the processor, or a device.

use std::sync::{Arc, OnceLock};

use crate::{Fault, Pages, Program};

/// A program in the memory of what runs it.
pub trait Engine {
    /// Where a step finds input `at`.
    fn input(&mut self, at: usize) -> &mut [u8];

    /// What the last step left as output `at`; aligned for `f32`.
    fn output(&self, at: usize) -> &[u8];

    /// Makes a state zeros.
    fn clear(&mut self, state: usize) -> Result<(), Fault>;

    /// Runs a step with these extents, in the order of [`Program::extents`].
    fn run(&mut self, extents: &[u64]) -> Result<(), Fault>;

    /// Threads or devices that take part.
    fn width(&self) -> usize;

    /// What runs it, in words; `None` for the processor.
    fn device(&self) -> Option<String> {
        None
    }

    /// Measures what could be done with the same memory and units.
    fn ceilings(&mut self) -> Result<Ceilings, Fault>;
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

/// Makes an engine of a program's code and weights, with room for so many positions.
pub type OpenDevice =
    fn(program: &Program, code: &[u8], weights: Arc<Pages>, capacity: u64) -> Opened;

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
