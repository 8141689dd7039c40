//! Reads the header of a safetensors file.
//!
//! The element types are the `safetensors` crate's. The header is walked here and not by the
//! crate, which lets two tensors have one name, adds declared sizes without checking the sum, and
//! holds a hostile header in many times its length.

use crate::entry::{Entry, MAX_RANK, Stored, check_disjoint};
use crate::error::Error;
use ir::DType;
use safetensors::Dtype;
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// The format's own limit.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Reads the table of tensors of a file of which `bytes` is the whole, in the order of the names.
///
/// # Errors
/// `T0304` when the file breaks the format.
pub fn parse(bytes: &[u8]) -> Result<Vec<Entry>, Error> {
    let fault = |what: String| Error::new("T0304", what);
    let cut = || fault("the file ends inside its header".into()).help("download it again");
    let (length, rest) = bytes.split_first_chunk::<8>().ok_or_else(cut)?;
    let length = u64::from_le_bytes(*length);
    if MAX_HEADER_BYTES < length {
        return Err(fault(format!("a header of {length} bytes is too long")).at("offset 0"));
    }
    let header = rest.get(..length as usize).ok_or_else(cut)?;
    let Header(rows) = serde_json::from_slice(header)
        .map_err(|error| fault(format!("the header does not parse: {error}")).at("header"))?;
    let data = 8 + length as usize;
    let mut entries = Vec::with_capacity(rows.len());
    for (name, row) in rows {
        let place = format!("tensor {name}");
        entries.push(place_tensor(name, row, data).map_err(|what| fault(what).at(place))?);
    }
    check_disjoint(&mut entries).map_err(fault)?;
    check_filled(&entries, data, bytes.len()).map_err(fault)?;
    Ok(entries)
}

/// A header: rows by name, in the order of the file.
struct Header(Vec<(String, Row)>);

/// What the header says about one tensor.
#[derive(serde::Deserialize)]
struct Row {
    dtype: Dtype,
    shape: Shape,
    data_offsets: (usize, usize),
}

/// Extents, outermost first. Reading stops at [`MAX_RANK`] of them.
struct Shape(Vec<usize>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Header, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let mut rows = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                map.next_value::<IgnoredAny>()?;
            } else {
                rows.push((name, map.next_value()?));
            }
        }
        Ok(Header(rows))
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Shape, D::Error> {
        deserializer.deserialize_seq(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of extents")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
        let mut shape = Vec::new();
        while let Some(extent) = seq.next_element()? {
            if shape.len() == MAX_RANK {
                return Err(A::Error::custom(format!("more than {MAX_RANK} axes")));
            }
            shape.push(extent);
        }
        Ok(Shape(shape))
    }
}

fn place_tensor(name: String, row: Row, data: usize) -> Result<Entry, String> {
    let Shape(shape) = row.shape;
    let (start, end) = row.data_offsets;
    let elements = shape.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent));
    let bits = elements.and_then(|elements| elements.checked_mul(row.dtype.bitsize()));
    let fits = |length: usize| bits.is_some_and(|bits| length.checked_mul(8) == Some(bits));
    if !end.checked_sub(start).is_some_and(fits) {
        return Err(format!("its offsets {start}..{end} do not hold {:?} {shape:?}", row.dtype));
    }
    let end = data.checked_add(end).ok_or("its end overflows")?;
    Ok(Entry { name, stored: stored_type(row.dtype), shape, range: data + start..end })
}

/// The format allows no byte that belongs to no tensor.
fn check_filled(entries: &[Entry], data: usize, file: usize) -> Result<(), String> {
    let last = entries.iter().map(|entry| entry.range.end).max().unwrap_or(data);
    let filled: usize = entries.iter().map(|entry| entry.range.len()).sum();
    match last.cmp(&file) {
        std::cmp::Ordering::Greater => Err("the file ends inside its tensors".into()),
        std::cmp::Ordering::Less => Err("there are bytes after the last tensor".into()),
        std::cmp::Ordering::Equal if data + filled != file => {
            Err("there are bytes between the tensors".into())
        }
        std::cmp::Ordering::Equal => Ok(()),
    }
}

fn stored_type(dtype: Dtype) -> Stored {
    Stored::Known(match dtype {
        Dtype::BOOL => DType::Bool,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::I32 => DType::I32,
        Dtype::F32 => DType::F32,
        Dtype::F64 => DType::F64,
        other => return Stored::Foreign(format!("{other:?}").into()),
    })
}
