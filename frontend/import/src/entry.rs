//! One line of a checkpoint's table of contents, and the checks that both file formats share.

use ir::DType;
use std::ops::Range;

/// A tensor as the file declares it.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The name in the file.
    pub name: String,
    /// How its elements are stored.
    pub stored: Stored,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// Where its bytes lie in the file. May be empty for a [`Stored::Foreign`] type.
    pub range: Range<usize>,
}

/// The type of a tensor's elements in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// A type that can be read.
    Known(DType),
    /// The file's name for any other type. An error only when the tensor is asked for.
    Foreign(Box<str>),
}

/// More axes than any checkpoint has.
pub(crate) const MAX_RANK: usize = 8;

/// The number of bytes of a tensor, or why there is none.
pub(crate) fn tensor_bytes(dtype: DType, shape: &[usize]) -> Result<usize, String> {
    let (&columns, outer) = shape.split_last().unwrap_or((&1, &[]));
    let rows = outer.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent));
    let bytes = rows.and_then(|rows| dtype.bytes(rows, columns));
    bytes.ok_or_else(|| {
        format!("the shape {shape:?} is no whole number of {dtype} blocks, or overflows")
    })
}

/// Sorts by name, and finds two entries of one name or two that share bytes.
pub(crate) fn check_disjoint(entries: &mut [Entry]) -> Result<(), String> {
    entries.sort_unstable_by_key(|entry| (entry.range.start, entry.range.end));
    if let Some([a, b]) = find_pair(entries, |a, b| b.range.start < a.range.end) {
        return Err(format!("the tensors `{}` and `{}` share bytes", a.name, b.name));
    }
    entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    match find_pair(entries, |a, b| a.name == b.name) {
        Some([a, _]) => Err(format!("there are two tensors `{}`", a.name)),
        None => Ok(()),
    }
}

fn find_pair(entries: &[Entry], is_fault: impl Fn(&Entry, &Entry) -> bool) -> Option<[&Entry; 2]> {
    entries.windows(2).find(|pair| is_fault(&pair[0], &pair[1])).map(|pair| [&pair[0], &pair[1]])
}
