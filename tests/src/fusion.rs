//! What fusion does to every family: what it finds, what a step launches with it and without, and
//! how far the e-graphs grow.

use std::fmt::Write;
use std::time::Instant;

use ir::{Axis, Function, Module, Node, Op, Value};
use passes::{Manager, growth, rules::Rules};
use runtime::Target;
use treen::{
    Lowered, Options, Spec,
    catalog::{self, Entry},
};

use crate::{
    models::{folders, spec},
    snapshots::snapshot,
};

/// What one step of one position takes: launches, those in loops once, and the bytes that they read
/// and write, in `f32`.
type Work = (usize, u64);

fn lower(spec: &Spec, options: Options) -> Lowered {
    let module = spec.compile().unwrap_or_else(|why| panic!("{why}")).module;
    let options = Options { check: false, ..options };
    treen::lower(module, &options, &mut |_| {}).unwrap_or_else(|why| panic!("{why}"))
}

/// The usual options, and those without rules and without joined products.
fn options(target: Target, spec: &Spec, fuses: bool) -> Options {
    let mut options = Options { target, ..Options::default() };
    if !fuses {
        let module = spec.compile().unwrap_or_else(|why| panic!("{why}")).module;
        let usual = options.pipeline(&module).unwrap_or_else(|why| panic!("{why}")).to_string();
        options.passes = Some(usual.replace("join,", "").replace("fuse,", ""));
    }
    options
}

/// What `function` takes, where `costs` says which nodes are launched.
fn work(module: &Module, function: &Function, costs: &dyn Fn(&Function, &Node) -> bool) -> Work {
    let extent = |axis: &Axis| module.axes.fixed(axis).unwrap_or(1) as u64;
    let bytes = |it: Value| 4 * function.ty(it).axes.iter().map(extent).product::<u64>();
    let of_node = |node: &Node| match &node.op {
        Op::Scan(scan) => {
            let body = module.function(scan.body.as_str()).expect("a body");
            let (launches, bytes) = work(module, body, costs);
            (launches, extent(&scan.axis) * bytes)
        }
        _ if costs(function, node) => {
            (1, node.operands.iter().copied().chain(node.results()).map(bytes).sum())
        }
        _ => (0, 0),
    };
    let nodes = function.nodes().iter().zip(function.live()).filter(|it| it.1);
    nodes.map(|it| of_node(it.0)).fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1))
}

/// Each node of the graph by itself; what is the same bytes under another name is none.
fn unfused(spec: &Spec) -> Work {
    let module = before_fusion(spec);
    let is_work = |function: &Function, node: &Node| match node.op {
        Op::Split(_) | Op::Merge(_) | Op::Rename(_) | Op::Slice(_) => false,
        // A layer of a weight.
        Op::Gather(_) => function.maker(node.operands[1]).is_none_or(|it| !it.operands.is_empty()),
        _ => !node.operands.is_empty(),
    };
    work(&module, module.entry(), &is_work)
}

fn fused(spec: &Spec, target: Target, fuses: bool) -> Work {
    let Lowered { plan, module, .. } = lower(spec, options(target, spec, fuses));
    let is_call = |_: &Function, node: &Node| matches!(node.op, Op::Call(_));
    (plan.counts().0, work(&module, module.entry(), &is_call).1)
}

#[test]
fn no_model_launches_more() {
    let mut table = format!(
        "launches and bytes of a token\n{:<14}{:>18}{:>18}{:>18}{:>18}{:>18}\n",
        "", "node by node", "CPU, no rules", "CPU", "GPU, no rules", "GPU"
    );
    for path in folders() {
        let spec = spec(path.to_str().expect("a readable name"));
        let of = |(target, fuses)| fused(&spec, target, fuses);
        let forms = [
            (Target::Cpu, false),
            (Target::Cpu, true),
            (Target::Cuda, false),
            (Target::Cuda, true),
        ];
        let [cpu_plain, cpu, gpu_plain, gpu] = forms.map(of);
        let alone = unfused(&spec);
        let name = path.file_name().and_then(|it| it.to_str()).unwrap_or_default();
        let falls = |more: Work, less: Work| less.0 <= more.0 && less.1 <= more.1;
        assert!(falls(alone, cpu) && falls(alone, gpu), "{name}: {cpu:?}, {gpu:?} after {alone:?}");
        assert!(cpu.0 <= cpu_plain.0 && gpu.0 <= gpu_plain.0, "{name}: rules make it worse");
        let column = |it: Work| format!("{:>7} {:>10}", it.0, it.1);
        let row = [alone, cpu_plain, cpu, gpu_plain, gpu].map(column);
        writeln!(table, "{name:<14}{}", row.concat()).expect("a text grows");
    }
    snapshot("fusion", table);
}

