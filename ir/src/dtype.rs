//! What one element is, and how many bytes a run of them takes.

use serde::{Deserialize, Serialize};

/// The type of an element.
///
/// In a block format a run of [`DType::block_len`] elements along the last axis shares its scales;
/// in some formats each row begins with a scale of its own, [`DType::head_bytes`]. These formats
/// are storage: reading such an element gives the `f32` that it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each variant is its own name")]
pub enum DType {
    F64,
    F32,
    F16,
    BF16,
    I32,
    Bool,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4K,
    Q5K,
    Q6K,
    F8E4M3,
    F8E5M2,
    F8Block,
    MxFp8,
    MxFp4,
    NvFp4,
    /// A bank of parameters whose layers are stored in different formats; the binding of the
    /// weights says which. Its elements read as `f32`.
    Mixed,
}

impl DType {
    /// Every type with its name in the text form.
    pub const ALL: [(DType, &'static str); 21] = [
        (DType::F64, "f64"),
        (DType::F32, "f32"),
        (DType::F16, "f16"),
        (DType::BF16, "bf16"),
        (DType::I32, "i32"),
        (DType::Bool, "bool"),
        (DType::Q4_0, "q4_0"),
        (DType::Q4_1, "q4_1"),
        (DType::Q5_0, "q5_0"),
        (DType::Q5_1, "q5_1"),
        (DType::Q8_0, "q8_0"),
        (DType::Q4K, "q4_k"),
        (DType::Q5K, "q5_k"),
        (DType::Q6K, "q6_k"),
        (DType::F8E4M3, "f8_e4m3"),
        (DType::F8E5M2, "f8_e5m2"),
        (DType::F8Block, "f8_block"),
        (DType::MxFp8, "mxfp8"),
        (DType::MxFp4, "mxfp4"),
        (DType::NvFp4, "nvfp4"),
        (DType::Mixed, "mixed"),
    ];

    /// The name in the text form.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    /// The type of that name.
    pub fn from_name(name: &str) -> Option<DType> {
        Self::ALL.iter().find(|(_, it)| *it == name).map(|&(it, _)| it)
    }

    /// Elements that share their scales; 1 for the plain types.
    pub fn block_len(self) -> usize {
        match self {
            DType::NvFp4 => 16,
            DType::Q4_0 | DType::Q4_1 | DType::Q5_0 | DType::Q5_1 | DType::Q8_0 => 32,
            DType::MxFp8 | DType::MxFp4 => 32,
            DType::F8Block => 128,
            DType::Q4K | DType::Q5K | DType::Q6K => 256,
            DType::F64
            | DType::F32
            | DType::F16
            | DType::BF16
            | DType::I32
            | DType::Bool
            | DType::F8E4M3
            | DType::F8E5M2
            | DType::Mixed => 1,
        }
    }

    /// Bytes of one block, or of one element of a plain type. `Mixed` counts as `f32`.
    pub fn block_bytes(self) -> usize {
        match self {
            DType::F64 => 8,
            DType::F32 | DType::I32 | DType::Mixed => 4,
            DType::F16 | DType::BF16 => 2,
            DType::Bool | DType::F8E4M3 | DType::F8E5M2 => 1,
            DType::F8Block => 132,
            DType::MxFp8 => 33,
            DType::MxFp4 => 17,
            DType::NvFp4 => 9,
            DType::Q4_0 => 18,
            DType::Q4_1 => 20,
            DType::Q5_0 => 22,
            DType::Q5_1 => 24,
            DType::Q8_0 => 34,
            DType::Q4K => 144,
            DType::Q5K => 176,
            DType::Q6K => 210,
        }
    }

    /// Bytes at the beginning of each row: an `f32` that all its elements are multiplied by.
    pub fn head_bytes(self) -> usize {
        if matches!(self, DType::F8E4M3 | DType::F8E5M2 | DType::NvFp4) { 4 } else { 0 }
    }

    /// Whether elements are stored with scales.
    pub fn is_scaled(self) -> bool {
        1 < self.block_len() || 0 < self.head_bytes()
    }

    /// Whether arithmetic on this type is rounded arithmetic on reals.
    pub fn is_float(self) -> bool {
        !matches!(self, DType::I32 | DType::Bool)
    }

    /// The type of a computation that reads an element: `f32` for storage formats, itself
    /// otherwise.
    pub fn value_type(self) -> DType {
        if self.is_scaled() || self == DType::Mixed { DType::F32 } else { self }
    }

    /// Bytes of `rows` runs of `columns` elements, or `None` when a run does not end with a block
    /// or the number overflows.
    pub fn bytes(self, rows: usize, columns: usize) -> Option<usize> {
        if !columns.is_multiple_of(self.block_len()) {
            return None;
        }
        let blocks = (columns / self.block_len()).checked_mul(self.block_bytes())?;
        blocks.checked_add(self.head_bytes())?.checked_mul(rows)
    }

    /// The nearest value that this type can hold. Ties go to even; storage formats are read as
    /// `f32` and so round like it.
    pub fn round(self, value: f64) -> f64 {
        match self {
            DType::F64 => value,
            DType::F32 => f64::from(value as f32),
            DType::F16 => half::f16::from_f64(value).to_f64(),
            DType::BF16 => half::bf16::from_f64(value).to_f64(),
            DType::I32 => f64::from(value as i32),
            DType::Bool => f64::from(u8::from(value != 0.0)),
            _ => f64::from(value as f32),
        }
    }
}

impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
