//! Cutting axes: which weights an axis touches, and that all forms of a cut agree, on the tiny
//! model of every family.

use std::fmt::Write;
use std::path::Path;

use frontend::WeightMap;
use import::Checkpoint;
use ir::Module;
use passes::{Class, Links, Manager, Noise, Orders, Pipeline};
use runtime::Model;
use treen::{Budget, Choice, Options, Ranking, ReferenceModel, Spec, export, slices};

use crate::models::{folders, spec};

fn module(name: &str) -> Module {
    spec(name).compile().unwrap_or_else(|why| panic!("{name}: {why}")).module
}

/// What there is to say of a class, in a line.
fn line(links: &Links, class: &Class) -> String {
    let why = links.rigid(class.atom.as_str());
    let mut line = format!("{} ", passes::key(links, class));
    if let Some(layers) = &class.layers {
        let _ = write!(line, "of each {layers} ");
    }
    if let Some(group) = passes::group(class) {
        let _ = write!(line, "in each {group} ");
    }
    if let Some(why) = why {
        let _ = write!(line, "[{why}] ");
    }
    let holders = class.holders.iter().map(|it| format!("{}/{}", it.param, it.axis));
    line + ": " + &holders.collect::<Vec<_>>().join(" ")
}

#[test]
fn which_weights_an_axis_touches() {
    let mut text = String::new();
    for path in folders() {
        let name = path.file_name().and_then(|it| it.to_str()).expect("a readable name");
        let links = Links::of(&module(path.to_str().expect("a readable name")));
        let _ = writeln!(text, "{name}");
        let is_layer = |it: &Class| it.layers.as_ref() == Some(&it.atom);
        for class in links.classes().iter().filter(|it| !is_layer(it)) {
            let _ = writeln!(text, "  {}", line(&links, class));
        }
    }
    insta::assert_snapshot!("links", text);
}

fn slice(module: Module, to: &str) -> Result<Module, String> {
    let pipeline = Pipeline::parse(&format!("slice{{to={to}}}"), &passes::all()).expect("a pass");
    let done = Manager::default().run(&pipeline, module, &mut |_| {});
    done.map(|it| it.0).map_err(|why| why.to_string())
}

#[test]
fn forms_of_a_cut_agree_in_every_family() {
    for path in folders() {
        let module = module(path.to_str().expect("a readable name"));
        let links = Links::of(&module);
        // All that can be cut, each to half.
        let free = links.classes().iter().filter(|it| links.rigid(it.atom.as_str()).is_none());
        let mut to: Vec<String> = free
            .map(|it| {
                let size = module.axes.fixed(&(&it.atom).into()).expect("an extent");
                format!("{}={}", it.atom, size.div_ceil(2))
            })
            .collect();
        to.dedup();
        slice(module, &to.join(" ")).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
    }
}

/// Heads within groups, their channels, feed-forward, query heads and the stream: each combination
/// of the whole and half of them.
#[test]
fn every_combination_of_a_hybrid_agrees() {
    let small = slice(module("fixtures/nemotron_h"), "D=3 E=12 F=14 G=1 J=2");
    let small = small.unwrap_or_else(|why| panic!("{why}"));
    let sizes = ["D", "E", "F", "G", "J", "H"].map(|it| small.axes.fixed(&ir::Axis::atom(it)));
    assert_eq!(sizes, [Some(3), Some(12), Some(14), Some(1), Some(2), Some(2)]);
}

/// A product that is one only by number has no groups to keep the first of.
#[test]
fn flat_prefixes_are_refused() {
    let text = "axis H = 2
         axis I = 6
         axis J = 3
         axis S <= 8
         fn @model (input %x : f32[S], weight %w : f32[I], weight %d : f32[H]) {
           %0 = mul %x %w : f32[S, I]
           %1 = split %0 {axis = I, into = [H, J]} : f32[S, H, J]
           %2 = contract %1 %d {over = [H, J]} : f32[S]
           return y = %2
         }";
    let module = ir::parse(text).unwrap_or_else(|why| panic!("{why}"));
    for to in ["I=4", "J=2", "I=4 J=2"] {
        let why = slice(module.clone(), to).expect_err(to);
        assert!(why.contains("can not be cut: another axis is as long as it"), "{why}");
    }
}

