//! Broken specs by the thousand: none may panic, and what can be laid out is laid out for good.

use crate::lex::lex;
use crate::{SPEC, Sources, format, parse};

const TEXTS: [&str; 2] =
    [include_str!("../../models/prelude.tn"), include_str!("../../models/llama.tn")];

/// Words that are likely to hurt.
const SPICE: [&str; 28] = [
    "(", ")", "[", "]", "{", "}", "..", "->", "=", "|", "*", "-", "let", "layers", "block", "axis",
    "if", "else", "\"", "'", "1e999", "§", "//", "S <= 0", "{q, k}", "[l]", "'{a,b}'", "'{a|'",
];

/// SplitMix64: small, seeded, and the same everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n.max(1) as u64) as usize
    }
}

/// Some lines of a real spec, or all of them, with a few of their words dropped, doubled, swapped
/// or spiced.
pub(crate) fn broken(text: &str, most_lines: usize, random: &mut Random) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let n_lines = if most_lines < lines.len() { 1 + random.below(most_lines) } else { lines.len() };
    let first = random.below(lines.len() - n_lines + 1);
    let last = first + n_lines;
    let part = lines[first..last].join("\n");
    let (tokens, _) = lex(0, &part);
    let mut words: Vec<String> = tokens
        .iter()
        .map(|it| if it.lines_before > 0 { "\n" } else { " " }.to_owned() + it.text(&part))
        .collect();
    for _ in 0..random.below(4) {
        let at = random.below(words.len());
        match random.below(4) {
            _ if words.is_empty() => break,
            0 => drop(words.remove(at)),
            1 => words.insert(at, words[at].clone()),
            2 => words.swap(at, 0),
            _ => words.insert(at, SPICE[random.below(SPICE.len())].to_owned()),
        }
    }
    words.concat()
}

/// Code and comments without white space: what a layout must not change.
fn bare(text: &str) -> String {
    text.split_whitespace().collect()
}

#[test]
fn hostile_texts_are_refused_and_sound_ones_have_one_layout() {
    let mut random = Random(1);
    let mut n_sound = 0;
    for case in 0..100_000 {
        let text = broken(TEXTS[case % 2], 8, &mut random);
        let (_, faults) = parse(SPEC, &text);
        if let Ok(once) = format(&text) {
            n_sound += 1;
            assert!(faults.is_empty());
            assert_eq!(bare(&once), bare(&text), "of\n{text}");
            assert_eq!(format(&once).as_ref(), Ok(&once), "of\n{text}");
        }
        if case % 100 == 0 {
            let sources = Sources::of("broken.tn", &text);
            assert!(faults.iter().all(|it| !it.render(&sources, false).is_empty()));
        }
    }
    assert!(n_sound > 5_000, "only {n_sound} sound texts");
}

#[test]
fn every_prefix_of_a_spec_is_answered() {
    let text = TEXTS[1];
    for end in (0..text.len()).filter(|it| it % 7 == 0 && text.is_char_boundary(*it)) {
        let _ = parse(SPEC, &text[..end]);
    }
}

#[test]
fn deep_long_and_large_texts_are_told_so() {
    let deep = |open: &str| format!("value a = {}", open.repeat(60_000));
    let cases = [
        (deep("("), "E0105"),
        (deep("-"), "E0105"),
        (deep("f(["), "E0105"),
        (deep("if a { "), "E0105"),
        (format!("value a = 1{}", " + 1".repeat(30_000)), "E0105"),
        (format!("value a = x{}", "[1]".repeat(20_000)), "E0105"),
        (format!("block a() {}", "{ layers L ".repeat(30_000)), "E0103"),
        (format!("value a = [{}]", "1, ".repeat(60_000)), "E0106"),
        (" ".repeat(crate::MOST_BYTES + 1), "E0106"),
        ("§ ".repeat(1000), "E0101"),
    ];
    for (text, code) in cases {
        let (_, faults) = parse(SPEC, &text);
        let found = faults.iter().any(|it| it.code == code);
        assert!(found, "{code} for {}", &text[..20]);
        assert!(faults.len() <= crate::MOST_DIAGNOSTICS + 1);
    }
}

#[test]
fn models_are_laid_out() {
    for text in TEXTS {
        assert_eq!(format(text).as_deref(), Ok(text));
    }
}
