//! Several sequences at work at once: each has read a text of its own, and a step reads the next
//! token of all of them.
//!
//! A GPU takes a step of all sequences as one, which reads the weights once. The processor takes
//! them one after the other: it is no faster than so many sessions, and needs the weights just
//! once.

use text::Rule;

use crate::engine::Answer;
use crate::program::{ExtentRole, Program};
use crate::{Fault, Model, Session};

/// A model that reads several sequences. They are numbered, and one that has ended makes room for
/// another one.
pub struct Batch {
    session: Session,
    /// How many positions each sequence has.
    past: Vec<u64>,
}

impl Batch {
    /// Refuses more sequences than a program can read at once.
    pub(crate) fn check(program: &Program, sequences: u64) -> Result<(), Fault> {
        let bounds = [ExtentRole::New, ExtentRole::Last].map(|it| program.bound(it));
        let most = bounds.into_iter().flatten().min().unwrap_or(0);
        let has_source = program.bound(ExtentRole::Source).is_some();
        if 1 < sequences && (has_source || program.bound(ExtentRole::Past).is_none()) {
            return Err(Fault::new("R0304", "the model reads each text as a whole"));
        }
        if (1..=most.max(1)).contains(&sequences) {
            return Ok(());
        }
        let message = format!("{sequences} sequences at once, where 1 to {most} can be");
        Err(Fault::new("R0303", message))
    }

    /// So many sequences, for which the session's engine has room.
    pub(crate) fn new(session: Session, sequences: u64) -> Batch {
        Batch { session, past: vec![0; sequences as usize] }
    }

    /// How many sequences there are.
    pub fn sequences(&self) -> usize {
        self.past.len()
    }

    /// Positions that there is room for in each sequence.
    pub fn capacity(&self) -> u64 {
        self.session.capacity()
    }

    /// Positions that a sequence has.
    pub fn past(&self, sequence: usize) -> u64 {
        self.past[sequence]
    }

    /// A sequence by itself, from its beginning.
    pub fn alone(&mut self, sequence: usize) -> Result<&mut Session, Fault> {
        self.reset(sequence);
        self.begin(sequence)?;
        Ok(&mut self.session)
    }

    /// Forgets a sequence.
    pub fn reset(&mut self, sequence: usize) {
        self.past[sequence] = 0;
    }

    /// Reads a text behind what a sequence has: the logits that follow it.
    pub fn prefill(&mut self, sequence: usize, tokens: &[i32]) -> Result<&[f32], Fault> {
        self.begin(sequence)?;
        self.session.prefill(tokens)?;
        self.past[sequence] = self.session.past();
        Ok(self.session.logits())
    }

    /// The same; the token that follows it by `rule`.
    pub fn pick_first(
        &mut self,
        sequence: usize,
        tokens: &[i32],
        rule: &Rule,
    ) -> Result<u32, Fault> {
        self.begin(sequence)?;
        let picked = self.session.pick(tokens, rule)?;
        self.past[sequence] = self.session.past();
        Ok(picked)
    }

    /// Turns to a sequence. One that has nothing yet may have been computed with.
    fn begin(&mut self, sequence: usize) -> Result<(), Fault> {
        self.session.turn_to(sequence, self.past[sequence]);
        if self.past[sequence] == 0 { self.session.reset() } else { Ok(()) }
    }

    /// Reads the next token of each of the first `tokens.len()` sequences: the logits
    /// `[tokens, vocabulary]` that follow. A sequence without one forgets what it has, and its
    /// logits mean nothing.
    pub fn step(&mut self, tokens: &[Option<i32>]) -> Result<&[f32], Fault> {
        self.run(tokens, Answer::Outputs)?;
        Ok(self.session.logits())
    }

    /// The same; the token that follows each by its rule.
    pub fn pick(&mut self, tokens: &[Option<i32>], rules: &[Rule]) -> Result<&[i32], Fault> {
        if rules.len() < tokens.len() {
            let message = format!("{} rules for {} tokens", rules.len(), tokens.len());
            return Err(Fault::new("R0303", message));
        }
        self.run(tokens, Answer::Tokens(&rules[..tokens.len()]))?;
        Ok(&self.session.picked()[..tokens.len()])
    }

    fn run(&mut self, tokens: &[Option<i32>], answer: Answer<'_>) -> Result<(), Fault> {
        if !(1..=self.past.len()).contains(&tokens.len()) {
            let message = format!("{} tokens for {} sequences", tokens.len(), self.past.len());
            return Err(Fault::new("R0303", message));
        }
        for (past, token) in self.past.iter_mut().zip(tokens) {
            *past = if token.is_some() { *past } else { 0 };
        }
        for (sequence, token) in tokens.iter().enumerate() {
            if token.is_some() && self.past[sequence] == 0 {
                self.begin(sequence)?;
            }
        }
        let given: Vec<i32> = tokens.iter().map(|it| it.unwrap_or(0)).collect();
        self.session.step_each(&given, &self.past[..tokens.len()], answer)?;
        for (past, token) in self.past.iter_mut().zip(tokens) {
            *past += u64::from(token.is_some());
        }
        Ok(())
    }
}
