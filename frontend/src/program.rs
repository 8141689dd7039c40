//! The items of a spec and of what it uses, by name.

use std::collections::{BTreeMap, BTreeSet};

use crate::ast::{AxisDecl, Function, FunctionKind, Item, Name, Spec, ValueDecl, Weights};
use crate::diagnostic::Diagnostic;
use crate::parse;
use crate::source::{SPEC, Sources};

/// A function with the file it stands in.
#[derive(Clone, Copy)]
pub(crate) struct Definition<'a> {
    pub(crate) source: u16,
    pub(crate) function: &'a Function,
}

/// Everything that a spec declares, itself or by `use`.
#[derive(Default)]
pub(crate) struct Program<'a> {
    pub(crate) axes: Vec<&'a AxisDecl>,
    pub(crate) values: Vec<&'a ValueDecl>,
    pub(crate) functions: Vec<Definition<'a>>,
    pub(crate) weights: Vec<&'a Weights>,
    pub(crate) tokenizers: Vec<&'a Name>,
    /// What functions are called by their origin: the stem of each file's name.
    pub(crate) stems: BTreeMap<u16, String>,
}

/// Reads the spec and, breadth first, what it uses. A file used twice is read once.
pub(crate) fn read(sources: &Sources) -> (Vec<(u16, Spec)>, Vec<Diagnostic>) {
    let (mut files, mut faults) = (Vec::new(), Vec::new());
    let (mut pending, mut seen) = (vec![SPEC], BTreeSet::from([SPEC]));
    while let Some(index) = pending.pop() {
        let Some(source) = sources.get(index) else { continue };
        let (spec, own) = parse(index, &source.text);
        faults.extend(own);
        for item in &spec.items {
            let Item::Use(name) = item else { continue };
            match sources.iter().find(|(_, it)| it.stem() == name.text) {
                Some((used, _)) if seen.insert(used) => pending.insert(0, used),
                Some(_) => {}
                None => faults.push(unknown_file(name, sources)),
            }
        }
        files.push((index, spec));
    }
    (files, faults)
}

fn unknown_file(name: &Name, sources: &Sources) -> Diagnostic {
    Diagnostic::error("E0204", format!("there is no file `{0}.tn` to use", name.text))
        .at(name.span, "not found")
        .did_you_mean(name.span, &name.text, sources.iter().map(|(_, it)| it.stem()))
}

impl<'a> Program<'a> {
    /// Sorts the items of all files by kind. Of two functions of one name in different files, each
    /// file sees its own; everything else may be declared once.
    pub(crate) fn new(
        files: &'a [(u16, Spec)],
        sources: &'a Sources,
        faults: &mut Vec<Diagnostic>,
    ) -> Program<'a> {
        let mut program = Program::default();
        for (index, spec) in files {
            let stem = sources.get(*index).map_or("", |it| it.stem());
            program.stems.insert(*index, stem.into());
            spec.items.iter().for_each(|it| program.add(*index, it));
        }
        program.check_names(faults);
        program
    }

    fn add(&mut self, source: u16, item: &'a Item) {
        match item {
            Item::Use(_) | Item::Train(_) => {}
            Item::Axes(decls) => self.axes.extend(decls),
            Item::Values(decls) => self.values.extend(decls),
            Item::Function(function) => self.functions.push(Definition { source, function }),
            Item::Weights(weights) => self.weights.push(weights),
            Item::Tokenizer(path) => self.tokenizers.push(path),
        }
    }

    fn check_names(&self, faults: &mut Vec<Diagnostic>) {
        once(self.axes.iter().map(|it| (0, &it.name)), faults);
        once(self.values.iter().map(|it| (0, &it.name)), faults);
        once(self.functions.iter().map(|it| (it.source, &it.function.name)), faults);
        once(self.weights.iter().map(|it| (0, &it.format)), faults);
        if let [first, again, ..] = self.tokenizers[..] {
            let diagnostic = Diagnostic::error("E0202", "a spec has one `tokenizer`");
            faults.push(diagnostic.at(again.span, "again here").at(first.span, "first here"));
        }
        for definition in &self.functions {
            once(definition.function.params.iter().map(|it| (0, &it.name)), faults);
        }
    }

    /// The function that a name means in a file: its own before those of others.
    pub(crate) fn function(&self, name: &str, source: u16) -> Option<usize> {
        let named = |it: &Definition<'_>| it.function.name.text == name;
        let own = self.functions.iter().position(|it| it.source == source && named(it));
        own.or_else(|| self.functions.iter().position(named))
    }

    /// The names that a setting may have.
    pub(crate) fn settings(&self) -> BTreeSet<&str> {
        let axes = self.axes.iter().map(|it| it.name.text.as_str());
        axes.chain(self.values.iter().map(|it| it.name.text.as_str())).chain(["model"]).collect()
    }

    /// The model to compile: the only one of the spec, or the one that is asked for.
    pub(crate) fn model(&self, wanted: Option<&str>) -> Result<usize, Diagnostic> {
        let models: Vec<usize> = (0..self.functions.len())
            .filter(|&it| self.functions[it].function.kind == FunctionKind::Model)
            .filter(|&it| wanted.is_none_or(|name| self.functions[it].function.name.text == name))
            .collect();
        match (models.as_slice(), wanted) {
            ([one], _) => Ok(*one),
            ([], Some(name)) => {
                Err(Diagnostic::error("E0206", format!("there is no model `{name}`")))
            }
            ([], None) => Err(Diagnostic::error("E0206", "the spec has no `model`")),
            ([_, second, ..], _) => {
                let name = &self.functions[*second].function.name;
                Err(Diagnostic::error("E0206", "the spec has several models; say which one")
                    .at(name.span, "a second one"))
            }
        }
    }
}

/// Faults for names that stand twice in one space.
fn once<'a>(names: impl Iterator<Item = (u16, &'a Name)>, faults: &mut Vec<Diagnostic>) {
    let mut seen: BTreeMap<(u16, &str), &Name> = BTreeMap::new();
    for (space, name) in names {
        if let Some(first) = seen.insert((space, &name.text), name) {
            let message = format!("`{}` is declared twice", name.text);
            let diagnostic = Diagnostic::error("E0202", message).at(name.span, "again here");
            faults.push(diagnostic.at(first.span, "first here"));
        }
    }
}
