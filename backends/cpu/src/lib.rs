//! The CPU backend: from a graph in step form to a program that the runtime executes.
//!
//! [`kernels::cover`] has chosen kernels and the passes have grouped the rest into loops. Here the
//! plan is made ([`plan`]), memory and barriers are decided, and Cranelift turns the loops and the
//! plan itself into machine code that needs no linking.

mod assemble;
mod barriers;
mod extent;
mod host;
mod loops;

use ir::{Function, Module, Name, StepAxes};
use plan::{Plan, Word};
use runtime::Program;

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
    let isa = assemble::target()?;
    let mut codes: Vec<(Name, loops::LoopCode)> = Vec::new();
    let mut plan = plan::plan(module, &mut |module: &Module, function: &Function, products| {
        if let Some((_, code)) = codes.iter().find(|(name, _)| *name == function.name) {
            return Ok(code.words.clone());
        }
        let code = loops::generate(module, function, products, &*isa)
            .map_err(|why| format!("@{}: {why}", function.name))?;
        let words = code.words.clone();
        codes.push((function.name.clone(), code));
        Ok(words)
    })?;
    barriers::insert(&mut plan, &module.axes);
    let mut functions = Vec::new();
    for name in &plan.loops {
        let at = codes.iter().position(|(it, _)| it == name).expect("generated while planning");
        functions.push(codes.swap_remove(at).1.clif);
    }
    functions.push(host::generate(module, &plan, &*isa));
    let blob = assemble::assemble(functions, &isa)?;
    let program = Program {
        abi: runtime::abi::ABI,
        code: blob.code,
        entry: blob.entry,
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
