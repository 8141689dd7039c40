//! What the compiler has to say about a text, and how it is shown.

use annotate_snippets::{AnnotationKind, Group, Level, Patch, Renderer, Snippet};
use serde::Serialize;

use crate::explain;
use crate::source::{Sources, Span};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The text cannot be compiled.
    Error,
    /// It can, but is probably not what was meant.
    Warning,
}

/// A place with what there is to say about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Label {
    /// The place.
    pub span: Span,
    /// May be empty where the message says it all.
    pub text: String,
}

/// A change of the text that would help.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Suggestion {
    /// What the change does, as an order: "write `V`".
    pub message: String,
    /// The text to replace; empty for an insertion.
    pub span: Span,
    /// The new text.
    pub replacement: String,
}

/// One finding. The first label is the place where it stands; the others explain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// `E0301`; `treen explain` knows more.
    pub code: &'static str,
    /// Error or warning.
    pub severity: Severity,
    /// One line in the words of the text.
    pub message: String,
    /// Places; may be empty when the fault is not in a text (a setting).
    pub labels: Vec<Label>,
    /// Further sentences.
    pub notes: Vec<String>,
    /// A change that would help, if one is known.
    pub suggestion: Option<Box<Suggestion>>,
}

impl Diagnostic {
    /// An error without places.
    pub fn error(code: &'static str, message: impl Into<String>) -> Diagnostic {
        debug_assert!(explain::title(code).is_some(), "{code} has no explanation");
        Diagnostic {
            code,
            severity: Severity::Error,
            message: message.into(),
            labels: Vec::new(),
            notes: Vec::new(),
            suggestion: None,
        }
    }

    /// A warning without places.
    pub fn warning(code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(code, message) }
    }

    /// Adds a place.
    pub fn at(mut self, span: Span, text: impl Into<String>) -> Diagnostic {
        self.labels.push(Label { span, text: text.into() });
        self
    }

    /// Adds a sentence.
    pub fn note(mut self, text: impl Into<String>) -> Diagnostic {
        self.notes.push(text.into());
        self
    }

    /// Adds a change that would help.
    pub fn suggest(
        mut self,
        span: Span,
        replacement: impl Into<String>,
        message: impl Into<String>,
    ) -> Diagnostic {
        let (message, replacement) = (message.into(), replacement.into());
        self.suggestion = Some(Box::new(Suggestion { message, span, replacement }));
        self
    }

    /// Adds "did you mean" for an unknown word, if a known one is near.
    pub fn did_you_mean<'a>(
        self,
        span: Span,
        word: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) -> Diagnostic {
        match crate::suggest::nearest(word, known) {
            Some(near) => self.suggest(span, near, format!("did you mean `{near}`?")),
            None => self,
        }
    }

    /// The finding as a person reads it in a terminal.
    pub fn render(&self, sources: &Sources, colour: bool) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut main =
            level.primary_title(&self.message).id(self.code).elements(self.snippets(sources));
        for note in &self.notes {
            main = main.element(Level::NOTE.message(note));
        }
        let mut report = vec![main];
        report.extend(self.help(sources));
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&report) + "\n"
    }

    /// One snippet a source, in the order of their first labels.
    fn snippets<'a>(
        &'a self,
        sources: &'a Sources,
    ) -> Vec<Snippet<'a, annotate_snippets::Annotation<'a>>> {
        let mut order: Vec<u16> = Vec::new();
        for label in &self.labels {
            if !order.contains(&label.span.source) {
                order.push(label.span.source);
            }
        }
        order
            .into_iter()
            .filter_map(|it| Some((it, sources.get(it)?)))
            .map(|(index, source)| {
                let labels =
                    self.labels.iter().enumerate().filter(move |(_, it)| it.span.source == index);
                Snippet::source(&source.text).path(&source.name).annotations(labels.map(
                    |(position, label)| {
                        let kind = if position == 0 {
                            AnnotationKind::Primary
                        } else {
                            AnnotationKind::Context
                        };
                        let text = Some(&*label.text).filter(|it| !it.is_empty());
                        kind.span(bytes(label.span, &source.text)).label(text)
                    },
                ))
            })
            .collect()
    }

    fn help<'a>(&'a self, sources: &'a Sources) -> Option<Group<'a>> {
        let suggestion = self.suggestion.as_ref()?;
        let source = sources.get(suggestion.span.source)?;
        let patch = Patch::new(bytes(suggestion.span, &source.text), &*suggestion.replacement);
        let snippet = Snippet::source(&source.text).path(&source.name).patch(patch);
        Some(Level::HELP.secondary_title(&*suggestion.message).element(snippet))
    }

    /// The finding on one line of JSON, with file names, lines and columns from 1 as editors count.
    pub fn to_json(&self, sources: &Sources) -> String {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        let labels = value["labels"].as_array_mut().into_iter().flatten();
        for (label, json) in self.labels.iter().zip(labels) {
            if let Some(source) = sources.get(label.span.source) {
                let (line, column) = line_column(&source.text, label.span.start);
                json["file"] = source.name.as_str().into();
                json["line"] = line.into();
                json["column"] = column.into();
            }
        }
        value.to_string()
    }
}

/// Line and column, from 1, of a byte of a text.
pub fn line_column(text: &str, at: u32) -> (usize, usize) {
    let before = text.get(..at as usize).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |it| it + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// The span as a range that the text surely has.
fn bytes(span: Span, text: &str) -> std::ops::Range<usize> {
    let start = text.floor_char_boundary(span.start as usize);
    let end = text.floor_char_boundary(span.end as usize);
    start..end.max(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_the_place_the_note_and_the_change() {
        let sources = Sources::of("a.tn", "axis E = 4\nlet x = lienar(y)\n");
        let span = Span { source: 1, start: 19, end: 25 };
        let diagnostic = Diagnostic::error("E0201", "no function is called `lienar`")
            .at(span, "unknown")
            .note("a note")
            .did_you_mean(span, "lienar", ["linear"]);
        let text = diagnostic.render(&sources, false);
        for part in
            ["error[E0201]", "a.tn:2:9", "^^^^^^ unknown", "a note", "did you mean `linear`?"]
        {
            assert!(text.contains(part), "{part} not in\n{text}");
        }
        assert!(diagnostic.render(&sources, true).contains("\u{1b}["));
        let json = diagnostic.to_json(&sources);
        assert!(json.contains(r#""line":2,"column":9"#), "{json}");
    }
}
