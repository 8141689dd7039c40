//! Numbers and texts that stand in for those of a spec: `--set E=512`, or an imported config.

use std::collections::{BTreeMap, BTreeSet};

use crate::ast::{AxisDecl, ExprKind, Extent, Item, Spec};
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
        let size = text.split_once("elastic").map_or(text.as_str(), |it| it.0).trim().parse().ok();
        let size = size.filter(|it| (1..=MOST_EXTENT).contains(it));
        size.map(Some).ok_or_else(|| unfit(name, text, "an extent is a whole number above 0"))
    }

    /// The new choices of an axis, if they are set: `F = 1536 elastic { 1024, 768 }`.
    pub(crate) fn choices(&self, name: &str) -> Result<Option<Vec<usize>>, Diagnostic> {
        let Some(text) = self.0.get(name) else { return Ok(None) };
        let Some((size, choices)) = text.split_once("elastic") else { return Ok(None) };
        let inner = choices.trim().strip_prefix('{').and_then(|it| it.strip_suffix('}'));
        let read = |it: &str| it.split(',').map(|it| it.trim().parse().ok()).collect();
        let choices: Option<Vec<usize>> = inner.and_then(read);
        let falls = |it: &Vec<usize>| {
            let all: Vec<usize> = size.trim().parse().ok().into_iter().chain(it.clone()).collect();
            all.windows(2).all(|it| it[1] < it[0]) && all.last() != Some(&0)
        };
        let choices = choices.filter(falls);
        choices
            .map(Some)
            .ok_or_else(|| unfit(name, text, "choices fall from the extent: `8 elastic { 6, 4 }`"))
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
    let set = settings.iter().filter_map(|(name, value)| Some((*places.get(name)?, value)));
    let written = set.map(|(span, value)| {
        let quoted = text[span.start as usize..].starts_with(['"', '\'']);
        (span, if quoted { format!("\"{value}\"") } else { number_text(value) })
    });
    let mut edits: Vec<(Span, String)> = written.chain(outgrown(&spec, settings, text)).collect();
    edits.sort_by_key(|it| std::cmp::Reverse(it.0));
    let mut text = text.to_owned();
    for (span, value) in edits {
        text.replace_range(span.start as usize..span.end as usize, &value);
    }
    format(&text)
}

/// Choices of a declaration that are no longer below its extent.
fn outgrown(spec: &Spec, settings: &Settings, text: &str) -> Vec<(Span, String)> {
    let axes = spec.items.iter().filter_map(|it| match it {
        Item::Axes(decls) => Some(decls),
        _ => None,
    });
    let cut = |decl: &AxisDecl| {
        let (first, last) = (decl.elastic.first()?, decl.elastic.last()?);
        let value = settings.0.get(&decl.name.text)?;
        let size: Option<f64> = value.parse().ok();
        let left = decl.elastic.iter().filter_map(|it| match it.kind {
            ExprKind::Number(number) if size.is_some_and(|size| number < size) => Some(number),
            _ => None,
        });
        let left: Vec<String> = left.map(|it| it.to_string()).collect();
        let (Extent::Is(extent) | Extent::AtMost(extent)) = &decl.extent;
        let end = last.span.end as usize;
        let end = end + text.get(end..)?.find('}')? + 1;
        let elastic = if left.is_empty() {
            String::new()
        } else {
            format!(" elastic {{ {} }}", left.join(", "))
        };
        let span = Span { start: extent.span.end, end: end as u32, ..first.span };
        Some((span, elastic))
    };
    axes.flatten().filter_map(cut).collect()
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
    fn choices_stay_below_the_extent() {
        let set = |value: &str| {
            let mut settings = Settings::default();
            settings.set("F", value);
            rewrite("axis F = 8 elastic { 6, 4 }, G = 2\n", &settings).unwrap()
        };
        assert_eq!(set("7"), "axis F = 7 elastic { 6, 4 }, G = 2\n");
        assert_eq!(set("6"), "axis F = 6 elastic { 4 }, G = 2\n");
        assert_eq!(set("4"), "axis F = 4, G = 2\n");
        assert_eq!(set("9 elastic { 3 }"), "axis F = 9 elastic { 3 }, G = 2\n");
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
