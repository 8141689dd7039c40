//! The language every other crate speaks.

mod dtype;
pub mod storage;

pub use dtype::DType;
