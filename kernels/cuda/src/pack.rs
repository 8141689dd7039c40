//! How weights lie in the memory of a GPU: `weights.cuh` says what its formats look like.

use std::borrow::Cow;

use ir::DType;

use crate::element;

/// What `skinny.cuh` reads of a packed format.
pub(crate) struct Layout {
    /// Its name there.
    pub(crate) policy: &'static str,
    /// 16-byte pieces of a lane and step.
    pub(crate) chunks: u64,
    /// Further bytes of a lane and step, which so many lanes share.
    pub(crate) extra: u64,
    pub(crate) share: u64,
    /// Columns of a step.
    pub(crate) step: u64,
}

/// `None` for what is not packed.
pub(crate) fn layout(dtype: DType) -> Option<Layout> {
    let (policy, chunks, extra, share, step) = match dtype {
        DType::F8E4M3 => ("Fp8", 2, 0, 4, 64),
        DType::Q8_0 => ("Q8_0", 2, 8, 4, 64),
        DType::NvFp4 => ("Nvfp4", 2, 8, 2, 128),
        DType::Q4_0 => ("Q4_0", 2, 16, 4, 128),
        DType::Q4_1 => ("Q4_1", 2, 32, 4, 128),
        _ => return None,
    };
    Some(Layout { policy, chunks, extra, share, step })
}

/// Rows of a tile: of a packed format, and of plain rows unless fewer are better.
pub(crate) const TILE: u64 = 16;

impl Layout {
    /// Bytes of a tile and step.
    pub(crate) fn record(&self) -> usize {
        (self.chunks * 512 + 32 / self.share * self.extra) as usize
    }

    /// Bytes of all tiles of a matrix.
    fn tiles(&self, rows: usize, columns: usize) -> Option<usize> {
        let steps = columns.div_ceil(self.step as usize);
        rows.div_ceil(TILE as usize).checked_mul(steps)?.checked_mul(self.record())
    }
}

/// Whether weights in that format are not rows of plain numbers.
pub(crate) fn is_packed(dtype: DType) -> bool {
    layout(dtype).is_some()
}

/// Whether kernels read rows of numbers in that format as they are.
fn is_plain(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F16 | DType::BF16)
}

/// The type that `skinny.cuh` reads a matrix of so many columns by, in tiles of `height` rows.
pub(crate) fn skinny_policy(dtype: DType, columns: u64, height: u64) -> String {
    match layout(dtype) {
        Some(it) => format!("{}<{columns}>", it.policy),
        None => format!("Rows<{columns}, {}, {height}>", element(dtype)),
    }
}

/// Bytes and columns that a warp of `skinny.cuh` takes of such a tile at once; `None` where it can
/// not.
pub(crate) fn skinny_step(dtype: DType, columns: u64, height: u64) -> Option<[u64; 2]> {
    if let Some(it) = layout(dtype) {
        return (height == TILE).then_some([it.chunks * 512 + it.extra * 32, it.step]);
    }
    let bytes = dtype.bytes(1, 32).filter(|_| is_plain(dtype))? as u64;
    let whole = columns.checked_mul(bytes / 32)?.is_multiple_of(128);
    let wide = if whole { 128 } else { bytes };
    let fits = columns.is_multiple_of(32) && (height * wide).is_multiple_of(512);
    fits.then_some([height * wide, 32 * wide / bytes])
}

/// One of that type, for the weight of `[rows, columns]` at word `at`. Scales of rows and of
/// matrices stand behind the tiles.
pub(crate) fn skinny_weights(dtype: DType, [n, k]: [u64; 2], at: usize) -> String {
    let tiles = layout(dtype).and_then(|it| it.tiles(n as usize, k as usize)).unwrap_or(0);
    match dtype {
        DType::F8E4M3 | DType::NvFp4 => {
            format!("{{{{(const u8*)w{at}, {n}}}, (const float*)(w{at} + {tiles})}}")
        }
        DType::BF16 | DType::F16 | DType::F32 => {
            format!("{{(const {}*)w{at}, {n}}}", element(dtype))
        }
        _ => format!("{{{{(const u8*)w{at}, {n}}}}}"),
    }
}

/// The scales of the rows of a weight in FP8 at word `at`.
pub(crate) fn row_scales([n, k]: [u64; 2], at: usize) -> String {
    let tiles = layout(DType::F8E4M3).and_then(|it| it.tiles(n as usize, k as usize)).unwrap_or(0);
    format!("(const float*)(w{at} + {tiles})")
}

