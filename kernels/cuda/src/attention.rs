//! Attention over a cache of keys and values: one position by `attention_mma.cuh` or
//! `attention_token.cuh`, many by `attention_hopper.cuh` and `attention_prompt.cuh`.

use ir::DType;

use crate::{COUNTER_BYTES, Call, Grid, Instance, MOST_SEQUENCES, Map, Tunable, element};

const THREADS: u32 = 128;

/// Blocks that fill a large device twice.
const BLOCKS: u64 = 264;

/// Sequences of a small batch.
const FEW: u64 = 8;

/// Words: out, its stride, q, its stride, k, two strides, v, two strides, S, T, heads, group, width
/// of keys, width of values, scale, causal, window, type of the cache, scratch.
pub(crate) fn instances(call: &Call<'_>) -> Result<Vec<Instance>, String> {
    let attention = Attention {
        call,
        cache: call.types[4],
        heads: call.fixed(12)?,
        group: call.fixed(13)?,
        p: call.fixed(14)?,
        pv: call.fixed(15)?,
        scale: call.real(16)?,
        causal: call.fixed(17)? != 0,
        window: call.fixed(18)?,
    };
    if call.is_own(4) && call.is_own(7) {
        return Ok(attention.batch());
    }
    let mut forms = Vec::new();
    forms.extend(attention.token());
    forms.extend(attention.hopper());
    forms.extend(attention.prompt());
    forms.push(attention.naive());
    Ok(forms)
}

/// How attention of one position is computed.
struct By {
    header: &'static str,
    /// What is said there of the sizes, and, with `Block` behind, what computes it.
    policy: &'static str,
    /// Of a block.
    warps: u32,
    /// That a block takes at most.
    queries: u64,
    /// Blocks that a multiprocessor holds.
    residents: u32,
    /// About so many blocks for each of few sequences, and parts of the cache of each of many.
    few: u64,
    many: u64,
}

struct Attention<'a> {
    call: &'a Call<'a>,
    cache: DType,
    heads: u64,
    group: u64,
    p: u64,
    pv: u64,
    scale: String,
    causal: bool,
    window: u64,
}

