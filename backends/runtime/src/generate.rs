//! Text from a model: a prompt is read, then tokens follow one by one.

use std::time::{Duration, Instant};

use text::{ChatTemplate, DecodeStream, Encoding, Message, Sampler, Tokenizer};

use crate::{Fault, Model, Session};

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The model said so.
    Stop,
    /// As many tokens as were asked for.
    Limit,
    /// The context is full.
    Context,
}

impl Ending {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Ending::Stop => "stop",
            Ending::Limit => "limit",
            Ending::Context => "context",
        }
    }
}

/// What was generated, and how long it took.
#[derive(Clone, Debug)]
pub struct Generated {
    /// The tokens, without the one that ended the text.
    pub tokens: Vec<u32>,
    /// Their text.
    pub text: String,
    /// Why there are no more.
    pub ending: Ending,
    /// Tokens of the prompt that had to be read.
    pub prompt_tokens: usize,
    /// From the prompt to the first token.
    pub prompt_time: Duration,
    /// From the first token to the last.
    pub generate_time: Duration,
}

/// The tokens of a plain text.
pub fn plain_prompt(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>, Fault> {
    let how = Encoding { framed: true, parse_special: false };
    prompt(tokenizer, text, how)
}

/// The tokens of a conversation in which the assistant speaks next.
pub fn chat_prompt(
    tokenizer: &Tokenizer,
    template: &ChatTemplate,
    messages: &[Message],
) -> Result<Vec<u32>, Fault> {
    let name = |token: Option<u32>| token.map_or("", |it| tokenizer.vocab().token(it));
    let (bos, eos) = (name(tokenizer.bos()), name(tokenizer.eos()));
    let text = template.render(messages, true, bos, eos).map_err(untokenizable)?;
    prompt(tokenizer, &text, Encoding { framed: false, parse_special: true })
}

fn prompt(tokenizer: &Tokenizer, text: &str, how: Encoding) -> Result<Vec<u32>, Fault> {
    let tokens = tokenizer.encode(text, how).map_err(untokenizable)?;
    if tokens.is_empty() {
        return Err(Fault::new("R0602", "the prompt is empty"));
    }
    Ok(tokens)
}

/// Reads the last tokens of `prompt`, those the session has not read yet, and generates at most
/// `limit` tokens. `emit` gets the text as it comes.
pub fn generate(
    session: &mut Session,
    tokenizer: &Tokenizer,
    prompt: &[u32],
    limit: usize,
    sampler: &mut Sampler,
    emit: &mut dyn FnMut(&str) -> Result<(), Fault>,
) -> Result<Generated, Fault> {
    session.check_writes().map_err(|it| it.help("`embed` gives a vector for each"))?;
    let start = Instant::now();
    let unread = &prompt[(session.past() as usize).min(prompt.len())..];
    let mut next = sampler.sample(session.prefill(&signed(unread)?)?);
    let prompt_time = start.elapsed();
    let mut stream = DecodeStream::new(tokenizer, prompt, false).map_err(untokenizable)?;
    let (mut tokens, mut text) = (Vec::new(), String::new());
    let mut show = |part: String| {
        text.push_str(&part);
        emit(&part)
    };
    let ending = loop {
        if tokens.len() == limit {
            break Ending::Limit;
        }
        if tokenizer.is_stop(next) {
            break Ending::Stop;
        }
        tokens.push(next);
        show(stream.push(next).map_err(untokenizable)?)?;
        if tokens.len() == limit {
            break Ending::Limit;
        }
        if session.past() == session.capacity() {
            break Ending::Context;
        }
        next = sampler.sample(session.step(&signed(&[next])?, 1)?);
    };
    show(stream.finish().map_err(untokenizable)?)?;
    let generate_time = start.elapsed() - prompt_time;
    let prompt_tokens = unread.len();
    Ok(Generated { tokens, text, ending, prompt_tokens, prompt_time, generate_time })
}

/// Tokens as the program takes them.
pub(crate) fn signed(tokens: &[u32]) -> Result<Vec<i32>, Fault> {
    let convert = |&token: &u32| {
        let beyond = |_| Fault::new("R0301", format!("token {token} is not in any vocabulary"));
        i32::try_from(token).map_err(beyond)
    };
    tokens.iter().map(convert).collect()
}

fn untokenizable(error: text::Error) -> Fault {
    Fault::new("R0602", error.to_string())
}
