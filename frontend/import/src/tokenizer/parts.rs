//! The steps around a model, as `tokenizer.json` writes them: only those that the runtime knows.

use super::{base64, charsmap, fault};
use crate::error::Error;
use serde_json::Value as Json;

/// A kind of step.
pub(super) struct Kind {
    /// What one of them is called.
    name: &'static str,
    /// The key of a sequence's list.
    list: &'static str,
    /// The steps that there are.
    known: &'static [&'static str],
}

/// What happens to a text before it is cut.
pub(super) const NORMALIZER: Kind = Kind {
    name: "normalizer",
    list: "normalizers",
    known: &[
        "BertNormalizer",
        "ByteLevel",
        "Lowercase",
        "NFC",
        "NFD",
        "NFKC",
        "NFKD",
        "Nmt",
        "Precompiled",
        "Prepend",
        "Replace",
        "Strip",
        "StripAccents",
    ],
};

/// How a text is cut into words.
pub(super) const PRE_TOKENIZER: Kind = Kind {
    name: "pre-tokenizer",
    list: "pretokenizers",
    known: &[
        "BertPreTokenizer",
        "ByteLevel",
        "CharDelimiterSplit",
        "Digits",
        "Metaspace",
        "Punctuation",
        "Split",
        "UnicodeScripts",
        "Whitespace",
        "WhitespaceSplit",
    ],
};

/// How tokens become text.
pub(super) const DECODER: Kind = Kind {
    name: "decoder",
    list: "decoders",
    known: &[
        "BPEDecoder",
        "ByteFallback",
        "ByteLevel",
        "CTC",
        "Fuse",
        "Metaspace",
        "Replace",
        "Strip",
        "WordPiece",
    ],
};

/// More regular expressions than any tokenizer has. A short one may take much memory.
const MAX_REGEXES: usize = 16;

impl Kind {
    /// The step as the runtime reads it; `None` for null.
    pub(super) fn read(&self, step: &Json) -> Result<Option<String>, Error> {
        if step.is_null() {
            return Ok(None);
        }
        self.check(step)?;
        let text = step.to_string();
        if MAX_REGEXES < text.matches("\"Regex\":").count() {
            return Err(fault(format!("the {} has too many regular expressions", self.name)));
        }
        Ok(Some(text))
    }

    fn check(&self, step: &Json) -> Result<(), Error> {
        let name = step["type"].as_str().unwrap_or("of no type");
        match name {
            "Sequence" => {
                let list = step[self.list].as_array();
                let list = list.ok_or_else(|| fault(format!("the {} is no list", self.name)))?;
                list.iter().try_for_each(|step| self.check(step))
            }
            _ if !self.known.contains(&name) => Err(fault(format!("the {} is {name}", self.name))),
            "Precompiled" => {
                let text = step["precompiled_charsmap"].as_str().unwrap_or_default();
                let is_sound = base64::decode(text).is_some_and(|map| charsmap::is_sound(&map));
                is_sound.then_some(()).ok_or_else(|| fault("the precompiled charsmap is damaged"))
            }
            // Cutting more than there is ends the program in the `tokenizers` crate.
            "Strip" if step.get("stop").is_some_and(|stop| *stop != 0) => {
                Err(fault("the decoder Strip cuts the end of a text"))
            }
            _ => Ok(()),
        }
    }
}
