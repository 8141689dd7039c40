//! From numbers to a storage format.

use super::small::{E4M3, E5M2};
use super::{Amax, Mismatch, blocks, eight, fit, four, k};
use crate::DType;

/// A storage format, and how its scales are chosen where that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Encoding {
    /// The format.
    pub dtype: DType,
    /// What shares a scale.
    pub scales: Scales,
    /// Whether the scales of F8 formats are rounded to powers of two, down before they are
    /// inverted.
    pub powers: bool,
    /// Whether scales are those of the least squared error, and not what the largest magnitude
    /// asks for.
    pub fitted: bool,
}

/// What shares a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scales {
    /// A block of the format, or a row where it has none.
    Row,
    /// As many rows of blocks as a block is long.
    Square,
    /// The whole matrix.
    Tensor,
}

/// Formats that numbers can be written in, by name. `-e5m2` and `-pow2` may follow the names of the
/// F8 formats, and then `-fit` those of all that have scales.
const NAMES: [(&str, DType, Scales); 14] = [
    ("f32", DType::F32, Scales::Row),
    ("bf16", DType::BF16, Scales::Row),
    ("f16", DType::F16, Scales::Row),
    ("fp8", DType::F8E4M3, Scales::Tensor),
    ("fp8-row", DType::F8E4M3, Scales::Row),
    ("fp8-block", DType::F8Block, Scales::Square),
    ("fp8-1x128", DType::F8Block, Scales::Row),
    ("mxfp8", DType::MxFp8, Scales::Row),
    ("nvfp4", DType::NvFp4, Scales::Row),
    ("nvfp4-16x16", DType::NvFp4, Scales::Square),
    ("mxfp4", DType::MxFp4, Scales::Row),
    ("q8_0", DType::Q8_0, Scales::Row),
    ("q4_0", DType::Q4_0, Scales::Row),
    ("q4_k", DType::Q4K, Scales::Row),
];

impl Encoding {
    /// The format of that name: `bf16`, `f16`, `f32`, `fp8`, `fp8-row`, `fp8-block`, `fp8-1x128`,
    /// `mxfp8`, `nvfp4`, `nvfp4-16x16`, `mxfp4`, `q8_0`, `q4_0` or `q4_k`. `fp8` and `fp8-row` may
    /// be of E5M2, such as `fp8-row-e5m2`, and the scales of all F8 formats powers of two, such as
    /// `fp8-block-pow2`. What has scales that are not fitted by itself may be `-fit`.
    pub fn from_name(name: &str) -> Option<Encoding> {
        let (name, fitted) = name.strip_suffix("-fit").map_or((name, false), |it| (it, true));
        let (name, powers) = name.strip_suffix("-pow2").map_or((name, false), |it| (it, true));
        let (name, e5m2) = name.strip_suffix("-e5m2").map_or((name, false), |it| (it, true));
        let &(_, dtype, scales) = NAMES.iter().find(|(it, ..)| *it == name)?;
        let is_f8 = matches!(dtype, DType::F8E4M3 | DType::F8Block);
        if (powers && !is_f8) || (e5m2 && dtype != DType::F8E4M3) {
            return None;
        }
        let dtype = if e5m2 { DType::F8E5M2 } else { dtype };
        let encoding = Encoding { dtype, scales, powers, fitted };
        (!fitted || encoding.has_open_scales()).then_some(encoding)
    }

    /// Whether numbers share scales, and are not floats by themselves.
    fn has_scales(self) -> bool {
        !matches!(self.dtype, DType::F32 | DType::F16 | DType::BF16)
    }

    /// Whether the largest magnitude does not settle the scales: another may lose less.
    fn has_open_scales(self) -> bool {
        self.has_scales() && self.dtype != DType::Q4K
    }

    /// The same with scales of the least squared error, where they are open.
    #[must_use]
    pub fn fit(self) -> Encoding {
        Encoding { fitted: self.has_open_scales(), ..self }
    }

