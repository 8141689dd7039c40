//! Wrong loops: over layers, over positions, and those that are generated.

use ir::{
    Axis, Extent, Function, Module, Name, Op, Role, Value,
    ops::{BinaryFn::Add, ExtentOf, Scan},
};

use super::{Mistake, Mutant, by, rule};

/// The entry with the outputs of two of its states swapped, which are of one type.
fn states_swapped(module: &Module) -> Option<Module> {
    let mut entry = module.entry().clone();
    let states = entry.params.iter().filter(|it| it.role == Role::State).map(|it| it.name.clone());
    let states: Vec<Name> = states.collect();
    let place = |name: &Name| entry.outputs.iter().position(|it| it.name == *name);
    let (a, b) = (place(states.first()?)?, place(states.get(1)?)?);
    let (x, y) = (entry.outputs[a].value, entry.outputs[b].value);
    if entry.ty(x) != entry.ty(y) {
        return None;
    }
    (entry.outputs[a].value, entry.outputs[b].value) = (y, x);
    Some(with_entry(module, entry))
}

/// The entry with states that stay what they were, where that is of the same type.
fn states_kept(module: &Module) -> Option<Module> {
    let mut entry = module.entry().clone();
    let mut changed = false;
    for value in entry.param_values() {
        let param = entry.params[value.index()].clone();
        let is_it = |it: &ir::Output| {
            param.role == Role::State && it.name == param.name && *entry.ty(it.value) == param.ty
        };
        if let Some(at) = entry.outputs.iter().position(is_it) {
            entry.outputs[at].value = value;
            changed = true;
        }
    }
    changed.then(|| with_entry(module, entry))
}

/// The first loop over layers with what it begins with in place of what it carries: as if that were
/// the same in every turn.
fn carry_hoisted(module: &Module) -> Option<Module> {
    let scan = module.entry().nodes().iter().find_map(|it| match &it.op {
        Op::Scan(scan) if scan.carries == 1 => Some(scan.clone()),
        _ => None,
    })?;
    let at = module.functions.iter().position(|it| it.name == scan.body)?;
    let body = &module.functions[at];
    let mut new = Function::new(&body.name);
    let params: Vec<Value> =
        body.params.iter().map(|it| new.param(&it.name, it.role, it.ty.clone())).collect();
    let same = new.param("same", Role::Value, body.params[0].ty.clone());
    let scope = ir::Scope { axes: &module.axes, functions: &module.functions[..at] };
    let given = [&[same], &params[1..]].concat();
    let results = new.inline(None, scope, body, &given);
    for (output, value) in body.outputs.iter().zip(results) {
        new.output(&output.name, value);
    }
    let mut wrong = module.clone();
    wrong.functions[at] = new;
    let scope = wrong.scope();
    let entry = module.entry().rewrite(scope, |f, op, operands| match op {
        Op::Scan(it) if *it == scan => {
            let operands = [operands, &operands[..1]].concat();
            Some(f.add_all(scope, Scan { ..it.clone() }, &operands))
        }
        _ => None,
    });
    Some(with_entry(&wrong, entry))
}

fn with_entry(module: &Module, entry: Function) -> Module {
    let mut wrong = module.clone();
    wrong.functions.pop();
    wrong.functions.push(entry);
    wrong
}

const fn whole(
    name: &'static str,
    of: &'static str,
    before: &'static str,
    it: fn(&Module) -> Option<Module>,
) -> Mutant {
    Mutant { name, of, before, mistake: Mistake::Whole(it) }
}

/// Whether `function` was made by `loops` or for a kernel.
fn is_outlined(function: &Function) -> bool {
    function.origin.as_ref().is_some_and(|it| it.function == "loop")
}

/// See the module.
pub(super) const ALL: &[Mutant] = &[
    rule("loop reversed", |at| match at.op {
        Op::Scan(it) => at.put(Scan { reverse: !it.reverse, ..it.clone() }, at.x),
        _ => None,
    }),
    rule("banks swapped", |at| {
        let Op::Scan(scan) = at.op else { return None };
        let banks = scan.carries..scan.carries + scan.banked;
        let (a, b) = banks
            .clone()
            .zip(banks.skip(1))
            .find(|&(a, b)| at.x[a] != at.x[b] && at.f.ty(at.x[a]) == at.f.ty(at.x[b]))?;
        let mut operands = at.x.to_vec();
        operands.swap(a, b);
        at.put(at.op.clone(), &operands)
    }),
    by(
        "hoist",
        "inline",
        rule("hoisted values swapped", |at| {
            let Op::Scan(scan) = at.op else { return None };
            let shared = scan.carries + scan.banked..at.x.len();
            let (a, b) = shared
                .clone()
                .zip(shared.skip(1))
                .find(|&(a, b)| at.x[a] != at.x[b] && at.f.ty(at.x[a]) == at.f.ty(at.x[b]))?;
            let mut operands = at.x.to_vec();
            operands.swap(a, b);
            at.put(at.op.clone(), &operands)
        }),
    ),
    whole("carry hoisted", "hoist", "inline", carry_hoisted),
    whole("states swapped", "incremental", "", states_swapped),
    whole("states not carried", "incremental", "", states_kept),
    by(
        "incremental",
        "",
        // What a recurrence begins with is chosen where there is no past.
        rule("recurrence begun in every step", |at| match at.op {
            Op::Select(_) => Some(vec![at.x[1]]),
            _ => None,
        }),
    ),
    by(
        "loops",
        "incremental,inline",
        rule("generated loop of another length", |at| {
            let Op::ExtentOf(it) = at.op else { return None };
            let others = at.scope.axes.iter().filter(|(name, decl)| {
                Axis::atom(*name) != it.axis && matches!(decl.extent, Extent::Fixed { .. })
            });
            let axis = Axis::atom(others.map(|it| it.0).next()?);
            is_outlined(at.f).then_some(())?;
            at.put(ExtentOf { axis }, &[])
        }),
    ),
    by(
        "cover",
        "incremental,inline",
        // As a kernel that claims the sum behind its product and does not add.
        rule("claim too large", |at| {
            let callee = at.maker(*at.x.get(1)?)?;
            let callee = at.scope.function(callee.op.callee()?.as_str())?;
            let is_kernel = callee.origin.as_ref()?.function.starts_with("kernel::");
            (at.is(Add) && is_kernel && at.f.ty(at.x[0]) == at.f.ty(at.x[1])).then(|| vec![at.x[1]])
        }),
    ),
];
