//! A compiled model without its weights' bytes: what a backend makes and the runtime runs.

use ir::DType;
use serde::{Deserialize, Serialize};

use crate::Target;

/// A compiled model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Program {
    /// The version of [`crate::abi`] that the code was made for.
    pub abi: u32,
    /// What runs it.
    pub target: Target,
    /// The model's name in its spec.
    pub name: String,
    /// The machine code: loops, then the host program; or what a device's engine takes.
    pub code: Vec<u8>,
    /// Where host programs begin in `code`, the best first; none for a device's engine.
    pub entries: Vec<Entry>,
    /// Kernels that the code calls, by name; the frame holds them in this order.
    pub kernels: Vec<String>,
    /// Tables that the code reads.
    pub constants: Vec<u8>,
    /// The run-time extents, in the order in which the frame holds them.
    pub extents: Vec<ExtentSlot>,
    /// Tokens are below this number.
    pub vocabulary: u64,
    /// What a step takes.
    pub inputs: Vec<Port>,
    /// What a step gives.
    pub outputs: Vec<Port>,
    /// What one step leaves to the next.
    pub states: Vec<StateSlot>,
    /// The weights, in the order in which the frame holds them.
    pub weights: Vec<WeightSlot>,
    /// Bytes of intermediate values when every extent is at its bound.
    pub arena_bytes: u64,
    /// Bytes of scratch memory that each thread needs.
    pub scratch_bytes: u64,
    /// The graph that was lowered, as text.
    pub graph: String,
    /// The plan, as text.
    pub plan: String,
}

/// A host program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What runs it.
    pub level: Level,
    /// Where it begins in [`Program::code`].
    pub at: usize,
}

/// A level of x86-64, as its ABI's supplement numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Level {
    /// AVX2 and FMA.
    V3,
    /// SSE4.2, which every machine has that this project runs on.
    V2,
}

impl Level {
    /// All, best first.
    pub const ALL: [Level; 2] = [Level::V3, Level::V2];

    /// Whether this CPU is of it.
    pub fn is_supported(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Level::V3 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("bmi1")
                    && is_x86_feature_detected!("bmi2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("lzcnt")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Level::V3 => false,
            Level::V2 => true,
        }
    }
}

/// What a run-time extent counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExtentRole {
    /// Positions in this step.
    New,
    /// Positions in earlier steps.
    Past,
    /// The last positions of this step for which outputs are wanted.
    Last,
    /// Positions that the states have room for.
    Capacity,
    /// Positions of the text that an encoder reads.
    Source,
    /// 1 in the first step and 0 in all others.
    First,
}

/// A run-time extent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtentSlot {
    /// Its axis.
    pub name: String,
    /// What it counts.
    pub role: ExtentRole,
    /// The largest value the program was made for.
    pub max: u64,
}

/// An input or output: rows of elements.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Its type as text, such as `f32[O, V]`.
    pub ty: String,
    /// Bytes of one element.
    pub element_bytes: u64,
    /// Elements for each row.
    pub row: u64,
    /// The extent that counts rows, by its place in [`Program::extents`]; `None` for one row.
    pub rows: Option<usize>,
}

/// What one step leaves to the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateSlot {
    /// Its name.
    pub name: String,
    /// Banks: layers, mostly.
    pub banks: u64,
    /// Bytes of a bank for each position, when the state grows with the positions.
    pub position_bytes: u64,
    /// Bytes of a bank besides; a state begins as zeros.
    pub fixed_bytes: u64,
    /// Whether the first step writes it as a whole, and no other one changes it.
    pub once: bool,
}

impl StateSlot {
    /// Bytes of one bank with room for `capacity` positions; bank follows bank. `None` when the
    /// number overflows.
    pub fn bank_bytes(&self, capacity: u64) -> Option<u64> {
        self.position_bytes.checked_mul(capacity)?.checked_add(self.fixed_bytes)
    }

    /// Bytes of all banks.
    pub fn bytes(&self, capacity: u64) -> Option<u64> {
        self.bank_bytes(capacity)?.checked_mul(self.banks)
    }
}

/// One matrix or vector of a bank.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightSlot {
    /// The parameter's path in the spec.
    pub name: String,
    /// Which layer of its bank, or 0.
    pub layer: u64,
    /// The storage format.
    pub dtype: DType,
    /// Rows and columns as the kernels see them; a vector has one row.
    pub shape: [u64; 2],
    /// Whether the bytes are in the layout of `kernels_cpu::pack`; plain rows otherwise.
    pub packed: bool,
    /// Where the bytes begin in the weights; a multiple of 64. Tied weights share them.
    pub offset: u64,
    /// How many there are.
    pub bytes: u64,
}