/// The format in which rows of `columns` weights that are given in `dtype` are laid out: what no
/// kernel reads is widened.
pub fn laid_out(dtype: DType, columns: usize) -> DType {
    let reads = is_plain(dtype) || is_packed(dtype) && columns.is_multiple_of(8);
    if reads { dtype } else { DType::BF16 }
}

/// Bytes of `rows` times `columns` weights; `None` when that overflows or is no such format.
pub fn packed_bytes(dtype: DType, rows: usize, columns: usize) -> Option<usize> {
    if is_plain(dtype) {
        return dtype.bytes(rows, columns);
    }
    let layout = layout(dtype)?;
    let behind = match dtype {
        DType::F8E4M3 => rows.checked_mul(4)?,
        DType::NvFp4 => 4,
        _ => 0,
    };
    layout.tiles(rows, columns)?.checked_add(behind)
}

/// `bytes` in the format `dtype`, row by row as [`ir::storage`] has them, as kernels want them.
///
/// # Errors
///
/// When an NVFP4 matrix has more than one scale.
pub fn pack(
    dtype: DType,
    [rows, columns]: [usize; 2],
    bytes: Cow<'_, [u8]>,
) -> Result<Cow<'_, [u8]>, String> {
    let Some(layout) = layout(dtype) else { return Ok(bytes) };
    let size = packed_bytes(dtype, rows, columns).ok_or("larger than any memory")?;
    let mut packed = vec![0; size];
    let row_bytes = dtype.bytes(1, columns).ok_or("larger than any memory")?;
    let steps = columns.div_ceil(layout.step as usize);
    let behind = layout.tiles(rows, columns).unwrap_or(0);
    for (n, row) in bytes.chunks_exact(row_bytes).enumerate() {
        let (head, row) = row.split_at(dtype.head_bytes());
        match dtype {
            DType::F8E4M3 => packed[behind + 4 * n..][..4].copy_from_slice(head),
            DType::NvFp4 if n == 0 => packed[behind..].copy_from_slice(head),
            DType::NvFp4 if packed[behind..] != *head => {
                return Err("an NVFP4 matrix with several scales".into());
            }
            _ => {}
        }
        for step in 0..steps {
            let record = (n / TILE as usize * steps + step) * layout.record();
            let into = &mut packed[record..][..layout.record()];
            let columns =
                step * layout.step as usize..columns.min((step + 1) * layout.step as usize);
            Row { dtype, of: n % TILE as usize, row }.put(columns, into);
        }
    }
    Ok(packed.into())
}

/// A row of a tile: its number there, and its bytes as they are stored.
struct Row<'a> {
    dtype: DType,
    of: usize,
    row: &'a [u8],
}

/// Where the numbers of eight columns stand within their bytes or nibbles, from the lowest on.
const FP8_ORDER: [usize; 8] = [2, 0, 3, 1, 6, 4, 7, 5];
const Q8_ORDER: [usize; 8] = [0, 2, 1, 3, 4, 6, 5, 7];
const Q4_ORDER: [usize; 8] = [0, 2, 4, 6, 1, 3, 5, 7];

