//! Products with weights and their tails.
//!
//! Few rows go to `skinny.cuh`, which reads weights at the speed of memory; on Hopper, some to
//! `gemm_split.cuh` and many to `gemm.cuh`, or where weights are packed, to `gemm_split_packed.cuh`
//! and `gemm_packed.cuh`; elsewhere all others to `gemm_small.cuh`. What has a shape that none of
//! these takes is left to the plain form.

mod apart;
mod library;
mod packed;
mod skinny;

use std::collections::BTreeMap;

use ir::DType;

use apart::Place;

use crate::{
    COUNTER_BYTES, Call, Functor, Grid, Instance, Map, Tunable, Word, element, pack, rows,
};

const THREADS: u32 = 256;

/// A result of a call: where it goes and what it is made of.
#[derive(Clone)]
struct Made<'a> {
    /// The word of its address; that of its columns comes next.
    at: usize,
    dtype: DType,
    tail: Option<&'a Functor>,
    /// Those parts of it that are a launch's results, from left to right.
    parts: Vec<Part>,
    /// Where it goes if that is scratch memory, in rows as wide as its part.
    place: Option<Place>,
}

/// Columns that one weight gives, or two beside each other.
#[derive(Clone)]
struct Part {
    /// The words of the weights; the format and the rows come next.
    weights: Vec<usize>,
    /// In which these are.
    formats: Vec<DType>,
    /// Where its columns begin, and how many there are.
    first: u64,
    n: u64,
}

impl Part {
    /// The format of its weights, which are all in one where it is not [`Part::is_apart`].
    fn format(&self) -> DType {
        self.formats[0]
    }

    /// Whether no kernel computes its products together.
    fn is_apart(&self) -> bool {
        2 < self.weights.len() || self.formats.iter().any(|it| *it != self.formats[0])
    }
}

/// Words: x, its stride, rows, depth, results, scratch; for each result its address, columns, tail,
/// where the words of that begin, weights and whether they stand beside each other; for each weight
/// its address, format and rows.
fn results<'a>(call: &'a Call<'_>) -> Result<(Vec<Made<'a>>, usize), String> {
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
            let n = call.fixed(weights[0] + 2)?;
            let formats = weights.iter().map(|it| format(call, *it)).collect::<Result<_, _>>()?;
            parts.push(Part { weights, formats, first, n });
            first += n;
        }
        made.push(Made { at, dtype: call.types[at], tail, parts, place: None });
    }
    Ok((made, next))
}

fn format(call: &Call<'_>, at: usize) -> Result<DType, String> {
    match call.words[at] {
        Word::Weight(dtype) => Ok(dtype),
        _ => Err(format!("word {at} is no weight")),
    }
}

/// See [`results`] for the words.
pub(crate) fn instances(call: &Call<'_>) -> Result<Vec<Instance>, String> {
    let (made, _) = results(call)?;
    MatMul { call, x: call.types[0], depth: call.fixed(3)?, made, norm: None }.forms()
}

/// The same, then the weights of the norm of x and its epsilon.
pub(crate) fn normed_instances(call: &Call<'_>) -> Result<Vec<Instance>, String> {
    let (made, next) = results(call)?;
    let norm = Some((next, call.real(next + 1)?));
    MatMul { call, x: call.types[0], depth: call.fixed(3)?, made, norm }.forms()
}

struct MatMul<'a> {
    call: &'a Call<'a>,
    x: DType,
    depth: u64,
    made: Vec<Made<'a>>,
    /// The word of the weights by which x is normalised first, and epsilon.
    norm: Option<(usize, String)>,
}