#[test]
fn what_is_counted_or_told_is_not_cut() {
    let hybrid = module("fixtures/nemotron_h");
    for (to, said) in [
        ("V=10", "`V` can not be cut: "),
        ("S=10", "`S` has no extent to cut"),
        ("Q=10", "there is no axis `Q`"),
        ("F", "`F` is not an axis with its extent: `F=8960`"),
    ] {
        let why = slice(hybrid.clone(), to).expect_err(to);
        assert!(why.contains(said), "{why}");
    }
}

/// Layers of Nano 2 9B that NVIDIA's Model Optimizer leaves out of its 7B with 48 layers, from 0.
const SKIPPED: &str = "skip=42+43+44+45+46+47+49+51";

/// The candidates of 7B that Model Optimizer's log of pruning Nano 2 9B gives, with what they are
/// cut to and their parameters. (`J` counts Mamba heads in each of 8 groups.)
#[test]
fn candidates_of_the_published_log() {
    let candidates = [
        (&*format!("E=4352,J=15,D=80,F=13824,{SKIPPED}"), 48, 6_997_637_824),
        ("E=4096,J=12,D=80,F=14336", 56, 6_997_992_032),
        ("E=4352,J=14,D=80,F=10240", 56, 6_997_285_488),
        ("E=4352,J=15,D=72,F=10752", 56, 6_996_781_688),
    ];
    for (budget, n_layers, parameters) in candidates {
        let small = cut(spec("nano2-9b"), budget);
        let pattern = small.settings.iter().find(|it| it.0 == "pattern").expect("a pattern").1;
        assert_eq!(pattern.len(), n_layers);
        if n_layers == 48 {
            assert_eq!(pattern, "M-M-M-MM-M-M-M*-M-M-M*-M-M-M-M*-M-M-M-M*-MMMM-M-");
        }
        let module = small.compile().unwrap_or_else(|why| panic!("{why}")).module;
        assert_eq!(slices::parameters(&module, &Default::default()), Some(parameters), "{budget}");
        // The text of the spec says the same.
        let text = small.text().unwrap_or_else(|why| panic!("{why}"));
        assert!(text.contains(&format!("value pattern = \"{pattern}\"")), "{text}");
    }
}

/// The spec of what a budget leaves.
fn cut(whole: Spec, budget: &str) -> Spec {
    let compiled = whole.compile().unwrap_or_else(|why| panic!("{why}"));
    let budget: Budget = budget.parse().expect("a budget");
    let choice = budget.choose(&whole, &compiled, &Ranking::default());
    let choice: Choice = choice.unwrap_or_else(|why| panic!("{why}"));
    let sliced = slices::slice(whole, compiled, &choice, &Ranking::default().orders);
    sliced.unwrap_or_else(|why| panic!("{why}")).spec
}

/// Weights of a cut model that are written anew are read as the cut ones were: through split and
/// squeezed tensors, with orders for each layer and group, and with layers left out.
#[test]
fn cut_weights_can_be_written() {
    for (name, budget) in [
        ("fixtures/nemotron_h", "E=12,F=14,G=1,J=2,D=3,skip=1+5"),
        ("fixtures/llama-tied", "E=16,F=20,skip=0"),
        ("fixtures/gpt2", "F=20"),
    ] {
        let whole = spec(name);
        let compiled = whole.compile().unwrap_or_else(|why| panic!("{why}"));
        let checkpoint = Checkpoint::open(Path::new(name)).expect("a checkpoint");
        let budget: Budget = budget.parse().expect("a budget");
        let orders = Orders::random(&compiled.module, &budget.widths, &mut Noise::new(1));
        let ranking = Ranking { orders, layers: None };
        let choice = budget.choose(&whole, &compiled, &ranking).expect("a choice");
        let sliced = slices::slice(whole, compiled, &choice, &ranking.orders);
        let sliced = sliced.unwrap_or_else(|why| panic!("{name}: {why}"));
        let small = sliced.spec.compile().unwrap_or_else(|why| panic!("{name}: {why}"));
        let target = small.weights.iter().find(|it| it.format == "hf").expect("a map");
        let maps = &sliced.compiled.weights;
        let tensors = export::tensors(&small.module, maps, target, &checkpoint, None);
        let tensors = tensors.unwrap_or_else(|why| panic!("{name}: {why}"));
        let path =
            std::env::temp_dir().join(format!("treen-cut-{}.safetensors", std::process::id()));
        export::write(&path, &tensors.tensors).expect("a temporary file");
        let written = Checkpoint::open(&path);
        std::fs::remove_file(&path).expect("the file just written");
        let written = written.expect("a checkpoint");
        let options = Options { check: false, ..Options::default() };
        let cut_options = Options { widths: sliced.widths, ..options.clone() };
        let outputs = |module, maps: &[WeightMap], checkpoint: &Checkpoint, options: &Options| {
            let lowered = treen::lower(module, options, &mut |_| {});
            let lowered = lowered.unwrap_or_else(|why| panic!("{name}: {why}"));
            let model = ReferenceModel::new(&lowered, maps, checkpoint);
            let mut model = model.unwrap_or_else(|why| panic!("{name}: {why}"));
            model.step(&[3, 1, 4, 1, 5], 5).expect("a step").to_vec()
        };
        let expected = outputs(sliced.compiled.module, maps, &checkpoint, &cut_options);
        let found = outputs(small.module.clone(), &small.weights, &written, &options);
        assert_eq!(found, expected, "{name}");
        assert!(found.iter().any(|it| *it != found[0]));
    }
}

