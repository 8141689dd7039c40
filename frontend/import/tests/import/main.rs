//! The readers against files that are well made, wrong, and hostile.

mod families;
mod hostile;
mod originals;
mod read;
mod support;
mod tokenizers;
