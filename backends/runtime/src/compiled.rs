//! A compiled model, wherever it lies: in an executable, or in the memory of the compiler.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, ScopedJoinHandle};

use text::{ChatTemplate, Tokenizer};

use crate::code::Code;
use crate::container::Container;
use crate::cores::default_threads;
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

    /// Does `work` for each of `items`, which have nothing to do with each other: the results in
    /// their order, or the first fault in it. Where there are as many as threads each thread takes
    /// them by itself, so that none waits for another; where there are fewer, or a device does the
    /// work, they come one after the other.
    pub fn each<I: Sync, T: Send>(
        &self,
        threads: Option<usize>,
        items: &[I],
        work: impl Fn(&mut Session, &I) -> Result<T, Fault> + Sync,
    ) -> Result<Vec<T>, Fault> {
        let count = threads.unwrap_or_else(default_threads);
        let target = self.manifest().program.target;
        if count < 2 || items.len() < count || target != Target::Cpu {
            let mut session = self.session(threads, None)?;
            return items.iter().map(|it| work(&mut session, it)).collect();
        }
        let weights = self.weights(&mut Pool::new(Some(count))?)?;
        let next = AtomicUsize::new(0);
        let by_one = || {
            let mut session = self.processor(Pool::new(Some(1))?, Arc::clone(&weights), None, 1)?;
            let drawn = std::iter::from_fn(|| Some(next.fetch_add(1, Ordering::Relaxed)));
            let taken = drawn.map_while(|at| Some((at, items.get(at)?)));
            Ok(taken.map(|(at, item)| (at, work(&mut session, item))).collect::<Vec<_>>())
        };
        let done = thread::scope(|scope| {
            let all: Vec<_> = (0..count).map(|_| scope.spawn(by_one)).collect();
            let join =
                |it: ScopedJoinHandle<'_, _>| it.join().unwrap_or_else(|it| resume_unwind(it));
            all.into_iter().map(join).collect::<Result<Vec<_>, Fault>>()
        })?;
        let mut done: Vec<_> = done.into_iter().flatten().collect();
        done.sort_by_key(|it| it.0);
        done.into_iter().map(|it| it.1).collect()
    }

    fn open(
        &self,
        threads: Option<usize>,
        context: Option<u64>,
        sequences: u64,
    ) -> Result<Session, Fault> {
        let mut pool = Pool::new(threads)?;
        let program = &self.manifest().program;
        if program.target == Target::Cpu {
            let weights = self.weights(&mut pool)?;
            return self.processor(pool, weights, context, sequences);
        }
        let open = engine::device()?;
        let weights = self.weights(&mut pool)?;
        let code = match self {
            Compiled::File(container) => container.code_bytes()?,
            Compiled::Memory { .. } => program.code.clone(),
        };
        Session::open(program, context, |positions| {
            open(program, &code, weights, Room { positions, sequences })
        })
    }

    /// A session on the threads of `pool`.
    fn processor(
        &self,
        pool: Pool,
        weights: Arc<Pages>,
        context: Option<u64>,
        sequences: u64,
    ) -> Result<Session, Fault> {
        let program = &self.manifest().program;
        let code = match self {
            Compiled::File(container) => container.code()?,
            Compiled::Memory { .. } => Code::from_bytes(&program.code)?,
        };
        Session::of_sequences(sequences, program, code, weights, pool, context)
    }

    fn weights(&self, pool: &mut Pool) -> Result<Arc<Pages>, Fault> {
        Ok(match self {
            Compiled::File(container) => Arc::new(container.weights(pool)?),
            Compiled::Memory { weights, .. } => Arc::clone(weights),
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
