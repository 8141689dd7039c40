//! The models compile and mean what they should; each code is earned by the example that explains
//! it; the reference's examples are specs.

use std::collections::BTreeMap;

use ir::{Module, Role, Tensor};

use crate::fuzz::{Random, broken};
use crate::{Compiled, Diagnostic, SPEC, Settings, Sources, TensorSource};
use crate::{check, codes, compile, explain, format, rewrite};

const LLAMA: &str = include_str!("../../models/llama.tn");

/// The findings as a person reads them, if there are any.
fn shown(sources: &Sources, faults: &[Diagnostic]) -> String {
    faults.iter().map(|it| it.render(sources, false)).collect()
}

fn set(settings: &[&str]) -> Settings {
    let mut all = Settings::default();
    settings.iter().for_each(|it| all.read(it).unwrap());
    all
}

#[track_caller]
fn compiled(text: &str, settings: &[&str]) -> Compiled {
    let sources = Sources::of("spec.tn", text);
    compile(&sources, &set(settings)).unwrap_or_else(|it| panic!("{}", shown(&sources, &it)))
}

/// Codes of what is wrong with a text.
fn faults(text: &str, settings: &[&str]) -> Vec<&'static str> {
    let found = check(&Sources::of("spec.tn", text), &set(settings));
    found.iter().map(|it| it.code).collect()
}

#[test]
fn there_are_not_more_layers_than_any_model_has() {
    assert!(faults(LLAMA, &["L=4096"]).is_empty());
    assert_eq!(faults(LLAMA, &["L=1000000000000"]), ["E0304"]);
}

/// The fenced `tn` examples of a page, with what their fence says and the heading above.
fn examples(page: &str) -> Vec<(String, String, String)> {
    let (mut examples, mut heading) = (Vec::new(), "");
    let mut open: Option<(&str, String)> = None;
    for line in page.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (Some(_), Some(_)) => {
                let (fence, text) = open.take().unwrap();
                if fence.starts_with("tn") {
                    examples.push((heading.to_owned(), fence.to_owned(), text));
                }
            }
            (Some((_, text)), None) => *text += &format!("{line}\n"),
            (None, Some(fence)) => open = Some((fence, String::new())),
            (None, None) => heading = line.strip_prefix("## ").unwrap_or(heading),
        }
    }
    examples
}

#[test]
fn every_code_is_earned_by_its_example() {
    let examples = examples(include_str!("explain.md"));
    for (code, title) in codes() {
        assert!(explain(code).unwrap().contains(title));
        if code == "E0106" {
            continue;
        }
        let own = examples.iter().find(|it| it.0.starts_with(code));
        let (_, fence, text) = own.unwrap_or_else(|| panic!("{code} has no example"));
        let settings: Vec<&str> = fence.split_once("set ").map(|it| it.1).into_iter().collect();
        let found = faults(text, &settings);
        assert!(found.contains(&code), "{code} is not among {found:?} of\n{text}");
    }
}

#[test]
fn the_reference_compiles() {
    let page = include_str!("../../docs/language.md");
    let examples = examples(page);
    assert!(examples.len() >= 5);
    for (heading, fence, text) in examples {
        if fence == "tn" {
            let sources = Sources::of("spec.tn", &text);
            let found = check(&sources, &Settings::default());
            assert!(found.is_empty(), "under {heading}:\n{}", shown(&sources, &found));
            assert_eq!(format(&text).unwrap(), text, "under {heading}");
        }
    }
}

/// Extents that the reference runs in no time.
const SMALL: [&str; 8] = ["V=7", "E=6", "F=5", "K=2", "G=2", "P=4", "L=2", "S=8"];

