//! What a pass changed, function by function and line by line.
//!
//! Values are called what they were called before, so that one node less does not change the names
//! of all that follow: nodes that do the same in the same order are the same; what is new gets
//! numbers behind the old ones.

use std::collections::BTreeMap;

use ir::{Function, Module, Value};
use similar::{Algorithm, ChangeTag, DiffOp, TextDiff, capture_diff_slices};

/// How many lines around a change are shown.
const CONTEXT: usize = 2;

/// The lines that changed, under the name of each function; empty when nothing changed.
pub fn diff(before: &Module, after: &Module) -> String {
    let mut text = changes("axes", &before.axes.to_string(), &after.axes.to_string());
    for new in &after.functions {
        let heading = format!("@{}", new.name);
        text += &match before.function(new.name.as_str()) {
            Some(old) if old == new => String::new(),
            Some(old) => changes(&heading, &old.to_string(), &renamed(old, new)),
            None => changes(&heading, "", &new.to_string()),
        };
    }
    let is_gone = |it: &&Function| after.function(it.name.as_str()).is_none();
    for old in before.functions.iter().filter(is_gone) {
        text += &format!("@@ @{}\n-{}\n", old.name, signature(old));
    }
    text
}

/// The changed lines with those around them.
fn changes(heading: &str, before: &str, after: &str) -> String {
    let diff = TextDiff::from_lines(before, after);
    let mut text = String::new();
    for (i, group) in diff.grouped_ops(CONTEXT).iter().enumerate() {
        text += &if i == 0 { format!("@@ {heading}\n") } else { " ...\n".to_owned() };
        for change in group.iter().flat_map(|it| diff.iter_changes(it)) {
            let sign = match change.tag() {
                ChangeTag::Equal => ' ',
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
            };
            text += &format!("{sign}{}", change.value());
        }
    }
    text
}

/// The text of `new` where values that `old` has are called as there.
fn renamed(old: &Function, new: &Function) -> String {
    let names = names(old, new);
    let name = |it: Value| names.get(&it).cloned().unwrap_or_else(|| new.value_text(it));
    let nodes: String =
        new.nodes().iter().map(|it| format!("  {}\n", new.node_text_as(it, &name))).collect();
    let outputs = new.outputs.iter().map(|it| format!("{} = {}", it.name, name(it.value)));
    let outputs: Vec<String> = outputs.collect();
    format!("{}\n{nodes}  return {}\n}}\n", signature(new), outputs.join(", "))
}

/// The first line of the text form.
fn signature(function: &Function) -> String {
    function.signature().to_string().lines().next().unwrap_or_default().to_owned()
}

/// What the results of the nodes of `new` are called.
fn names(old: &Function, new: &Function) -> BTreeMap<Value, String> {
    let ops = |function: &Function| -> Vec<String> {
        let text = |it| function.node_text_as(it, &|_| String::new());
        function.nodes().iter().map(text).collect()
    };
    let mut names = BTreeMap::new();
    for op in capture_diff_slices(Algorithm::Patience, &ops(old), &ops(new)) {
        let DiffOp::Equal { old_index, new_index, len } = op else { continue };
        for i in 0..len {
            let (a, b) = (&old.nodes()[old_index + i], &new.nodes()[new_index + i]);
            names.extend(b.results().zip(a.results().map(|it| old.value_text(it))));
        }
    }
    let mut fresh = old.n_values() - old.params.len()..;
    for value in new.nodes().iter().flat_map(|it| it.results()) {
        names.entry(value).or_insert_with(|| format!("%{}", fresh.next().unwrap_or_default()));
    }
    names
}
