//! Norms, softmax, look-ups and copies: `rows.cuh`.

use crate::{Call, Grid, Instance, Word, element, matmul::weight};

const THREADS: u32 = 256;

fn by_row(body: String, rows: usize) -> Vec<Instance> {
    let grid = Grid::over(&[rows], 1);
    let includes = vec!["rows.cuh", "naive.cuh"];
    vec![Instance { includes, body, threads: THREADS, grid, ..Instance::default() }]
}

/// Threads that share a row of `k` numbers.
pub(crate) fn norm_threads(k: u64) -> u32 {
    match k {
        0..=8192 => 256,
        8193..=16384 => 512,
        _ => 1024,
    }
}

/// A norm of rows of `k` numbers, as many as word `rows` counts: the type and place of x, epsilon,
/// what becomes of a number, and where that goes. It loads weights at once if they are `constant`.
pub(crate) fn norm(
    [x, from, eps, tail, to]: [&str; 5],
    k: u64,
    rows: usize,
    constant: bool,
) -> Instance {
    let threads = norm_threads(k);
    let centred = tail.starts_with("WeightedBiased");
    Instance {
        includes: vec!["norm.cuh", "tails.cuh"],
        body: format!(
            "norm<{k}, {centred}, {threads}>(RowsOf<{x}, {k}>{{{from}}}, {eps}, {tail}, {to}, \
             blockIdx.x);"
        ),
        threads,
        grid: [Grid::all(&[rows], 1), Grid::fixed(1)],
        waits: constant,
        ..Instance::default()
    }
}

/// The norm of a call, whose weights are the words from 4 on, up to `at`, and then come rows, width
/// and epsilon.
fn norm_of(call: &Call<'_>, at: usize, tail: &str) -> Result<Vec<Instance>, String> {
    let constant = (4..at).all(|it| call.known(it).is_some() || call.is_constant[it]);
    let [x, y] = [call.types[2], call.types[0]].map(element);
    let (to, from) = (call.pointer(0, y), call.pointer(2, &format!("const {x}")));
    Ok(vec![norm([x, &from, &call.real(at + 2)?, tail, &to], call.fixed(at + 1)?, at, constant)])
}

/// Words: y, its stride, x, its stride, weight or 0, rows, width, eps.
pub(crate) fn rms_norm(call: &Call<'_>) -> Result<Vec<Instance>, String> {
    let tail = match call.words[4] {
        Word::Known(_) => "Unweighted{}".to_owned(),
        _ => format!("Weighted{{{}}}", call.pointer(4, "const float")),
    };
    norm_of(call, 5, &tail)
}

/// Words: y, its stride, x, its stride, weight, bias, rows, width, eps.
pub(crate) fn layer_norm(call: &Call<'_>) -> Result<Vec<Instance>, String> {
    let [weight, bias] = [4, 5].map(|it| call.pointer(it, "const float"));
    norm_of(call, 6, &format!("WeightedBiased{{{weight}, {bias}}}"))
}

/// Words: y, its stride, x, its stride, rows, width.
pub(crate) fn softmax(call: &Call<'_>) -> Result<Vec<Instance>, String> {
    let [to, from] = [0, 2].map(|it| call.pointer(it, "float"));
    let width = call.text(5);
    Ok(vec![Instance {
        includes: vec!["softmax.cuh", "tails.cuh"],
        body: format!(
            "softmax<{THREADS}>(RowsOfSize{{{from}, {width}}}, {to}, (int){width}, blockIdx.x);"
        ),
        threads: THREADS,
        grid: [Grid::all(&[4], 1), Grid::fixed(1)],
        waits: true,
        ..Instance::default()
    }])
}

/// Words: y, its stride, table, format, rows, width, index, how many.
pub(crate) fn gather(call: &Call<'_>) -> Result<Vec<Instance>, String> {
    let table = weight(call, 2, call.fixed(5)?)?;
    let (to, index) = (call.pointer(0, "float"), call.pointer(6, "const int"));
    let [rows, width, n] = [4, 5, 7].map(|it| call.text(it));
    let body = format!("gather<{THREADS}>({to}, {table}, {index}, {n}, {rows}, {width});");
    Ok(by_row(body, 7))
}

/// Words: to, from, elements, bytes of one.
pub(crate) fn copy(call: &Call<'_>) -> Result<Vec<Instance>, String> {
    let ty = if call.words[3] == Word::Known(2) { "short" } else { "int" };
    let [to, from] = [0, 1].map(|it| call.pointer(it, ty));
    let body = format!(
        "for (long i = (long)blockIdx.x * {THREADS} + threadIdx.x; i < {n}; \
         i += (long)gridDim.x * {THREADS}) ({to})[i] = ({from})[i];",
        n = call.text(2)
    );
    let grid = Grid::over(&[2], u64::from(THREADS));
    let includes = vec!["base.cuh"];
    Ok(vec![Instance { includes, body, threads: THREADS, grid, ..Instance::default() }])
}
