//! What `once` promises: the first step gives what the model gives, and so do later ones, from
//! what the first one kept.

use std::collections::{BTreeMap, BTreeSet};

use ir::{Axis, Module, Name, Sizes, Tensor};

use super::{Clock, Kind};
use crate::{
    Cx, Fault, Noise,
    check::{run, same_numbers},
};

/// Runs a first step and a later one over the same text that is read once. What states hold before
/// the first step does not matter.
pub(super) fn what_the_first_step_made(
    before: &Module,
    after: &Module,
    cx: &Cx,
    noise: &mut Noise,
) -> Result<(), Fault> {
    let params = &before.entry().params;
    let kinds = Clock::new(before).map_or_else(Vec::new, |it| it.sort(params));
    let of_kind = |kind: Kind| (0..kinds.len()).filter(move |it| kinds[*it] == kind);
    let (still, read) = (of_kind.clone()(Kind::Still), of_kind(Kind::Read));
    let read: Vec<usize> = read.collect();
    let mut extents = noise.extents(before);
    let arguments = noise.arguments(before, &sizes(before, &extents)?);
    let mut kept = BTreeMap::new();
    step(before, after, cx, &extents, (arguments.clone(), true), &mut kept, noise)?;
    let read_axes = read.iter().flat_map(|it| &params[*it].ty.axes).flat_map(Axis::atoms);
    let read_axes: BTreeSet<&Name> = read_axes.collect();
    let others = noise.extents(before).into_iter().filter(|(name, _)| !read_axes.contains(name));
    extents.extend(others);
    let mut later = noise.arguments(before, &sizes(before, &extents)?);
    still.chain(read).for_each(|it| later[it].clone_from(&arguments[it]));
    step(before, after, cx, &extents, (later, false), &mut kept, noise)
}

fn sizes(module: &Module, extents: &BTreeMap<Name, usize>) -> Result<Sizes, Fault> {
    module.axes.sizes(extents).map_err(Fault::new)
}

/// Runs a step of both, the first or a later one, and compares. `kept` are the states that only
/// `after` has.
fn step(
    before: &Module,
    after: &Module,
    cx: &Cx,
    extents: &BTreeMap<Name, usize>,
    (arguments, is_first): (Vec<Tensor>, bool),
    kept: &mut BTreeMap<Name, Tensor>,
    noise: &mut Noise,
) -> Result<(), Fault> {
    let old = run(before, &arguments, &sizes(before, extents)?, false)?;
    let mut extents = extents.clone();
    if after.axes.get(cx.option("axis")).is_some() {
        extents.insert(cx.option("axis").into(), usize::from(is_first));
    }
    let sizes = sizes(after, &extents)?;
    let names = before.entry().params.iter().map(|it| &it.name);
    let mut given: BTreeMap<&Name, Tensor> = names.zip(arguments).collect();
    let mut all = Vec::new();
    for param in &after.entry().params {
        let known = given.remove(&param.name).or_else(|| kept.remove(&param.name));
        all.push(
            known.unwrap_or_else(|| Tensor::from_fn(param.ty.clone(), &sizes, |_| noise.real())),
        );
    }
    let new = run(after, &all, &sizes, false)?;
    let named: BTreeMap<&Name, Tensor> =
        after.entry().outputs.iter().map(|it| &it.name).zip(new).collect();
    for (output, old) in before.entry().outputs.iter().zip(&old) {
        let Some(new) = named.get(&output.name) else {
            return Err(Fault::new(format!("there is no output {}", output.name)));
        };
        same_numbers(output.name.as_str(), old, new, 1e-9)?;
    }
    *kept = named.into_iter().map(|(name, it)| (name.clone(), it)).collect();
    Ok(())
}
