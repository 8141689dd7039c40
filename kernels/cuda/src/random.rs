//! Weights that are made up where they lie.

use ir::DType;
use ir::storage::{Encoding, Scales};

use crate::{Instance, element};

const THREADS: u32 = 256;

/// Words of the kernels: where the weight lies; scratch memory of four bytes a row; the key of its
/// parameter; the place of its first number there; rows; columns; the bits of two numbers, the
/// first in the lower half, and whether numbers are uniform (see `random.cuh`).
pub const WORDS: usize = 8;

/// The launches that make up a weight in a format, one after the other; `None` where the device can
/// not. Plain numbers are in rows, all others are packed.
pub fn instances(encoding: Encoding) -> Option<Vec<Instance>> {
    let Encoding { dtype, scales, powers, fitted } = encoding;
    let is_square = scales == Scales::Square;
    let format = match dtype {
        DType::F32 | DType::F16 | DType::BF16 => return Some(vec![plain(element(dtype))]),
        DType::F8E4M3 => format!("MakeFp8<{powers}>"),
        DType::NvFp4 => format!("MakeNvfp4<{is_square}>"),
        DType::Q8_0 => "MakeQ8_0".to_owned(),
        DType::Q4_0 => "MakeQ4_0".to_owned(),
        _ => return None,
    };
    if fitted {
        return None;
    }
    let whole = dtype == DType::NvFp4 || scales == Scales::Tensor;
    let needs_rows = whole || dtype == DType::F8E4M3;
    let rows = needs_rows
        .then(|| instance(format!("row_maxima<{THREADS}>((float*)w1, drawn, (int)w4, (int)w5);")));
    let largest = if needs_rows { "(float*)w1" } else { "nullptr" };
    let write = instance(format!(
        "make_up_packed<{format}, {whole}, {THREADS}>((u8*)w0, drawn, (int)w4, (int)w5, {largest});"
    ));
    Some(rows.into_iter().chain([write]).collect())
}

fn plain(ty: &str) -> Instance {
    instance(format!("make_up<{THREADS}>(({ty}*)w0, drawn, (u64)w4 * w5);"))
}

fn instance(body: String) -> Instance {
    let drawn = "const Drawn drawn{(u64)w2, (u64)w3, __uint_as_float((u32)w6), \
                 __uint_as_float((u32)(w6 >> 32)), w7 != 0};";
    Instance {
        includes: vec!["random.cuh"],
        body: format!("{drawn}\n  {body}"),
        threads: THREADS,
        ..Instance::default()
    }
}
