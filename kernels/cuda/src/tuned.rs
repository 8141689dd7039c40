//! What was found by measuring: numbers that decide how a kernel is cut, and change nothing else.
//!
//! The table is written by `treen tune` and read when kernels are printed. A line is a choice and
//! its number, as in `skinny 1 of bf16 4096x4096 rows 1 = 8`; `#` begins a comment.

use std::collections::BTreeMap;
use std::fmt;

/// What the values of a kernel mean, and which are right for every shape.
const KINDS: [(&str, &[u64]); 4] = [
    // Stages of the ring of weights; no more are taken than there is room for.
    ("skinny", &[2, 3, 4, 6, 8, 12]),
    // Parts that columns of the weights are summed in; at most 2 for two products.
    ("gemm_split", &[1, 2, 4]),
    // Blocks that a launch has at most.
    ("attention_token", &[66, 132, 264, 528]),
    // Whether products of many rows are left to cuBLASLt, where a machine has it.
    ("library", &[0, 1]),
];

/// Something that can be chosen for a launch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tunable {
    key: String,
    kind: &'static str,
    /// The most rows that the launch is for.
    pub rows: u64,
}

impl Tunable {
    /// For a kernel, told apart by what its speed depends on.
    pub(crate) fn new(kind: &'static str, of: &str, rows: u64) -> Tunable {
        Tunable { key: format!("{kind} {of}"), kind, rows }
    }

    /// Its name in the table.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What is chosen for: how keys of its like begin.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// What can be chosen.
    pub fn values(&self) -> &'static [u64] {
        values(self.kind).unwrap_or(&[])
    }
}

fn values(kind: &str) -> Option<&'static [u64]> {
    KINDS.iter().find(|it| it.0 == kind).map(|it| it.1)
}

/// What is chosen, by key; what is not in it is chosen by rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tuned(BTreeMap<String, u64>);

impl Tuned {
    /// What was measured on Hopper, which serves other architectures as well.
    ///
    /// # Errors
    ///
    /// As [`Tuned::parse`].
    pub fn standard() -> Result<Tuned, String> {
        Tuned::parse(include_str!("../tuned/sm_90a.txt"))
    }

    /// Reads a table.
    ///
    /// # Errors
    ///
    /// The first line that is none, is there twice, or has a number that no kernel takes.
    pub fn parse(text: &str) -> Result<Tuned, String> {
        let mut tuned = Tuned::default();
        for (i, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or("").trim();
            if !line.is_empty() {
                tuned.read(line).map_err(|why| format!("line {}: {why}", i + 1))?;
            }
        }
        Ok(tuned)
    }

    fn read(&mut self, line: &str) -> Result<(), String> {
        let (key, value) = line.split_once(" = ").ok_or("a choice is `KERNEL .. = NUMBER`")?;
        let kind = key.split(' ').next().unwrap_or("");
        let values = values(kind).ok_or_else(|| format!("nothing of `{kind}` is tuned"))?;
        let value = value.parse().ok().filter(|it| values.contains(it));
        let value = value.ok_or_else(|| format!("`{key}` can be {values:?}"))?;
        match self.0.insert(key.to_owned(), value) {
            Some(_) => Err(format!("`{key}` is there twice")),
            None => Ok(()),
        }
    }

    /// What was found for a choice.
    pub fn get(&self, choice: &Tunable) -> Option<u64> {
        self.0.get(&choice.key).copied()
    }

    /// Chooses; a value that can not be is left out.
    pub fn set(&mut self, choice: &Tunable, value: Option<u64>) {
        match value.filter(|it| choice.values().contains(it)) {
            Some(value) => self.0.insert(choice.key.clone(), value),
            None => self.0.remove(&choice.key),
        };
    }
}

impl fmt::Display for Tuned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(key, value)| writeln!(f, "{key} = {value}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let tuned = Tuned::standard().unwrap();
        assert_eq!(Tuned::parse(&tuned.to_string()), Ok(tuned));
        let choice = Tunable::new("skinny", "1 of nvfp4 64x64 rows 1", 1);
        let mut tuned = Tuned::default();
        tuned.set(&choice, Some(5));
        assert_eq!(tuned.get(&choice), None);
        tuned.set(&choice, Some(4));
        assert_eq!(tuned.to_string(), "skinny 1 of nvfp4 64x64 rows 1 = 4\n");
        assert_eq!(Tuned::parse(&tuned.to_string()).unwrap().get(&choice), Some(4));
    }

    #[test]
    fn what_can_not_be_is_refused() {
        for (text, why) in [
            ("skinny 1", "line 1: a choice is"),
            ("\n# skinny\nwide 1 = 2", "line 3: nothing of `wide`"),
            ("skinny a = 5", "line 1: `skinny a` can be"),
            ("skinny a = -2", "line 1: `skinny a` can be"),
            ("skinny a = 2\nskinny a = 3", "line 2: `skinny a` is there twice"),
        ] {
            assert!(Tuned::parse(text).unwrap_err().starts_with(why), "{text}");
        }
    }
}
