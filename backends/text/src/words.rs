//! The tokens that a model may make of a text: neither the special ones, which no text of a user
//! may write, nor those that were added to the model.

use crate::vocab::Vocab;

/// A vocabulary as the models see it.
#[derive(Clone, Copy)]
pub(crate) struct Words<'a> {
    pub(crate) vocab: &'a Vocab,
    /// The numbers of the tokens that are none of the model's, in order.
    pub(crate) others: &'a [u32],
}

impl<'a> Words<'a> {
    /// The token of that text.
    pub(crate) fn find(&self, text: &str) -> Option<u32> {
        self.vocab.id(text).filter(|id| self.is_text(*id))
    }

    /// The tokens that a text begins with, shortest first, each with its length in bytes.
    pub(crate) fn prefixes(self, text: &'a str) -> impl Iterator<Item = (u32, usize)> {
        self.vocab.prefixes(text).filter(move |(id, _)| self.is_text(*id))
    }

    /// The tokens `<0xHH>` of some bytes, if there are all of them.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Option<Vec<u32>> {
        bytes.iter().map(|byte| self.find(&format!("<0x{byte:02X}>"))).collect()
    }

    fn is_text(&self, id: u32) -> bool {
        self.others.binary_search(&id).is_err()
    }
}