/// A model without some layers answers as the whole one does where these hand on what they get.
#[test]
fn layers_left_out_hand_on_what_they_get() {
    let name = "fixtures/nemotron_h";
    let whole = spec(name);
    let compiled = whole.compile().unwrap_or_else(|why| panic!("{why}"));
    let checkpoint = Checkpoint::open(Path::new(name)).expect("a checkpoint");
    let outputs = |module: &Module, maps: &[WeightMap], options: &Options| {
        let lowered = treen::lower(module.clone(), options, &mut |_| {});
        let lowered = lowered.unwrap_or_else(|why| panic!("{why}"));
        let model = ReferenceModel::new(&lowered, maps, &checkpoint);
        let mut model = model.unwrap_or_else(|why| panic!("{why}"));
        model.step(&[3, 1, 4, 1, 5], 5).expect("a step").to_vec()
    };
    let options = Options { check: false, ..Options::default() };
    for skipped in [vec![0], vec![1, 3], vec![2, 5, 6]] {
        let list: Vec<String> = skipped.iter().map(usize::to_string).collect();
        let passes = format!("mask{{skip={}}},{}", list.join(" "), treen::DEFAULT_PIPELINE);
        let masked = Options { passes: Some(passes), ..options.clone() };
        let found = outputs(&compiled.module, &compiled.weights, &masked);
        let choice = Choice { skipped: skipped.into_iter().collect(), ..Choice::default() };
        let sliced = slices::slice(whole.clone(), compiled.clone(), &choice, &Orders::default());
        let sliced = sliced.unwrap_or_else(|why| panic!("{why}"));
        let cut = outputs(&sliced.compiled.module, &sliced.compiled.weights, &options);
        assert_eq!(found, cut, "without {list:?}");
    }
}

/// A limit picks the declared choices with the most parameters within it.
#[test]
fn budgets_pick_declared_choices() {
    let set = ["F=28 elastic {21, 14}", "J=3 elastic {2}"].map(str::to_owned);
    let whole = Spec::open("fixtures/nemotron_h", &set, &mut |_| {});
    let whole = whole.unwrap_or_else(|why| panic!("{why}"));
    let module = whole.compile().unwrap_or_else(|why| panic!("{why}")).module;
    let all = slices::parameters(&module, &Default::default()).expect("a number");
    let of = |f, j| slices::parameters(&module, &[("F", f), ("J", j)].into()).expect("a number");
    let extents = |budget: &str| {
        let small = cut(whole.clone(), budget).compile().unwrap_or_else(|why| panic!("{why}"));
        ["F", "J"].map(|it| small.module.axes.fixed(&ir::Axis::atom(it)).expect("an extent"))
    };
    assert!(of(14, 3) < of(21, 3) && of(28, 2) < of(14, 3));
    for (f, j) in [(28, 3), (21, 3), (14, 3), (28, 2), (21, 2), (14, 2)] {
        let limit = format!("{}b", of(f, j) as f64 / 1e9);
        assert_eq!(extents(&limit), [f, j], "{limit}");
    }
    assert_eq!(all, of(28, 3));
    assert_eq!(extents("F=14"), [14, 3]);
    let compiled = whole.compile().unwrap_or_else(|why| panic!("{why}"));
    let none: Budget = "100b,0.000001MB".parse().expect("a budget");
    assert!(none.choose(&whole, &compiled, &Ranking::default()).is_err());
}