impl MatMul<'_> {
    fn parts(&self) -> impl Iterator<Item = (&Made<'_>, &Part)> {
        self.made.iter().flat_map(|made| made.parts.iter().map(move |part| (made, part)))
    }

    /// The definitions of the tails, of which several may have the same.
    fn preface(&self) -> String {
        let tails = self.made.iter().filter_map(|it| it.tail);
        let texts: BTreeMap<&str, &str> =
            tails.map(|it| (it.name.as_str(), it.text.as_str())).collect();
        texts.into_values().collect()
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
        match made.place {
            Some(_) => Some(made.parts[0].n),
            None => self.call.known(made.at + 1),
        }
    }

    /// Whether each row of a result has a place of its own to go to.
    fn is_own(&self, made: &Made<'_>) -> bool {
        made.place.is_none() && self.call.is_own(made.at)
    }

    /// A part as `results.cuh` takes it, with `weights` as its kernel does.
    fn result(
        &self,
        made: &Made<'_>,
        part: &Part,
        weights: &[String],
        tail: &str,
    ) -> Option<String> {
        Some(format!(
            "result<{}, {}, {}>({}, {}, {})",
            part.n,
            self.columns(made)?,
            part.first,
            weights.join(", "),
            self.output(made, part),
            tail
        ))
    }

    /// Where a part's first column goes.
    fn output(&self, made: &Made<'_>, part: &Part) -> String {
        let (ty, at, first) = (element(made.dtype), made.at, part.first);
        if let Some(place) = made.place {
            return place.pointer(&self.call.text(2));
        }
        match self.is_own(made) {
            true => format!("Placed<{ty}>{{(char*)w{at}, b{at}, c{at}, past}} + {first}"),
            false => format!("({ty}*)w{at} + {first}"),
        }
    }

    /// Every form, the fastest first.
    fn forms(&self) -> Result<Vec<Instance>, String> {
        if self.has_apart() {
            return self.apart();
        }
        let at_once = self.at_once();
        let mut formats = self.parts().map(|it| it.1.format());
        let first = formats.next();
        if at_once.is_ok() || formats.all(|it| Some(it) == first) {
            return at_once;
        }
        Ok([self.few_rows(), self.apart()?].concat())
    }

    /// The forms in which all is one launch.
    fn at_once(&self) -> Result<Vec<Instance>, String> {
        let mut forms = Vec::new();
        forms.extend(self.few_rows());
        // What is packed is multiplied in 16 bits for many rows, so that these are rounded anyway.
        if self.call.rounds || self.is_packed() {
            let packed = self.packed();
            forms.extend(if packed.is_none() { self.split() } else { None });
            let many = forms.len();
            forms.extend(packed.unwrap_or_else(|| self.gemm().into_iter().collect()));
            forms.extend(self.gemm_small());
            if let (Some((choice, form)), Some(last)) = (self.by_library(), forms.last_mut()) {
                let is_chosen = self.call.tuned.get(&choice) == Some(1);
                last.choices.push(choice);
                is_chosen.then(|| forms.insert(many, form));
            }
        }
        if forms.last().is_none_or(|it| it.rows.is_some() || it.architecture.is_some()) {
            forms.push(self.naive()?);
        }
        Ok(forms)
    }

    fn is_packed(&self) -> bool {
        self.parts().any(|(_, it)| pack::is_packed(it.format()))
    }

    /// Bytes at the beginning of scratch memory that are not x's.
    fn reserved(&self) -> u64 {
        let bytes = |it: &Part| 2 * it.n * self.depth * it.weights.len() as u64;
        let packed = self.parts().map(|it| it.1).filter(|it| pack::is_packed(it.format()));
        (COUNTER_BYTES + packed.map(bytes).sum::<u64>()).next_multiple_of(16)
    }

    /// Where x is as numbers of type `x` and the weights of each part are as numbers, and what has
    /// to run before.
    fn ready(&self, x: DType) -> Ready {
        let plain = self.x == x && self.norm.is_none();
        let x_at = if plain { (0, 0) } else { (5, self.reserved()) };
        let mut before = (!plain).then(|| Box::new(self.prepare(x, self.reserved())));
        let size = if x == DType::F32 { 4 } else { 2 };
        let mut scratch = before.as_ref().map(|_| (self.reserved(), size * self.depth, 2));
        let (mut weights, mut next, mut body) = (Vec::new(), COUNTER_BYTES, Vec::new());
        for (_, part) in self.parts() {
            let of_part = part.weights.iter().map(|&at| {
                if !pack::is_packed(part.format()) {
                    return (at, 0);
                }
                let to = next;
                next += 2 * part.n * self.depth;
                body.push(format!("unpack<8>((bf16*)(w5 + {to}), {});", self.one(part, at)));
                (5, to)
            });
            weights.push(of_part.collect());
        }
        if !body.is_empty() {
            before = Some(Box::new(Instance {
                includes: vec!["unpack.cuh"],
                body: body.join("\n  "),
                threads: THREADS,
                grid: [Grid::fixed(crate::MANY), Grid::fixed(1)],
                before,
                ..Instance::default()
            }));
            scratch = scratch.or(Some((self.reserved(), 0, 2)));
        }
        Ready { before, x: x_at, weights, scratch }
    }

    /// Many rows, on Hopper.
    fn gemm(&self) -> Option<Instance> {
        const STAGES: u64 = 4;
        let (of_results, instance) = self.in_boxes([128, WIDTH / 2])?;
        let shared = STAGES * (128 + WIDTH) * 128;
        let body = format!(
            "static_assert(GEMM_THREADS == 384 && gemm_shared<{WIDTH}, {STAGES}> == {shared});\n  \
             SHARED(u8, shared);\n  gemm<{WIDTH}, {STAGES}, 2, {}>(shared, m0, (int){}, {of_results});",
            self.depth,
            self.call.text(2),
        );
        Some(Instance {
            includes: vec!["gemm.cuh", "tails.cuh"],
            body,
            threads: 384,
            cluster: 2,
            residents: 1,
            grid: [Grid::fixed(BLOCKS), Grid::fixed(1)],
            shared: shared as u32,
            ..instance
        })
    }

    /// Some rows, on Hopper.
    fn split(&self) -> Option<Instance> {
        const STAGES: u64 = 4;
        let (of_results, instance) = self.in_boxes([SPLIT_SIZE, SPLIT_SIZE])?;
        let (tiles, parts, choice) = self.parts_of_sums(false, 2 * SPLIT_SIZE);
        // Weights that an earlier kernel has unpacked are not there before it has ended.
        let wait = if self.is_packed() { "wait_for_earlier();\n  " } else { "" };
        let shared = STAGES * 3 * SPLIT_SIZE * 128;
        let body = format!(
            "static_assert(SPLIT_THREADS == 160 && SPLIT_SHARED == {shared});\n  \
             SHARED(u8, shared);\n  {wait}gemm_split<{parts}, {}>(shared, m0, (int){}, \
             {of_results});",
            self.depth,
            self.call.text(2),
        );
        Some(Instance {
            includes: vec!["gemm_split.cuh", "tails.cuh"],
            body,
            threads: 160,
            cluster: parts as u32,
            grid: [Grid::fixed(tiles * parts), Grid::all(&[2], SPLIT_SIZE)],
            shared: shared as u32,
            rows: Some((2, 2 * SPLIT_SIZE)),
            choices: vec![choice],
            ..instance
        })
    }

    /// Tiles side by side of what is `gemm_split.cuh`'s, in how many parts each is summed, and that
    /// choice, which is for at most `rows`.
    fn parts_of_sums(&self, in_fp8: bool, rows: u64) -> (u64, u64, Tunable) {
        let columns = |it: &Part| (it.n * it.weights.len() as u64).div_ceil(2 * SPLIT_SIZE);
        let tiles: u64 = self.parts().map(|it| columns(it.1)).sum();
        let has_two = self.parts().any(|it| it.1.weights.len() == 2);
        let parts = [1, 2, 4].into_iter().find(|it| BLOCKS <= tiles * it).unwrap_or(4);
        let packed = self.parts().map(|it| it.1.format()).find(|it| pack::is_packed(*it));
        let format = packed.map_or(String::new(), |it| format!("{it} "));
        let way = if in_fp8 { "in FP8 " } else { "" };
        let of = format!("{tiles} tiles of {format}{way}{}", self.depth);
        let choice = Tunable::new(SPLIT, &of, rows);
        let parts = self.call.tuned.get(&choice).unwrap_or(parts);
        (tiles, if has_two { parts.min(2) } else { parts }, choice)
    }

    /// A matrix in boxes of 64 columns and `height` rows.
    fn boxes(&self, (word, offset): (usize, u64), rows: (u64, Option<usize>), height: u64) -> Map {
        let boxed = [64, height as u32];
        Map { word, offset, behind: None, dtype: DType::BF16, columns: self.depth, rows, boxed }
    }

    /// What takes matrices in boxes of 64 columns and so many rows of x and of weights, and its
    /// results. `x` is rounded to `bf16` first, if it is not already.
    fn in_boxes(&self, [high, wide]: [u64; 2]) -> Option<(String, Instance)> {
        let fits = |part: &Part| unpacked(part.format()) == DType::BF16 && part.n.is_multiple_of(8);
        if !self.depth.is_multiple_of(8) || !self.parts().all(|it| fits(it.1)) {
            return None;
        }
        let Ready { before, x, weights, scratch } = self.ready(DType::BF16);
        let mut maps = vec![self.boxes(x, (1, Some(2)), high)];
        let mut results = Vec::new();
        for ((made, part), places) in self.parts().zip(weights) {
            let first = maps.len();
            maps.extend(places.into_iter().map(|it| self.boxes(it, (part.n, None), wide)));
            let weights: Vec<String> = (first..maps.len()).map(|it| format!("&m{it}")).collect();
            results.push(self.result(made, part, &weights, &self.tail(made, part))?);
        }
        let instance = Instance {
            preface: self.preface(),
            waits: true,
            architecture: Some("sm_90a"),
            maps,
            scratch,
            before,
            ..Instance::default()
        };
        Some((results.join(",\n    "), instance))
    }

    /// Leaves x, normalised if it is to be, as `dtype` behind so many bytes of scratch memory.
    fn prepare(&self, dtype: DType, behind: u64) -> Instance {
        let (x, y, k) = (element(self.x), element(dtype), self.depth);
        let to = format!("({y}*)(w5 + {behind})");
        let from = format!("(const {x}*)w0");
        if let Some((weight, eps)) = &self.norm {
            let tail = format!("Weighted{{(const float*)w{weight}}}");
            return rows::norm([x, &from, eps, &tail, &to], k, 2, self.call.is_constant[*weight]);
        }
        let rows = self.call.text(2);
        let body = format!("narrow<{THREADS}>({to}, {from}, (long){rows} * {k});");
        let grid = Grid::over(&[2, 3], 4 * u64::from(THREADS));
        let includes = vec!["rows.cuh"];
        Instance { includes, body, threads: THREADS, grid, ..Instance::default() }
    }

    /// Many rows, on any architecture.
    fn gemm_small(&self) -> Option<Instance> {
        const TILE: u64 = 64;
        let format = unpacked(self.parts().next()?.1.format());
        let fits = |part: &Part| unpacked(part.format()) == format && format != DType::F32;
        if !self.depth.is_multiple_of(8) || !self.parts().all(|it| fits(it.1)) {
            return None;
        }
        let x = if self.norm.is_some() { DType::BF16 } else { self.x };
        let Ready { before, x: (word, offset), weights, scratch } = self.ready(x);
        let (x, ty) = (element(x), element(format));
        let (mut results, mut tiles) = (Vec::new(), 0);
        for ((made, part), places) in self.parts().zip(weights) {
            tiles += (part.n * part.weights.len() as u64).div_ceil(TILE);
            let place = |(at, offset): &(usize, u64)| format!("(const {ty}*)(w{at} + {offset})");
            let weights: Vec<String> = places.iter().map(place).collect();
            results.push(self.result(made, part, &weights, &self.tail(made, part))?);
        }
        let body = format!(
            "static_assert(SMALL_THREADS == 128);\n  gemm_small<{ty}, {}>((const {x}*)(w{word} + {offset}), (int){}, {});",
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
            scratch,
            before,
            ..Instance::default()
        })
    }

    /// Any rows.
    fn naive(&self) -> Result<Instance, String> {
        let before = self.norm.as_ref().map(|_| Box::new(self.prepare(DType::F32, COUNTER_BYTES)));
        let x = match before {
            Some(_) => format!("(const float*)(w5 + {COUNTER_BYTES})"),
            None => self.call.pointer(0, &format!("const {}", element(self.x))),
        };
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
            scratch: before.as_ref().map(|_| (COUNTER_BYTES, 4 * self.depth, 2)),
            before,
            ..Instance::default()
        })
    }
}

