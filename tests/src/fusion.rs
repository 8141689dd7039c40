//! What fusion does to every family: what it finds, what a step launches with it and without, and
//! how far the e-graphs grow.

use std::{fmt::Write, time::Instant};

use ir::{Axis, Function, Module, Node, Op, Value};
use passes::{Manager, growth, rules::Rules};
use treen::{
    Lowered, Options, Spec,
    catalog::{self, Entry},
};

use crate::{
    models::{folders, spec},
    snapshots::snapshot,
};

/// The passes without fusion.
fn plain(usual: &str) -> String {
    usual.replace("join,", "").replace("fuse,", "")
}

fn lower(spec: &Spec, fuses: bool) -> Lowered {
    let module = spec.compile().unwrap_or_else(|why| panic!("{why}")).module;
    let mut options = Options { check: false, ..Options::default() };
    if !fuses {
        let pipeline = options.pipeline(&module).unwrap_or_else(|why| panic!("{why}"));
        options.passes = Some(plain(&pipeline.to_string()));
    }
    treen::lower(module, &options, &mut |_| {}).unwrap_or_else(|why| panic!("{why}"))
}

/// The bytes that all calls of `function` read and write for one position, in `f32`.
fn moved(module: &Module, function: &Function) -> u64 {
    let extent = |axis: &Axis| module.axes.fixed(axis).unwrap_or(1) as u64;
    let bytes = |it: Value| 4 * function.ty(it).axes.iter().map(extent).product::<u64>();
    let of_node = |node: &Node| match &node.op {
        Op::Call(_) => node.operands.iter().copied().chain(node.results()).map(bytes).sum(),
        Op::Scan(scan) => {
            let body = module.function(scan.body.as_str()).expect("a body");
            extent(&scan.axis) * moved(module, body)
        }
        _ => 0,
    };
    function.nodes().iter().map(of_node).sum()
}

#[test]
fn no_model_launches_more() {
    let mut table = "model: launches and bytes of a token without fusion, and with it\n".to_owned();
    for path in folders() {
        let spec = spec(path.to_str().expect("a readable name"));
        let [without, with] = [false, true].map(|fuses| {
            let Lowered { plan, module, .. } = lower(&spec, fuses);
            (plan.counts().0, moved(&module, module.entry()))
        });
        let name = path.file_name().and_then(|it| it.to_str()).unwrap_or_default();
        assert!(with.0 <= without.0, "{name}: {with:?} after {without:?}");
        writeln!(table, "{name}: {} {}, {} {}", without.0, without.1, with.0, with.1)
            .expect("a text grows");
    }
    snapshot("fusion", table);
}

/// The module as `fuse` finds it.
fn before_fusion(spec: &Spec) -> Module {
    let module = spec.compile().unwrap_or_else(|why| panic!("{why}")).module;
    let options = Options::default();
    let pipeline = options.pipeline(&module).unwrap_or_else(|why| panic!("{why}")).before("fuse");
    let manager = Manager { check: false, ..Manager::default() };
    manager.run(&pipeline, module, &mut |_| {}).unwrap_or_else(|why| panic!("{why}")).0
}

/// `cargo test -p tests saturates -- --nocapture` shows how long it takes, too.
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
            let start = Instant::now();
            let Some(grown) = growth(&module, function, &rules) else { continue };
            println!("{name} @{}: {grown:?} {:?}", function.name, start.elapsed());
            assert_eq!(grown.limit, None, "{name} @{}", function.name);
        }
    }
}

#[test]
fn depth_changes_no_fusion() {
    let fused = |layers: usize| {
        let set = [format!("L={layers}")];
        let spec = Spec::open("../models/llama.tn", &set, &mut |_| {});
        let records = lower(&spec.unwrap_or_else(|why| panic!("{why}")), true).records;
        let record = records.into_iter().find(|it| it.stage == "fuse").expect("the pass");
        record.rewrites
    };
    let one = fused(1);
    assert!(!one.is_empty());
    assert_eq!(one, fused(100));
}
