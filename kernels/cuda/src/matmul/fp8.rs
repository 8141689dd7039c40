//! Products of more than a few rows with weights in FP8 on Hopper, in FP8: each row of x is rounded
//! to E4M3 by a scale of its own, and sums are multiplied by that and by the weights' scale. Some
//! rows read the weights as they are packed; for many they are brought into rows first.

use ir::DType;

use super::packed::Operands;
use super::{Made, MatMul, Part, SPLIT_SIZE, WIDTH};
use crate::{COUNTER_BYTES, Grid, Instance, MANY, Map, pack};

/// Where the operands lie behind the counters of scratch memory.
struct Places {
    /// The weights of each part as rows, for many rows of x.
    weights: Vec<Vec<u64>>,
    /// x as E4M3; the scales of its rows come next.
    x: u64,
}

impl MatMul<'_> {
    /// Whether it can be done: all weights are in FP8, in rows of which the copy engine can read
    /// any part.
    pub(super) fn is_fp8(&self) -> bool {
        let fits = |it: &Part| it.format() == DType::F8E4M3 && it.n.is_multiple_of(8);
        self.depth.is_multiple_of(16) && self.parts().all(|it| fits(it.1))
    }

    /// Some rows. `x` lies where it does for many, so that one kernel arranges it for both.
    pub(super) fn split_fp8(&self) -> Option<Instance> {
        let places = self.places();
        let results = self.packed_results("", |made, part| self.scaled(made, part, &places))?;
        Some(self.packed(Operands {
            in_fp8: true,
            x: self.bytes(places.x, (1, Some(2)), SPLIT_SIZE),
            before: self.round(&places, None),
            scratch: (places.x, self.width() + 4, 2),
            results,
        }))
    }

    /// Many rows.
    pub(super) fn gemm_fp8(&self) -> Option<Instance> {
        let places = self.places();
        let mut maps = vec![self.bytes(places.x, (1, Some(2)), 128)];
        let mut results = Vec::new();
        for ((made, part), at) in self.parts().zip(&places.weights) {
            let first = maps.len();
            maps.extend(at.iter().map(|&it| self.bytes(it, (part.n, None), WIDTH / 2)));
            let weights: Vec<String> = (first..maps.len()).map(|it| format!("&m{it}")).collect();
            results.push(self.result(made, part, &weights, &self.scaled(made, part, &places))?);
        }
        let instance = Instance {
            preface: self.preface(),
            waits: true,
            architecture: Some("sm_90a"),
            maps,
            scratch: Some((places.x, self.width() + 4, 2)),
            before: Some(Box::new(self.round(&places, Some(Box::new(self.untile(&places)))))),
            ..Instance::default()
        };
        Some(self.persistent("E4m3Tiles", &results.join(",\n    "), instance))
    }

    /// A matrix of scratch memory in boxes of 128 columns and `height` rows.
    fn bytes(&self, offset: u64, rows: (u64, Option<usize>), height: u64) -> Map {
        let (dtype, boxed) = (DType::F8E4M3, [128, height as u32]);
        Map { word: 5, offset, behind: None, dtype, columns: self.width(), rows, boxed }
    }

    /// The tail of a part, behind the scales of x and of its weights.
    fn scaled(&self, made: &Made<'_>, part: &Part, places: &Places) -> String {
        let scales = |at| pack::row_scales([part.n, self.depth], at);
        let (first, last) = (part.weights[0], part.weights[part.weights.len() - 1]);
        format!(
            "scaled({}, {}, {}, {})",
            self.tail(made, part),
            self.x_scales(places),
            scales(first),
            scales(last)
        )
    }

    fn places(&self) -> Places {
        let mut next = COUNTER_BYTES;
        let mut place = |part: &Part| {
            next += part.n * self.width();
            next - part.n * self.width()
        };
        let weights =
            self.parts().map(|(_, it)| it.weights.iter().map(|_| place(it)).collect()).collect();
        Places { weights, x: next }
    }

    /// The scales of the rows of x.
    fn x_scales(&self, places: &Places) -> String {
        format!("(float*)(w5 + {} + {} * {})", places.x, self.call.text(2), self.width())
    }

    /// Rounds x.
    fn round(&self, places: &Places, before: Option<Box<Instance>>) -> Instance {
        let to = format!("(u8*)(w5 + {}), {}", places.x, self.x_scales(places));
        Instance { before, ..self.arrange("quantise", &to) }
    }

    /// Brings the weights into rows.
    fn untile(&self, places: &Places) -> Instance {
        let mut body = Vec::new();
        for ((_, part), to) in self.parts().zip(&places.weights) {
            for (at, to) in part.weights.iter().zip(to) {
                let (n, k) = (part.n, self.depth);
                body.push(format!("untile<{n}, {k}>((u8*)(w5 + {to}), (const u8*)w{at});"));
            }
        }
        Instance {
            includes: vec!["unpack.cuh"],
            body: body.join("\n  "),
            threads: 256,
            grid: [Grid::fixed(MANY), Grid::fixed(1)],
            ..Instance::default()
        }
    }
}