/// What kernels for many rows take, and what has to run before them.
struct Ready {
    before: Option<Box<Instance>>,
    /// The word of x and bytes further on.
    x: (usize, u64),
    /// The same of the weights of each part.
    weights: Vec<Vec<(usize, u64)>>,
    scratch: Option<(u64, u64, usize)>,
}

/// The format of weights for many rows.
fn unpacked(format: DType) -> DType {
    if pack::is_packed(format) { DType::BF16 } else { format }
}

/// What the table of what was tuned calls `gemm_split.cuh`.
const SPLIT: &str = "gemm_split";

/// Rows of a tile of `gemm_split.cuh`, and half its columns.
const SPLIT_SIZE: u64 = 64;

/// Multiprocessors of the largest Hopper: a block of `skinny` each.
const BLOCKS: u64 = 132;

/// Columns of a tile of `gemm.cuh`.
const WIDTH: u64 = 256;

/// A weight as a functor of row and column.
pub(crate) fn weight(call: &Call<'_>, at: usize, width: u64) -> Result<String, String> {
    match format(call, at)? {
        dtype @ (DType::F32 | DType::F16 | DType::BF16) => {
            let ty = element(dtype);
            Ok(format!("Plain<{ty}>{{(const {ty}*)w{at}, {width}}}"))
        }
        other => Err(format!("no plain kernel reads weights in {other}")),
    }
}
