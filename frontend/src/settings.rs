//! Numbers and texts that stand in for those of a spec: `--set E=512`, or an imported config.

use std::collections::{BTreeMap, BTreeSet};

use crate::ast::{Extent, Item, Spec};
use crate::diagnostic::Diagnostic;
use crate::source::{SPEC, Span};
use crate::{format, parse};

/// New values for axes and values of a spec, by name and as they would be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings(BTreeMap<String, String>);

impl Settings {
    /// Reads `E=512`.
    ///
    /// # Errors
    ///
    /// When there is no `=`, or what follows could not be written in a spec.
    pub fn read(&mut self, text: &str) -> Result<(), Diagnostic> {
        let Some((name, value)) = text.split_once('=') else {
            let message = format!("`{text}` is not a setting such as `E=512`");
            return Err(Diagnostic::error("E0602", message));
        };
        if value.contains(['"', '\n']) {
            return Err(unfit(name.trim(), value, "a text of a spec has no `\"` and one line"));
        }
        self.set(name.trim(), value.trim());
        Ok(())
    }

    /// Sets one name; a number is given as its text.
    pub fn set(&mut self, name: &str, value: impl ToString) {
        self.0.insert(name.into(), value.to_string());
    }

    /// What is set, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The new extent of an axis, if one is set.
    pub(crate) fn extent(&self, name: &str) -> Result<Option<usize>, Diagnostic> {
        let Some(text) = self.0.get(name) else { return Ok(None) };
        let size = text.parse().ok().filter(|it| (1..=MOST_EXTENT).contains(it));
        size.map(Some).ok_or_else(|| unfit(name, text, "an extent is a whole number above 0"))
    }

    /// The new number of a value, if one is set.
    pub(crate) fn number(&self, name: &str) -> Result<Option<f64>, Diagnostic> {
        let Some(text) = self.0.get(name) else { return Ok(None) };
        let number = text.parse().ok().filter(|it: &f64| it.is_finite());
        number.map(Some).ok_or_else(|| unfit(name, text, "this value is a number"))
    }

    /// The new text of a value, if one is set.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Faults for all names that are not among the known ones.
    pub(crate) fn unknown(&self, known: &BTreeSet<&str>) -> Vec<Diagnostic> {
        let strange = self.0.keys().filter(|it| !known.contains(it.as_str()));
        strange.map(|it| not_declared(it, known)).collect()
    }
}

/// Extents may go this far, so that products of a few of them can be told from overflow.
pub(crate) const MOST_EXTENT: usize = 1 << 40;

fn unfit(name: &str, text: &str, why: &str) -> Diagnostic {
    Diagnostic::error("E0602", format!("`{name}` can not be `{text}`: {why}"))
}

fn not_declared(name: &str, known: &BTreeSet<&str>) -> Diagnostic {
    let diagnostic = Diagnostic::error("E0601", format!("the spec declares no `{name}` to set"));
    match crate::suggest::nearest(name, known.iter().copied()) {
        Some(near) => diagnostic.note(format!("did you mean `{near}`?")),
        None => diagnostic,
    }
}

/// The text of a spec with the settings in place of its own numbers and texts: what an import of a
/// config writes for a person to read and to change.
///
/// # Errors
///
/// When the text cannot be read, or has no place for a setting.
pub fn rewrite(text: &str, settings: &Settings) -> Result<String, Vec<Diagnostic>> {
    let (spec, faults) = parse(SPEC, text);
    if !faults.is_empty() {
        return Err(faults);
    }
    let places = places(&spec);
    // Which model is compiled is no part of the text.
    let known = places.keys().copied().chain(["model"]);
    let faults = settings.unknown(&known.collect());
    if !faults.is_empty() {
        return Err(faults);
    }
    let mut edits: Vec<(Span, &str)> =
        settings.iter().filter_map(|(name, value)| Some((*places.get(name)?, value))).collect();
    edits.sort_by_key(|it| std::cmp::Reverse(it.0));
    let mut text = text.to_owned();
    for (span, value) in edits {
        let range = span.start as usize..span.end as usize;
        let quoted = text[range.clone()].starts_with(['"', '\'']);
        let value = if quoted { format!("\"{value}\"") } else { number_text(value) };
        text.replace_range(range, &value);
    }
    format(&text)
}

/// A number as the language writes it, which has no `.5` and no `5.`.
fn number_text(value: &str) -> String {
    value.parse().map_or_else(|_| value.to_owned(), |it: f64| it.to_string())
}

/// Where each setting of a spec stands.
fn places(spec: &Spec) -> BTreeMap<&str, Span> {
    let mut places = BTreeMap::new();
    for item in &spec.items {
        match item {
            Item::Axes(decls) => {
                for decl in decls {
                    let (Extent::Is(extent) | Extent::AtMost(extent)) = &decl.extent;
                    places.insert(decl.name.text.as_str(), extent.span);
                }
            }
            Item::Values(decls) => {
                places.extend(decls.iter().map(|it| (it.name.text.as_str(), it.value.span)));
            }
            Item::Use(_)
            | Item::Function(_)
            | Item::Weights(_)
            | Item::Tokenizer(_)
            | Item::Train(_) => {}
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_texts_are_replaced_in_place() {
        let mut settings = Settings::default();
        settings.read("E = 512").unwrap();
        settings.set("S", 4096);
        settings.set("theta", 5e5);
        settings.set("kinds", "MM-");
        let text = "axis E = 576  // residual\naxis S <= 8192\nvalue theta = 1e5, kinds = \"M-\"\n";
        let new = rewrite(text, &settings).unwrap();
        let expected =
            "axis E = 512  // residual\naxis S <= 4096\nvalue theta = 500000, kinds = \"MM-\"\n";
        assert_eq!(new, expected);
    }

    #[test]
    fn what_is_set_can_be_written() {
        let mut settings = Settings::default();
        settings.read("eps=.5").unwrap();
        settings.read("model=second").unwrap();
        assert_eq!(rewrite("value eps = 1\n", &settings).unwrap(), "value eps = 0.5\n");
        assert_eq!(settings.read("kinds=M\"-").unwrap_err().code, "E0602");
    }

    #[test]
    fn what_is_not_declared_can_not_be_set() {
        let mut settings = Settings::default();
        settings.set("tehta", 1);
        let faults = rewrite("value theta = 1", &settings).unwrap_err();
        assert_eq!((faults[0].code, &*faults[0].notes[0]), ("E0601", "did you mean `theta`?"));
    }
}