    /// The plain names.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(name, ..)| *name)
    }

    /// Whether rows of `columns` elements can be written so.
    pub fn fits(self, columns: usize) -> bool {
        columns != 0 && columns.is_multiple_of(self.dtype.block_len())
    }

    /// How far a number may be from what is stored for it, relative to the largest magnitude of
    /// those that share its scale.
    pub fn bound(self) -> f32 {
        let grown = if self.powers { 2.0 } else { 1.0 };
        match self.dtype {
            DType::BF16 => 1.0 / 256.0,
            DType::F16 => 1.0 / 2048.0,
            DType::F8E4M3 | DType::F8Block => grown * 0.0361,
            DType::F8E5M2 => grown * 0.072,
            DType::MxFp8 => 0.0722,
            DType::MxFp4 => 0.334,
            DType::NvFp4 => 0.25,
            DType::Q8_0 => 0.0045,
            DType::Q4_0 => 0.126,
            DType::Q4K => 0.15,
            _ => 0.0,
        }
    }

    /// Bits of an element with its share of the scale of its block, without what a row begins with.
    pub fn nominal_bits(self) -> f64 {
        8.0 * self.dtype.block_bytes() as f64 / self.dtype.block_len() as f64
    }

    /// Bits of an element in rows of `columns`, with its share of the scales.
    pub fn bits(self, columns: usize) -> f64 {
        let bytes = self.dtype.bytes(1, columns).unwrap_or_default();
        8.0 * bytes as f64 / columns.max(1) as f64
    }
}

impl std::fmt::Display for Encoding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let e5m2 = self.dtype == DType::F8E5M2;
        let dtype = if e5m2 { DType::F8E4M3 } else { self.dtype };
        let is_it = |it: &&(&str, DType, Scales)| (it.1, it.2) == (dtype, self.scales);
        f.write_str(NAMES.iter().find(is_it).map_or(dtype.name(), |(name, ..)| name))?;
        f.write_str(if e5m2 { "-e5m2" } else { "" })?;
        f.write_str(if self.powers { "-pow2" } else { "" })?;
        f.write_str(if self.fitted { "-fit" } else { "" })
    }
}

/// Writes `values`, rows of `columns` elements, in a format.
///
/// # Errors
///
/// When rows are not whole blocks, or a number that is to share a scale is not finite.
pub fn encode(encoding: Encoding, columns: usize, values: &[f32]) -> Result<Vec<u8>, Mismatch> {
    encode_beside(encoding, columns, values, &Beside::default())
}

/// What is known besides the numbers of a matrix.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beside<'a> {
    /// How much the squared error of an element of each column counts in the choice of fitted
    /// scales; the same for all if there are none.
    pub weights: &'a [f32],
    /// The largest magnitude of other matrices that share a scale of the whole with this one.
    pub whole: f32,
}

/// The same, with what is known besides.
///
/// # Errors
///
/// As [`encode`].
pub fn encode_beside(
    encoding: Encoding,
    columns: usize,
    values: &[f32],
    beside: &Beside<'_>,
) -> Result<Vec<u8>, Mismatch> {
    let Encoding { dtype, scales, .. } = encoding;
    let mismatch = Mismatch::Size { dtype, bytes: 0, elements: values.len() };
    if !encoding.fits(columns) || !values.len().is_multiple_of(columns) {
        return Err(mismatch);
    }
    if encoding.has_scales()
        && let Some(at) = values.iter().position(|it| !it.is_finite())
    {
        return Err(Mismatch::NotFinite { dtype, value: values[at], at });
    }
    let rows = values.len() / columns;
    let wide = match dtype {
        DType::F8E4M3 | DType::F8E5M2 => columns,
        _ => dtype.block_len(),
    };
    let tall = match scales {
        Scales::Row => 1,
        Scales::Square => wide,
        Scales::Tensor => rows.max(1),
    };
    let amax = Amax::new(values, columns, wide, tall);
    let whole = amax.whole().max(beside.whole);
    let write = |amax: &Amax| written(encoding, values, amax, whole).ok_or(mismatch);
    if !encoding.fitted {
        return write(&amax);
    }
    write(&fit::fitted(dtype, values, beside.weights, amax, &write)?)
}

/// The values with the scales that `amax` asks for, and the largest magnitude of the matrix.
fn written(encoding: Encoding, values: &[f32], amax: &Amax, whole: f32) -> Option<Vec<u8>> {
    let Encoding { dtype, powers, .. } = encoding;
    let rows = values.len() / amax.columns;
    let mut out = Vec::with_capacity(dtype.bytes(rows, amax.columns)?);
    match dtype {
        DType::F8E4M3 => eight::encode_rows(values, amax, E4M3, powers, &mut out),
        DType::F8E5M2 => eight::encode_rows(values, amax, E5M2, powers, &mut out),
        DType::F8Block => eight::encode_blocks(values, amax, powers, &mut out),
        DType::NvFp4 => four::encode_nvfp4(values, amax, whole, &mut out),
        _ => {
            let encode_block = encoder(dtype)?;
            for (block, amax) in values.chunks_exact(dtype.block_len()).zip(&amax.found) {
                encode_block(block, *amax, &mut out);
            }
        }
    }
    Some(out)
}

/// Appends a block that stands for so many elements, of which this is the largest magnitude.
type BlockEncoder = fn(&[f32], f32, &mut Vec<u8>);

