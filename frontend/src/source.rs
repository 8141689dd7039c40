//! Source texts and places in them.

use serde::Serialize;

/// A range of bytes of one source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Span {
    /// Index of the source in its [`Sources`].
    pub source: u16,
    /// First byte.
    pub start: u32,
    /// The byte after the last.
    pub end: u32,
}

impl Span {
    /// From the start of this span to the end of another of the same source.
    pub fn to(self, last: Span) -> Span {
        Span { end: last.end.max(self.end), ..self }
    }
}

/// One text with the name that diagnostics call it by.
#[derive(Clone, Debug)]
pub struct Source {
    /// A path, or what stands for one.
    pub name: String,
    /// The whole text.
    pub text: String,
}

impl Source {
    /// Its file's name, without the folder.
    pub fn file(&self) -> &str {
        self.name.rsplit(['/', '\\']).next().unwrap_or("")
    }

    /// What `use` calls it: its file's name without the ending.
    pub fn stem(&self) -> &str {
        self.file().split('.').next().unwrap_or("")
    }
}

/// Index of the prelude, which all sources begin with.
pub const PRELUDE: u16 = 0;
/// Index of the text that is compiled.
pub const SPEC: u16 = 1;

/// The texts of one compilation: the prelude, the spec, and files that it may use.
#[derive(Clone, Debug)]
pub struct Sources(Vec<Source>);

impl Sources {
    /// The sources of a compilation of one text, which gets the index [`SPEC`].
    pub fn of(name: &str, text: &str) -> Sources {
        let prelude = include_str!("../../models/prelude.tn");
        let mut sources = Sources(Vec::new());
        sources.add("prelude.tn", prelude);
        sources.add(name, text);
        sources
    }

    /// Adds a text that others may `use` by the stem of its name, and says its index. A compilation
    /// has at most 65,536 texts; any further one takes the index of the last.
    pub fn add(&mut self, name: &str, text: &str) -> u16 {
        self.0.push(Source { name: name.into(), text: text.into() });
        u16::try_from(self.0.len() - 1).unwrap_or(u16::MAX)
    }

    /// The text of an index.
    pub fn get(&self, source: u16) -> Option<&Source> {
        self.0.get(usize::from(source))
    }

    /// All texts with their indices.
    pub fn iter(&self) -> impl Iterator<Item = (u16, &Source)> {
        (0..=u16::MAX).zip(&self.0)
    }
}
