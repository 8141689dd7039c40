//! Products of some rows on Hopper that read packed weights as they are: `gemm_packed.cuh`.

use ir::DType;

use super::{Made, MatMul, Part, Ready, SPLIT_SIZE};
use crate::{Grid, Instance, Map, pack};

/// How matrix units multiply.
pub(super) struct Operands {
    /// In FP8, or else in 16 bits.
    pub in_fp8: bool,
    /// `x` in that type, and what has to run before.
    pub x: Map,
    pub before: Option<Box<Instance>>,
    pub scratch: Option<(u64, u64, usize)>,
    /// The results as the policy takes them.
    pub results: String,
}

impl MatMul<'_> {
    /// In 16 bits. `None` where some weights are not packed.
    pub(super) fn split_packed(&self) -> Option<Instance> {
        let fits = |it: &Part| pack::is_packed(it.format) && it.n.is_multiple_of(8);
        if !self.depth.is_multiple_of(8) || !self.parts().all(|it| fits(it.1)) {
            return None;
        }
        let Ready { before, x, scratch, .. } = self.ready_x(DType::BF16);
        let x = self.boxes(x, (1, Some(2)), SPLIT_SIZE);
        let results = self.packed_results("packed_", |made, part| self.tail(made, part))?;
        self.packed(Operands { in_fp8: false, x, before, scratch, results })
    }

    /// `gemm_packed.cuh` with those operands.
    pub(super) fn packed(&self, operands: Operands) -> Option<Instance> {
        // Records that a warp reads ahead of each half of a tile. A multiprocessor has room for two
        // blocks then: clusters of four that fill one each would not all find it at once.
        const AHEAD: u64 = 4;
        const STAGES: u64 = 3;
        let Operands { in_fp8, x, before, scratch, results } = operands;
        let policy = if in_fp8 { "E4m3Tiles" } else { "Bf16Tiles" };
        let (tiles, parts, choice) = self.parts_of_sums(in_fp8);
        let body = format!(
            "SHARED(u8, shared);\n  gemm_packed<{policy}, {parts}, {}, {AHEAD}>(shared, m0, \
             (int){}, {results});",
            self.depth,
            self.call.text(2),
        );
        let layouts = self.parts().filter_map(|it| pack::layout(it.1.format));
        let ring = AHEAD * 8 * layouts.map(|it| it.record() as u64).max()?;
        Some(Instance {
            includes: vec!["gemm_packed.cuh", "tails.cuh"],
            preface: self.preface(),
            body,
            threads: 288,
            residents: 2,
            cluster: parts as u32,
            grid: [Grid::fixed(tiles * parts), Grid::all(&[2], SPLIT_SIZE)],
            shared: (STAGES * 3 * SPLIT_SIZE * 128 + ring) as u32,
            rows: Some((2, 2 * SPLIT_SIZE)),
            waits: true,
            architecture: Some("sm_90a"),
            maps: vec![x],
            scratch,
            before,
            choices: vec![choice],
            ..Instance::default()
        })
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
        let policy = pack::skinny_policy(part.format, self.depth, pack::TILE);
        let shape = [part.n, self.depth];
        format!("{policy}{}", pack::skinny_weights(part.format, shape, at))
    }
}
