//! Text that nobody meant: reading, verifying and compiling it may fail, but never panics or hangs.

use std::panic::AssertUnwindSafe;

use ir::Module;
use passes::{FaultKind, Manager, Pipeline};

use crate::passes::ir_files;

const CASES: usize = 40_000;
/// Passes run on every so many of the modules that are still sound.
const PASSES_EVERY: usize = 10;

/// What stands in the text form, and numbers at the ends of their ranges.
const WORDS: &[&str] = &[
    "0",
    "1",
    "7",
    "65536",
    "4294967296",
    "18446744073709551615",
    "-1",
    "1e300",
    "nan",
    "[]",
    "[A]",
    "[A, A]",
    "A",
    "B",
    "S",
    "A*B",
    "A | B",
    "A*A",
    "f32",
    "i32",
    "bool",
    "bf16",
    "%0",
    "%1",
    "%x",
    "@step",
    "true",
    "false",
    ", ",
    " = ",
    " : ",
    "{",
    "}",
    "(",
    ")",
    "\"",
    "input ",
    "weight ",
    "state ",
    " from S",
    " elastic {1}",
    "<= ",
    "= ",
    "\n",
    "é",
];

/// A linear congruential generator (Knuth, MMIX).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        ((self.0 >> 33) % end.max(1) as u64) as usize
    }

    /// A place between two characters.
    fn place(&mut self, text: &str) -> usize {
        let at = self.below(text.len() + 1);
        (at..=text.len()).find(|&it| text.is_char_boundary(it)).unwrap_or(0)
    }

    /// The range of a word: letters and digits, or one other character.
    fn word(&mut self, text: &str) -> (usize, usize) {
        let from = self.place(text);
        let is_word = |it: char| it.is_alphanumeric() || "_.@%".contains(it);
        let rest = &text[from..];
        let len = rest.find(|it| !is_word(it)).unwrap_or(rest.len());
        (from, from + len.max(rest.chars().next().map_or(0, char::len_utf8)))
    }

    /// One change: a word for another, a word less, a word more, a line twice, a line less.
    fn mutate(&mut self, text: &mut String) {
        let (from, to) = self.word(text);
        match self.below(6) {
            0 => text.replace_range(from..to, WORDS[self.below(WORDS.len())]),
            1 => text.replace_range(from..to, ""),
            2 => text.insert_str(from, WORDS[self.below(WORDS.len())]),
            3 => {
                let (a, b) = self.word(text);
                let word = text[a..b].to_owned();
                text.replace_range(from..to, &word);
            }
            change => {
                let mut lines: Vec<&str> = text.lines().collect();
                let (at, into) = (self.below(lines.len()), self.below(lines.len()));
                if let Some(&line) = lines.get(at) {
                    if change == 4 {
                        lines.insert(into, line);
                    } else {
                        lines.remove(at);
                    }
                }
                *text = lines.join("\n");
            }
        }
    }
}

/// Modules to begin with: the inputs of the pass tests and one for each op.
fn seeds() -> Vec<String> {
    let mut seeds: Vec<String> = ir_files("passes").into_iter().map(|it| it.1).collect();
    let examples = ir::Op::all().into_iter().flat_map(|it| it.rules().examples());
    seeds.extend(examples.map(|it| crate::laws::module_of(&it).to_string()));
    seeds
}

/// Reads, verifies, prints and measures `text`; the module, if it is sound.
fn read(text: &str) -> Option<Module> {
    let module = ir::parse(text).ok()?;
    if !ir::verify(&module).is_empty() {
        return None;
    }
    let printed = module.to_string();
    assert_eq!(ir::parse(&printed).as_ref(), Ok(&module), "{printed}");
    let size = |axis: &ir::Axis| module.axes.bound(axis).unwrap_or(0) as u64;
    module.cost(module.entry(), &size);
    Some(module)
}

/// `what` of `text`; where it panics, the text is told.
fn guarded<T>(text: &str, what: impl FnOnce() -> T) -> T {
    std::panic::catch_unwind(AssertUnwindSafe(what))
        .unwrap_or_else(|_| panic!("panics on this text:\n{text}"))
}

#[test]
fn no_text_makes_it_panic() {
    let seeds = seeds();
    let pipelines: Vec<Pipeline> =
        treen::passes().iter().map(|it| Pipeline::default().then(it.clone())).collect();
    let mut random = Random(1);
    let mut sound = 0;
    for case in 0..CASES {
        let mut text = seeds[case % seeds.len()].clone();
        (0..=random.below(8) / 6).for_each(|_| random.mutate(&mut text));
        let Some(module) = guarded(&text, || read(&text)) else { continue };
        sound += 1;
        if sound % PASSES_EVERY == 0 {
            let pipeline = &pipelines[random.below(pipelines.len())];
            // A pass may refuse, and a check may find that it is too much work.
            if let Err(failure) = Manager::default().run(pipeline, module, &mut |_| {}) {
                assert!(failure.fault.kind() != FaultKind::Panic, "{failure}\n{text}");
            }
        }
    }
    assert!(CASES / 20 < sound, "only {sound} of {CASES} modules were sound");
}

#[test]
fn axes_that_lead_nowhere_are_told() {
    let mut text = String::from("axis A0 = 1\n");
    for i in 1..16 {
        let last = format!("A{}", i - 1);
        text += &format!("axis A{i} = {}\n", [last.as_str(); 9].join(" | "));
    }
    text += "fn @f (input %x : f32[A15]) {\nreturn y = %x\n}\n";
    let faults = ir::verify(&ir::parse(&text).expect("it can be read"));
    assert!(faults[0].contains("circular or overflows"), "{faults:?}");
    let text = "axis A = B\naxis B = A\nfn @f (input %x : f32[A]) {\nreturn y = %x\n}\n";
    assert_eq!(ir::verify(&ir::parse(text).expect("it can be read")).len(), 2);
}

#[test]
fn an_end_that_is_too_long_is_told() {
    let text = "axis A <= 4\naxis B <= 4\nfn @f (input %x : f32[A]) {
        %0 = slice %x {axis = A, after = [], last = true, into = B} : f32[B]\nreturn y = %0\n}\n";
    let module = ir::parse(text).expect("it can be read");
    assert_eq!(ir::verify(&module), Vec::<String>::new());
    let sizes = module.axes.sizes(&[("A".into(), 2), ("B".into(), 3)].into()).expect("in bounds");
    let x = ir::Tensor::from_fn(module.entry().params[0].ty.clone(), &sizes, |_| 0.0);
    let said = ir::eval(&module, &[&x], &sizes, false).expect_err("three of two");
    assert_eq!(said, "`B` is longer than `A`, whose end it is");
}
