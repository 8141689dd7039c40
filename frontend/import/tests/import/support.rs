//! Writes small checkpoints for the tests.

use ::safetensors::{Dtype, serialize, tensor::TensorView};

/// A key and value pair of a GGUF file: the number of its type, and its bytes.
pub(crate) struct Pair {
    pub(crate) key: &'static str,
    pub(crate) kind: u32,
    pub(crate) value: Vec<u8>,
}

/// A tensor of a GGUF file; extents innermost first, as in the file.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) extents: Vec<u64>,
    pub(crate) kind: u32,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) fn text(key: &'static str, value: &str) -> Pair {
    Pair { key, kind: 8, value: string(value) }
}

pub(crate) fn u32(key: &'static str, value: u32) -> Pair {
    Pair { key, kind: 4, value: value.to_le_bytes().into() }
}

pub(crate) fn f32(key: &'static str, value: f32) -> Pair {
    Pair { key, kind: 6, value: value.to_le_bytes().into() }
}

pub(crate) fn texts(key: &'static str, values: &[&str]) -> Pair {
    let mut value = list(8, values.len());
    values.iter().for_each(|text| value.extend(string(text)));
    Pair { key, kind: 9, value }
}

pub(crate) fn i32s(key: &'static str, values: &[i32]) -> Pair {
    let bytes = values.iter().flat_map(|value| value.to_le_bytes());
    Pair { key, kind: 9, value: list(5, values.len()).into_iter().chain(bytes).collect() }
}

pub(crate) fn f32s(key: &'static str, values: &[f32]) -> Pair {
    let bytes = values.iter().flat_map(|value| value.to_le_bytes());
    Pair { key, kind: 9, value: list(6, values.len()).into_iter().chain(bytes).collect() }
}

pub(crate) fn list(kind: u32, count: usize) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &(count as u64).to_le_bytes()].concat()
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

/// A GGUF file, version 3, aligned to 32 bytes.
pub(crate) fn gguf_bytes(pairs: &[Pair], rows: &[Row]) -> Vec<u8> {
    let mut file = b"GGUF".to_vec();
    file.extend(3u32.to_le_bytes());
    file.extend((rows.len() as u64).to_le_bytes());
    file.extend((pairs.len() as u64).to_le_bytes());
    for pair in pairs {
        file.extend(string(pair.key));
        file.extend(pair.kind.to_le_bytes());
        file.extend(&pair.value);
    }
    let mut data: Vec<u8> = Vec::new();
    for row in rows {
        data.resize(data.len().next_multiple_of(32), 0);
        file.extend(string(row.name));
        file.extend((row.extents.len() as u32).to_le_bytes());
        row.extents.iter().for_each(|extent| file.extend(extent.to_le_bytes()));
        file.extend(row.kind.to_le_bytes());
        file.extend((data.len() as u64).to_le_bytes());
        data.extend(&row.bytes);
    }
    file.resize(file.len().next_multiple_of(32), 0);
    file.extend(data);
    file
}

/// One pair of each type of value.
pub(crate) fn every_value() -> Vec<Pair> {
    let widths = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8];
    let keys = ["u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "", "", "u64", "i64", "f64"];
    let mut pairs: Vec<Pair> = (0..13)
        .filter(|&kind| widths[kind] != 0)
        .map(|kind| Pair { key: keys[kind], kind: kind as u32, value: one(widths[kind]) })
        .collect();
    pairs.push(text("general.architecture", "llama"));
    pairs.push(u32("general.alignment", 32));
    pairs.push(texts("tokenizer.ggml.tokens", &["a", "b", "ab"]));
    let nested = [list(9, 2), list(5, 1), one(4), list(0, 3), vec![1, 2, 3]].concat();
    pairs.push(Pair { key: "nested", kind: 9, value: nested });
    pairs
}

fn one(width: usize) -> Vec<u8> {
    let mut bytes = vec![0; width];
    bytes[0] = 1;
    bytes
}

/// Tensors of a plain, a block and a foreign type.
pub(crate) fn tensors() -> Vec<Row> {
    vec![
        Row { name: "plain", extents: vec![3, 2], kind: 0, bytes: vec![1; 24] },
        Row { name: "foreign", extents: vec![256], kind: 10, bytes: vec![3; 84] },
        Row { name: "block", extents: vec![32, 4], kind: 8, bytes: vec![2; 136] },
    ]
}

/// A safetensors file with three tensors, the last of a type that cannot be read.
pub(crate) fn safetensors_bytes() -> Vec<u8> {
    let data = [1u8; 24];
    let view = |dtype, shape: &[usize], bytes| {
        TensorView::new(dtype, shape.to_vec(), bytes).expect("the bytes fit the shape")
    };
    let tensors = [
        ("matrix", view(Dtype::F32, &[2, 3], &data[..])),
        ("half", view(Dtype::BF16, &[4], &data[..8])),
        ("position_ids", view(Dtype::I64, &[1, 2], &data[..16])),
    ];
    serialize(tensors, None).expect("it serializes")
}
