//! Kernels that belong to no launch of a plan: those that choose tokens, and those that measure.

use kernels_cuda::Instance;

use crate::arguments::Kind;
use crate::emit::source;
use crate::program::Kernel;

/// The kernel that measures how fast memory is read.
pub(crate) fn reader() -> Kernel {
    let instance = Instance {
        includes: vec!["ceilings.cuh"],
        body: "read_all<512>((const uint4*)w0, w1, (unsigned*)w2);".to_owned(),
        threads: 512,
        ..Instance::default()
    };
    by_itself("read", &instance, 3)
}

/// The kernels that measure how fast matrix units multiply, the best first, and the operations of a
/// block.
pub(crate) fn multipliers() -> [(Kernel, u64); 2] {
    // Longer, and what is measured next would run at lower clocks.
    const ROUNDS: u64 = 512;
    let fragments = Instance {
        includes: vec!["ceilings.cuh"],
        body: format!("multiply_fragments<{ROUNDS}>((float*)w0);"),
        threads: 512,
        ..Instance::default()
    };
    let tiles = Instance {
        includes: vec!["ceilings_hopper.cuh"],
        body: format!("SHARED(u8, shared);\n  multiply_tiles<{ROUNDS}>(shared, (float*)w0);"),
        threads: 256,
        shared: 384 * 128,
        architecture: Some("sm_90a"),
        ..Instance::default()
    };
    [
        (by_itself("multiply", &tiles, 1), ROUNDS * 2 * 128 * 256 * 64),
        (by_itself("multiply", &fragments, 1), ROUNDS * 16 * 2 * 16 * 64 * 16),
    ]
}

/// The kernel that finds the largest of `width` logits of each row, and its blocks for a row.
pub(crate) fn greedy(width: u64) -> (Kernel, u64) {
    let parts = width.div_ceil(4096).clamp(1, 64);
    let instance = Instance {
        includes: vec!["argmax.cuh"],
        body: format!(
            "argmax<{width}, {parts}>((const float*)w0, (int*)w1, (Best*)w2, (u32*)w3, blockIdx.x, \
             blockIdx.y);"
        ),
        threads: 256,
        waits: true,
        ..Instance::default()
    };
    (by_itself("greedy", &instance, 4), parts)
}

/// The kernel that draws one of `width` tokens for each row.
pub(crate) fn draw(width: u64) -> Kernel {
    let instance = Instance {
        includes: vec!["draw.cuh"],
        body: format!(
            "draw<{width}>((const float*)w0, (int*)w1, (const Rule*)w2, past, w3, blockIdx.x);"
        ),
        threads: 1024,
        waits: true,
        ..Instance::default()
    };
    by_itself("draw", &instance, 4)
}

/// A kernel that is launched by the engine alone, with so many words.
pub(crate) fn by_itself(name: &str, instance: &Instance, words: usize) -> Kernel {
    let passed: Vec<_> = (0..words).map(|it| (it, Kind::Plain)).collect();
    let (name, entry) = (name.to_owned(), "run".to_owned());
    let only = instance.architecture.map(str::to_owned);
    let Instance { threads, shared, .. } = *instance;
    let source = source(instance, &passed);
    Kernel { name, entry, source, only, threads, shared, ..Kernel::default() }
}
