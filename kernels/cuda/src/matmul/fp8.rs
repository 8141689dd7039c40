//! Products of many rows with weights in FP8 on Hopper, in FP8: each row of x is rounded to E4M3 by
//! a scale of its own, and sums are multiplied by that and by the weights' scale.

use ir::DType;

use super::{MatMul, Part, WIDTH};
use crate::{COUNTER_BYTES, Grid, Instance, MANY, Map, element, pack, rows};

/// Where the operands lie behind the counters of scratch memory.
struct Places {
    /// The weights of each part as rows.
    weights: Vec<Vec<u64>>,
    /// x as E4M3; the scales of its rows come next.
    x: u64,
}

impl MatMul<'_> {
    /// `None` where some weights are in other formats.
    pub(super) fn gemm_fp8(&self) -> Option<Instance> {
        let fits = |it: &Part| it.format == DType::F8E4M3 && it.n.is_multiple_of(8);
        if !self.depth.is_multiple_of(16) || !self.parts().all(|it| fits(it.1)) {
            return None;
        }
        let places = self.places();
        let map = |offset, rows, height| Map {
            word: 5,
            offset,
            behind: None,
            dtype: DType::F8E4M3,
            columns: self.depth,
            rows,
            boxed: [128, height],
        };
        let mut maps = vec![map(places.x, (1, Some(2)), 128)];
        let mut results = Vec::new();
        for ((made, part), at) in self.parts().zip(&places.weights) {
            let first = maps.len();
            maps.extend(at.iter().map(|&it| map(it, (part.n, None), (WIDTH / 2) as u32)));
            let weights: Vec<String> = (first..maps.len()).map(|it| format!("&m{it}")).collect();
            let shape = [part.n, self.depth];
            let scales = |at: &usize| pack::row_scales(shape, *at);
            let [first, last] =
                [part.weights.first(), part.weights.last()].map(|it| it.map(scales));
            let tail = format!(
                "scaled({}, {}, {}, {})",
                self.tail(made, part),
                self.x_scales(&places),
                first?,
                last?
            );
            results.push(self.result(made, part, &weights, &tail)?);
        }
        let instance = Instance {
            preface: self.preface(),
            waits: true,
            architecture: Some("sm_90a"),
            maps,
            scratch: Some((places.x, self.depth + 4, 2)),
            before: Some(Box::new(self.round(&places))),
            ..Instance::default()
        };
        Some(self.persistent("E4m3Tiles", &results.join(",\n    "), instance))
    }

    fn places(&self) -> Places {
        let mut next = COUNTER_BYTES;
        let mut place = |part: &Part| {
            next += part.n * self.depth;
            next - part.n * self.depth
        };
        let weights =
            self.parts().map(|(_, it)| it.weights.iter().map(|_| place(it)).collect()).collect();
        Places { weights, x: next }
    }

    /// The scales of the rows of x.
    fn x_scales(&self, places: &Places) -> String {
        format!("(float*)(w5 + {} + {} * {})", places.x, self.call.text(2), self.depth)
    }

    /// Rounds x, after the weights have been brought into rows.
    fn round(&self, places: &Places) -> Instance {
        let (x, k) = (element(self.x), self.depth);
        let (normed, eps, tail) = match &self.norm {
            Some((weight, eps)) => {
                (true, eps.as_str(), format!("Weighted{{(const float*)w{weight}}}"))
            }
            None => (false, "0.0f", "Unweighted{}".to_owned()),
        };
        let threads = rows::norm_threads(k);
        let mut untile = Vec::new();
        for ((_, part), to) in self.parts().zip(&places.weights) {
            for (at, to) in part.weights.iter().zip(to) {
                let (n, k) = (part.n, self.depth);
                untile.push(format!("untile<{n}, {k}>((u8*)(w5 + {to}), (const u8*)w{at});"));
            }
        }
        let untile = Instance {
            includes: vec!["unpack.cuh"],
            body: untile.join("\n  "),
            threads: 256,
            grid: [Grid::fixed(MANY), Grid::fixed(1)],
            ..Instance::default()
        };
        Instance {
            includes: vec!["quantise.cuh", "tails.cuh"],
            body: format!(
                "quantise<{k}, {normed}, {threads}>(RowsOf<{x}, {k}>{{(const {x}*)w0}}, {eps}, \
                 {tail}, (u8*)(w5 + {}), {}, blockIdx.x);",
                places.x,
                self.x_scales(places)
            ),
            threads,
            grid: [Grid::all(&[2], 1), Grid::fixed(1)],
            waits: true,
            before: Some(Box::new(untile)),
            ..Instance::default()
        }
    }
}
