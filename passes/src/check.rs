//! Whether a pass kept its contract, found by running both modules on noise.

use ir::{Axis, Module, Sizes, Tensor, eval};

use crate::{Contract, Fault, Noise, Pass, pipeline::Stage};

/// How often both modules run, each time over other extents.
const TRIALS: usize = 4;

/// Runs the pass of `stage` once more, on `small`, and compares what it makes with what it took.
pub(crate) fn check(stage: &Stage, small: &Module, seed: u64) -> Result<(), Fault> {
    let after = run_verified(&*stage.pass, small, &stage.cx)?;
    let mut noise = Noise::new(seed);
    let contract = stage.pass.contract();
    if let Contract::Lowers(recovers) = contract {
        return (0..TRIALS).try_for_each(|_| recovers(small, &after, &stage.cx, &mut noise));
    }
    same_interface(small, &after)?;
    (0..TRIALS).try_for_each(|_| same_meaning(contract, small, &after, &mut noise))
}

/// Runs `pass` and verifies what it gives.
pub(crate) fn run_verified(
    pass: &dyn Pass,
    module: &Module,
    cx: &crate::Cx,
) -> Result<Module, Fault> {
    let after = pass.run(module, &mut cx.clone())?;
    let faults = ir::verify(&after);
    if faults.is_empty() {
        return Ok(after);
    }
    Err(Fault::new(format!("its result is faulty:\n{}\n\n{after}", faults.join("\n"))))
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
        let old = run(before, &arguments, &sizes(before)?, typed)?;
        Ok::<_, Fault>((old, run(after, &arguments, &sizes(after)?, typed)?))
    };
    let in_f64 = |within| {
        let (old, new) = both(false)?;
        near(before, &old, &new, within)
    };
    let as_typed = || {
        let (old, new) = both(true)?;
        same_bits(before, &old, &new)
    };
    match contract {
        Contract::Exact => in_f64(1e-12).and_then(|()| as_typed()),
        Contract::Rounds => as_typed(),
        Contract::Reassociates | Contract::Lowers(_) => in_f64(1e-9),
    }
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
    compare(name, old, new, same)
}

fn same_bits(module: &Module, old: &[Tensor], new: &[Tensor]) -> Result<(), Fault> {
    let same = |x: f64, y: f64| x.to_bits() == y.to_bits() || (x.is_nan() && y.is_nan());
    old.iter().zip(new).enumerate().try_for_each(|(i, (old, new))| {
        compare(module.entry().outputs[i].name.as_str(), old, new, same)
            .map_err(|why| Fault::new(format!("{why} (rounded to types)")))
    })
}

fn compare(
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
