//! Attention over a cache of keys and values.

use crate::{Call, Grid, Instance, element};

const THREADS: u32 = 128;

/// Words: out, its stride, q, its stride, k, two strides, v, two strides, S, T, heads, group, width
/// of keys, width of values, scale, causal, window, type of the cache, scratch.
pub(crate) fn instances(call: &Call<'_>) -> Result<Vec<Instance>, String> {
    let [q, cache, y] = [call.operands[0], call.operands[1], call.results[0]].map(element);
    let [heads, group, rows, all] = [12, 13, 10, 11].map(|it| call.text(it));
    let (p, pv, scale) = (call.fixed(14)?, call.fixed(15)?, call.real(16)?);
    let (causal, window) = (call.fixed(17)? != 0, call.fixed(18)?);
    let [out, q] = [call.pointer(0, y), call.pointer(2, q)];
    let [k, v] = [4, 7].map(|it| call.pointer(it, cache));
    let body = format!(
        "attention<{THREADS}, {p}, {pv}>({out}, {q}, {k}, {v}, {rows}, {all}, {heads}, {group}, \
         {scale}, {causal}, {window});"
    );
    Ok(vec![Instance {
        includes: vec!["naive.cuh"],
        body,
        threads: THREADS,
        grid: Grid { of: vec![10, 12, 13], each: 1, most: 1 << 20 },
        ..Instance::default()
    }])
}
