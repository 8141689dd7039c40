//! Where in a text something was said.

use std::fmt;

use crate::Name;

/// A line of a spec. It says what a node is for, and is no part of what a node is: equal nodes may
/// come from several lines, and are known by the first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    /// The name of the file, without its folder.
    pub file: Name,
    /// The number of the line, from 1.
    pub number: u32,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.number)
    }
}
