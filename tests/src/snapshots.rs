//! What the compiler does to a model, for all to see: graphs, plan and figures. A snapshot is
//! compared, and written, only after every graph on the way is sound and reads as it prints.

use ir::Module;
use plan::Plan;
use treen::{Lowered, Options, Spec};

use crate::models::{folders, spec};

/// The numbers of SmolLM2 135M.
const MODEL: &str = "../models/llama.tn";

fn assert_sound(module: &Module) {
    let text = module.to_string();
    assert_eq!(ir::verify(module), Vec::<String>::new(), "{text}");
    assert!(ir::parse(&text).as_ref() == Ok(module), "it does not read as it prints:\n{text}");
}

/// Compiles `spec`; every graph on the way is sound.
fn lower(spec: &Spec, check: bool) -> (Module, Lowered) {
    let module = spec.compile().unwrap_or_else(|why| panic!("{why}")).module;
    assert_sound(&module);
    let options = Options { check, ..Options::default() };
    let lowered = treen::lower(module.clone(), &options, &mut |step| assert_sound(step.after));
    let lowered = lowered.unwrap_or_else(|why| panic!("{why}"));
    assert_sound(&lowered.module);
    (module, lowered)
}

fn with_layers(n: usize) -> Lowered {
    let set = [format!("L={n}")];
    let spec = Spec::open(MODEL, &set, &mut |_| {}).unwrap_or_else(|why| panic!("{why}"));
    lower(&spec, false).1
}

/// Figures that do not depend on how many layers there are.
fn figures(module: &Module, plan: &Plan) -> String {
    let nodes: usize = module.functions.iter().map(|it| it.nodes().len()).sum();
    let (launches, barriers) = plan.counts();
    let (functions, loops) = (module.functions.len(), plan.loops.len());
    format!(
        "functions {functions}\nnodes {nodes}\nlaunches {launches}\nbarriers {barriers}\n\
         loops {loops}\nbuffers {}\narena bytes {}\nconstant bytes {}\n",
        plan.buffers.len(),
        plan.arena_bytes,
        plan.constants.len()
    )
}

pub(crate) fn snapshot(name: &str, text: String) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

#[test]
fn llama() {
    let (module, lowered) = lower(&spec(MODEL), true);
    let costs = lowered.costs;
    assert_eq!(costs.parameters, 134_515_008);
    let costs = format!(
        "parameters {}\nflops of a position {}\nflops of a pair of positions {}\n\
         flops of the head {}\n",
        costs.parameters, costs.position_flops, costs.pair_flops, costs.head_flops
    );
    snapshot("llama-graph", module.to_string());
    snapshot("llama-lowered", lowered.module.to_string());
    snapshot("llama-plan", lowered.plan.to_string());
    snapshot("llama-figures", figures(&lowered.module, &lowered.plan) + &costs);
}

#[test]
fn depth_costs_nothing() {
    let [one, thirty] = [1, 30].map(with_layers);
    let all = |it: &Lowered| figures(&it.module, &it.plan);
    assert_eq!(all(&one), all(&thirty));
}

#[test]
fn builds_are_deterministic() {
    for path in folders() {
        let spec = spec(path.to_str().expect("a readable name"));
        let build = || {
            let maps = spec.compile().unwrap_or_else(|why| panic!("{why}")).weights;
            let mut lowered = lower(&spec, false).1;
            let checkpoint = import::Checkpoint::open(&path).expect("a checkpoint");
            let weights = treen::bind(&mut lowered, &maps, &checkpoint);
            let weights = weights.unwrap_or_else(|why| panic!("{why}"));
            (lowered.program, weights)
        };
        let (first, second) = (build(), build());
        assert!(first.0 == second.0, "{}: another program", path.display());
        assert!(first.1[..] == second.1[..], "{}: other weights", path.display());
    }
}

#[test]
fn every_graph_of_a_fixture_is_sound() {
    folders().iter().for_each(|it| {
        lower(&spec(it.to_str().expect("a readable name")), true);
    });
}
