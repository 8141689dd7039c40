//! `run`: continues a text or answers a question.

use std::io::{IsTerminal, Write};

use clap::Args;
use serde_json::json;
use text::{Message, Tokenizer};

use super::{MachineArgs, SamplerArgs, rate, write_json};
use crate::generate::{Generated, chat_prompt, generate, plain_prompt, signed};
use crate::{Compiled, Fault, Model};

/// Tokens that are generated unless told otherwise.
const DEFAULT_TOKENS: usize = 128;

/// Continue a text, or answer a question
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// The text
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    pub prompt: String,
    /// Tokens to generate at most
    #[arg(short, long, default_value_t = DEFAULT_TOKENS)]
    pub n: usize,
    /// How tokens are chosen.
    #[command(flatten)]
    pub sampler: SamplerArgs,
    /// How the machine is used.
    #[command(flatten)]
    pub machine: MachineArgs,
    /// Positions to make room for [default: what the text needs]
    #[arg(long)]
    pub context: Option<u64>,
    /// Take the text as a question and answer it, by the model's chat template
    #[arg(long)]
    pub chat: bool,
    /// Print text and figures as JSON when all is done
    #[arg(long)]
    pub json: bool,
    /// Print figures to standard error, as is done on a terminal
    #[arg(long)]
    pub stats: bool,
}

impl RunArgs {
    /// Does it.
    pub fn execute(&self, model: &Compiled, out: &mut dyn Write) -> Result<(), Fault> {
        let tokenizer = model.tokenizer()?;
        let mut sampler = self.sampler.sampler()?;
        let mut prompt = self.tokens(model, &tokenizer)?;
        let mut session =
            model.session(self.machine.threads, Some(self.capacity(model, &prompt)))?;
        if session.has_source() {
            // An encoder reads the text, and the answer begins with a token of its own.
            session.read_source(&signed(&prompt)?)?;
            prompt = vec![model.manifest().start];
        }
        let emit: &mut dyn FnMut(&str) -> Result<(), Fault> = &mut |text: &str| {
            if !self.json {
                out.write_all(text.as_bytes())?;
                out.flush()?;
            }
            Ok(())
        };
        let done = generate(&mut session, &tokenizer, &prompt, self.n, &mut sampler, emit)?;
        if self.json {
            return write_json(out, &report(&done));
        }
        writeln!(out)?;
        if self.stats || std::io::stderr().is_terminal() {
            write_statistics(&done)?;
        }
        Ok(())
    }

    fn tokens(&self, model: &Compiled, tokenizer: &Tokenizer) -> Result<Vec<u32>, Fault> {
        if !self.chat {
            return plain_prompt(tokenizer, &self.prompt);
        }
        let template = model.chat_template()?.ok_or_else(|| {
            Fault::new("R0602", "the model has no chat template")
                .help("leave `--chat` out to have the text continued")
        })?;
        let message = Message { role: "user".into(), content: self.prompt.clone() };
        chat_prompt(tokenizer, &template, &[message])
    }

    /// What the text needs, as far as the model can.
    fn capacity(&self, model: &Compiled, prompt: &[u32]) -> u64 {
        let needed = (prompt.len() as u64).saturating_add(self.n as u64);
        self.context.unwrap_or_else(|| needed.min(model.manifest().program.capacity()))
    }
}

/// The figures of a generation, for programs.
fn report(done: &Generated) -> serde_json::Value {
    json!({
        "text": done.text,
        "tokens": done.tokens,
        "ending": done.ending.name(),
        "prompt_tokens": done.prompt_tokens,
        "generated_tokens": done.tokens.len(),
        "prompt_tokens_per_s": rate(done.prompt_tokens, done.prompt_time),
        "generate_tokens_per_s": generate_rate(done),
        "first_token_ms": done.prompt_time.as_secs_f64() * 1e3,
    })
}

/// The figures of a generation, for people.
pub(super) fn write_statistics(done: &Generated) -> Result<(), Fault> {
    writeln!(
        std::io::stderr().lock(),
        "[{} tokens read at {:.1} a second, {} generated at {:.1} a second; ended by {}]",
        done.prompt_tokens,
        rate(done.prompt_tokens, done.prompt_time),
        done.tokens.len(),
        generate_rate(done),
        done.ending.name(),
    )?;
    Ok(())
}

/// The first token comes with the prompt and costs no step of its own.
fn generate_rate(done: &Generated) -> f64 {
    rate(done.tokens.len().saturating_sub(1), done.generate_time)
}
