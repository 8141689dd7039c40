//! What the runtime has to know of a planned module, whatever it runs on.

use ir::{DType, Extent, Module, Name, Role, StepAxes};
use runtime::{ExtentRole, ExtentSlot, Port, Program, StateSlot, WeightSlot};

use crate::{Bank, CAPACITY, Plan, State};

/// The program of `module`, but for its code. Its weights are yet to be bound.
///
/// # Errors
///
/// What can not be told from outside, in a sentence.
pub fn program(module: &Module, axes: &StepAxes, plan: &Plan) -> Result<Program, String> {
    Ok(Program {
        name: module.entry().name.to_string(),
        constants: plan.constants.clone(),
        extents: extents(module, axes, plan)?,
        vocabulary: vocabulary(module),
        inputs: ports(module, plan, true)?,
        outputs: ports(module, plan, false)?,
        states: states(plan),
        weights: weights(plan),
        arena_bytes: plan.arena_bytes,
        graph: module.to_string(),
        plan: plan.to_string(),
        ..Program::default()
    })
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
    let slot = |it: &State| StateSlot {
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
    let slots = |bank: &Bank| {
        let bank = bank.clone();
        (0..bank.layers).map(move |layer| WeightSlot {
            name: bank.param.to_string(),
            layer: bank.from + layer,
            dtype: DType::F32,
            shape: bank.shape,
            packed: bank.packed,
            offset: 0,
            bytes: 0,
        })
    };
    plan.banks.iter().flat_map(slots).collect()
}