#[test]
fn llama_is_one_loop() {
    let module = compiled(LLAMA, &[]).module;
    let names: Vec<&str> = module.functions.iter().map(|it| it.name.as_str()).collect();
    let expected = [
        "prelude.rms_norm",
        "prelude.rope",
        "prelude.rope.1",
        "prelude.softmax",
        "prelude.attention",
        "attention",
        "mlp",
        "layers",
        "llama",
    ];
    assert_eq!(names, expected);
    let entry = module.entry();
    let weights = entry.params.iter().filter(|it| it.role == Role::Weight);
    let weights: Vec<String> = weights.map(|it| format!("{}: {}", it.name, it.ty)).collect();
    assert_eq!(weights[0], "embed: f32[V, E]");
    assert_eq!(weights[3], "layers.attention.q: f32[L, K*G*P, E]");
    assert_eq!(weights.len(), 11);
    assert_eq!(entry.params[0].role, Role::Input);
    let origin = module.function("prelude.rms_norm").unwrap().origin.as_ref().unwrap();
    assert_eq!(origin.to_string(), "\"prelude::rms_norm\" {eps = 1e-5}");
    assert_eq!(ir::parse(&module.to_string()).as_ref(), Ok(&module));
    let n_nodes = |it: &Module| it.functions.iter().map(|it| it.nodes().len()).sum::<usize>();
    assert_eq!(n_nodes(&module), n_nodes(&compiled(LLAMA, &["L=300"]).module));
}

/// Weights that are different, small and the same each time.
fn arguments(module: &Module, n_positions: usize) -> (Vec<Tensor>, ir::Sizes) {
    let sizes = module.axes.sizes(&BTreeMap::from([("S".into(), n_positions)])).unwrap();
    let mut random = Random(7);
    let mut tensor = |it: &ir::Param| {
        Tensor::from_fn(it.ty.clone(), &sizes, |index| match it.role {
            Role::Input => (index[0] * 3 % 7) as f64,
            _ => random.below(2000) as f64 / 1000.0 - 1.0,
        })
    };
    let tensors = module.entry().params.iter().map(&mut tensor).collect();
    (tensors, sizes)
}

fn logits(module: &Module, n_positions: usize) -> Vec<f64> {
    let (tensors, sizes) = arguments(module, n_positions);
    let tensors: Vec<&Tensor> = tensors.iter().collect();
    ir::eval(module, &tensors, &sizes, false).unwrap().remove(0).data
}

#[test]
fn later_tokens_do_not_change_earlier_ones() {
    let module = compiled(LLAMA, &SMALL).module;
    let (short, long) = (logits(&module, 3), logits(&module, 5));
    assert_eq!(short.len(), 3 * 7);
    assert!(short.iter().all(|it| it.is_finite() && *it != 0.0));
    assert_eq!(short, long[..3 * 7]);
}

