//! A compiled model, wherever it lies: in an executable, or in the memory of the compiler.

use std::sync::Arc;

use text::{ChatTemplate, Tokenizer};

use crate::code::Code;
use crate::container::Container;
use crate::engine::Room;
use crate::memory::Pages;
use crate::pool::Pool;
use crate::{Batch, Fault, Manifest, Session, Target, engine};

/// A compiled model.
pub enum Compiled {
    /// In a file.
    File(Container),
    /// Just made.
    Memory {
        /// With the program's code in it.
        manifest: Manifest,
        /// What the program's weight slots lie in.
        weights: Arc<Pages>,
    },
}

impl Compiled {
    /// What is known about it.
    pub fn manifest(&self) -> &Manifest {
        match self {
            Compiled::File(container) => container.manifest(),
            Compiled::Memory { manifest, .. } => manifest,
        }
    }

    /// Makes it ready to run on `threads` threads, or as many as pay, with room for `context`
    /// positions, or for as many as it was made for.
    pub fn session(&self, threads: Option<usize>, context: Option<u64>) -> Result<Session, Fault> {
        self.open(threads, context, 1)
    }

    /// The same for several sequences at once, with room for `context` positions of each.
    pub fn batch(
        &self,
        threads: Option<usize>,
        context: Option<u64>,
        sequences: u64,
    ) -> Result<Batch, Fault> {
        Batch::check(&self.manifest().program, sequences)?;
        Ok(Batch::new(self.open(threads, context, sequences)?, sequences))
    }

    fn open(
        &self,
        threads: Option<usize>,
        context: Option<u64>,
        sequences: u64,
    ) -> Result<Session, Fault> {
        let mut pool = Pool::new(threads)?;
        let program = &self.manifest().program;
        if program.target == Target::Cuda {
            return self.device_session(&mut pool, context, sequences);
        }
        let (code, weights) = match self {
            Compiled::File(container) => {
                (container.code()?, Arc::new(container.weights(&mut pool)?))
            }
            Compiled::Memory { weights, .. } => {
                (Code::from_bytes(&program.code)?, Arc::clone(weights))
            }
        };
        Session::of_sequences(sequences, program, code, weights, pool, context)
    }

    fn device_session(
        &self,
        pool: &mut Pool,
        context: Option<u64>,
        sequences: u64,
    ) -> Result<Session, Fault> {
        let open = engine::device()?;
        let program = &self.manifest().program;
        let (code, weights) = match self {
            Compiled::File(container) => {
                (container.code_bytes()?, Arc::new(container.weights(pool)?))
            }
            Compiled::Memory { weights, .. } => (program.code.clone(), Arc::clone(weights)),
        };
        Session::open(program, context, |positions| {
            open(program, &code, weights, Room { positions, sequences })
        })
    }

    /// Its tokenizer.
    pub fn tokenizer(&self) -> Result<Tokenizer, Fault> {
        let none = || {
            Fault::new("R0601", "the model was built without a tokenizer")
                .help("build it from a folder that has `tokenizer.json`")
        };
        let spec = self.manifest().tokenizer.clone().ok_or_else(none)?;
        Tokenizer::new(spec).map_err(|error| Fault::new("R0601", error.to_string()))
    }

    /// Its chat template, if it has one.
    pub fn chat_template(&self) -> Result<Option<ChatTemplate>, Fault> {
        let Some(source) = &self.manifest().chat_template else { return Ok(None) };
        let template = ChatTemplate::new(source, None);
        template.map(Some).map_err(|error| Fault::new("R0602", error.to_string()))
    }

    /// Bytes of the weights.
    pub fn weight_bytes(&self) -> u64 {
        match self {
            Compiled::File(container) => container.weight_bytes(),
            Compiled::Memory { weights, .. } => weights.len() as u64,
        }
    }
}
