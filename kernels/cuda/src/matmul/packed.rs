//! Products of some rows on Hopper that read packed weights as they are: `gemm_packed.cuh`.

use ir::DType;

use super::{BLOCKS, MatMul, Part, Ready, SPLIT_SIZE};
use crate::{Grid, Instance, pack};

impl MatMul<'_> {
    /// `None` where some weights are not packed.
    pub(super) fn split_packed(&self) -> Option<Instance> {
        const STAGES: u64 = 3;
        let fits = |it: &Part| pack::is_packed(it.format) && it.n.is_multiple_of(8);
        if !self.depth.is_multiple_of(8) || !self.parts().all(|it| fits(it.1)) {
            return None;
        }
        let (tiles, parts, choice) = self.parts_of_sums();
        // Where a multiprocessor has one block, that reads as far ahead as two would.
        let (deep, residents) = if tiles * parts <= BLOCKS { (8, 1) } else { (4, 2) };
        let Ready { before, x, scratch, .. } = self.ready_x(DType::BF16);
        let body = format!(
            "SHARED(u8, shared);\n  gemm_packed<{parts}, {}, {deep}>(shared, m0, (int){}, {});",
            self.depth,
            self.call.text(2),
            self.packed_results()?
        );
        let records = self.parts().filter_map(|it| pack::layout(it.1.format));
        let ring = deep * 8 * records.map(|it| it.record() as u64).max()?;
        Some(Instance {
            includes: vec!["gemm_packed.cuh", "tails.cuh"],
            preface: self.preface(),
            body,
            threads: 288,
            residents,
            cluster: parts as u32,
            grid: [Grid::fixed(tiles * parts), Grid::all(&[2], SPLIT_SIZE)],
            shared: (STAGES * 3 * SPLIT_SIZE * 128 + ring) as u32,
            rows: Some((2, 2 * SPLIT_SIZE)),
            waits: true,
            architecture: Some("sm_90a"),
            maps: vec![self.boxes(x, (1, Some(2)), SPLIT_SIZE)],
            scratch,
            before,
            choices: vec![choice],
            ..Instance::default()
        })
    }

    /// The parts as `gemm_packed.cuh` takes them.
    fn packed_results(&self) -> Option<String> {
        let mut results = Vec::new();
        for (made, part) in self.parts() {
            let (policy, shape) =
                (pack::skinny_policy(part.format, self.depth, pack::TILE), [part.n, self.depth]);
            let one =
                |at: &usize| format!("{policy}{}", pack::skinny_weights(part.format, shape, *at));
            let weights: Vec<String> = part.weights.iter().map(one).collect();
            let result = self.result(made, part, &weights, &self.tail(made, part))?;
            results.push(format!("packed_{result}"));
        }
        Some(results.join(",\n    "))
    }
}
