//! Reads the header of a GGUF file: typed metadata and the table of tensors.
//!
//! Follows the format's description in ggml's `docs/gguf.md`, versions 2 and 3, little-endian.
//! The input is not trusted: every count is held against the bytes that are left before anything
//! is allocated for it, so that the memory in use stays below eight times the input.

mod reader;
mod value;

pub use value::{List, Value};

use crate::entry::{Entry, MAX_RANK, Stored, check_disjoint, tensor_bytes};
use crate::error::Error;
use ir::DType;
use reader::Reader;

/// The header of a GGUF file.
#[derive(Clone, Debug, PartialEq)]
pub struct Gguf {
    /// Key and value pairs, in the order of the keys.
    pub metadata: Vec<(String, Value)>,
    /// The tensors, in the order of their names. Ranges count from the start of the file.
    pub tensors: Vec<Entry>,
}

/// ggml's element types: number, name, and ours where there is one.
const TYPES: &[(u32, &str, Option<DType>)] = &[
    (0, "F32", Some(DType::F32)),
    (1, "F16", Some(DType::F16)),
    (2, "Q4_0", Some(DType::Q4_0)),
    (3, "Q4_1", Some(DType::Q4_1)),
    (6, "Q5_0", Some(DType::Q5_0)),
    (7, "Q5_1", Some(DType::Q5_1)),
    (8, "Q8_0", Some(DType::Q8_0)),
    (9, "Q8_1", None),
    (10, "Q2_K", None),
    (11, "Q3_K", None),
    (12, "Q4_K", Some(DType::Q4K)),
    (13, "Q5_K", Some(DType::Q5K)),
    (14, "Q6_K", Some(DType::Q6K)),
    (15, "Q8_K", None),
    (16, "IQ2_XXS", None),
    (17, "IQ2_XS", None),
    (18, "IQ3_XXS", None),
    (19, "IQ1_S", None),
    (20, "IQ4_NL", None),
    (21, "IQ3_S", None),
    (22, "IQ2_S", None),
    (23, "IQ4_XS", None),
    (24, "I8", None),
    (25, "I16", None),
    (26, "I32", Some(DType::I32)),
    (27, "I64", None),
    (28, "F64", Some(DType::F64)),
    (29, "IQ1_M", None),
    (30, "BF16", Some(DType::BF16)),
    (34, "TQ1_0", None),
    (35, "TQ2_0", None),
    (39, "MXFP4", None),
    (40, "NVFP4", None),
    (41, "Q1_0", None),
];

/// A key's length, a character of it, a type and a value.
const MIN_PAIR_BYTES: usize = 8 + 1 + 4 + 1;
/// A name's length, a character of it, a rank, a type and an offset.
const MIN_TENSOR_BYTES: usize = 8 + 1 + 4 + 4 + 8;

impl Gguf {
    /// Reads the header of a file of which `bytes` is the whole.
    ///
    /// # Errors
    /// `T0303` when the file breaks the format, `T0305` when it is one part of several.
    pub fn parse(bytes: &[u8]) -> Result<Gguf, Error> {
        let mut reader = Reader::new(bytes);
        check_version(&mut reader)?;
        let n_tensors = reader.count(MIN_TENSOR_BYTES)?;
        let n_pairs = reader.count(MIN_PAIR_BYTES)?;
        let metadata = read_metadata(&mut reader, n_pairs)?;
        let mut gguf = Gguf { metadata, tensors: Vec::new() };
        gguf.check_whole()?;
        gguf.tensors = read_tensors(&mut reader, n_tensors, gguf.alignment()?)?;
        Ok(gguf)
    }

    /// The value under a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let found = self.metadata.binary_search_by(|(name, _)| name.as_str().cmp(key));
        found.ok().map(|index| &self.metadata[index].1)
    }

    fn alignment(&self) -> Result<usize, Error> {
        match self.get("general.alignment") {
            None => Ok(32),
            Some(&Value::Unsigned(n)) if n.is_power_of_two() && n <= 1 << 16 => Ok(n as usize),
            Some(_) => Err(Error::new("T0303", "the alignment is no power of two up to 65536")
                .at("key general.alignment")),
        }
    }

    fn check_whole(&self) -> Result<(), Error> {
        let number = |key| self.get(key).and_then(Value::as_f64);
        let Some(parts) = number("split.count").filter(|&parts| 1.0 < parts) else {
            return Ok(());
        };
        let part = number("split.no").unwrap_or(0.0) + 1.0;
        Err(Error::new("T0305", format!("this is part {part} of a model split into {parts} files"))
            .at("key split.count")
            .help("join all parts with `llama-gguf-split --merge FIRST-PART OUT.gguf`"))
    }
}

