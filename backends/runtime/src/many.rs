//! Many texts from a model, several of them at once: where one has ended, the next one begins.

use std::time::Instant;

use text::{Rule, Tokenizer};

use crate::generate::{Writing, signed};
use crate::{Batch, Fault, Generated};

/// A text to be continued.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its tokens.
    pub prompt: Vec<u32>,
    /// How the tokens that follow are chosen.
    pub rule: Rule,
}

/// A sequence of the batch at work.
struct Row<'a> {
    /// The number of its request.
    request: usize,
    writing: Writing<'a>,
    /// The token that is read next.
    next: u32,
}

/// Continues each text by at most `limit` tokens. `done` gets them as they end, with their numbers.
pub fn generate_many(
    batch: &mut Batch,
    tokenizer: &Tokenizer,
    requests: &[Request],
    limit: usize,
    done: &mut dyn FnMut(usize, Generated) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mut waiting = requests.iter().enumerate();
    let mut rows: Vec<Option<Row<'_>>> = (0..batch.sequences()).map(|_| None).collect();
    loop {
        for (sequence, row) in rows.iter_mut().enumerate() {
            while row.is_none() {
                let Some((number, request)) = waiting.next() else { break };
                *row = Some(begin(batch, tokenizer, sequence, number, request, limit)?);
                end(row, done)?;
            }
        }
        if rows.iter().all(Option::is_none) {
            return Ok(());
        }
        let chosen = step(batch, &rows, requests)?;
        for (sequence, (row, token)) in rows.iter_mut().zip(chosen).enumerate() {
            let Some(at) = row else { continue };
            at.next = token as u32;
            at.writing.push(at.next, batch.past(sequence) < batch.capacity())?;
            end(row, done)?;
        }
    }
}

/// Reads a text.
fn begin<'a>(
    batch: &mut Batch,
    tokenizer: &'a Tokenizer,
    sequence: usize,
    number: usize,
    request: &Request,
    limit: usize,
) -> Result<Row<'a>, Fault> {
    let start = Instant::now();
    batch.reset(sequence);
    let next = batch.pick_first(sequence, &signed(&request.prompt)?, &request.rule)?;
    let mut writing = Writing::new(tokenizer, &request.prompt, limit)?;
    writing.generated.prompt_time = start.elapsed();
    writing.push(next, batch.past(sequence) < batch.capacity())?;
    Ok(Row { request: number, writing, next })
}

/// The next token of each row; those of rows that are free mean nothing.
fn step(
    batch: &mut Batch,
    rows: &[Option<Row<'_>>],
    requests: &[Request],
) -> Result<Vec<i32>, Fault> {
    let given = rows.iter().map(|it| it.as_ref().map(|it| it.next as i32));
    let given: Vec<Option<i32>> = given.collect();
    let rule =
        |it: &Option<Row<'_>>| it.as_ref().map_or(Rule::GREEDY, |it| requests[it.request].rule);
    let rules: Vec<Rule> = rows.iter().map(rule).collect();
    Ok(batch.pick(&given, &rules)?.to_vec())
}

/// Frees a row whose text has ended.
fn end(
    row: &mut Option<Row<'_>>,
    done: &mut dyn FnMut(usize, Generated) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let Some(ended) = row.take_if(|it| it.writing.has_ended()) else { return Ok(()) };
    done(ended.request, ended.writing.finish()?)
}
