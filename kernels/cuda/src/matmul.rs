//! Products with weights and their tails.
//!
//! Few rows go to `skinny.cuh`, which reads weights at the speed of memory; many to `gemm.cuh` on
//! Hopper and to `gemm_small.cuh` elsewhere. What has a shape that none of these takes is left to
//! the plain form.

use ir::DType;

use crate::{Call, Functor, Grid, Instance, Map, Word, element};

const THREADS: u32 = 256;

/// A result of a call: where it goes and what it is made of.
struct Made<'a> {
    /// The word of its address; that of its columns comes next.
    at: usize,
    dtype: DType,
    tail: Option<&'a Functor>,
    /// Those parts of it that are a launch's results, from left to right.
    parts: Vec<Part>,
}

/// Columns that one weight gives, or two beside each other.
struct Part {
    /// The words of the weights; the format and the rows come next.
    weights: Vec<usize>,
    format: DType,
    /// Where its columns begin, and how many there are.
    first: u64,
    n: u64,
}

/// Words: x, its stride, rows, depth, results, scratch; for each result its address, columns, tail,
/// where the words of that begin, weights and whether they stand beside each other; for each weight
/// its address, format and rows.
fn results<'a>(call: &'a Call<'_>) -> Result<Vec<Made<'a>>, String> {
    let n = call.fixed(4)? as usize;
    let mut next = 6 + 6 * n;
    let mut made = Vec::new();
    for i in 0..n {
        let at = 6 + 6 * i;
        let tail = match &call.words[at + 2] {
            Word::Tail(functor) => Some(functor),
            _ => None,
        };
        let weights: Vec<usize> =
            (0..call.fixed(at + 4)? as usize).map(|it| next + 3 * it).collect();
        next += 3 * weights.len();
        let beside = call.fixed(at + 5)? != 0;
        let groups =
            if beside { vec![weights] } else { weights.chunks(1).map(<[_]>::to_vec).collect() };
        let mut parts = Vec::new();
        let mut first = 0;
        for weights in groups {
            let (n, format) = (call.fixed(weights[0] + 2)?, format(call, weights[0])?);
            if 2 < weights.len() || weights.iter().any(|it| format_is_other(call, *it, format)) {
                return Err("more than two products, or two in different formats".into());
            }
            parts.push(Part { weights, format, first, n });
            first += n;
        }
        made.push(Made { at, dtype: call.results[i], tail, parts });
    }
    Ok(made)
}

fn format(call: &Call<'_>, at: usize) -> Result<DType, String> {
    match call.words[at] {
        Word::Weight(dtype) => Ok(dtype),
        _ => Err(format!("word {at} is no weight")),
    }
}

fn format_is_other(call: &Call<'_>, at: usize, than: DType) -> bool {
    format(call, at) != Ok(than)
}

/// See [`results`] for the words.
pub(crate) fn instances(call: &Call<'_>) -> Result<Vec<Instance>, String> {
    let made = results(call)?;
    let matmul = MatMul { call, x: call.operands[0], depth: call.fixed(3)?, made };
    let mut forms = Vec::new();
    forms.extend(matmul.skinny(1));
    forms.extend([8, 4, 2].into_iter().find_map(|most| matmul.skinny(most)));
    if call.rounds {
        forms.extend(matmul.gemm());
        forms.extend(matmul.gemm_small());
    }
    if forms.last().is_none_or(|it| it.rows.is_some() || it.architecture.is_some()) {
        forms.push(matmul.naive()?);
    }
    Ok(forms)
}

struct MatMul<'a> {
    call: &'a Call<'a>,
    x: DType,
    depth: u64,
    made: Vec<Made<'a>>,
}