fn check_version(reader: &mut Reader<'_>) -> Result<(), Error> {
    if reader.take(4)? != b"GGUF" {
        return Err(Error::new("T0303", "the file does not begin with `GGUF`").at("offset 0"));
    }
    match reader.u32()? {
        2 | 3 => Ok(()),
        version if matches!(version.swap_bytes(), 2 | 3) => {
            Err(Error::new("T0303", "the file is big-endian").at("offset 4"))
        }
        version => Err(Error::new("T0303", format!("version {version} is not 2 or 3"))
            .at("offset 4")
            .help("convert the model again with a current llama.cpp")),
    }
}

fn read_metadata(reader: &mut Reader<'_>, count: usize) -> Result<Vec<(String, Value)>, Error> {
    let mut metadata = reader.items(count, MIN_PAIR_BYTES, read_pair)?;
    metadata.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    match metadata.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some(pair) => {
            Err(Error::new("T0303", "a key occurs twice").at(format!("key {}", pair[0].0)))
        }
        None => Ok(metadata),
    }
}

fn read_pair(reader: &mut Reader<'_>) -> Result<(String, Value), Error> {
    let key = reader.string()?;
    match value::read(reader) {
        Ok(value) => Ok((key, value)),
        Err(error) => {
            let place = format!("key {key}, {}", error.place);
            Err(error.at(place))
        }
    }
}

fn read_tensors(
    reader: &mut Reader<'_>,
    count: usize,
    alignment: usize,
) -> Result<Vec<Entry>, Error> {
    let read = |reader: &mut Reader<'_>| read_tensor(reader, alignment);
    let mut tensors = reader.items(count, MIN_TENSOR_BYTES, read)?;
    let data = reader.offset().next_multiple_of(alignment);
    for tensor in &mut tensors {
        place_tensor(tensor, data, reader.len())?;
    }
    check_disjoint(&mut tensors).map_err(|fault| Error::new("T0303", fault))?;
    Ok(tensors)
}

/// Reads one line of the table. The range still counts from the start of the tensor data.
fn read_tensor(reader: &mut Reader<'_>, alignment: usize) -> Result<Entry, Error> {
    let name = reader.string()?;
    let fault = |what: String| Error::new("T0303", what).at(format!("tensor {name}"));
    let rank = reader.u32()? as usize;
    if MAX_RANK < rank {
        return Err(fault(format!("it has {rank} axes, more than {MAX_RANK}")));
    }
    let mut shape = Vec::with_capacity(rank);
    for _ in 0..rank {
        shape.push(reader.size()?);
    }
    shape.reverse();
    if shape.contains(&0) {
        return Err(fault(format!("an axis of {shape:?} is empty")));
    }
    let stored = stored_type(reader.u32()?);
    let start = reader.size()?;
    if !start.is_multiple_of(alignment) {
        return Err(fault(format!("its offset {start} is no multiple of {alignment}")));
    }
    let length = match &stored {
        Stored::Known(dtype) => tensor_bytes(*dtype, &shape).map_err(fault)?,
        Stored::Foreign(_) => 0,
    };
    let end = start.checked_add(length).ok_or_else(|| fault("its end overflows".into()))?;
    Ok(Entry { name, stored, shape, range: start..end })
}

fn place_tensor(tensor: &mut Entry, data: usize, file: usize) -> Result<(), Error> {
    let end = data.checked_add(tensor.range.end).filter(|&end| end <= file);
    let Some(end) = end else {
        return Err(Error::new("T0303", "a tensor ends after the end of the file")
            .at(format!("tensor {}", tensor.name))
            .help("the file is cut short: download it again"));
    };
    tensor.range = data + tensor.range.start..end;
    Ok(())
}

fn stored_type(number: u32) -> Stored {
    match TYPES.iter().find(|(id, ..)| *id == number) {
        Some((_, _, Some(dtype))) => Stored::Known(*dtype),
        Some((_, name, None)) => Stored::Foreign((*name).into()),
        None => Stored::Foreign(format!("ggml type {number}").into()),
    }
}
