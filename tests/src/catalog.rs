//! The models of the catalog that are numbers alone: their specs have as many parameters as is
//! published.

use treen::catalog::{self, Entry};

use crate::models::spec;

/// Totals as papers and model cards give them, in billions, or as exactly as is known.
const PUBLISHED: &[(&str, &str)] = &[
    ("bert-base", "0.10948"),
    ("bert-large", "0.335142"),
    ("elastic-12b", "12.310"),
    ("gemma3-270m", "0.2681"),
    ("gpt2", "0.124439808"),
    ("gpt2-large", "0.774030080"),
    ("gpt2-medium", "0.354823168"),
    ("gpt2-xl", "1.557611200"),
    ("llama3-8b", "8.030261248"),
    ("llama3.1-8b", "8.030261248"),
    ("mamba2-1.3b", "1.3"),
    ("mamba2-130m", "0.13"),
    ("mamba2-2.7b", "2.7"),
    ("mamba2-370m", "0.37"),
    ("mamba2-780m", "0.78"),
    ("minitron-4b", "4.19"),
    ("minitron-8b", "8.27"),
    ("nano2-12b", "12.310"),
    ("nano2-9b", "8.888"),
    ("nano3-4b", "3.974"),
    ("nemotron-h-47b", "46.79"),
    ("nemotron-h-4b", "4.489"),
    ("nemotron-h-56b", "56.32"),
    ("nemotron-h-8b", "8.101"),
    ("nemotron4-15b", "15.63"),
    ("nemotron4-340b", "341.03"),
    ("qwen2.5-0.5b", "0.494032768"),
    ("qwen2.5-1.5b", "1.543714304"),
    ("qwen2.5-3b", "3.085938688"),
    ("qwen2.5-7b", "7.615616512"),
    ("qwen3-0.6b", "0.6"),
    ("qwen3-8b", "8.191"),
    ("t5-11b", "11.31"),
    ("t5-3b", "2.852"),
    ("t5-base", "0.2229"),
    ("t5-large", "0.7377"),
    ("t5-small", "0.06051"),
    ("t5-v1.1-base", "0.2476"),
    ("t5-v1.1-large", "0.7832"),
    ("t5-v1.1-small", "0.07696"),
    ("t5-v1.1-xl", "2.850"),
    ("t5-v1.1-xxl", "11.14"),
];

/// The parameters of a spec, one that is used twice counted once.
fn parameters(name: &str) -> u64 {
    let module = spec(name).compile().unwrap_or_else(|why| panic!("{name}: {why}")).module;
    let size = |axis: &ir::Axis| module.axes.fixed(axis).expect("a fixed extent") as u64;
    let weights = module.entry().params.iter().filter(|it| it.role == ir::Role::Weight);
    weights.map(|it| it.ty.axes.iter().map(size).product::<u64>()).sum()
}

#[test]
fn totals_are_the_published_ones() {
    let entries = catalog::entries();
    let numbers = entries.iter().filter(|it| matches!(it.1, Entry::Numbers(_)));
    let known: Vec<&str> = PUBLISHED.iter().map(|it| it.0).collect();
    assert_eq!(numbers.map(|it| it.0.as_str()).collect::<Vec<_>>(), known);
    for (name, published) in PUBLISHED {
        let decimals = published.split_once('.').map_or(0, |it| it.1.len());
        let total = parameters(name) as f64 / 1e9;
        assert_eq!(format!("{total:.decimals$}"), *published, "{name}");
    }
}
