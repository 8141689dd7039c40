//! Products of some rows on Hopper that read packed weights as they are: `gemm_packed.cuh`.

use std::collections::BTreeSet;

use ir::DType;

use super::{Made, MatMul, Part, SPLIT_SIZE};
use crate::{Grid, Instance, Map, element, pack, rows};

/// How matrix units multiply.
pub(super) struct Operands {
    /// In FP8, or else in 16 bits.
    pub in_fp8: bool,
    /// `x` in that type and in the order of `arrange.cuh`, and what has to run before.
    pub x: Map,
    pub before: Instance,
    pub scratch: (u64, u64, usize),
    /// The results as the policy takes them.
    pub results: String,
}

impl MatMul<'_> {
    /// In 16 bits. `None` where some weights are not packed.
    pub(super) fn split_packed(&self) -> Option<Instance> {
        let fits = |it: &Part| pack::is_packed(it.format()) && it.n.is_multiple_of(8);
        if !self.depth.is_multiple_of(8) || !self.parts().all(|it| fits(it.1)) {
            return None;
        }
        let results = self.packed_results("packed_", |made, part| self.tail(made, part))?;
        let x = self.reserved();
        Some(self.packed(Operands {
            in_fp8: false,
            x: Map { columns: self.width(), ..self.boxes((5, x), (1, Some(2)), SPLIT_SIZE) },
            before: self.arrange("arrange", &format!("(bf16*)(w5 + {x})")),
            scratch: (x, 2 * self.width(), 2),
            results,
        }))
    }

    /// Columns of x where it is arranged.
    pub(super) fn width(&self) -> u64 {
        self.depth.next_multiple_of(32)
    }

    /// Puts x where a function of `arrange.cuh` is told to, normalised if it is to be.
    pub(super) fn arrange(&self, function: &str, to: &str) -> Instance {
        let (x, k) = (element(self.x), self.depth);
        let (normed, eps, tail) = match &self.norm {
            Some((weight, eps)) => {
                (true, eps.as_str(), format!("Weighted{{(const float*)w{weight}}}"))
            }
            None => (false, "0.0f", "Unweighted{}".to_owned()),
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

    /// `gemm_packed.cuh` with those operands.
    pub(super) fn packed(&self, operands: Operands) -> Instance {
        let Operands { in_fp8, x, before, scratch, results } = operands;
        let policy = if in_fp8 { "E4m3Tiles" } else { "Bf16Tiles" };
        let (tiles, parts, choice) = self.parts_of_sums(in_fp8);
        let of = |it: &Part| {
            let weights = pack::skinny_policy(it.format(), self.depth, pack::TILE);
            let bytes = shared(it.format(), in_fp8);
            format!("  static_assert(packed_shared<{policy}, {weights}> == {bytes});\n")
        };
        let checks: BTreeSet<String> = self.parts().map(|it| of(it.1)).collect();
        let body = format!(
            "static_assert(PACKED_THREADS == 288);\n{}  SHARED(u8, shared);\n  \
             gemm_packed<{policy}, {parts}>(shared, m0, (int){}, {results});",
            Vec::from_iter(checks).concat(),
            self.call.text(2),
        );
        Instance {
            includes: vec!["gemm_packed.cuh", "tails.cuh"],
            preface: self.preface(),
            body,
            threads: 288,
            residents: 2,
            cluster: parts as u32,
            grid: [Grid::fixed(tiles * parts), Grid::all(&[2], SPLIT_SIZE)],
            shared: self.parts().map(|it| shared(it.1.format(), in_fp8)).max().unwrap_or(0),
            rows: Some((2, 2 * SPLIT_SIZE)),
            waits: true,
            architecture: Some("sm_90a"),
            maps: vec![x],
            scratch: Some(scratch),
            before: Some(Box::new(before)),
            choices: vec![choice],
            ..Instance::default()
        }
    }

    /// The parts as `gemm_packed.cuh` takes them, with these tails: in 16 bits with `packed_`
    /// before each.
    pub(super) fn packed_results(
        &self,
        before: &str,
        tail: impl Fn(&Made<'_>, &Part) -> String,
    ) -> Option<String> {
        let mut results = Vec::new();
        for (made, part) in self.parts() {
            let weights: Vec<String> = part.weights.iter().map(|it| self.one(part, *it)).collect();
            let result = self.result(made, part, &weights, &tail(made, part))?;
            results.push(format!("{before}{result}"));
        }
        Some(results.join(",\n    "))
    }

    /// A matrix of a part, as kernels read it that take it as it is.
    pub(super) fn one(&self, part: &Part, at: usize) -> String {
        let policy = pack::skinny_policy(part.format(), self.depth, pack::TILE);
        let shape = [part.n, self.depth];
        format!("{policy}{}", pack::skinny_weights(part.format(), shape, at))
    }
}

/// What `packed_shared` is in `gemm_packed.cuh`: bytes of shared memory for weights in a format.
fn shared(format: DType, in_fp8: bool) -> u32 {
    const STAGES: u32 = 4;
    const WARPS: u32 = 8;
    const BOX: u32 = 64 * 128;
    let Some(layout) = pack::layout(format) else { return 0 };
    let (depth, step) = (if in_fp8 { 128 } else { 64 }, layout.step as u32);
    let records = (depth / step).max(1);
    let boxes = records * step / depth;
    STAGES * (boxes * BOX + WARPS * records * layout.record() as u32).next_multiple_of(1024)
}
