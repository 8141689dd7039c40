//! The language every other crate speaks: axes, types, ops, functions, their text form and their
//! meaning.
//!
//! A [`Module`] is an axis table and functions. A [`Function`] is a list of nodes, each after its
//! operands and hash-consed; a node is an [`Op`] applied to values and has one or more results. An
//! op is a struct with one [`Rules`] impl in one file of `ops/`, and nothing else knows it.
//!
//! Values have named axes. Pointwise ops match axes by name, so there is no broadcast op, and a
//! contraction names what it sums over, so there is no transposed product. Layers are a
//! [`ops::Scan`] over banks of parameters: a model is as large as its distinct layers.

mod axis;
mod dtype;
mod eval;
mod function;
pub mod grad;
mod line;
mod module;
pub mod op;
pub mod ops;
mod shrink;
mod step;
pub mod storage;
mod stored;
mod tensor;
mod text;
mod types;
mod verify;
mod visit;

pub use axis::{Axes, Axis, AxisDecl, Extent, Name, Sizes};
pub use dtype::DType;
pub use eval::eval;
pub use function::{Function, Node, Origin, Output, Param, Role, Value};
pub use grad::differentiate;
pub use line::Line;
pub use module::Module;
pub use op::{Attribute, Cost, Example, Link, Mismatch, Op, Real, Rules, Run, Scope, Visit};
pub use shrink::{rigid_atoms, shrink};
pub use step::StepAxes;
pub use stored::{Stored, scaled};
pub use tensor::{Tensor, each_index, strides};
pub use text::parse;
pub use types::Type;
pub use verify::verify;
pub use visit::DataFlow;
