//! The text form, both ways: `Display` prints a module, [`parse`] reads what it printed.
//!
//! ```text
//! axis E = 576
//! axis S <= 8192
//!
//! fn @square of "prelude::square" {scale = 0.5} (%x : f32[S, E]) {
//!   %0 = mul %x %x : f32[S, E]
//!   return y = %0
//! }
//! ```
//!
//! Parameters go by name and other values by number. The last function is the entry; its
//! parameters are marked `input`, `weight` or `state`.

mod parse;
mod print;

pub use parse::parse;
