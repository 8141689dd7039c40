//! Products with weights and their tails.

use ir::DType;

use crate::{Call, Functor, Grid, Instance, Word, element};

const THREADS: u32 = 256;

/// A result of a call: where it goes and what it is made of.
struct Made<'a> {
    /// The word of its address; that of its columns comes next.
    at: usize,
    dtype: DType,
    tail: Option<&'a Functor>,
    /// The words of its weights; the format and the rows come next.
    weights: Vec<usize>,
    /// Whether an element takes a product with each weight.
    beside: bool,
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
        let parts = call.fixed(at + 4)? as usize;
        let weights = (0..parts).map(|it| next + 3 * it).collect();
        next += 3 * parts;
        let beside = call.fixed(at + 5)? != 0;
        made.push(Made { at, dtype: call.results[i], tail, weights, beside });
    }
    Ok(made)
}

/// A weight as a functor of row and column.
pub(crate) fn weight(call: &Call<'_>, at: usize, width: u64) -> Result<String, String> {
    let Word::Weight(dtype) = call.words[at] else {
        return Err(format!("word {at} is no weight"));
    };
    match dtype {
        DType::F32 | DType::F16 | DType::BF16 => {
            let ty = element(dtype);
            Ok(format!("Plain<{ty}>{{(const {ty}*)w{at}, {width}}}"))
        }
        other => Err(format!("no CUDA kernel reads weights in {other}")),
    }
}

/// What a product becomes where nothing else is said.
const SAME: &str = "struct Same {\n  \
    __device__ float operator()(int, int, float p) const { return p; }\n};\n";

/// See [`results`] for the words.
pub(crate) fn instances(call: &Call<'_>) -> Result<Vec<Instance>, String> {
    let (x, depth, rows) = (element(call.operands[0]), call.fixed(3)?, call.text(2));
    let x = call.pointer(0, &format!("const {x}"));
    let (mut preface, mut body) = (SAME.to_owned(), Vec::new());
    let made = results(call)?;
    for it in &made {
        let (out, columns) = (call.pointer(it.at, element(it.dtype)), call.text(it.at + 1));
        let tail = it.tail.map_or("Same{}", |it| it.make.as_str());
        preface.extend(it.tail.map(|it| it.text.as_str()));
        let weights: Result<Vec<String>, String> =
            it.weights.iter().map(|&at| weight(call, at, depth)).collect();
        let weights = weights?;
        match (&weights[..], it.beside) {
            ([w0, w1], true) => body.push(format!(
                "matmul_two<{THREADS}>({out}, {columns}, {x}, {rows}, {depth}, {w0}, {w1}, {tail});"
            )),
            (parts, _) => {
                let mut first = 0;
                for (w, at) in parts.iter().zip(&it.weights) {
                    let n = call.fixed(at + 2)?;
                    body.push(format!(
                        "matmul<{THREADS}>({out}, {columns}, {first}, {x}, {rows}, {depth}, {w}, \
                         {n}, {tail});"
                    ));
                    first += n;
                }
            }
        }
    }
    let widest = made.iter().map(|it| it.at + 1).max_by_key(|it| call.known(*it));
    let of: Vec<usize> = std::iter::once(2).chain(widest).collect();
    let grid = Grid::over(&of, u64::from(THREADS / 32));
    let includes = vec!["naive.cuh"];
    let (body, threads) = (body.join("\n  "), THREADS);
    Ok(vec![Instance { includes, preface, body, threads, grid, ..Instance::default() }])
}