impl MatMul<'_> {
    fn parts(&self) -> impl Iterator<Item = (&Made<'_>, &Part)> {
        self.made.iter().flat_map(|made| made.parts.iter().map(move |part| (made, part)))
    }

    /// The definitions of the tails.
    fn preface(&self) -> String {
        self.made.iter().filter_map(|it| it.tail).map(|it| it.text.as_str()).collect()
    }

    /// The tail of a part, as products call it.
    fn tail(&self, made: &Made<'_>, part: &Part) -> String {
        let (name, make) = match made.tail {
            Some(tail) => (tail.name.as_str(), tail.make.as_str()),
            None => ("Same", "Same{}"),
        };
        let of = if part.weights.len() == 2 { "Two" } else { "One" };
        format!("{of}<{name}>{{{make}, {}, {}}}", part.first, part.n)
    }

    fn columns(&self, made: &Made<'_>) -> Option<u64> {
        self.call.known(made.at + 1)
    }

    /// Where a part's first column goes.
    fn output(&self, made: &Made<'_>, part: &Part) -> String {
        format!("({}*)w{} + {}", element(made.dtype), made.at, part.first)
    }

    /// At most `most` rows.
    fn skinny(&self, most: u64) -> Option<Instance> {
        const WARPS: u64 = 8;
        const BLOCKS: u64 = 264;
        let sizes: Vec<Skinny> = self
            .parts()
            .map(|(_, part)| Skinny::new(part, self.depth, most, self.x))
            .collect::<Option<_>>()?;
        let tiles: u64 = sizes.iter().map(|it| it.tiles).sum();
        let (mut body, mut first) = (vec!["SHARED(u8, shared);".to_owned()], 0);
        let x = element(self.x);
        body.push(format!("PlainRows<{x}> in{{(const {x}*)w0, {}}};", self.depth));
        for ((made, part), size) in self.parts().zip(&sizes) {
            let share = (BLOCKS * size.tiles).div_ceil(tiles);
            let blocks = size.tiles.min(share.max(1));
            let ty = element(part.format);
            let weights: Vec<String> =
                part.weights.iter().map(|at| format!("{{(const {ty}*)w{at}}}")).collect();
            let columns = self.columns(made)?;
            body.push(format!(
                "if (blockIdx.x < {end}) {{\n    \
                 using S = Skinny<Rows<{n}, {k}, {ty}>, {products}, {most}, {x_parts}, {WARPS}, \
                 {stages}, true>;\n    \
                 static_assert(S::SHARED_BYTES == {shared}, \"what a launch gives\");\n    \
                 typename S::W weights[] = {{{weights}}};\n    \
                 skinny<S>(in, weights, {tail}, {out}, {columns}, (int){rows}, blockIdx.x - {first}, \
                 {blocks}, shared);\n    return;\n  }}",
                end = first + blocks,
                n = part.n,
                k = self.depth,
                products = part.weights.len(),
                x_parts = size.x_parts,
                stages = size.stages,
                shared = size.shared,
                weights = weights.join(", "),
                tail = self.tail(made, part),
                out = self.output(made, part),
                rows = self.call.text(2),
            ));
            first += blocks;
        }
        let shared = sizes.iter().map(|it| it.shared).max()?;
        Some(Instance {
            includes: vec!["skinny.cuh", "tails.cuh"],
            preface: self.preface(),
            body: body.join("\n  "),
            threads: 32 * WARPS as u32,
            residents: if shared <= SHARED_FOR_TWO { 2 } else { 1 },
            grid: [Grid::fixed(first), Grid::fixed(1)],
            shared: shared as u32,
            rows: Some((2, most)),
            waits: true,
            ..Instance::default()
        })
    }

    /// Many rows, on Hopper. `x` is rounded to `bf16` first, if it is not already.
    fn gemm(&self) -> Option<Instance> {
        const WIDTH: u64 = 256;
        const STAGES: u64 = 4;
        let fits = |part: &Part| part.format == DType::BF16 && part.n.is_multiple_of(8);
        if !self.depth.is_multiple_of(8) || !self.parts().all(|it| fits(it.1)) {
            return None;
        }
        let before = (self.x != DType::BF16).then(|| Box::new(self.narrow()));
        let word = if before.is_some() { 5 } else { 0 };
        let offset = if before.is_some() { crate::COUNTER_BYTES } else { 0 };
        let map = |word, offset, rows, height| Map {
            word,
            offset,
            dtype: DType::BF16,
            columns: self.depth,
            rows,
            boxed: [64, height],
        };
        let mut maps = vec![map(word, offset, (1, Some(2)), 128)];
        let mut results = Vec::new();
        for (made, part) in self.parts() {
            let first = maps.len();
            for &at in &part.weights {
                maps.push(map(at, 0, (part.n, None), (WIDTH / 2) as u32));
            }
            let weights: Vec<String> = (first..maps.len()).map(|it| format!("&m{it}")).collect();
            results.push(format!(
                "result<{}, {}>({}, {}, {})",
                part.n,
                self.columns(made)?,
                weights.join(", "),
                self.output(made, part),
                self.tail(made, part)
            ));
        }
        let body = format!(
            "SHARED(u8, shared);\n  gemm<Bf16Tiles, {WIDTH}, {STAGES}, 2, {}>(shared, m0, (int){}, {});",
            self.depth,
            self.call.text(2),
            results.join(",\n    ")
        );
        Some(Instance {
            includes: vec!["gemm.cuh", "tails.cuh"],
            preface: self.preface(),
            body,
            threads: 384,
            residents: 1,
            cluster: 2,
            grid: [Grid::fixed(132), Grid::fixed(1)],
            shared: (STAGES * (128 + WIDTH) * 128) as u32,
            waits: true,
            architecture: Some("sm_90a"),
            maps,
            scratch: before.as_ref().map(|_| (2 * self.depth, vec![2])),
            before,
            ..Instance::default()
        })
    }

    /// Rounds x to `bf16`, behind the counters of scratch memory.
    fn narrow(&self) -> Instance {
        let x = element(self.x);
        let body = format!(
            "narrow<{THREADS}>((bf16*)(w5 + {}), (const {x}*)w0, (long){} * {});",
            crate::COUNTER_BYTES,
            self.call.text(2),
            self.depth
        );
        let grid = Grid::over(&[2, 3], 4 * u64::from(THREADS));
        let includes = vec!["rows.cuh"];
        Instance { includes, body, threads: THREADS, grid, ..Instance::default() }
    }

    /// Many rows, on any architecture.
    fn gemm_small(&self) -> Option<Instance> {
        const TILE: u64 = 64;
        let format = self.parts().next()?.1.format;
        let fits = |part: &Part| part.format == format && format != DType::F32;
        if !self.depth.is_multiple_of(8) || !self.parts().all(|it| fits(it.1)) {
            return None;
        }
        let (x, ty) = (element(self.x), element(format));
        let (mut results, mut tiles) = (Vec::new(), 0);
        for (made, part) in self.parts() {
            tiles += (part.n * part.weights.len() as u64).div_ceil(TILE);
            let weights: Vec<String> =
                part.weights.iter().map(|at| format!("(const {ty}*)w{at}")).collect();
            results.push(format!(
                "result<{}, {}>({}, {}, {})",
                part.n,
                self.columns(made)?,
                weights.join(", "),
                self.output(made, part),
                self.tail(made, part)
            ));
        }
        let body = format!(
            "gemm_small<{ty}, {}>((const {x}*)w0, (int){}, {});",
            self.depth,
            self.call.text(2),
            results.join(",\n    ")
        );
        Some(Instance {
            includes: vec!["gemm_small.cuh", "tails.cuh"],
            preface: self.preface(),
            body,
            threads: 128,
            grid: [Grid::fixed(tiles), Grid::all(&[2], TILE)],
            waits: true,
            ..Instance::default()
        })
    }

    /// Any rows.
    fn naive(&self) -> Result<Instance, String> {
        let x = self.call.pointer(0, &format!("const {}", element(self.x)));
        let mut body = Vec::new();
        for (made, part) in self.parts() {
            let columns = self.call.text(made.at + 1);
            let weights: Vec<String> = part
                .weights
                .iter()
                .map(|&at| weight(self.call, at, self.depth))
                .collect::<Result<_, _>>()?;
            let two = if weights.len() == 2 { "_two" } else { "" };
            body.push(format!(
                "matmul{two}<{THREADS}>({}, {columns}, {x}, {}, {}, {}, {}, {});",
                self.output(made, part),
                self.call.text(2),
                self.depth,
                weights.join(", "),
                part.n,
                self.tail(made, part)
            ));
        }
        let widest = self.made.iter().map(|it| it.at + 1).max_by_key(|it| self.call.known(*it));
        let of: Vec<usize> = std::iter::once(2).chain(widest).collect();
        Ok(Instance {
            includes: vec!["naive.cuh", "tails.cuh"],
            preface: self.preface(),
            body: body.join("\n  "),
            threads: THREADS,
            grid: Grid::over(&of, u64::from(THREADS / 32)),
            ..Instance::default()
        })
    }
}

