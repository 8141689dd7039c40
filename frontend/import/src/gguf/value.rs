//! A metadata value: one of thirteen types in the file, one of six here.

use super::reader::Reader;
use crate::Error;

/// A metadata value.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each variant is its own name")]
pub enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    Text(String),
    List(List),
}

/// Values of one type, held without a tag each.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each variant is its own name")]
pub enum List {
    Unsigned(Vec<u64>),
    Signed(Vec<i64>),
    Float(Vec<f64>),
    Bool(Vec<bool>),
    Text(Vec<String>),
    List(Vec<List>),
}

/// Lists in lists in lists; nobody needs more.
const MAX_DEPTH: usize = 4;

impl Value {
    /// Any number.
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Value::Unsigned(n) => Some(n as f64),
            Value::Signed(n) => Some(n as f64),
            Value::Float(x) => Some(x),
            Value::Bool(_) | Value::Text(_) | Value::List(_) => None,
        }
    }

    /// A text.
    pub fn as_str(&self) -> Option<&str> {
        if let Value::Text(text) = self { Some(text) } else { None }
    }

    /// A truth value.
    pub fn as_bool(&self) -> Option<bool> {
        if let Value::Bool(flag) = self { Some(*flag) } else { None }
    }

    /// A list of texts.
    pub fn as_texts(&self) -> Option<&[String]> {
        if let Value::List(List::Text(texts)) = self { Some(texts) } else { None }
    }

    /// A list of numbers.
    pub fn as_numbers(&self) -> Option<Vec<f64>> {
        match self {
            Value::List(List::Unsigned(list)) => Some(list.iter().map(|&n| n as f64).collect()),
            Value::List(List::Signed(list)) => Some(list.iter().map(|&n| n as f64).collect()),
            Value::List(List::Float(list)) => Some(list.clone()),
            _ => None,
        }
    }
}

/// Reads a type and a value of it.
pub(super) fn read(reader: &mut Reader<'_>) -> Result<Value, Error> {
    Ok(match reader.u32()? {
        0 => Value::Unsigned(u8(reader)?),
        1 => Value::Signed(i8(reader)?),
        2 => Value::Unsigned(u16(reader)?),
        3 => Value::Signed(i16(reader)?),
        4 => Value::Unsigned(reader.u32()?.into()),
        5 => Value::Signed(i32(reader)?),
        6 => Value::Float(f32(reader)?),
        7 => Value::Bool(bool(reader)?),
        8 => Value::Text(reader.string()?),
        9 => Value::List(read_list(reader, 1)?),
        10 => Value::Unsigned(reader.u64()?),
        11 => Value::Signed(i64(reader)?),
        12 => Value::Float(f64(reader)?),
        other => return Err(reader.fault(format!("there is no value type {other}"))),
    })
}

fn read_list(reader: &mut Reader<'_>, depth: usize) -> Result<List, Error> {
    Ok(match reader.u32()? {
        0 => List::Unsigned(many(reader, 1, u8)?),
        1 => List::Signed(many(reader, 1, i8)?),
        2 => List::Unsigned(many(reader, 2, u16)?),
        3 => List::Signed(many(reader, 2, i16)?),
        4 => List::Unsigned(many(reader, 4, |reader| reader.u32().map(u64::from))?),
        5 => List::Signed(many(reader, 4, i32)?),
        6 => List::Float(many(reader, 4, f32)?),
        7 => List::Bool(many(reader, 1, bool)?),
        8 => List::Text(many(reader, 8, Reader::string)?),
        9 if depth < MAX_DEPTH => {
            List::List(many(reader, 12, |reader| read_list(reader, depth + 1))?)
        }
        9 => return Err(reader.fault(format!("lists nest deeper than {MAX_DEPTH}"))),
        10 => List::Unsigned(many(reader, 8, Reader::u64)?),
        11 => List::Signed(many(reader, 8, i64)?),
        12 => List::Float(many(reader, 8, f64)?),
        other => return Err(reader.fault(format!("there is no value type {other}"))),
    })
}

fn many<'a, T>(
    reader: &mut Reader<'a>,
    min_bytes: usize,
    read: impl FnMut(&mut Reader<'a>) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    let count = reader.count(min_bytes)?;
    reader.items(count, min_bytes, read)
}

fn u8(reader: &mut Reader<'_>) -> Result<u64, Error> {
    Ok(u8::from_le_bytes(reader.array()?).into())
}

fn i8(reader: &mut Reader<'_>) -> Result<i64, Error> {
    Ok(i8::from_le_bytes(reader.array()?).into())
}

fn u16(reader: &mut Reader<'_>) -> Result<u64, Error> {
    Ok(u16::from_le_bytes(reader.array()?).into())
}

fn i16(reader: &mut Reader<'_>) -> Result<i64, Error> {
    Ok(i16::from_le_bytes(reader.array()?).into())
}

fn i32(reader: &mut Reader<'_>) -> Result<i64, Error> {
    Ok(i32::from_le_bytes(reader.array()?).into())
}

fn i64(reader: &mut Reader<'_>) -> Result<i64, Error> {
    Ok(i64::from_le_bytes(reader.array()?))
}

fn f32(reader: &mut Reader<'_>) -> Result<f64, Error> {
    Ok(f32::from_le_bytes(reader.array()?).into())
}

fn f64(reader: &mut Reader<'_>) -> Result<f64, Error> {
    Ok(f64::from_le_bytes(reader.array()?))
}

fn bool(reader: &mut Reader<'_>) -> Result<bool, Error> {
    match reader.array()? {
        [0] => Ok(false),
        [1] => Ok(true),
        [other] => Err(reader.fault(format!("{other} is no truth value"))),
    }
}
