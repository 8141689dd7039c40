//! What a module means: the reference for passes, kernels and backends.

use std::borrow::Cow;

use crate::{Function, Module, Op, Run, Sizes, Tensor};

/// Runs the entry function in double precision; with `typed`, every result is rounded to its type.
/// Arguments are taken as they are: the caller has rounded them if they were stored.
///
/// # Errors
///
/// When the arguments are not what the entry takes, or what is cut from the end of an axis is
/// longer than it in this run.
pub fn eval(
    module: &Module,
    arguments: &[&Tensor],
    sizes: &Sizes,
    typed: bool,
) -> Result<Vec<Tensor>, String> {
    let entry = module.entry();
    if arguments.len() != entry.params.len() {
        return Err(format!("takes {} arguments, not {}", entry.params.len(), arguments.len()));
    }
    for (param, argument) in entry.params.iter().zip(arguments) {
        if !param.ty.accepts(&argument.ty) || argument.shape != sizes.shape(&param.ty.axes) {
            let (ty, shape) = (&argument.ty, &argument.shape);
            return Err(format!("%{} is {}, not {ty} of shape {shape:?}", param.name, param.ty));
        }
    }
    check_tails(module, sizes)?;
    Ok(eval_function(entry, arguments, Run { module, sizes, typed }))
}

/// What counts from the end of a run-time axis could not be checked before.
fn check_tails(module: &Module, sizes: &Sizes) -> Result<(), String> {
    let nodes = module.functions.iter().flat_map(|it| it.nodes());
    let tail = |op: &Op| match op {
        Op::Slice(it) if it.last => Some((it.into.clone(), it.axis.clone())),
        Op::Pad(it) if it.last => Some((it.axis.clone(), it.into.clone())),
        _ => None,
    };
    match nodes.filter_map(|it| tail(&it.op)).find(|(part, all)| sizes.of(all) < sizes.of(part)) {
        Some((part, all)) => Err(format!("`{part}` is longer than `{all}`, whose end it is")),
        None => Ok(()),
    }
}

/// Runs one function. A value is dropped after its last use, so that a whole model fits.
pub(crate) fn eval_function(
    function: &Function,
    arguments: &[&Tensor],
    run: Run<'_>,
) -> Vec<Tensor> {
    let mut uses = vec![0usize; function.n_values()];
    let operands = function.nodes().iter().flat_map(|it| &it.operands);
    for value in operands.chain(function.outputs.iter().map(|it| &it.value)) {
        uses[value.index()] += 1;
    }
    let mut values: Vec<Option<Cow<'_, Tensor>>> = vec![None; function.n_values()];
    for (value, &argument) in values.iter_mut().zip(arguments) {
        *value = Some(Cow::Borrowed(argument));
    }
    for node in function.nodes() {
        let operands: Vec<&Tensor> = node
            .operands
            .iter()
            .map(|it| values[it.index()].as_deref().expect("operands come first"))
            .collect();
        let types: Vec<_> = node.results().map(|it| function.ty(it).clone()).collect();
        let results = node.op.rules().eval(&operands, &types, run);
        for (value, result) in node.results().zip(results) {
            let result = if run.typed { result.round() } else { result };
            values[value.index()] = Some(Cow::Owned(result));
        }
        for operand in &node.operands {
            uses[operand.index()] -= 1;
            if uses[operand.index()] == 0 {
                values[operand.index()] = None;
            }
        }
    }
    let mut output = |value: crate::Value| {
        uses[value.index()] -= 1;
        let last = uses[value.index()] == 0;
        let slot = &mut values[value.index()];
        let tensor =
            if last { slot.take() } else { slot.clone() }.expect("outputs are kept").into_owned();
        Tensor { ty: function.ty(value).clone(), ..tensor }
    };
    function.outputs.iter().map(|it| output(it.value)).collect()
}
