//! Kernel selection as a pass of the pipeline.

use std::collections::BTreeSet;

use ir::{Function, Module, Name, Node, Op, Scope, Value};
use kernels::Kernel;
use passes::{Contract, Cx, Fault, Inline, Pass, PassOption};

/// Makes every chosen claim of a kernel a function of its own, see [`kernels::cover`].
///
/// What rules grouped is expanded. A group is covered by itself first where that leaves less to do
/// than covering all at once, so that no rule can make a model slower.
pub struct Cover;

impl Pass for Cover {
    fn name(&self) -> &'static str {
        "cover"
    }

    fn about(&self) -> &'static str {
        "gives to kernels what they can compute"
    }

    fn options(&self) -> &'static [PassOption] {
        &[PassOption { name: "target", default: "cpu", doc: "whose kernels: `cpu` or `cuda`" }]
    }

    fn contract(&self) -> Contract {
        Contract::Exact
    }

    fn is_needed(&self) -> bool {
        true
    }

    fn run(&self, module: &Module, cx: &mut Cx) -> Result<Module, Fault> {
        let kernels = match cx.option("target") {
            "cpu" => kernels::CPU,
            "cuda" => kernels::CUDA,
            other => return Err(Fault::new(format!("`{other}` is neither `cpu` nor `cuda`"))),
        };
        let mut any = |_: &Name, _: &str| true;
        let (at_once, grouped) =
            (at_once(module, kernels, &mut any)?, group_by_group(module, kernels, &mut any)?);
        let mut allows = |function: &Name, kernel: &str| cx.allows(function, kernel);
        match launches(&grouped) < launches(&at_once) {
            true => group_by_group(module, kernels, &mut allows),
            false => self::at_once(module, kernels, &mut allows),
        }
    }
}

type Allows<'a> = dyn FnMut(&Name, &str) -> bool + 'a;

type Kernels = &'static [&'static dyn Kernel];

fn at_once(module: &Module, kernels: Kernels, allows: &mut Allows<'_>) -> Result<Module, Fault> {
    Ok(kernels::cover(&expanded(module)?, kernels, allows))
}

fn group_by_group(
    module: &Module,
    kernels: Kernels,
    allows: &mut Allows<'_>,
) -> Result<Module, Fault> {
    let groups = expanded(&kernels::cover(module, kernels, allows))?;
    Ok(kernels::cover(&groups, kernels, allows))
}

/// `module` without the functions that rules made.
fn expanded(module: &Module) -> Result<Module, Fault> {
    let groups = module.functions.iter().filter(|it| kernels::is_group(it));
    let names: BTreeSet<&Name> = groups.map(|it| &it.name).collect();
    let calls = |it: &Node| it.op.callee().is_some_and(|it| names.contains(it));
    let had_groups =
        |name: &Name| module.function(name.as_str()).is_some_and(|it| it.nodes().iter().any(calls));
    let expanded = Inline::except(|it| !kernels::is_group(it)).run(module, &mut Cx::default())?;
    Ok(expanded.map(|done, it| match had_groups(&it.name) {
        true => by_depth(done.scope(), it),
        false => it.clone(),
    }))
}

/// `function` with its nodes in the order of how much has to come before each, so that what may
/// run side by side stands side by side.
fn by_depth(scope: Scope<'_>, function: &Function) -> Function {
    let mut depths = vec![0; function.n_values()];
    let mut order: Vec<(usize, &Node)> = Vec::new();
    for node in function.nodes() {
        let depth = node.operands.iter().map(|it| depths[it.index()] + 1).max().unwrap_or(0);
        node.results().for_each(|it| depths[it.index()] = depth);
        order.push((depth, node));
    }
    order.sort_by_key(|it| it.0);
    let mut result = function.signature();
    let mut new: Vec<Value> = function.values().collect();
    for (_, node) in order {
        let operands: Vec<Value> = node.operands.iter().map(|it| new[it.index()]).collect();
        let values = result.copy(scope, function, node, &operands);
        node.results().zip(values).for_each(|(old, value)| new[old.index()] = value);
    }
    for output in &function.outputs {
        result.output(&output.name, new[output.value.index()]);
    }
    result
}

/// The nodes that are work, in functions that are run node by node.
fn launches(module: &Module) -> usize {
    let own = module.functions.iter().filter(|it| it.origin.is_none());
    let is_work = |op: &Op| {
        !matches!(
            op,
            Op::Constant(_)
                | Op::ExtentOf(_)
                | Op::Iota(_)
                | Op::Merge(_)
                | Op::Rename(_)
                | Op::Slice(_)
                | Op::Split(_)
        )
    };
    own.flat_map(Function::nodes).filter(|it| is_work(&it.op)).count()
}
