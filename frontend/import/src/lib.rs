//! Reads what users have: Hugging Face folders, safetensors files and GGUF files.
//!
//! Everything here takes files that nobody vouches for. A reader answers with what the file holds
//! or with an [`Error`], never with a panic, and its memory stays within eight times the header; a
//! vocabulary in JSON takes up to sixteen times its text.

mod checkpoint;
mod config;
mod entry;
mod error;
pub mod families;
pub mod gguf;
mod map;
pub mod quantised;
pub mod safetensors;
mod tokenizer;

pub use checkpoint::{Checkpoint, Metadata, Tensor};
pub use config::{Config, architecture};
pub use entry::{Entry, Stored};
pub use error::{CODES, Error};
pub use families::{Settings, settings};
pub use tokenizer::{
    chat_template, decoder_start, tokenizer, tokenizer_file, tokenizer_from_json,
    tokenizer_from_sentence_piece,
};
