//! Whether a pass kept its contract, found by running both modules on noise.

use ir::{Axis, Module, Sizes, Tensor, eval};

use crate::{
    Contract, Cx, Fault, FaultKind, Noise, effort::is_too_much, guard::guarded, pipeline::Stage,
};

/// How often both modules run, each time over other extents.
const TRIALS: usize = 4;

/// Runs the pass of `stage` once more, on `small`, and compares what it makes with what it took.
pub(crate) fn check(
    stage: &Stage,
    small: &Module,
    limit: Option<usize>,
    seed: u64,
) -> Result<(), Fault> {
    let (after, _) = run_verified(stage, small, limit)?;
    guarded(|| compare(stage, small, &after, seed))
}

/// Compares what the pass of `stage` made of `small` with what it took, as its contract says.
fn compare(stage: &Stage, small: &Module, after: &Module, seed: u64) -> Result<(), Fault> {
    let mut noise = Noise::new(seed);
    let contract = stage.pass.contract();
    if let Contract::Lowers(recovers) = contract {
        let found = (0..TRIALS).try_for_each(|_| recovers(small, after, &stage.cx, &mut noise));
        return found.map_err(|it| it.noticed(FaultKind::Recovery));
    }
    if let Contract::Slices = contract {
        let found = crate::slice::check(small, after, &stage.cx, &mut noise);
        return found.map_err(|it| it.noticed(FaultKind::Recovery));
    }
    same_interface(small, after).map_err(|it| it.noticed(FaultKind::Interface))?;
    (0..TRIALS).try_for_each(|_| same_meaning(contract, small, after, &mut noise))
}

/// Runs the pass of `stage`, at most `limit` rewrites of it, and verifies what it gives; also what
/// it told on the way.
pub(crate) fn run_verified(
    stage: &Stage,
    module: &Module,
    limit: Option<usize>,
) -> Result<(Module, Cx), Fault> {
    let (after, mut cx) = run_told(stage, module, limit);
    let after = after?;
    if cx.rewrites().is_empty() && after != *module {
        // A pass that tells of no rewrites is one.
        cx.allows(&module.entry().name, stage.pass.name());
    }
    let faults = ir::verify(&after);
    if faults.is_empty() {
        return Ok((after, cx));
    }
    let message = format!("its result is faulty:\n{}\n\n{after}", faults.join("\n"));
    Err(Fault::of(FaultKind::Verifier, message))
}

/// Runs the pass of `stage`, at most `limit` rewrites of it: what it gives, and what it told.
pub(crate) fn run_told(
    stage: &Stage,
    module: &Module,
    limit: Option<usize>,
) -> (Result<Module, Fault>, Cx) {
    let mut cx = stage.cx.with_limit(limit);
    if cx.is_spent() {
        return (Ok(module.clone()), cx);
    }
    let after = guarded(|| stage.pass.run(module, &mut cx));
    (after, cx)
}

fn same_interface(before: &Module, after: &Module) -> Result<(), Fault> {
    let (old, new) = (before.entry(), after.entry());
    if old.params != new.params {
        return Err(Fault::new("it changes the parameters of the entry"));
    }
    let outputs = |module: &Module| -> Vec<String> {
        let types = module.entry().output_types();
        let names = module.entry().outputs.iter().zip(types);
        names.map(|(output, ty)| format!("{} : {ty}", output.name)).collect()
    };
    if outputs(before) != outputs(after) {
        let (old, new) = (outputs(before).join(", "), outputs(after).join(", "));
        return Err(Fault::new(format!("the entry gives {new}, not {old}")));
    }
    let outputs = old.output_types();
    let types = old.params.iter().map(|it| &it.ty).chain(&outputs);
    let mut atoms = types.flat_map(|it| &it.axes).flat_map(Axis::atoms);
    match atoms.find(|it| before.axes.get(it.as_str()) != after.axes.get(it.as_str())) {
        Some(atom) => Err(Fault::new(format!("it changes the axis {atom}"))),
        None => Ok(()),
    }
}

fn same_meaning(
    contract: Contract,
    before: &Module,
    after: &Module,
    noise: &mut Noise,
) -> Result<(), Fault> {
    let extents = noise.extents(before);
    let sizes = |module: &Module| module.axes.sizes(&extents).map_err(Fault::new);
    let arguments = noise.arguments(before, &sizes(before)?);
    let both = |typed| {
        let old = run(before, &arguments, &sizes(before)?, typed);
        let old = old.map_err(|it| it.noticed(FaultKind::Unchecked))?;
        let new = run(after, &arguments, &sizes(after)?, typed);
        Ok::<_, Fault>((old, new.map_err(|it| it.noticed(FaultKind::Numbers))?))
    };
    agree(contract, before, &both)
}

/// What two modules give, rounded to types or not.
type Both<'a> = &'a dyn Fn(bool) -> Result<(Vec<Tensor>, Vec<Tensor>), Fault>;

