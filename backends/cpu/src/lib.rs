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

use ir::{DType, Extent, Function, Module, Name, Role, StepAxes};
use plan::{CAPACITY, Plan, Word};
use runtime::{ExtentRole, ExtentSlot, Port, Program, StateSlot, WeightSlot};

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
        name: module.entry().name.to_string(),
        code: blob.code,
        entry: blob.entry,
        kernels: plan.kernels.clone(),
        constants: plan.constants.clone(),
        extents: extents(module, axes, &plan)?,
        vocabulary: vocabulary(module),
        inputs: ports(module, &plan, true)?,
        outputs: ports(module, &plan, false)?,
        states: states(&plan),
        weights: weights(&plan),
        arena_bytes: plan.arena_bytes,
        scratch_bytes: scratch_bytes(module, &plan),
        graph: module.to_string(),
        plan: plan.to_string(),
    };
    Ok(Compiled { program, plan })
}

/// What the run-time axis `name` counts.
fn role(axes: &StepAxes, name: &Name) -> Option<ExtentRole> {
    let is = |it: &Option<Name>| it.as_ref() == Some(name);
    match name {
        it if *it == axes.new => Some(ExtentRole::New),
        it if *it == CAPACITY => Some(ExtentRole::Capacity),
        _ if is(&axes.past) => Some(ExtentRole::Past),
        _ if is(&axes.last) => Some(ExtentRole::Last),
        _ if is(&axes.source) => Some(ExtentRole::Source),
        _ if is(&axes.first) => Some(ExtentRole::First),
        _ => None,
    }
}

fn extents(module: &Module, axes: &StepAxes, plan: &Plan) -> Result<Vec<ExtentSlot>, String> {
    let bound = |name: &Name| module.axes.bound(&ir::Axis::atom(name)).unwrap_or(0) as u64;
    let slot = |name: &Name| {
        let role = role(axes, name);
        let role = role.ok_or_else(|| format!("nothing says at run time how long `{name}` is"))?;
        let past = axes.past.as_ref().unwrap_or(&axes.new);
        let max = if role == ExtentRole::Capacity { bound(past) } else { bound(name) };
        Ok(ExtentSlot { name: name.to_string(), role, max })
    };
    plan.extents.iter().map(slot).collect()
}

/// How many rows the table has that the entry's input looks up.
fn vocabulary(module: &Module) -> u64 {
    let entry = module.entry();
    let is_input = |it: &ir::Value| entry.as_param(*it).is_some_and(|it| it.role == Role::Input);
    let lookup = entry.nodes().iter().filter(|it| it.operands.iter().any(is_input));
    let tables = lookup.flat_map(|it| &it.operands).filter_map(|it| entry.as_param(*it));
    let mut weights = tables.filter(|it| it.role == Role::Weight);
    let table = weights.next().and_then(|it| it.ty.axes.first());
    table.and_then(|it| module.axes.fixed(it)).map_or(i32::MAX as u64, |it| it as u64)
}

/// The inputs, or the outputs that are no states.
fn ports(module: &Module, plan: &Plan, inputs: bool) -> Result<Vec<Port>, String> {
    let entry = module.entry();
    let is_state = |name: &Name| plan.states.iter().any(|it| it.name == *name);
    let named: Vec<(&Name, &ir::Type)> = if inputs {
        let inputs = entry.params.iter().filter(|it| it.role == Role::Input);
        inputs.map(|it| (&it.name, &it.ty)).collect()
    } else {
        let outputs = entry.outputs.iter().filter(|it| !is_state(&it.name));
        outputs.map(|it| (&it.name, entry.ty(it.value))).collect()
    };
    let port = |(name, ty): (&Name, &ir::Type)| {
        let runtime = |it: &ir::Axis| {
            let atom = it.as_atom().filter(|atom| {
                matches!(
                    module.axes.get(atom.as_str()).map(|it| &it.extent),
                    Some(Extent::Runtime { .. })
                )
            })?;
            plan.extents.iter().position(|it| it == atom)
        };
        let grows: Vec<&ir::Axis> =
            ty.axes.iter().filter(|it| module.axes.fixed(it).is_none()).collect();
        let rows = grows.first().and_then(|it| runtime(it));
        if 1 < grows.len() || rows.is_some() != (grows.len() == 1) {
            return Err(format!(
                "`{name}` is {ty}: only one run-time axis can be told from outside"
            ));
        }
        let mut sizes = ty.axes.iter().filter_map(|it| module.axes.fixed(it));
        let row = sizes.try_fold(1u64, |row, it| row.checked_mul(it as u64));
        let row = row.ok_or_else(|| format!("`{name}` is {ty}: larger than any memory"))?;
        let (name, ty) = (name.to_string(), ty.to_string());
        Ok(Port { name, ty, element_bytes: 4, row, rows })
    };
    named.into_iter().map(port).collect()
}

fn states(plan: &Plan) -> Vec<StateSlot> {
    let slot = |it: &plan::State| StateSlot {
        name: it.name.to_string(),
        banks: it.banks,
        position_bytes: it.position_bytes,
        fixed_bytes: it.fixed_bytes,
        once: it.once,
    };
    plan.states.iter().map(slot).collect()
}

/// A slot for each layer of each bank; formats and places are decided when weights are bound.
fn weights(plan: &Plan) -> Vec<WeightSlot> {
    let slots = |bank: &plan::Bank| {
        let bank = bank.clone();
        (0..bank.layers).map(move |layer| WeightSlot {
            name: bank.param.to_string(),
            layer,
            dtype: DType::F32,
            shape: bank.shape,
            packed: bank.packed,
            offset: 0,
            bytes: 0,
        })
    };
    plan.banks.iter().flat_map(slots).collect()
}

/// The most scratch memory that a kernel of the plan asks for, for one thread.
fn scratch_bytes(module: &Module, plan: &Plan) -> u64 {
    fn launches<'a>(steps: &'a [plan::Step], found: &mut Vec<&'a plan::Launch>) {
        for step in steps {
            match step {
                plan::Step::Launch(launch) => found.push(launch),
                plan::Step::Loop { steps, .. } => launches(steps, found),
                plan::Step::Barrier => {}
            }
        }
    }
    let mut found = Vec::new();
    launches(&plan.steps, &mut found);
    let bytes = found.into_iter().filter_map(|launch| {
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