#[test]
fn rotary_scaling_changes_slow_pairs_alone() {
    let small = |more: &[&'static str]| compiled(LLAMA, &[&SMALL[..], more].concat()).module;
    let plain = logits(&small(&[]), 4);
    assert_ne!(plain, logits(&small(&["rope_factor=8", "rope_original=1000"]), 4));
    assert_eq!(plain, logits(&small(&["rope_factor=8", "rope_original=1e9"]), 4));
}

#[test]
fn llama_reads_both_formats() {
    let maps = compiled(LLAMA, &["tied=0"]).weights;
    let [hf, gguf] = maps.as_slice() else { panic!("two sections") };
    assert_eq!((&*hf.format, &*gguf.format), ("hf", "gguf"));
    let head = hf.rules.iter().find(|it| it.param == "head").unwrap();
    assert_eq!(head.source.names(), ["lm_head.weight"]);
    let q = gguf.rules.iter().find(|it| it.param == "layers.attention.q").unwrap();
    assert_eq!(q.layers.as_ref().map(Vec::len), Some(30));
    let tensor = TensorSource::Tensor("blk.7.attn_q.weight".into());
    assert_eq!(q.source.of_layer(7), TensorSource::Unrotate(Box::new(tensor), 64));
}

#[test]
fn a_rule_for_what_settings_leave_out_is_passed_over() {
    let text = "
axis S <= 16, E = 4
value biased = 0
model m(x[S, E]: f32) {
  param a[E]
  if biased == 1 { param b[E]  x * a + b } else { x * a }
}
weights hf { a = \"a\"  b = \"b\" }
";
    let rules = |set: &[&str]| compiled(text, set).weights[0].rules.len();
    assert_eq!((rules(&[]), rules(&["biased=1"])), (1, 2));
}

#[test]
fn names_may_have_alternatives_and_tensors_be_absent() {
    let text = "
axis S <= 16, E = 4
model m(x[S, E]: f32) { param a[E], b[E]  x * a + b }
weights hf {
  _ = \"*.position_ids\" or \"{lm|mlm}_*.bias\"
  a = plus(squeeze(\"{bert.|}a.{w|gamma}\"), -1)  b = log(times(\"b\" or 2, 0.5))
}
";
    let map = &compiled(text, &[]).weights[0];
    let names = ["bert.a.w", "bert.a.gamma", "a.w", "a.gamma"];
    assert_eq!(map.rules[0].source.names(), names);
    assert_eq!(map.rules[1].source.names(), ["b"]);
    for (name, spared) in [
        ("x.position_ids", true),
        (".position_ids", true),
        ("position_ids", false),
        ("lm_head.bias", true),
        ("mlm_head.bias", true),
        ("lm_head.bias.x", false),
    ] {
        assert_eq!(map.spares(name), spared, "{name}");
    }
    assert_eq!(faults(&text.replace("-1", "a"), &[]), ["E0503", "E0502"]);
    assert_eq!(faults(&text.replace("{w|gamma}", "{w}"), &[]), ["E0503", "E0502"]);
}

/// Two stacks of one block, with the rules of their weights left open.
const STACKS: &str = "
axis S <= 16, E = 4, L = 2
block mix(x[S, E]) { param a[E], b[E]  x * a + b }
model m(x[S, E]: f32) {
  let y = x
  layers L as first { y = mix(y) }
  layers L as second { y = mix(y) }
  y
}
weights hf { RULES }
";

#[test]
fn lists_of_names_answer_to_lists_of_the_path() {
    let names = |rules: &str| {
        let map = compiled(&STACKS.replace("RULES", rules), &[]).weights.remove(0);
        let rules = map.rules.iter().map(|it| it.source.names().join("|"));
        rules.collect::<Vec<_>>().join(" ")
    };
    let each = "{first, second}[l].mix.{a, b} = \"{enc, dec}.{l}.{weight, bias|beta}\"";
    assert_eq!(
        names(each),
        "enc.{}.weight enc.{}.bias|enc.{}.beta dec.{}.weight dec.{}.bias|dec.{}.beta"
    );
    let by_name = "{first, second}[l].mix.{a, b} = \"{1, 2}.{l}.{param}\" or \"{l}.{param}\"";
    assert_eq!(names(by_name), "1.{}.a|{}.a 1.{}.b|{}.b 2.{}.a|{}.a 2.{}.b|{}.b");
    let parts = "{first, second}[l].mix.{a, b} = split(\"{1, 2}.{l}\")";
    assert_eq!(names(parts), "1.{} 1.{} 2.{} 2.{}");
    let same = "{first, second}[l].mix.a = \"{l}\"  {first, second}[l].mix.b = 0";
    assert_eq!(names(same), "{}  {} ");
}

#[test]
fn lists_that_do_not_fit_are_told() {
    for (rule, part) in [
        ("first[l].mix.a = \"{param}\"", "needs a list of parameters"),
        ("first[l].mix.{a, b} = split(\"{param}\")", "needs a list of parameters"),
        ("first[l].mix.{a, b} = \"a\"", "have a tensor each"),
        ("first[l].mix.{a, b} = \"{x, y, z}\"", "has 3 members, and its list of the path 2"),
        ("first[l].mix.a = \"{x, y}\"", "answers to no list"),
        ("first[l].mix.{a, b} = \"{x, y}{x, y}\"", "answers to no list"),
        ("{first, second}[l].mix.{a, b} = \"{x, y}\"", "the path has 2 lists, and this name 1"),
        ("{first, second}[l].mix.{a, b} = \"{x|y}{u|v}{z|w}{x|y}{x|y}{param}\"", "too many names"),
    ] {
        let sources = Sources::of("spec.tn", &STACKS.replace("RULES", rule));
        let page = shown(&sources, &check(&sources, &Settings::default()));
        assert!(page.contains("E0503") && page.contains(part), "{part} is not in\n{page}");
    }
    for end in ["", ".{}"] {
        let many = format!("a{}{end} = \"{{param}}\"", ".{a, b}".repeat(10_000));
        assert!(faults(&STACKS.replace("RULES", &many), &[]).contains(&"E0503"));
    }
}

#[test]
fn settings_and_their_rewriting_agree() {
    let settings = ["E=512", "theta=500000", "L=16"];
    let text = rewrite(LLAMA, &set(&settings)).unwrap();
    assert_eq!(compiled(&text, &[]).module, compiled(LLAMA, &settings).module);
}

#[test]
fn a_pattern_is_calls_with_parts_of_banks() {
    let text = "
use prelude
axis S <= 16, V = 9, E = 6, F = 4
value kinds = \"M-MM-\"
block mixer(x[S, E]) { param a[E], norm[E]  rms_norm(x * a, norm) }
block mlp(x[S, E], scale = 1) { param up[F, E], down[E, F]  x + linear(relu2(linear(x, up)), down) * scale }
model m(tokens[S]) -> [S, V] {
  param embed[V, E]
  let x = embed[tokens]
  let first = x
  layers kinds { M: x = mixer(x) + first  '-': x = mlp(x, scale = 0.5) }
  linear(x, embed)
}
weights hf {
  embed = \"embed\"
  layers[i].mixer.{a, norm} = split(\"mixer.{i}\")
  layers[i].mlp.up = transpose(\"up.{i}\") layers[i].mlp.down = plus(\"down.{i}\", 1)
}
";
    let compiled = compiled(text, &[]);
    let names: Vec<String> =
        compiled.module.entry().params.iter().map(|it| format!("{}: {}", it.name, it.ty)).collect();
    assert_eq!(names[2], "layers.mixer.a: f32[layers.mixer, E]");
    let rules = &compiled.weights[0].rules;
    let a = rules.iter().find(|it| it.param == "layers.mixer.norm").unwrap();
    assert_eq!(a.layers, Some(vec![0, 2, 3]));
    let whole = Box::new(TensorSource::Tensor("mixer.{}".into()));
    assert_eq!(a.source, TensorSource::Rows(whole, 6, 12));
    assert_eq!(logits(&compiled.module, 3).len(), 27);
}

#[test]
fn a_convolution_sees_the_last_few_positions() {
    let text = "
use prelude
axis S <= 16, C = 3, W = 4
model m(x[S, C]: f32, w[C, W]: f32, b[C]: f32) { conv1d(x, w, b) }
";
    let module = compiled(text, &[]).module;
    let (tensors, _) = arguments(&module, 9);
    let [x, w, b] = [0, 1, 2].map(|i| &tensors[i].data);
    let expected = (0..27).map(|i| {
        let (s, c) = (i / 3, i % 3);
        let taps = (0..4).filter(|tap| 3 <= s + tap);
        taps.map(|tap| x[(s + tap - 3) * 3 + c] * w[c * 4 + tap]).sum::<f64>() + b[c]
    });
    same(&logits(&module, 9), &expected.collect::<Vec<_>>());
}

#[test]
fn a_state_space_decays_and_takes_in() {
    let text = "
use prelude
axis S <= 16, H = 1, J = 2, D = 2, N = 3
model m(x[S, H, J, D]: f32, dt[S, H, J]: f32, a[H, J]: f32, b[S, H, N]: f32, c[S, H, N]: f32) {
  ssd(x, dt, a, b, c)
}
";
    let module = compiled(text, &[]).module;
    let (tensors, _) = arguments(&module, 5);
    let [x, dt, a, b, c] = [0, 1, 2, 3, 4].map(|i| &tensors[i].data);
    let (mut state, mut expected) = (vec![0.0; 12], Vec::new());
    for s in 0..5 {
        for (at, row) in state.chunks_mut(3).enumerate() {
            let (j, step) = (at / 2, dt[s * 2 + at / 2]);
            for (n, h) in row.iter_mut().enumerate() {
                *h = *h * (step * a[j]).exp() + x[s * 4 + at] * step * b[s * 3 + n];
            }
            expected.push(row.iter().zip(&c[s * 3..]).map(|(h, c)| h * c).sum::<f64>());
        }
    }
    same(&logits(&module, 5), &expected);
}

#[track_caller]
fn same(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    let near = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-12 * (1.0 + b.abs());
    assert!(found.iter().zip(expected).all(near), "{found:?} against {expected:?}");
}

#[test]
fn a_recurrence_is_one_loop() {
    let text = "
axis S <= 16, E = 4, B = 3
model m(x[E, S]: f32, y[B, S, E]: f32) {
  let total = zeros([E])
  let h = zeros([B, E])
  let first, second = scan S {
    let both = y + x
    h = h * 0.5 + both
    (both, h)
  }
  scan B { total = total + h }
  sum(first * second, over = B) + total
}
";
    let module = compiled(text, &[]).module;
    assert_eq!(module.functions.len(), 3);
    assert_eq!(logits(&module, 3).len(), 12);
    assert_eq!(faults(&text.replace("scan B", "scan Z"), &[]), ["E0303"]);
    assert_eq!(faults(&text.replace("h = h * 0.5", "h = y * 0.5 * x + x[first]"), &[]), ["E0201"]);
    assert_eq!(faults(&text.replace("let both =", "param p[E]\n let both ="), &[]), ["E0207"]);
    assert_eq!(faults(&text.replace("total = total + h", "h = sum(h, over = E)"), &[]), ["E0301"]);
}

#[test]
fn mistakes_are_told_in_the_words_of_the_spec() {
    let text =
        LLAMA.replace("up[F, E], down", "up[E, F], down").replace("linear(h, v)", "linaer(h, v)");
    let sources = Sources::of("llama.tn", &text);
    let found = check(&sources, &Settings::default());
    let page = shown(&sources, &found);
    for part in ["`E` against `F`", "did you mean `linear`?", "llama.tn:"] {
        assert!(page.contains(part), "{part} is not in\n{page}");
    }
    assert_eq!(found.len(), 2, "{page}");
}

#[test]
fn broken_specs_are_refused_and_never_crash() {
    let mut random = Random(3);
    let mut n_sound = 0;
    for _ in 0..3000 {
        let text = broken(LLAMA, usize::MAX, &mut random);
        n_sound += usize::from(check(&Sources::of("spec.tn", &text), &set(&SMALL)).is_empty());
    }
    assert!((10..2000).contains(&n_sound), "{n_sound}");
}

#[test]
fn work_is_bounded() {
    let mut text = String::from("axis S <= 8\ninline fn f0(x[..]) -> [..] { x + 1 }\n");
    for i in 1..60 {
        text += &format!("inline fn f{i}(x[..]) -> [..] {{ f{0}(f{0}(x)) }}\n", i - 1);
    }
    text += "model m(x[S]: f32) { f59(x) }\n";
    assert_eq!(faults(&text, &[]), ["E0205"]);
    assert_eq!(crate::parse(SPEC, &text).1, []);
}

#[test]
fn deep_calls_end_before_the_stack_does() {
    for kind in ["fn", "inline fn"] {
        let mut text = String::from("axis S <= 8\nfn f0(x[..]) -> [..] { x + 1 }\n");
        for i in 1..400 {
            let (open, close) = ("(1 + -".repeat(20), ")".repeat(20));
            text += &format!("{kind} f{i}(x[..]) -> [..] {{ {open}f{}(x){close} }}\n", i - 1);
        }
        text += "model m(x[S]: f32) { f399(x) }\n";
        assert_eq!(faults(&text, &[]), ["E0205"]);
    }
}

#[test]
fn blocks_that_nothing_calls_are_checked() {
    let text = "
axis S <= 8, E = 4
block unused(x[S, E], scale = 2) { param w[E]  x * v * scale }
block generic(x[S, Q]) { x }
model m(x[S, E]: f32) { x }
";
    assert_eq!(faults(text, &[]), ["E0201"]);
    assert!(compiled(&text.replace("* v", "* w"), &[]).module.functions.len() == 1);
}
