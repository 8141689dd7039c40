//! What a GPU can do at most, by kernels that only measure.

use std::time::Instant;

use runtime::{Ceilings, Fault};

use super::Gpu;
use crate::driver::{Argument, Shape};
use crate::program::Kernel;

impl Gpu {
    /// All that is measured.
    pub(super) fn measure(&self) -> Result<Ceilings, Fault> {
        let (bandwidth, arithmetic) = (self.bandwidth()?, self.arithmetic()?);
        Ok(Ceilings { bandwidth, arithmetic, latency: None })
    }

    /// Bytes a second at which the weights are read.
    fn bandwidth(&self) -> Result<f64, Fault> {
        let words = self.weight_bytes / 16;
        let arguments = [self.weights.address(), words, self.arena.address()];
        let rate = self.launches_a_second(self.program.reader, 1056, &arguments)?;
        Ok(rate * (16 * words) as f64)
    }

    /// Operations a second of the matrix units, on bf16.
    fn arithmetic(&self) -> Result<f64, Fault> {
        let is_for_this = |it: &&(usize, u64)| self.functions[it.0].is_some();
        let Some(&(kernel, operations)) = self.program.multipliers.iter().find(is_for_this) else {
            return Ok(0.0);
        };
        let rate = self.launches_a_second(kernel, self.processors, &[self.arena.address()])?;
        Ok(rate * (operations * u64::from(self.processors)) as f64)
    }

    /// How often a kernel that only measures runs.
    fn launches_a_second(&self, kernel: usize, blocks: u32, words: &[u64]) -> Result<f64, Fault> {
        const PASSES: u32 = 8;
        let Some(function) = self.functions[kernel] else { return Ok(0.0) };
        let Kernel { threads, shared, .. } = self.program.kernels[kernel];
        let shape = Shape { function, blocks: [blocks, 1], threads, shared, overlaps: false };
        let words = [&[self.past.there.address()], words].concat();
        let mut arguments: Vec<Argument> = words.into_iter().map(Argument::Word).collect();
        self.device.launch(&shape, &mut arguments)?;
        self.device.wait()?;
        let start = Instant::now();
        for _ in 0..PASSES {
            self.device.launch(&shape, &mut arguments)?;
        }
        self.device.wait()?;
        Ok(f64::from(PASSES) / start.elapsed().as_secs_f64())
    }
}
