//! `chat`: a conversation, turn by turn.

use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;

use clap::Args;
use text::Message;

use super::{MachineArgs, SamplerArgs};
use crate::commands::run::write_statistics;
use crate::generate::{chat_prompt, generate};
use crate::{Compiled, Fault, Session};

/// Talk, turn by turn
#[derive(Args, Clone, Debug)]
pub struct ChatArgs {
    /// What the model is told before the conversation
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub system: Option<String>,
    /// Tokens of an answer at most [default: until the context is full]
    #[arg(short, long)]
    pub n: Option<usize>,
    /// How tokens are chosen.
    #[command(flatten)]
    pub sampler: SamplerArgs,
    /// How the machine is used.
    #[command(flatten)]
    pub machine: MachineArgs,
    /// Positions to make room for [default: 4096, or what the model can]
    #[arg(long)]
    pub context: Option<u64>,
    /// Print figures to standard error after each answer
    #[arg(long)]
    pub stats: bool,
}

/// Positions to make room for unless told otherwise.
const CONTEXT: u64 = 4096;

impl ChatArgs {
    /// Does it: each line of standard input is a message.
    pub fn execute(&self, model: &Compiled, out: &mut dyn Write) -> Result<(), Fault> {
        let tokenizer = model.tokenizer()?;
        let none = || Fault::new("R0602", "the model has no chat template");
        let template = model.chat_template()?.ok_or_else(none)?;
        let rule = self.sampler.rule(0)?;
        let context = self.context.unwrap_or(CONTEXT.min(model.manifest().program.capacity()));
        let mut session = model.session(self.machine.threads, Some(context))?;
        let mut messages = Vec::new();
        messages.extend(self.system.as_ref().map(|text| message("system", text)));
        let mut read = Vec::new();
        while let Some(line) = next_line(out)? {
            messages.push(message("user", &line));
            let render = |messages: &[Message]| chat_prompt(&tokenizer, &template, messages);
            let prompt = fitting(&mut messages, session.capacity(), render)?;
            keep_common(&mut session, &read, &prompt)?;
            let limit = self.n.unwrap_or(usize::MAX);
            let emit: &mut dyn FnMut(&str) -> Result<(), Fault> = &mut |text: &str| {
                out.write_all(text.as_bytes())?;
                Ok(out.flush()?)
            };
            let done = generate(&mut session, &tokenizer, &prompt, limit, &rule, emit)?;
            writeln!(out)?;
            if self.stats {
                write_statistics(&done)?;
            }
            messages.push(message("assistant", &done.text));
            read = prompt;
            read.extend(done.tokens);
        }
        Ok(())
    }
}

/// The prompt of `messages`, the oldest of which are forgotten where there is no room for all of
/// them and an answer. What the system says stays.
fn fitting(
    messages: &mut Vec<Message>,
    capacity: u64,
    render: impl Fn(&[Message]) -> Result<Vec<u32>, Fault>,
) -> Result<Vec<u32>, Fault> {
    let first = usize::from(messages.first().is_some_and(|it| it.role == "system"));
    let mut forgotten = 0;
    let prompt = loop {
        let prompt = render(messages)?;
        if (prompt.len() as u64) < capacity || messages.len() <= first + 2 {
            break prompt;
        }
        // A question with its answer.
        messages.drain(first..first + 2);
        forgotten += 1;
    };
    if 0 < forgotten {
        let note = format!("the context is full: {forgotten} of the oldest turns are forgotten");
        let _ = writeln!(std::io::stderr().lock(), "{note}");
    }
    Ok(prompt)
}

fn message(role: &str, content: &str) -> Message {
    Message { role: role.into(), content: content.into() }
}

/// The next line that says something; `None` at the end of the input.
fn next_line(out: &mut dyn Write) -> Result<Option<String>, Fault> {
    let input = std::io::stdin();
    loop {
        if input.is_terminal() {
            write!(out, "> ")?;
            out.flush()?;
        }
        let mut line = String::new();
        let unreadable = |error| Fault::reading(Path::new("standard input"), &error);
        if input.lock().read_line(&mut line).map_err(unreadable)? == 0 {
            return Ok(None);
        }
        if !line.trim().is_empty() {
            return Ok(Some(line.trim_end().to_owned()));
        }
    }
}

/// Forgets what differs between the tokens read so far and the next prompt. At least one token of
/// the prompt is left to read, since its logits are wanted.
fn keep_common(session: &mut Session, read: &[u32], prompt: &[u32]) -> Result<(), Fault> {
    let common = read.iter().zip(prompt).take_while(|(a, b)| a == b).count();
    session.rewind(common.min(prompt.len().saturating_sub(1)) as u64)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_turns_are_forgotten_where_there_is_no_room() {
        let said = |roles: &[&str]| -> Vec<Message> {
            roles.iter().enumerate().map(|(i, it)| message(it, &i.to_string())).collect()
        };
        let render = |it: &[Message]| Ok(vec![0; 10 * it.len()]);
        let left = |roles: &[&str], capacity| {
            let mut messages = said(roles);
            let prompt = fitting(&mut messages, capacity, render).unwrap();
            assert_eq!(prompt.len(), 10 * messages.len());
            messages.into_iter().map(|it| it.content).collect::<Vec<_>>().join(" ")
        };
        let turns = ["user", "assistant", "user", "assistant", "user"];
        assert_eq!(left(&turns, 51), "0 1 2 3 4");
        assert_eq!(left(&turns, 50), "2 3 4");
        assert_eq!(left(&turns, 30), "4");
        let turns = ["system", "user", "assistant", "user"];
        assert_eq!(left(&turns, 40), "0 3");
        // What does not fit by itself is refused when it is read.
        assert_eq!(left(&turns, 5), "0 3");
    }
}