impl Row<'_> {
    /// Puts `columns`, those of one step, into their record.
    fn put(&self, columns: std::ops::Range<usize>, record: &mut [u8]) {
        let first = columns.start;
        let (lane_row, bottom) = (self.of % 8, self.of / 8);
        for eight in columns.clone().step_by(8) {
            let (run, t) = ((eight - first) / 32, (eight - first) % 32 / 8);
            let lane = (4 * lane_row + t) * 16;
            let last = columns.end.min(eight + 8);
            match self.dtype {
                DType::F8E4M3 | DType::Q8_0 => {
                    let order = if self.dtype == DType::Q8_0 { Q8_ORDER } else { FP8_ORDER };
                    for (j, e) in order.into_iter().enumerate().filter(|it| eight + it.1 < last) {
                        record[run * 512 + lane + 8 * bottom + j] = self.byte(eight + e);
                    }
                }
                _ => {
                    let word = self.word(eight, last);
                    let at = run / 2 * 512 + lane + (run % 2 * 2 + bottom) * 4;
                    record[at..at + 4].copy_from_slice(&word.to_le_bytes());
                }
            }
        }
        self.put_scales(columns, &mut record[1024..]);
    }

    /// A number of 8 bits.
    fn byte(&self, column: usize) -> u8 {
        match self.dtype {
            DType::Q8_0 => self.row[column / 32 * 34 + 2 + column % 32],
            _ => self.row[column],
        }
    }

    /// A number of 4 bits.
    fn nibble(&self, column: usize) -> u32 {
        let byte = match self.dtype {
            DType::NvFp4 => self.row[column / 16 * 9 + 1 + column % 16 / 2] >> (column % 2 * 4),
            other => {
                let head = if other == DType::Q4_1 { 4 } else { 2 };
                let at = column / 32 * (head + 16) + head + column % 16;
                self.row[at] >> (column % 32 / 16 * 4)
            }
        };
        u32::from(byte & 15)
    }

    /// Whether the scale of the number at `column` is zero.
    fn is_nothing(&self, column: usize) -> bool {
        self.dtype == DType::NvFp4 && self.row[column / 16 * 9] & 0x7f == 0
    }

    /// The eight numbers of 4 bits from column `eight` on, of which those before `last` are there.
    fn word(&self, eight: usize, last: usize) -> u32 {
        let is_there = |e: usize| eight + e < last && !self.is_nothing(eight + e);
        let number = |e: usize| if is_there(e) { self.nibble(eight + e) } else { 0 };
        if self.dtype != DType::NvFp4 {
            let nibbles = Q4_ORDER.into_iter().enumerate();
            return nibbles.map(|(j, e)| number(e) << (4 * j)).sum();
        }
        // By half of e: where its bits go, from the lowest on. The last two change halves.
        const PLACES: [[usize; 4]; 4] =
            [[6, 7, 8, 15], [3, 4, 5, 12], [0, 1, 2, 9], [14, 10, 11, 13]];
        let bits = |e: usize| {
            let (q, half) = (number(e), if e < 6 { e % 2 } else { 7 - e });
            let places = PLACES[e / 2].into_iter().enumerate();
            places.map(move |(bit, to)| (q >> bit & 1) << (to + 16 * half))
        };
        (0..8).flat_map(bits).sum()
    }

    fn put_scales(&self, columns: std::ops::Range<usize>, extras: &mut [u8]) {
        let (g, bottom, first) = (self.of % 8, self.of / 8, columns.start);
        match self.dtype {
            DType::NvFp4 => {
                for at in columns.step_by(16) {
                    let (run, half) = ((at - first) / 32, (at - first) % 32 / 16);
                    extras[(2 * g + half) * 8 + 2 * run + bottom] =
                        scale_byte(self.row[at / 16 * 9]);
                }
            }
            DType::Q8_0 | DType::Q4_0 | DType::Q4_1 => {
                let (block, each) = match self.dtype {
                    DType::Q8_0 => (34, 8),
                    DType::Q4_0 => (18, 16),
                    _ => (20, 32),
                };
                for at in columns.step_by(32) {
                    let (run, stored) = ((at - first) / 32, &self.row[at / 32 * block..]);
                    let to = g * each + 4 * run + 2 * bottom;
                    extras[to..to + 2].copy_from_slice(&stored[..2]);
                    if self.dtype == DType::Q4_1 {
                        extras[to + 16..to + 18].copy_from_slice(&stored[2..4]);
                    }
                }
            }
            _ => {}
        }
    }
}

/// `8 (e + 22) + m` of the scale `2^e (1 + m / 8)` that a code of E4M3 stands for.
fn scale_byte(code: u8) -> u8 {
    let (exponent, fraction) = (code >> 3 & 15, code & 7);
    match (exponent, fraction) {
        (0, 0) => 0,
        (0, 1) => 104,
        (0, 2 | 3) => 112 + (fraction - 2) * 4,
        (0, _) => 120 + (fraction - 4) * 2,
        (_, _) => 8 * (exponent + 15) + fraction,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_scales_are_the_scales() {
        assert_eq!(scale_byte(0), 0);
        for code in 1..=126 {
            let byte = scale_byte(code);
            let (exponent, fraction) = (i32::from(byte >> 3) - 22, f32::from(byte & 7));
            let is = (1.0 + fraction / 8.0) * 2f32.powi(exponent);
            let (exponent, fraction) = (i32::from(code >> 3), f32::from(code & 7));
            let small = if exponent == 0 { 0.0 } else { 1.0 };
            let wanted = (small + fraction / 8.0) * 2f32.powi(exponent.max(1) - 7);
            assert_eq!(is, wanted, "{code}");
        }
    }
}
