//! Tokens to text, one at a time.

use crate::error::Error;
use crate::tokenizer::Tokenizer;

/// Decodes a run of tokens as they come, and never gives half a character.
///
/// What a token reads as may depend on the token before it, and a character may take several
/// tokens. So the last few tokens are decoded again with each new one, and what is new is given.
pub struct DecodeStream<'a> {
    tokenizer: &'a Tokenizer,
    show_special: bool,
    /// The tokens that are decoded together.
    window: Vec<u32>,
    /// How many of them were there when the text was last complete.
    settled: usize,
    /// How many tokens in a row have given nothing.
    waiting: usize,
    /// The text of the window that has been given.
    given: String,
}

/// A character has at most so many bytes, and so at most so many tokens.
const MAX_BYTES: usize = 4;

/// How many tokens may give nothing: those of a character, behind those of a U+FFFD that is meant.
const MAX_WAIT: usize = 2 * MAX_BYTES;

impl<'a> DecodeStream<'a> {
    /// Starts after `context`, the end of which decides about a space before the first word.
    ///
    /// # Errors
    /// When the tokenizer's decoder fails.
    pub fn new(
        tokenizer: &'a Tokenizer,
        context: &[u32],
        show_special: bool,
    ) -> Result<DecodeStream<'a>, Error> {
        let window = context[context.len().saturating_sub(MAX_BYTES)..].to_vec();
        let given = tokenizer.decode(&window, show_special)?;
        Ok(DecodeStream {
            tokenizer,
            show_special,
            settled: window.len(),
            waiting: 0,
            window,
            given,
        })
    }

    /// The text that this token completes; may be empty.
    ///
    /// # Errors
    /// When the tokenizer's decoder fails.
    pub fn push(&mut self, token: u32) -> Result<String, Error> {
        self.window.push(token);
        let text = self.tokenizer.decode(&self.window, self.show_special)?;
        let whole = text.trim_end_matches(char::REPLACEMENT_CHARACTER);
        if whole.len() < text.len() && self.waiting + 1 < MAX_WAIT {
            let new = new_text(&self.given, whole).to_owned();
            self.waiting = if new.is_empty() { self.waiting + 1 } else { 0 };
            self.given.push_str(&new);
            return Ok(new);
        }
        let new = new_text(&self.given, &text).to_owned();
        // A decoder may strip the beginning of a text, which the window must not become.
        let tail = self.tokenizer.decode(&self.window[self.settled..], self.show_special)?;
        if tail.is_empty() {
            self.given = text;
        } else {
            self.window.drain(..self.settled);
            self.given = tail;
        }
        self.settled = self.window.len();
        self.waiting = 0;
        Ok(new)
    }

    /// The rest: characters that were never finished, as U+FFFD.
    ///
    /// # Errors
    /// When the tokenizer's decoder fails.
    pub fn finish(self) -> Result<String, Error> {
        let text = self.tokenizer.decode(&self.window, self.show_special)?;
        Ok(new_text(&self.given, &text).to_owned())
    }
}

/// What of a text has not been given. Where they differ it is all after what they share.
fn new_text<'a>(given: &str, text: &'a str) -> &'a str {
    let same = given.chars().zip(text.chars()).take_while(|(a, b)| a == b);
    &text[same.map(|(a, _)| a.len_utf8()).sum()..]
}
