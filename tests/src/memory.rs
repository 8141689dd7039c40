//! The memory that models take: what papers and model cards say, from the types of the graphs.

use ir::DType;
use treen::memory::{Format, Memory};

use crate::models::spec;

const GIB: f64 = (1 << 30) as f64;

fn memory(name: &str, format: &str) -> Memory {
    let compiled = spec(name).compile().unwrap_or_else(|why| panic!("{name}: {why}"));
    let format = Format::from_name(format).expect("a format");
    Memory::of(&compiled.module, &compiled.weights, &format, DType::BF16)
        .unwrap_or_else(|why| panic!("{name}: {why}"))
}

#[test]
fn nano_9b_at_131072_positions_is_below_20_gib() {
    let it = memory("nano2-9b", "bf16");
    assert_eq!(it.weight_bytes, 2 * it.parameters);
    assert_eq!(format!("{:.2}", it.weight_bytes as f64 / GIB), "16.56");
    assert_eq!(it.position_bytes, 16384);
    assert_eq!(it.cache_bytes(131_072, 1), Some(2 << 30));
    // The heads' states, and the windows of the convolutions.
    let (heads, windows) = (128 * 80 * 128 * 4, 4 * 12288 * 4);
    assert_eq!(it.sequence_bytes, 27 * (heads + windows));
    assert_eq!(format!("{:.1}", (27 * heads) as f64 / 1e6), "141.6");
    assert_eq!(it.most_positions, 131_072);
    // Two operations for each element of all matrices but the embedding, and the recurrences.
    let matrices = 2 * (it.parameters - 131_072 * 4480);
    let flops = it.costs.position_flops + it.costs.head_flops;
    assert!((matrices..matrices / 20 * 21).contains(&flops), "{matrices} {flops}");
    let total = it.total_bytes(131_072, 1).expect("a total") as f64 / GIB;
    assert_eq!(format!("{total:.1}"), "18.7");
}

#[test]
fn nano_12b_does_not_fit_22_gib() {
    let it = memory("nano2-12b", "bf16");
    assert_eq!(format!("{:.2}", it.weight_bytes as f64 / 1e9), "24.62");
    assert_eq!(format!("{:.2}", it.weight_bytes as f64 / GIB), "22.93");
    assert_eq!(it.position_bytes, 24576);
    assert_eq!(it.sequence_bytes, 28 * (128 * 80 * 128 * 4 + 4 * 12288 * 4));
}

#[test]
fn qwen3_8b_keeps_nine_times_as_much_of_a_position_as_nano_9b() {
    let it = memory("qwen3-8b", "bf16");
    assert_eq!(format!("{:.2}", it.weight_bytes as f64 / 1e9), "16.38");
    assert_eq!((it.position_bytes, it.sequence_bytes), (147_456, 0));
}

#[test]
fn a_byte_for_each_element_of_a_matrix_and_two_for_the_rest() {
    let it = memory("nemotron4-340b", "fp8");
    // Two norms of each layer and the last, each with a bias.
    let vectors = (2 * 96 + 1) * 2 * 18432;
    assert_eq!(it.weight_bytes, it.parameters + vectors);
    assert_eq!(format!("{:.0}", it.weight_bytes as f64 / 1e9), "341");
    let total = it.total_bytes(4096, 1).expect("a total");
    assert!(total < 8 * 80_000_000_000 * 9 / 10);
    let blocks = memory("nemotron4-340b", "q4_0");
    assert_eq!(blocks.weight_bytes, (it.parameters - vectors) / 32 * 18 + 2 * vectors);
    // The convolution's rows are too short for a block.
    let it = memory("mamba2-130m", "fp8");
    let kept = 24 * ((1536 + 256) * (4 + 1) + 3 * 24 + 1536 + 768) + 768;
    assert_eq!(it.weight_bytes, it.parameters + kept);
}

#[test]
fn a_text_read_as_a_whole_leaves_nothing() {
    let it = memory("bert-base", "f32");
    assert_eq!((it.position_bytes, it.sequence_bytes, it.most_positions), (0, 0, 512));
    assert_eq!(it.weight_bytes, 4 * it.parameters);
}

/// Products within layers take nine bytes for 16 elements, but for the first two and the last eight
/// layers; embedding and head stay.
#[test]
fn a_recipe_counts_what_it_stores_anew() {
    let compiled = spec("nano2-12b").compile().unwrap_or_else(|why| panic!("{why}"));
    let bytes = |request: Option<&str>| {
        let format = Format::from_name("bf16").expect("a format");
        let format = match request {
            Some(it) => format.with(treen::precision::Request::parse(it).expect("a request")),
            None => Ok(format),
        };
        let format = format.unwrap_or_else(|why| panic!("{why}"));
        let memory = Memory::of(&compiled.module, &compiled.weights, &format, DType::BF16);
        memory.unwrap_or_else(|why| panic!("{why}")).weight_bytes
    };
    let [whole, all, recipe] = [None, Some("nvfp4"), Some("nvfp4-12b")].map(bytes);
    assert_eq!(format!("{:.2}", all as f64 / 1e9), "8.86");
    assert!(all < recipe && recipe < whole && 2 * recipe < whole + all, "{whole} {all} {recipe}");
    let measured = treen::precision::Request::parse("kl<=0.1").expect("a request");
    assert!(Format::from_name("bf16").expect("a format").with(measured).is_err());
}
