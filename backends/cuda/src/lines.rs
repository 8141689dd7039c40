//! The lines of a spec that a kernel computes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ir::Function;
use serde::{Deserialize, Serialize};

/// Numbers of lines, by the names of files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lines(BTreeMap<String, BTreeSet<u32>>);

impl Lines {
    /// Takes in those of all nodes of `function`.
    pub(crate) fn extend(&mut self, function: &Function) {
        for line in function.nodes().iter().filter_map(|it| function.line(it)) {
            self.0.entry(line.file.to_string()).or_default().insert(line.number);
        }
    }

    /// Takes in others.
    pub(crate) fn merge(&mut self, others: Lines) {
        for (file, numbers) in others.0 {
            self.0.entry(file).or_default().extend(numbers);
        }
    }
}

/// Such as ` of llama.tn:24, 31-33`; nothing where no line is known.
impl fmt::Display for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (file, numbers)) in self.0.iter().enumerate() {
            write!(f, "{}{file}:", if i == 0 { " of " } else { ", " })?;
            for (i, (first, last)) in runs(numbers).into_iter().enumerate() {
                write!(f, "{}{first}", if i == 0 { "" } else { ", " })?;
                if first < last {
                    write!(f, "-{last}")?;
                }
            }
        }
        Ok(())
    }
}

/// The first and the last of each run of consecutive numbers.
fn runs(numbers: &BTreeSet<u32>) -> Vec<(u32, u32)> {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for &number in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => runs.push((number, number)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consecutive_lines_are_a_run() {
        let lines = |file: &str, numbers: &[u32]| {
            Lines(BTreeMap::from([(file.to_owned(), numbers.iter().copied().collect())]))
        };
        let mut both = lines("llama.tn", &[24, 31, 33]);
        both.merge(lines("llama.tn", &[32]));
        both.merge(lines("shared.tn", &[7]));
        assert_eq!(both.to_string(), " of llama.tn:24, 31-33, shared.tn:7");
        assert_eq!(Lines::default().to_string(), "");
    }
}