/// Whether `both` give the outputs of `module` alike.
fn agree(contract: Contract, module: &Module, both: Both<'_>) -> Result<(), Fault> {
    let in_f64 = |within| {
        let (old, new) = both(false)?;
        near(module, &old, &new, within).map_err(|it| it.noticed(FaultKind::Numbers))
    };
    let as_typed = || {
        let (old, new) = both(true)?;
        same_bits(module, &old, &new).map_err(|it| it.noticed(FaultKind::Bits))
    };
    match contract {
        Contract::Exact => in_f64(1e-12).and_then(|()| as_typed()),
        Contract::Rounds => as_typed(),
        Contract::Reassociates | Contract::Slices | Contract::Lowers(_) => in_f64(1e-9),
    }
}

/// Whether the two outputs of `module` are the same, as `contract` says, over small axes.
pub(crate) fn two_outputs_agree(contract: Contract, module: &Module) -> Result<(), Fault> {
    let unchecked = |why: String| Fault::of(FaultKind::Unchecked, why);
    let small = ir::shrink(module).map_err(|faults| unchecked(faults.join("\n")))?;
    if is_too_much(&small) {
        return Err(unchecked("even over small axes it is too much work".to_owned()));
    }
    let mut noise = Noise::new(1);
    (0..TRIALS).try_for_each(|_| {
        let sizes = small.axes.sizes(&noise.extents(&small)).map_err(Fault::new)?;
        let arguments = noise.arguments(&small, &sizes);
        let both = |typed| match run(&small, &arguments, &sizes, typed)?.as_slice() {
            [old, new] => Ok((vec![old.clone()], vec![new.clone()])),
            _ => Err(Fault::new("two outputs are compared")),
        };
        agree(contract, &small, &both)
    })
}

/// Runs `module`; what it gives.
pub(crate) fn run(
    module: &Module,
    arguments: &[Tensor],
    sizes: &Sizes,
    typed: bool,
) -> Result<Vec<Tensor>, Fault> {
    let arguments: Vec<&Tensor> = arguments.iter().collect();
    eval(module, &arguments, sizes, typed).map_err(Fault::new)
}

/// Whether outputs of `module` differ by at most `within` of the scale of each.
fn near(module: &Module, old: &[Tensor], new: &[Tensor], within: f64) -> Result<(), Fault> {
    old.iter().zip(new).enumerate().try_for_each(|(i, (old, new))| {
        same_numbers(module.entry().outputs[i].name.as_str(), old, new, within)
    })
}

/// Runs both modules on the same numbers: the outputs of the first are outputs of the second, and
/// the same. What the second gives besides, in its order.
pub(crate) fn outputs_stay(
    before: &Module,
    after: &Module,
    noise: &mut Noise,
) -> Result<Vec<Tensor>, Fault> {
    let extents = noise.extents(before);
    let sizes = before.axes.sizes(&extents).map_err(Fault::new)?;
    let arguments = noise.arguments(before, &sizes);
    let old = run(before, &arguments, &sizes, false)?;
    let mut new = run(after, &arguments, &sizes, false)?;
    for (output, tensor) in before.entry().outputs.iter().zip(&old) {
        let at = after.entry().outputs.iter().position(|it| it.name == output.name);
        let at = at.ok_or_else(|| Fault::new(format!("output {} is lost", output.name)))?;
        same_numbers(output.name.as_str(), tensor, &new[at], 1e-12)?;
    }
    Ok(new.split_off(old.len().min(new.len())))
}

/// Whether two tensors differ by at most `within` of the largest number of the first.
pub(crate) fn same_numbers(
    name: &str,
    old: &Tensor,
    new: &Tensor,
    within: f64,
) -> Result<(), Fault> {
    let finite = old.data.iter().copied().filter(|it| it.is_finite()).map(f64::abs);
    let allowed = within * finite.fold(f64::MIN_POSITIVE, f64::max);
    let same = |x: f64, y: f64| x == y || (x.is_nan() && y.is_nan()) || (x - y).abs() <= allowed;
    compare_elements(name, old, new, same)
}

fn same_bits(module: &Module, old: &[Tensor], new: &[Tensor]) -> Result<(), Fault> {
    let same = |x: f64, y: f64| x.to_bits() == y.to_bits() || (x.is_nan() && y.is_nan());
    old.iter().zip(new).enumerate().try_for_each(|(i, (old, new))| {
        compare_elements(module.entry().outputs[i].name.as_str(), old, new, same)
            .map_err(|why| Fault::new(format!("{why} (rounded to types)")))
    })
}

fn compare_elements(
    name: &str,
    old: &Tensor,
    new: &Tensor,
    same: impl Fn(f64, f64) -> bool,
) -> Result<(), Fault> {
    if old.shape != new.shape {
        let (old, new) = (&old.shape, &new.shape);
        return Err(Fault::new(format!("output {name} has shape {new:?}, not {old:?}")));
    }
    let mut pairs = old.data.iter().zip(&new.data);
    match pairs.position(|(&x, &y)| !same(x, y)) {
        None => Ok(()),
        Some(at) => {
            let (x, y, place) = (old.data[at], new.data[at], index(&old.shape, at));
            Err(Fault::new(format!("output {name} {place:?} is {y:?}, not {x:?}")))
        }
    }
}

/// The index along each axis of the element at `at`.
fn index(shape: &[usize], at: usize) -> Vec<usize> {
    let place = |(stride, size): (usize, &usize)| at / stride % size;
    ir::strides(shape).into_iter().zip(shape).map(place).collect()
}
