//! What walks along positions with a state: convolutions and state-space models.

use crate::{Call, Grid, Instance};

const THREADS: u32 = 128;

/// Words: y, x, weight, bias, window, positions, channels, width.
pub(crate) fn conv1d(call: &Call<'_>) -> Result<Vec<Instance>, String> {
    let pointers: Vec<String> = (0..5).map(|it| call.pointer(it, "float")).collect();
    let width = call.fixed(7)?;
    let body = format!(
        "conv1d<{THREADS}, {width}>({}, {}, {});",
        pointers.join(", "),
        call.text(5),
        call.text(6)
    );
    let grid = Grid::over(&[6], u64::from(THREADS));
    Ok(vec![naive(body, grid)])
}

/// Words: y, x, dt, a, b, c, state, S, H, J, D, N, scratch.
pub(crate) fn ssd(call: &Call<'_>) -> Result<Vec<Instance>, String> {
    let pointers: Vec<String> = (0..7).map(|it| call.pointer(it, "float")).collect();
    let sizes: Vec<String> = (7..11).map(|it| call.text(it)).collect();
    let n = call.fixed(11)?;
    let body = format!("ssd<{THREADS}, {n}>({}, {});", pointers.join(", "), sizes.join(", "));
    let grid = Grid::over(&[8, 9, 10], u64::from(THREADS / 32));
    Ok(vec![naive(body, grid)])
}

fn naive(body: String, grid: Grid) -> Instance {
    Instance { includes: vec!["naive.cuh"], body, threads: THREADS, grid, ..Instance::default() }
}
