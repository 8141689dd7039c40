//! Numbers that are stored as their bytes, so that reading a hundred thousand takes no time.

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use serde::{Serialize, Serializer};
use std::fmt;
use std::ops::Deref;

/// A list of `u32`, little-endian in its stored form.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Numbers(Vec<u32>);

impl FromIterator<u32> for Numbers {
    fn from_iter<I: IntoIterator<Item = u32>>(numbers: I) -> Numbers {
        Numbers(numbers.into_iter().collect())
    }
}

impl Deref for Numbers {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        &self.0
    }
}

impl Serialize for Numbers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = self.0.iter().flat_map(|number| number.to_le_bytes()).collect();
        serializer.serialize_bytes(&bytes)
    }
}

impl<'de> Deserialize<'de> for Numbers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Numbers, D::Error> {
        deserializer.deserialize_bytes(NumbersVisitor)
    }
}

struct NumbersVisitor;

impl<'de> Visitor<'de> for NumbersVisitor {
    type Value = Numbers;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the bytes of some numbers")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Numbers, E> {
        match bytes.as_chunks::<4>() {
            (numbers, []) => Ok(numbers.iter().map(|&bytes| u32::from_le_bytes(bytes)).collect()),
            _ => Err(E::invalid_length(bytes.len(), &self)),
        }
    }

    /// Formats without a type for bytes write them as a list.
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Numbers, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = seq.next_element()? {
            bytes.push(byte);
        }
        self.visit_bytes(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::Numbers;

    #[test]
    fn stored_forms_round_trip() {
        let numbers: Numbers = [1, 300, u32::MAX].into_iter().collect();
        let json = serde_json::to_string(&numbers).expect("it serializes");
        assert_eq!(serde_json::from_str::<Numbers>(&json).expect("it reads"), numbers);
        let bytes = postcard::to_allocvec(&numbers).expect("it serializes");
        assert_eq!(bytes.len(), 1 + 12);
        assert_eq!(postcard::from_bytes::<Numbers>(&bytes).expect("it reads"), numbers);
        assert!(postcard::from_bytes::<Numbers>(&[3, 1, 2, 3]).is_err());
    }
}
