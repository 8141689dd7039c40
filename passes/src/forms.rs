//! The three forms of a cut, compared: over fewer places, with places left out, and with extents
//! told in the run.

use std::collections::BTreeMap;

use ir::{Module, Name, Param, Role, Sizes, Tensor};

use crate::{
    Cut, Fault, Links, Noise, Orders, Widths,
    active::active,
    check::{run, same_numbers},
    mask::masked,
};

/// How far forms may be apart in double precision, of the scale of an output.
const EXACT: f64 = 1e-6;
/// The same where every result is rounded to its type.
const TYPED: f64 = 1e-4;

/// Runs `small` with weights in random orders, in the three forms of which `cut` is one, and the
/// whole of it with and without those orders.
pub(crate) fn agree(
    small: &Module,
    cut: &Module,
    widths: &Widths,
    noise: &mut Noise,
) -> Result<(), Fault> {
    let links = Links::of(small);
    let orders = Orders::random(small, widths, noise);
    let extents = noise.extents(small);
    let sizes = small.axes.sizes(&extents).map_err(Fault::new)?;
    let arguments = noise.arguments(small, &sizes);
    let mut whole = Widths::default();
    widths.iter().for_each(|(name, _)| {
        whole.set(name, small.axes.fixed(&name.into()).unwrap_or(1));
    });
    let ordered = weights(small, &Cut::new(small, &links, &whole, &orders), &links, &arguments);
    let said = |form: &str, why: &Fault| Fault::new(format!("{form}, with {widths}: {why}"));

    let in_order = run(small, &ordered, &sizes, false)?;
    let plain = run(small, &arguments, &sizes, false)?;
    same(small, &plain, &in_order, EXACT).map_err(|why| said("in another order", &why))?;

    let cut_sizes = cut.axes.sizes(&extents).map_err(Fault::new)?;
    let kept = weights(small, &Cut::new(small, &links, widths, &orders), &links, &arguments);
    let masked = masked(small, widths)?;
    let active = active(small, widths)?;
    let mut told: BTreeMap<Name, usize> = extents;
    told.extend(widths.iter().map(|(name, size)| (name.clone(), size)));
    let told = active.axes.sizes(&told).map_err(Fault::new)?;
    for (typed, within) in [(false, EXACT), (true, TYPED)] {
        let expected = run(cut, &retyped(cut, kept.clone()), &cut_sizes, typed)?;
        let found = run(&masked, &ordered, &sizes, typed)?;
        let found = first_places(found, &cut_sizes);
        same(small, &expected, &found, within).map_err(|why| said("masked", &why))?;
        let found = run(&active, &retyped(&active, ordered.clone()), &told, typed)?;
        same(small, &expected, &found, within).map_err(|why| said("told in the run", &why))?;
    }
    Ok(())
}

/// The arguments with every weight cut.
fn weights(module: &Module, cut: &Cut<'_>, links: &Links, arguments: &[Tensor]) -> Vec<Tensor> {
    let of = |(param, tensor): (&Param, &Tensor)| match param.role {
        Role::Weight => cut.tensor(param, tensor, links.is_bank(&param.name)),
        _ => tensor.clone(),
    };
    module.entry().params.iter().zip(arguments).map(of).collect()
}

/// The arguments as the parameters of `module` call them.
fn retyped(module: &Module, arguments: Vec<Tensor>) -> Vec<Tensor> {
    let params = module.entry().params.iter();
    params.zip(arguments).map(|(param, it)| Tensor { ty: param.ty.clone(), ..it }).collect()
}

/// The first places of each output.
fn first_places(outputs: Vec<Tensor>, sizes: &Sizes) -> Vec<Tensor> {
    let first = |it: Tensor| {
        let strides = it.strides();
        Tensor::from_fn(it.ty.clone(), sizes, |index| {
            it.data[index.iter().zip(&strides).map(|(i, stride)| i * stride).sum::<usize>()]
        })
    };
    outputs.into_iter().map(first).collect()
}

fn same(module: &Module, old: &[Tensor], new: &[Tensor], within: f64) -> Result<(), Fault> {
    let names = module.entry().outputs.iter();
    let mut all = names.zip(old.iter().zip(new));
    all.try_for_each(|(output, (old, new))| same_numbers(output.name.as_str(), old, new, within))
}