fn encoder(dtype: DType) -> Option<BlockEncoder> {
    Some(match dtype {
        DType::F32 => |values, _, out| out.extend(values[0].to_le_bytes()),
        DType::F16 => |values, _, out| out.extend(half::f16::from_f32(values[0]).to_le_bytes()),
        DType::BF16 => |values, _, out| out.extend(half::bf16::from_f32(values[0]).to_le_bytes()),
        DType::Q8_0 => blocks::encode_q8_0,
        DType::Q4_0 => blocks::encode_q4_0,
        DType::Q4K => |values, _, out| k::encode_q4_k(values, out),
        DType::MxFp8 => eight::encode_mxfp8,
        DType::MxFp4 => four::encode_mxfp4,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{decode_rows, small};

    /// Made by `tests/fixtures/encodings.py`: sections of bytes, each after its length (`u32`).
    const GOLDEN: &[u8] = include_bytes!("../../tests/fixtures/encodings.bin");

    fn sections() -> Vec<&'static [u8]> {
        let (mut rest, mut all) = (GOLDEN, Vec::new());
        while let Some((length, after)) = rest.split_first_chunk() {
            let (section, after) = after.split_at(u32::from_le_bytes(*length) as usize);
            all.push(section);
            rest = after;
        }
        all
    }

    fn floats(bytes: &[u8]) -> Vec<f32> {
        bytes.as_chunks().0.iter().map(|it| f32::from_le_bytes(*it)).collect()
    }

    fn named(name: &str) -> Encoding {
        Encoding::from_name(name).unwrap()
    }

    fn written(name: &str, columns: usize, values: &[f32]) -> Vec<u8> {
        encode(named(name), columns, values).unwrap()
    }

    fn read(name: &str, columns: usize, bytes: &[u8], n: usize) -> Vec<f32> {
        let mut values = vec![f32::NAN; n];
        decode_rows(named(name).dtype, columns, bytes, &mut values).unwrap();
        values
    }

    #[test]
    fn floats_of_eight_bits_are_those_of_torch() {
        let sections = sections();
        let values = floats(sections[0]);
        for (kind, at) in [(E4M3, 1), (E5M2, 3)] {
            let codes: Vec<u8> = values.iter().map(|it| kind.encode(*it)).collect();
            assert_eq!(codes, sections[at]);
            for (code, wanted) in floats(sections[at + 1]).into_iter().enumerate() {
                let found = kind.decode(code as u8);
                assert!(found == wanted || (found.is_nan() && wanted.is_nan()), "{code}");
            }
        }
        for (code, wanted) in floats(sections[5]).into_iter().enumerate() {
            let found = small::decode_e8m0(code as u8);
            assert!(found == wanted || (found.is_nan() && wanted.is_nan()), "{code}");
        }
    }

    #[test]
    fn bytes_equal_the_gguf_package() {
        let sections = sections();
        let values = floats(sections[0]);
        for (name, at) in [("f16", 6), ("bf16", 7), ("q8_0", 8), ("q4_0", 9)] {
            assert!(written(name, 64, &values) == sections[at], "{name}");
        }
    }

    #[test]
    fn numbers_that_share_a_scale_are_finite() {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = vec![1.0; 256];
            values[7] = value;
            for name in Encoding::names().filter(|it| !["f32", "f16", "bf16"].contains(it)) {
                let why = encode(named(name), 256, &values).unwrap_err().to_string();
                assert!(why.starts_with("number 7 is "), "{name}: {why}");
            }
            assert!(encode(named("bf16"), 256, &values).is_ok());
        }
    }

    /// The worked example of NVFP4, of a matrix whose largest magnitude is 8.
    #[test]
    fn nvfp4_scales_elements_by_the_rounded_scale() {
        let block = [
            0.1, -0.2, 0.3, 0.37, -0.41, 0.55, 0.66, -0.7, 0.0, 0.02, -0.03, 0.9, 1.0, -1.1, 1.2,
            -0.05,
        ];
        let mut values = block.to_vec();
        values.resize(32, 8.0);
        let bytes = written("nvfp4", 16, &values);
        assert_eq!(f32::from_le_bytes(bytes[..4].try_into().unwrap()), 1.0 / 336.0);
        assert_eq!(E4M3.decode(bytes[4]), 64.0);
        let codes = (0..16).map(|i| small::E2M1.decode(bytes[5 + i / 2] >> (4 * (i % 2)) & 15));
        let wanted =
            [0.5, -1.0, 1.5, 2.0, -2.0, 3.0, 3.0, -4.0, 0.0, 0.0, -0.0, 4.0, 6.0, -6.0, 6.0, -0.5];
        let bits = |it: f32| it.to_bits();
        assert!(codes.map(bits).eq(wanted.into_iter().map(bits)));
        let found = read("nvfp4", 16, &bytes, 32);
        assert_eq!(found[12], 6.0 * 64.0 * (1.0 / 336.0));
    }

    /// Each element is off by at most half of the widest step of the format below the largest
    /// magnitude that shares its scale.
    #[test]
    fn what_is_written_reads_nearly_the_same() {
        let values: Vec<f32> = floats(sections()[0]);
        let steps = [
            ("fp8", 1024, 0.5 * 32.0 / 448.0),
            ("fp8-row", 256, 0.5 * 32.0 / 448.0),
            ("fp8-row-e5m2", 256, 0.5 * 8192.0 / 57344.0),
            ("fp8-block", 128, 0.5 * 32.0 / 448.0),
            ("fp8-block-pow2", 128, 32.0 / 448.0),
            ("fp8-1x128", 256, 0.5 * 32.0 / 448.0),
            ("mxfp8", 32, 32.0 / 448.0),
            ("mxfp4", 32, 2.0 / 6.0),
            ("nvfp4", 64, 1.1 / 6.0 + 0.07),
            ("q4_k", 256, 0.6 / 7.0),
        ];
        for (name, columns, step) in steps {
            let found = read(name, columns, &written(name, columns, &values), values.len());
            let most = values.iter().fold(0.0f32, |most, it| most.max(it.abs()));
            let of_block = |i: usize| {
                let wide = named(name).dtype.block_len().max(if name == "fp8" { 1024 } else { 0 });
                let whole = if wide == 1 { columns } else { wide };
                let block = &values[i / whole * whole..][..whole];
                let own = block.iter().fold(0.0f32, |most, it| most.max(it.abs()));
                if name.starts_with("fp8-block") { most } else { own }
            };
            for (i, (value, found)) in values.iter().zip(&found).enumerate() {
                let allowed = step * of_block(i) + 1e-6 * most;
                assert!((value - found).abs() <= allowed, "{name} {i}: {value} {found}");
            }
        }
    }

    #[test]
    fn squares_and_matrices_share_scales() {
        let mut values = vec![1.0; 256 * 256];
        values[5] = 448.0;
        let scale = |name: &str, row: usize, at: usize| {
            let bytes = written(name, 256, &values);
            let row = &bytes[row * (bytes.len() / 256)..];
            f32::from_le_bytes(row[at..at + 4].try_into().unwrap())
        };
        assert_eq!(scale("fp8", 255, 0), 1.0);
        assert_eq!((scale("fp8-row", 0, 0), scale("fp8-row", 1, 0)), (1.0, 1.0 / 448.0));
        assert_eq!((scale("fp8-block", 127, 0), scale("fp8-block", 128, 0)), (1.0, 1.0 / 448.0));
        assert_eq!(scale("fp8-block-pow2", 0, 132), 1.0 / 256.0);
        assert_eq!(scale("fp8-1x128", 1, 0), 1.0 / 448.0);
        let codes = written("nvfp4-16x16", 256, &values);
        let row = codes.len() / 256;
        assert_eq!((codes[4], codes[15 * row + 4]), (0x7e, 0x7e));
        assert_ne!(codes[16 * row + 4], 0x7e);
    }

    #[test]
    fn names_come_back() {
        let more = ["fp8-e5m2", "fp8-row-e5m2-pow2", "fp8-block-pow2-fit", "nvfp4-16x16-fit"];
        for name in Encoding::names().chain(more) {
            assert_eq!(named(name).to_string(), name);
        }
        for name in [
            "",
            "fp9",
            "bf16-fit",
            "q4_k-fit",
            "nvfp4-fit-fit",
            "nvfp4-pow2",
            "q4_0-e5m2",
            "fp8-block-e5m2",
            "fp8-pow2-e5m2",
        ] {
            assert_eq!(Encoding::from_name(name), None, "{name}");
        }
    }

    #[test]
    fn rows_that_are_no_whole_blocks_are_refused() {
        for name in ["nvfp4", "mxfp8", "q8_0", "fp8-block"] {
            assert!(encode(named(name), 24, &[0.0; 48]).is_err(), "{name}");
        }
        assert!(encode(named("fp8"), 5, &[0.0; 12]).is_err());
        assert!(encode(named("fp8"), 0, &[]).is_err());
        assert!(encode(named("fp8"), 5, &[]).is_ok());
        let mut out = [0.0; 12];
        assert!(decode_rows(DType::F8E4M3, 5, &[0; 18], &mut out).is_err());
        assert!(decode_rows(DType::NvFp4, 0, &[], &mut out).is_err());
    }
}
