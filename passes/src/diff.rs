//! What a pass changed, line by line.

use ir::Module;
use similar::TextDiff;

/// A unified diff of the text forms; empty when nothing changed.
pub fn diff(before: &Module, after: &Module) -> String {
    let (before, after) = (before.to_string(), after.to_string());
    TextDiff::from_lines(&before, &after).unified_diff().context_radius(3).to_string()
}
