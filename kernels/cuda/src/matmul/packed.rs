//! Products of more than a few rows on Hopper that read packed weights as they are: of some rows by
//! `gemm_split_packed.cuh`, of many by `gemm_packed.cuh`.
//!
//! Where all weights are in FP8, they are multiplied in FP8: each row of x is rounded to E4M3 by a
//! scale of its own, and sums are multiplied by that and by the weights' scale.

use std::collections::BTreeSet;

use ir::DType;

use super::{BLOCKS, MatMul, Part, SPLIT_SIZE};
use crate::{COUNTER_BYTES, Grid, Instance, Map, element, pack, rows};

/// Blocks of a cluster of `gemm_packed.cuh`, with tiles side by side.
const CLUSTER: u64 = 2;

/// How matrix units multiply.
struct Operands {
    /// In FP8, or else in 16 bits.
    in_fp8: bool,
    /// The results as the policy takes them.
    results: String,
}

impl Operands {
    /// What kernels call it.
    fn policy(&self) -> &'static str {
        if self.in_fp8 { "E4m3Tiles" } else { "Bf16Tiles" }
    }
}

impl MatMul<'_> {
    /// The forms for some rows and for many. `None` where some weights are not packed.
    pub(super) fn packed(&self) -> Option<Vec<Instance>> {
        let operands = self.operands()?;
        let split = self.split_packed(&operands);
        let [few, many] = [128, 256].map(|rows| self.gemm_packed(&operands, rows));
        Some(vec![split, Instance { rows: Some((2, self.most_at_once())), ..few }, many])
    }

    fn operands(&self) -> Option<Operands> {
        let fits = |it: &Part| pack::is_packed(it.format()) && it.n.is_multiple_of(8);
        if !self.depth.is_multiple_of(8) || !self.parts().all(|it| fits(it.1)) {
            return None;
        }
        let is_fp8 = |it: &Part| it.format() == DType::F8E4M3;
        let in_fp8 = self.call.rounds && self.parts().all(|it| is_fp8(it.1));
        let mut results = Vec::new();
        for (made, part) in self.parts() {
            let weights: Vec<String> = part.weights.iter().map(|it| self.one(part, *it)).collect();
            let tail = self.tail(made, part);
            let tail = if in_fp8 { self.scaled(&tail, part) } else { tail };
            let result = self.result(made, part, &weights, &tail)?;
            results.push(if in_fp8 { result } else { format!("packed_{result}") });
        }
        Some(Operands { in_fp8, results: results.join(",\n    ") })
    }

    /// A matrix of a part, as kernels read it that take it as it is.
    pub(super) fn one(&self, part: &Part, at: usize) -> String {
        let shape = [part.n, self.depth];
        let weights = pack::skinny_weights(part.format(), shape, at);
        format!("{}{weights}", self.packed_type(part))
    }

    /// Its type there.
    fn packed_type(&self, part: &Part) -> String {
        pack::skinny_policy(part.format(), self.depth, pack::TILE)
    }

    /// A tail behind the scales of x and of its weights.
    fn scaled(&self, tail: &str, part: &Part) -> String {
        let scales = |at| pack::row_scales([part.n, self.depth], at);
        let (first, last) = (part.weights[0], part.weights[part.weights.len() - 1]);
        format!("scaled({tail}, {}, {}, {})", self.x_scales(), scales(first), scales(last))
    }

    /// Columns of x where it is arranged.
    fn width(&self) -> u64 {
        self.depth.next_multiple_of(32)
    }

    /// The scales of the rows of x, which follow it.
    fn x_scales(&self) -> String {
        format!("(float*)(w5 + {COUNTER_BYTES} + {} * {})", self.call.text(2), self.width())
    }

    /// Leaves x in scratch memory as matrix units take it, normalised if it is to be.
    fn arrange(&self, in_fp8: bool) -> Instance {
        let (x, k) = (element(self.x), self.depth);
        let (normed, eps, tail) = match &self.norm {
            Some((weight, eps)) => {
                (true, eps.as_str(), format!("Weighted{{(const float*)w{weight}}}"))
            }
            None => (false, "0.0f", "Unweighted{}".to_owned()),
        };
        let (function, to) = match in_fp8 {
            true => ("quantise", format!("(u8*)(w5 + {COUNTER_BYTES}), {}", self.x_scales())),
            false => ("arrange", format!("(bf16*)(w5 + {COUNTER_BYTES})")),
        };
        let threads = rows::norm_threads(k);
        Instance {
            includes: vec!["arrange.cuh", "tails.cuh"],
            // There are blocks for as many rows as there can be.
            body: format!(
                "if (blockIdx.x >= {}) return;\n  {function}<{k}, {normed}, {threads}>(RowsOf<{x}, {k}>{{(const {x}*)w0}}, {eps}, \
                 {tail}, {to}, blockIdx.x);",
                self.call.text(2),
            ),
            threads,
            grid: [Grid::all(&[2], 1), Grid::fixed(1)],
            waits: true,
            ..Instance::default()
        }
    }

    /// What both kernels share, with `rows` of x a box.
    fn of_packed(&self, operands: &Operands, rows: u64) -> Instance {
        let (dtype, columns, each) = match operands.in_fp8 {
            true => (DType::F8E4M3, 128, self.width() + 4),
            false => (DType::BF16, 64, 2 * self.width()),
        };
        let x = Map {
            word: 5,
            offset: COUNTER_BYTES,
            behind: None,
            dtype,
            columns: self.width(),
            rows: (1, Some(2)),
            boxed: [columns, rows as u32],
        };
        Instance {
            preface: self.preface(),
            waits: true,
            architecture: Some("sm_90a"),
            maps: vec![x],
            scratch: Some((COUNTER_BYTES, each, 2)),
            before: Some(Box::new(self.arrange(operands.in_fp8))),
            ..Instance::default()
        }
    }

    /// Some rows.
    fn split_packed(&self, operands: &Operands) -> Instance {
        const STAGES: u32 = 4;
        let policy = operands.policy();
        let rows = self.most_split(operands.in_fp8);
        let (tiles, parts, choice) = self.parts_of_sums(operands.in_fp8, rows);
        let bytes = |it: &Part| STAGES * stage(it.format(), operands.in_fp8, SPLIT_SIZE);
        let check = |it: &Part| {
            let (weights, bytes) = (self.packed_type(it), bytes(it));
            format!("  static_assert(split_packed_shared<{policy}, {weights}> == {bytes});\n")
        };
        let checks: BTreeSet<String> = self.parts().map(|it| check(it.1)).collect();
        let body = format!(
            "static_assert(SPLIT_PACKED_THREADS == 288);\n{}  SHARED(u8, shared);\n  \
             gemm_split_packed<{policy}, {parts}>(shared, m0, (int){}, {});",
            Vec::from_iter(checks).concat(),
            self.call.text(2),
            operands.results,
        );
        Instance {
            includes: vec!["gemm_split_packed.cuh", "tails.cuh"],
            body,
            threads: 288,
            residents: 2,
            cluster: parts as u32,
            grid: [Grid::fixed(tiles * parts), Grid::all(&[2], SPLIT_SIZE)],
            shared: self.parts().map(|it| bytes(it.1)).max().unwrap_or(0),
            rows: Some((2, rows)),
            choices: vec![choice],
            ..self.of_packed(operands, SPLIT_SIZE)
        }
    }

    /// Many rows, in tiles of so many.
    fn gemm_packed(&self, operands: &Operands, rows: u64) -> Instance {
        const ROOM: u32 = 226 << 10;
        let policy = operands.policy();
        let largest = self.parts().map(|it| stage(it.1.format(), operands.in_fp8, rows)).max();
        let shared = largest.map_or(0, |it| ROOM / it * it);
        let weights = Vec::from_iter(self.parts().map(|it| self.packed_type(it.1))).join(", ");
        let body = format!(
            "static_assert(GEMM_THREADS == 384 && packed_shared<{policy}, {rows}, {weights}> == {shared});\n  \
             SHARED(u8, shared);\n  gemm_packed<{policy}, {rows}, {CLUSTER}>(shared, m0, (int){}, {});",
            self.call.text(2),
            operands.results,
        );
        Instance {
            includes: vec!["gemm_packed.cuh", "tails.cuh"],
            body,
            threads: 384,
            residents: 1,
            cluster: CLUSTER as u32,
            grid: [Grid::fixed(BLOCKS), Grid::fixed(1)],
            shared,
            ..self.of_packed(operands, rows / CLUSTER)
        }
    }

    /// Tiles of a cluster of `gemm_packed.cuh` that lie side by side.
    fn clusters(&self) -> u64 {
        let of = |it: &Part| (it.n * it.weights.len() as u64).div_ceil(CLUSTER * 2 * SPLIT_SIZE);
        self.parts().map(|it| of(it.1)).sum()
    }

    /// The most rows for which sums are to be split. In 16 bits that is better while less than half
    /// the multiprocessors had a tile of 128 rows, but reads x and unpacks weights anew for each 64
    /// rows; in FP8 it is not.
    fn most_split(&self, in_fp8: bool) -> u64 {
        let idle = if in_fp8 { 0 } else { 128 * (BLOCKS / CLUSTER / 2 / self.clusters()) };
        idle.clamp(SPLIT_SIZE, 3 * SPLIT_SIZE)
    }

    /// The most rows for which tiles of 128 are better than tiles of 256, though two of them take
    /// more time than one of these: as many as have all their tiles under way at once, but at least
    /// 256.
    fn most_at_once(&self) -> u64 {
        128 * (BLOCKS / CLUSTER / self.clusters()).max(2)
    }
}

/// What `PackedStage::BYTES` is in `packed_stages.cuh`, with weights in a format and so many rows
/// of x.
fn stage(format: DType, in_fp8: bool, rows: u64) -> u32 {
    const WARPS: u32 = 8;
    let Some(layout) = pack::layout(format) else { return 0 };
    let (depth, step) = (if in_fp8 { 128 } else { 64 }, layout.step as u32);
    let records = (depth / step).max(1);
    let boxes = records * step / depth;
    (boxes * rows as u32 * 128 + WARPS * records * layout.record() as u32).next_multiple_of(1024)
}
