//! Where intermediate values lie while the launches of a step go by.

use super::{BufferReport, html::escaped};

/// Width and height of the chart.
const WIDTH: u64 = 1000;
const HEIGHT: u64 = 320;
/// Fills that tell neighbours apart.
const FILLS: [&str; 5] = ["#c7dcf2", "#d6ead0", "#f6dfc0", "#e5d5ee", "#f3d2d2"];

/// Launches go from left to right and addresses from bottom to top; each value is a box.
pub(super) fn chart(buffers: &[BufferReport]) -> String {
    let launches = buffers.iter().map(|it| it.last).max().unwrap_or(1) as u64;
    let bytes = buffers.iter().map(|it| it.offset + it.bytes).max().unwrap_or(1).max(1);
    // Products of sizes may be large.
    let scaled =
        |n: u64, of: u64, to: u64| (u128::from(n) * u128::from(to) / u128::from(of)) as u64;
    let mut text = format!("<svg width=\"{WIDTH}\" height=\"{HEIGHT}\">\n");
    for (i, it) in buffers.iter().enumerate() {
        let left = scaled(it.first as u64 - 1, launches, WIDTH);
        let right = scaled(it.last as u64, launches, WIDTH);
        let top = scaled(bytes - it.offset - it.bytes, bytes, HEIGHT);
        let bottom = scaled(bytes - it.offset, bytes, HEIGHT);
        let (ty, first, last) = (escaped(&it.ty), it.first, it.last);
        text += &format!(
            "<rect x=\"{left}\" y=\"{top}\" width=\"{}\" height=\"{}\" fill=\"{}\" \
             stroke=\"#888\"><title>{ty}, {} bytes at {}, launches {first} to {last}</title></rect>\n",
            (right - left).max(1),
            (bottom - top).max(1),
            FILLS[i % FILLS.len()],
            it.bytes,
            it.offset,
        );
    }
    format!("{text}</svg>\n<p>{launches} launches from left to right; {bytes} bytes.\n")
}