/// Two blocks of which each takes as much shared memory are on a multiprocessor of Hopper at once.
const SHARED_FOR_TWO: u64 = 115_000;

/// All that a block can have.
const SHARED_MOST: u64 = 232_448;

/// How `skinny.cuh` computes a part.
struct Skinny {
    tiles: u64,
    stages: u64,
    /// Numbers of 16 bits that stand for a number of x.
    x_parts: u64,
    shared: u64,
}

impl Skinny {
    /// `None` for what it does not take.
    fn new(part: &Part, depth: u64, most: u64, x: DType) -> Option<Skinny> {
        let wide = match part.format {
            DType::BF16 | DType::F16 => 1,
            DType::F32 => 2,
            _ => return None,
        };
        if !depth.is_multiple_of(32) {
            return None;
        }
        let x_parts = if x == DType::BF16 { 1 } else { 2 };
        let products = part.weights.len() as u64;
        let stride = depth + if depth.is_multiple_of(64) { 32 } else { 0 };
        let columns = most * x_parts;
        let shared = |stages: u64| {
            let (ring, sums) = (8 * stages * products * wide * 1024, 8 * products * columns * 16);
            ring + (2 * sums + 8 * most) * 4 + columns * stride * 2
        };
        let within = |limit: u64| (3..=6).rev().find(|&it| shared(it) <= limit);
        let stages = within(SHARED_FOR_TWO).or_else(|| within(SHARED_MOST))?;
        Some(Skinny { tiles: part.n.div_ceil(16), stages, x_parts, shared: shared(stages) })
    }
}

/// A weight as a functor of row and column.
pub(crate) fn weight(call: &Call<'_>, at: usize, width: u64) -> Result<String, String> {
    match format(call, at)? {
        dtype @ (DType::F32 | DType::F16 | DType::BF16) => {
            let ty = element(dtype);
            Ok(format!("Plain<{ty}>{{(const {ty}*)w{at}, {width}}}"))
        }
        other => Err(format!("no CUDA kernel reads weights in {other}")),
    }
}