/// The weights of norms go into products: launches, and bytes without weights that are read in
/// one product alone, which stay as they are.
#[test]
fn norms_give_their_weights_away() {
    let mut table = format!("bytes of a token\n{:<14}{:>10}{:>10}\n", "", "", "absorbed");
    for path in folders() {
        let spec = spec(path.to_str().expect("a readable name"));
        let usual = Options::default();
        let params = spec.compile().unwrap_or_else(|why| panic!("{why}")).module;
        let params = params.entry().params.iter().map(|it| it.name.to_string());
        let open = Options { open: params.collect(), ..Options::default() };
        let [before, after] = [usual, open].map(|options| {
            let Lowered { plan, module, .. } = lower(&spec, options);
            let is_call = |_: &Function, node: &Node| matches!(node.op, Op::Call(_));
            (plan.counts().0, work(&module, module.entry(), &is_call).1)
        });
        let name = path.file_name().and_then(|it| it.to_str()).unwrap_or_default();
        assert!(before.0 == after.0 && after.1 <= before.1, "{name}: {before:?}, {after:?}");
        writeln!(table, "{name:<14}{:>10}{:>10}", before.1, after.1).expect("a text grows");
    }
    snapshot("absorbed", table);
}

/// The module as `fuse` finds it.
fn before_fusion(spec: &Spec) -> Module {
    let module = spec.compile().unwrap_or_else(|why| panic!("{why}")).module;
    let options = Options::default();
    let pipeline = options.pipeline(&module).unwrap_or_else(|why| panic!("{why}")).before("fuse");
    let manager = Manager { check: false, ..Manager::default() };
    manager.run(&pipeline, module, &mut |_| {}).unwrap_or_else(|why| panic!("{why}")).0
}

/// The most terms of a distinct body with all that rules make of it: a few milliseconds.
const MOST_TERMS: usize = 200;

/// `cargo test -p tests saturates -- --nocapture` shows how far each grows, and how long a function
/// takes at least, all of its bodies and the same without rules.
#[test]
#[expect(clippy::print_stdout, reason = "the figures are what the test is for")]
fn every_body_saturates() {
    let rules = Rules::standard();
    let fixtures = folders().into_iter().map(|it| it.display().to_string());
    let entries = catalog::entries().into_iter();
    let numbers = entries.filter(|(_, it)| matches!(it, Entry::Numbers(_))).map(|it| it.0);
    for name in fixtures.chain(numbers) {
        let module = before_fusion(&spec(&name));
        for function in &module.functions {
            let times = (0..5).map(|_| {
                let start = Instant::now();
                growth(&module, function, &rules);
                start.elapsed()
            });
            let least = times.min().unwrap_or_default();
            for grown in growth(&module, function, &rules) {
                println!("{name} @{}: {grown:?} in {least:.1?}", function.name);
                assert_eq!(grown.limit, None, "{name} @{}", function.name);
                assert!(grown.after <= MOST_TERMS, "{name} @{}: {grown:?}", function.name);
            }
        }
    }
}

#[test]
fn depth_changes_no_fusion() {
    let fused = |layers: usize| {
        let set = [format!("L={layers}")];
        let spec = Spec::open("../models/llama.tn", &set, &mut |_| {});
        let spec = spec.unwrap_or_else(|why| panic!("{why}"));
        let records = lower(&spec, Options::default()).records;
        let record = records.into_iter().find(|it| it.stage == "fuse").expect("the pass");
        record.rewrites
    };
    let one = fused(1);
    assert!(!one.is_empty());
    assert_eq!(one, fused(100));
}
