//! Attention over a cache of keys and values: one position by `attention_token.cuh`, many by
//! `attention_hopper.cuh` and `attention_prompt.cuh`.

use ir::DType;

use crate::{COUNTER_BYTES, Call, Grid, Instance, Map, element};

const THREADS: u32 = 128;

/// Threads of a block for one position.
const TOKEN_THREADS: u32 = 256;

/// Blocks that fill a large device twice.
const BLOCKS: u64 = 264;

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
    let mut forms = Vec::new();
    forms.extend(attention.token());
    forms.extend(attention.hopper());
    forms.extend(attention.prompt());
    forms.push(attention.naive());
    Ok(forms)
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
        let [k, v] = [4, 7].map(|it| self.call.pointer(it, &format!("const {cache}")));
        [y, q, k, v]
    }

    fn is_half(&self) -> bool {
        matches!(self.cache, DType::BF16 | DType::F16)
    }

    fn in_eights(&self) -> bool {
        [self.p, self.pv].iter().all(|it| it.is_multiple_of(8) && *it <= 256)
    }

    /// One position.
    fn token(&self) -> Option<Instance> {
        let Attention { heads, group, p, pv, window, scale, .. } = self;
        let queries = (*group).min(if 128 < *p.max(pv) { 4 } else { 8 });
        let sets = group.div_ceil(queries);
        let counters = 4 * heads * sets;
        if !self.causal || !self.in_eights() || COUNTER_BYTES < counters {
            return None;
        }
        let parts = (BLOCKS / (heads * sets)).clamp(1, 64);
        let blocks = heads * sets * parts;
        let [y, q, k, v] = self.pointers();
        let body = format!(
            "using A = AttentionToken<1, {heads}, {group}, {p}, {pv}, true, {window}, {parts}>;\n  \
             static_assert(A::BLOCKS == {blocks} && A::THREADS == {TOKEN_THREADS});\n  \
             attention_token<A>({q}, {k}, {v}, (const int*)past, {scale}, {y}, \
             (float*)(w20 + {COUNTER_BYTES}), (u32*)w20, blockIdx.x);"
        );
        Some(Instance {
            includes: vec!["attention_token.cuh"],
            body,
            threads: TOKEN_THREADS,
            grid: [Grid::fixed(blocks), Grid::fixed(1)],
            rows: Some((10, 1)),
            waits: true,
            scratch: Some((4 * blocks * queries * (pv + 2), 0, 10)),
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
        let fits = self.cache == DType::BF16 && p == &self.pv && [64, 128].contains(p);
        if !fits || !self.call.rounds {
            return None;
        }
        let [y, q, ..] = self.pointers();
        let map = |word| Map {
            word,
            offset: 0,
            dtype: DType::BF16,
            columns: heads * p,
            rows: (1, Some(11)),
            boxed: [64, 128],
        };
        let body = format!(
            "SHARED(u8, shared);\n  attention_hopper<{heads}, {group}, {p}, {causal}, {window}>\
             (shared, {q}, m0, m1, {y}, {});",
            self.sizes()
        );
        Some(Instance {
            includes: vec!["attention_hopper.cuh"],
            body,
            threads: 384,
            residents: 1,
            grid: [Grid::fixed(*heads), Grid::all(&[10, 13], 128)],
            shared: ((128 + 4 * 128) * p * 2) as u32,
            waits: true,
            architecture: Some("sm_90a"),
            maps: vec![map(4), map(7)],
            ..Instance::default()
        })
    }

    /// Many positions, on any architecture.
    fn prompt(&self) -> Option<Instance> {
        let Attention { heads, group, p, pv, causal, window, .. } = self;
        if !self.is_half() || !self.in_eights() || !self.call.rounds {
            return None;
        }
        let stride = |width: u64| width.next_multiple_of(16) + 8;
        let keys = if 128 < *p.max(pv) { 32 } else { 64 };
        let shared = 2 * (64 * stride(*p) + 2 * keys * (stride(*p) + stride(*pv)));
        let [y, q, k, v] = self.pointers();
        let cache = element(self.cache);
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
            ..Instance::default()
        })
    }

    fn naive(&self) -> Instance {
        let Attention { heads, group, p, pv, scale, causal, window, .. } = self;
        let [y, q, k, v] = self.pointers();
        let [rows, all] = [10, 11].map(|it| self.call.text(it));
        let body = format!(
            "attention<{THREADS}, {p}, {pv}>({y}, {q}, {k}, {v}, {rows}, {all}, {heads}, {group}, \
             {scale}, {causal}, {window});"
        );
        Instance {
            includes: vec!["naive.cuh"],
            body,
            threads: THREADS,
            grid: [Grid::all(&[10, 12, 13], 1), Grid::fixed(1)],
            ..Instance::default()
        }
    }
}