impl Attention<'_> {
    /// Where the result goes, where q is, and the caches.
    fn pointers(&self) -> [String; 4] {
        let [q, y] = [self.call.types[2], self.call.types[0]].map(element);
        let cache = element(self.cache);
        let (y, q) = (self.call.pointer(0, y), self.call.pointer(2, &format!("const {q}")));
        let [k, v] = [4, 7].map(|it| self.call.row_pointer(it, &format!("const {cache}")));
        [y, q, k, v]
    }

    /// The type in which keys and values are multiplied: what is not of 16 bits is rounded first.
    fn rounded(&self) -> DType {
        if self.cache == DType::F16 { DType::F16 } else { DType::BF16 }
    }

    /// What rounds keys and values that are not of 16 bits: both go to scratch memory, values
    /// behind keys.
    fn before(&self) -> Option<Box<Instance>> {
        let Attention { heads, p, pv, .. } = self;
        let ([_, _, k, v], [to_k, to_v]) = (self.pointers(), self.places());
        let all = self.call.text(11);
        let body = [(to_k, k, p), (to_v, v, pv)].map(|(to, from, width)| {
            format!("narrow<256>({to}, {from}, (long){all} * {});", heads * width)
        });
        (self.cache == DType::F32).then(|| {
            Box::new(Instance {
                includes: vec!["rows.cuh"],
                body: body.join("\n  "),
                threads: 256,
                grid: Grid::over(&[11, 12, 14], 1024),
                ..Instance::default()
            })
        })
    }

    /// Where keys and values are once they are rounded.
    fn places(&self) -> [String; 2] {
        let [_, _, k, v] = self.pointers();
        let keys = 2 * self.heads * self.p;
        match self.cache {
            DType::F32 => [
                format!("(bf16*)(w20 + {COUNTER_BYTES})"),
                format!("(bf16*)(w20 + {COUNTER_BYTES} + {keys} * {})", self.call.text(11)),
            ],
            _ => [k, v],
        }
    }

    /// Scratch memory for both.
    fn scratch(&self) -> Option<(u64, u64, usize)> {
        let bytes = 2 * self.heads * (self.p + self.pv);
        (self.cache == DType::F32).then_some((COUNTER_BYTES, bytes, 11))
    }

    fn in_eights(&self) -> bool {
        [self.p, self.pv].iter().all(|it| it.is_multiple_of(8) && *it <= 256)
    }

    /// Whether it may be by the kernels for many positions, which round, and where scores of what
    /// is not seen are the lowest before they are scaled.
    fn masks(&self) -> bool {
        self.call.rounds && !self.scale.starts_with('-')
    }

    /// One position of one sequence.
    fn token(&self) -> Option<Instance> {
        self.next(1, BLOCKS).map(|it| Instance { rows: Some((10, 1)), ..it })
    }

    /// One position of each of several sequences.
    fn batch(&self) -> Vec<Instance> {
        let By { few, many, .. } = self.by();
        let few = self.next(FEW, few);
        let few = few.map(|it| Instance { rows: Some((10, FEW)), ..it });
        let many = self.next(MOST_SEQUENCES, many * self.heads);
        let many = many.or_else(|| self.next(MOST_SEQUENCES, 1));
        let many = many.unwrap_or_else(|| self.naive_batch());
        few.into_iter().chain([many]).collect()
    }

    /// How one position is computed.
    fn by(&self) -> By {
        let Attention { call, cache, p, pv, .. } = self;
        let pieces = p.is_multiple_of(32) && pv.is_multiple_of(64) && *p.max(pv) <= 128;
        if pieces && call.rounds && call.types[2] == DType::BF16 && *cache == DType::BF16 {
            return By {
                header: "attention_mma.cuh",
                policy: "AttentionMma",
                warps: 4,
                queries: 8,
                residents: 3,
                few: BLOCKS / FEW,
                many: 4,
            };
        }
        let queries = if 128 < *p.max(pv) { 4 } else { 8 };
        // Loads of one block go on while another one computes.
        let fits = *cache != DType::F32 && queries.min(self.group) <= 5;
        By {
            header: "attention_token.cuh",
            policy: "AttentionToken",
            warps: 8,
            queries,
            residents: if fits { 2 } else { 1 },
            few: 2 * BLOCKS / FEW,
            many: 2,
        }
    }

    /// One position of each of at most `most` sequences, with about so many blocks for each.
    fn next(&self, most: u64, blocks: u64) -> Option<Instance> {
        let Attention { heads, group, p, pv, window, scale, .. } = self;
        let By { header, policy, warps, queries, residents, .. } = self.by();
        let (queries, threads) = (queries.min(*group), 32 * warps);
        let sets = group.div_ceil(queries);
        let of = format!("{heads}x{group} of {p}, {pv} in {} by {policy}", self.cache);
        let choice = Tunable::new("attention_token", &of, most);
        let tuned = self.call.tuned.get(&choice).filter(|_| most == 1);
        let blocks = tuned.unwrap_or(blocks);
        let parts = (blocks / (heads * sets)).clamp(1, 64);
        let counters = if parts == 1 { 0 } else { 4 * heads * sets * most };
        if !self.causal || !self.in_eights() || COUNTER_BYTES < counters {
            return None;
        }
        let blocks = heads * sets * parts;
        let [y, q, k, v] = self.pointers();
        // Keys and values of earlier positions are read at once, unless a kernel makes them.
        let early = [4, 7].iter().all(|&it| self.call.is_state[it]);
        let wait = if early { "" } else { "wait_for_earlier();\n  " };
        let body = format!(
            "{wait}using A = {policy}<{heads}, {group}, {p}, {pv}, {window}, {parts}>;\n  \
             static_assert(A::BLOCKS == {blocks} && A::THREADS == {threads});\n  \
             const int row = blockIdx.y;\n  \
             attend<{policy}Block, A>({q} + row * {q_row}, {k}, {v}, (const int*)(past + row), \
             {scale}, {y} + row * {y_row}, (float*)(w20 + {COUNTER_BYTES}) + row * A::SCRATCH, \
             (u32*)w20 + row * A::COUNTERS, blockIdx.x);",
            q_row = heads * group * p,
            y_row = heads * group * pv,
        );
        let floats = (blocks * queries * (pv + 2)).next_multiple_of(4);
        Some(Instance {
            includes: vec![header],
            body,
            threads,
            residents,
            grid: [Grid::fixed(blocks), Grid::all(&[10], 1)],
            waits: true,
            choices: (most == 1).then_some(choice).into_iter().collect(),
            scratch: Some((COUNTER_BYTES + 4 * most * floats, 0, 10)),
            ..Instance::default()
        })
    }

    /// What all forms for many positions are told behind the caches.
    fn sizes(&self) -> String {
        let [rows, all] = [10, 11].map(|it| self.call.text(it));
        format!("(int){rows}, (int)({all} - {rows}), (int){all}, {}", self.scale)
    }

    /// Many positions, on Hopper.
    fn hopper(&self) -> Option<Instance> {
        let Attention { heads, group, p, causal, window, .. } = self;
        let fits = self.rounded() == DType::BF16 && p == &self.pv && [64, 128].contains(p);
        if !fits || !self.masks() {
            return None;
        }
        let [y, q, ..] = self.pointers();
        let map = |word, offset, behind| Map {
            word,
            offset,
            behind,
            dtype: DType::BF16,
            columns: heads * p,
            rows: (1, Some(11)),
            boxed: [64, 128],
        };
        let maps = match self.cache {
            DType::F32 => {
                [None, Some((2 * heads * p, 11))].map(|it| map(20, COUNTER_BYTES, it)).to_vec()
            }
            _ => [4, 7].map(|it| map(it, 0, None)).to_vec(),
        };
        let shared = (128 + 4 * 128) * p * 2;
        let body = format!(
            "static_assert(flash_threads<2> == 384 && flash_shared<{p}, 2> == {shared});\n  \
             SHARED(u8, shared);\n  attention_hopper<{heads}, {group}, {p}, {causal}, {window}>\
             (shared, {q}, m0, m1, {y}, {});",
            self.sizes()
        );
        Some(Instance {
            includes: vec!["attention_hopper.cuh"],
            body,
            threads: 384,
            residents: 1,
            grid: [Grid::fixed(*heads), Grid::all(&[10, 13], 128)],
            shared: shared as u32,
            waits: true,
            architecture: Some("sm_90a"),
            maps,
            scratch: self.scratch(),
            before: self.before(),
            ..Instance::default()
        })
    }

    /// Many positions, on any architecture.
    fn prompt(&self) -> Option<Instance> {
        let Attention { heads, group, p, pv, causal, window, .. } = self;
        if !self.in_eights() || !self.masks() {
            return None;
        }
        let stride = |width: u64| width.next_multiple_of(16) + 8;
        let keys = if 128 < *p.max(pv) { 32 } else { 64 };
        let shared = 2 * (64 * stride(*p) + 2 * keys * (stride(*p) + stride(*pv)));
        let ([y, q, ..], [k, v]) = (self.pointers(), self.places());
        let cache = element(self.rounded());
        let body = format!(
            "static_assert(attention_shared<{p}, {pv}> == {shared});\n  SHARED({cache}, shared);\n  \
             attention_prompt<{heads}, {group}, {p}, {pv}, {causal}, {window}>\
             (shared, {q}, {k}, {v}, {y}, {});",
            self.sizes()
        );
        Some(Instance {
            includes: vec!["attention_prompt.cuh"],
            body,
            threads: 128,
            grid: [Grid::all(&[10, 13], 64), Grid::fixed(*heads)],
            shared: shared as u32,
            waits: true,
            scratch: self.scratch(),
            before: self.before(),
            ..Instance::default()
        })
    }

    /// The plain form: `rows` of the results and queries at some pointers, with so many keys.
    fn plain(&self, [y, q]: [&str; 2], rows: &str, all: &str) -> Instance {
        let Attention { heads, group, p, pv, scale, causal, window, .. } = self;
        let [_, _, k, v] = self.pointers();
        let body = format!(
            "attention<{THREADS}, {p}, {pv}>({y}, {q}, {k}, {v}, {rows}, {all}, {heads}, {group}, \
             {scale}, {causal}, {window});"
        );
        let includes = vec!["naive.cuh"];
        Instance { includes, body, threads: THREADS, ..Instance::default() }
    }

    fn naive(&self) -> Instance {
        let [y, q, ..] = self.pointers();
        let [rows, all] = [10, 11].map(|it| self.call.text(it));
        let grid = [Grid::all(&[10, 12, 13], 1), Grid::fixed(1)];
        Instance { grid, ..self.plain([&y, &q], &rows, &all) }
    }

    fn naive_batch(&self) -> Instance {
        let Attention { heads, group, p, pv, .. } = self;
        let [y, q, ..] = self.pointers();
        let y = format!("{y} + row * {}", heads * group * pv);
        let q = format!("{q} + row * {}", heads * group * p);
        let plain = self.plain([&y, &q], "1", "past[row] + 1");
        let body = format!("const int row = blockIdx.y;\n  {}", plain.body);
        Instance { body, grid: [Grid::all(&[12, 13], 1), Grid::all(&[10], 1)], ..plain }
    }
}
