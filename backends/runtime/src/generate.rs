//! Text from a model: a prompt is read, then tokens follow one by one.

use std::time::{Duration, Instant};

use text::{ChatTemplate, DecodeStream, Encoding, Message, Rule, Tokenizer};

use crate::{Fault, Session};

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
/// `limit` tokens, each chosen by `rule`. `emit` gets the text as it comes.
pub fn generate(
    session: &mut Session,
    tokenizer: &Tokenizer,
    prompt: &[u32],
    limit: usize,
    rule: &Rule,
    emit: &mut dyn FnMut(&str) -> Result<(), Fault>,
) -> Result<Generated, Fault> {
    session.check_writes().map_err(|it| it.help("`embed` gives a vector for each"))?;
    let start = Instant::now();
    let unread = &prompt[(session.past() as usize).min(prompt.len())..];
    let mut next = session.pick(&signed(unread)?, rule)?;
    let mut writing = Writing::new(tokenizer, prompt, limit)?;
    writing.generated.prompt_tokens = unread.len();
    writing.generated.prompt_time = start.elapsed();
    loop {
        emit(writing.push(next, session.past() < session.capacity())?)?;
        if writing.has_ended() {
            break;
        }
        next = session.pick(&signed(&[next])?, rule)?;
    }
    let shown = writing.generated.text.len();
    let generated = writing.finish()?;
    emit(&generated.text[shown..])?;
    Ok(generated)
}

/// A text that gets its tokens one after the other.
pub(crate) struct Writing<'a> {
    tokenizer: &'a Tokenizer,
    stream: DecodeStream<'a>,
    limit: usize,
    /// When the first token came.
    start: Instant,
    ending: Option<Ending>,
    /// What there is so far.
    pub(crate) generated: Generated,
}

impl<'a> Writing<'a> {
    /// What follows `prompt`, at most so many tokens.
    pub(crate) fn new(
        tokenizer: &'a Tokenizer,
        prompt: &[u32],
        limit: usize,
    ) -> Result<Writing<'a>, Fault> {
        let generated = Generated {
            tokens: Vec::new(),
            text: String::new(),
            ending: Ending::Limit,
            prompt_tokens: prompt.len(),
            prompt_time: Duration::ZERO,
            generate_time: Duration::ZERO,
        };
        let stream = DecodeStream::new(tokenizer, prompt, false).map_err(untokenizable)?;
        Ok(Writing { tokenizer, stream, limit, start: Instant::now(), ending: None, generated })
    }

    /// Takes the next token, which can be read as long as there `is_room`: what it adds to the
    /// text.
    pub(crate) fn push(&mut self, token: u32, is_room: bool) -> Result<&str, Fault> {
        let Generated { tokens, text, generate_time, .. } = &mut self.generated;
        *generate_time = self.start.elapsed();
        let before = text.len();
        self.ending = if tokens.len() == self.limit {
            Some(Ending::Limit)
        } else if self.tokenizer.is_stop(token) {
            Some(Ending::Stop)
        } else {
            tokens.push(token);
            text.push_str(&self.stream.push(token).map_err(untokenizable)?);
            match is_room {
                _ if tokens.len() == self.limit => Some(Ending::Limit),
                true => None,
                false => Some(Ending::Context),
            }
        };
        Ok(&self.generated.text[before..])
    }

    /// Whether the text is to have no more tokens.
    pub(crate) fn has_ended(&self) -> bool {
        self.ending.is_some()
    }

    /// The whole text, with what had to wait for more tokens.
    pub(crate) fn finish(self) -> Result<Generated, Fault> {
        let mut text = self.generated.text;
        text.push_str(&self.stream.finish().map_err(untokenizable)?);
        let ending = self.ending.unwrap_or(Ending::Limit);
        Ok(Generated { text, ending, ..self.generated })
    }
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
