//! The CPU backend: from a graph in step form to a program that the runtime executes.
//!
//! [`kernels::cover`] has chosen kernels and the passes have grouped the rest into loops. Here the
//! plan is made ([`plan`]), memory and barriers are decided, and Cranelift turns the loops and the
//! plan itself into machine code that needs no linking, once for every level of processors.

mod assemble;
mod barriers;
mod extent;
mod host;
mod loops;

use std::collections::BTreeMap;

use cranelift_codegen::isa::OwnedTargetIsa;
use ir::{Function, Module, Name, StepAxes};
use plan::{Plan, Word};
use runtime::{Entry, Level, Program};

use loops::LoopCode;

/// A compiled module.
pub struct Compiled {
    /// What the runtime executes; its weights are yet to be bound.
    pub program: Program,
    /// The plan it was made from.
    pub plan: Plan,
}

/// Compiles `module`, whose functions hold only calls of kernels and loops, scans, views, appends
/// to states and tables of constants.
///
/// # Errors
///
/// What this backend can not run, in a sentence.
pub fn compile(module: &Module, axes: &StepAxes) -> Result<Compiled, String> {
    let targets = Level::ALL.map(|level| assemble::target(level).map(|isa| (level, isa)));
    let targets = targets.into_iter().collect::<Result<Vec<_>, _>>()?;
    let mut codes: BTreeMap<Name, Vec<LoopCode>> = BTreeMap::new();
    let mut plan = plan::plan(module, &mut |module: &Module, function: &Function, products| {
        if let Some(code) = codes.get(&function.name) {
            return Ok(code[0].words.clone());
        }
        let generate = |(_, isa): &(_, OwnedTargetIsa)| {
            loops::generate(module, function, products, &**isa)
                .map_err(|why| format!("@{}: {why}", function.name))
        };
        let code = targets.iter().map(generate).collect::<Result<Vec<_>, _>>()?;
        let words = code[0].words.clone();
        codes.insert(function.name.clone(), code);
        Ok(words)
    })?;
    barriers::insert(&mut plan);
    let (mut code, mut entries) = (Vec::new(), Vec::new());
    for (i, (level, isa)) in targets.iter().enumerate() {
        let mut functions: Vec<_> = plan.loops.iter().map(|it| codes[it][i].clif.clone()).collect();
        functions.push(host::generate(module, &plan, &**isa));
        let blob = assemble::assemble(functions, isa)?;
        code.resize(code.len().next_multiple_of(assemble::ALIGN), 0xcc);
        entries.push(Entry { level: *level, at: code.len() + blob.entry });
        code.extend(blob.code);
    }
    let program = Program {
        abi: runtime::abi::ABI,
        code,
        entries,
        kernels: plan.kernels.clone(),
        scratch_bytes: scratch_bytes(module, &plan),
        ..plan::program(module, axes, &plan)?
    };
    Ok(Compiled { program, plan })
}

/// The most scratch memory that a kernel of the plan asks for, for one thread.
fn scratch_bytes(module: &Module, plan: &Plan) -> u64 {
    let bytes = plan.launches().into_iter().filter_map(|launch| {
        let name = plan.callee_name(launch.callee);
        let kernel = kernels_cpu::kernels().iter().find(|it| it.name == name)?;
        let word = |it: &Word| match it {
            Word::Size(axes) => axes
                .iter()
                .map(|it| module.axes.bound(it).unwrap_or(0) as u64)
                .fold(1, u64::saturating_mul),
            Word::Bits(bits) => *bits,
            _ => 0,
        };
        let words: Vec<u64> = launch.words.iter().map(word).collect();
        Some(kernel.scratch_bytes(&words) as u64)
    });
    bytes.max().unwrap_or(0)
}
