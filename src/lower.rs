//! From a module over whole sequences to a program for the CPU.

use std::sync::Arc;

use cpu::StepAxes;
use ir::{Axes, Extent, Module, Name};
use passes::{Inline, Manager, Pass, Pipeline, Record, Step};

use crate::{Cover, Error, costs};

/// The passes that lead to the CPU, in order.
pub const DEFAULT_PIPELINE: &str =
    "incremental,tail,inline,canonicalise,fold,hoist,canonicalise,cover,loops";

/// How to compile.
#[derive(Clone, Debug)]
pub struct Options {
    /// The passes, instead of [`DEFAULT_PIPELINE`].
    pub passes: Option<String>,
    /// Whether the contracts of passes are checked.
    pub check: bool,
    /// The most positions in a step: longer prompts are read in parts.
    pub chunk: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options { passes: None, check: true, chunk: 512 }
    }
}

/// A compiled model.
pub struct Lowered {
    /// The graph that the program was made from.
    pub module: Module,
    /// The program, without weights.
    pub program: runtime::Program,
    /// The plan behind it.
    pub plan: cpu::plan::Plan,
    /// What its work amounts to.
    pub costs: runtime::Costs,
    /// What each pass did.
    pub records: Vec<Record>,
}

/// Every pass that a pipeline may name.
pub fn passes() -> Vec<Arc<dyn Pass>> {
    let mut all = passes::all();
    // Calls that a kernel may claim are left alone.
    for pass in &mut all {
        if pass.name() == "inline" {
            *pass = Arc::new(Inline::except(kernels::is_claimable));
        }
    }
    all.push(Arc::new(Cover));
    all
}

/// Compiles `module`. `observe` sees each pass with what it took and made.
///
/// # Errors
///
/// A pass that failed, or what the CPU backend can not run.
pub fn lower(
    module: Module,
    options: &Options,
    observe: &mut dyn FnMut(&Step<'_>),
) -> Result<Lowered, Error> {
    let pipeline = options.passes.as_deref().unwrap_or(DEFAULT_PIPELINE);
    let pipeline =
        Pipeline::parse(pipeline, &passes()).map_err(|why| Error::new("C0302", why.to_string()))?;
    let manager = Manager { check: options.check, ..Manager::default() };
    let (mut module, records) = manager.run(&pipeline, module, observe)?;
    let axes = step_axes(&module.axes)?;
    limit(&mut module.axes, &axes.new, options.chunk);
    limit(&mut module.axes, &axes.last, options.chunk);
    let compiled = cpu::compile(&module, &axes).map_err(|why| {
        Error::new("C0201", why).help("`treen opt` and `--print-after` show the graph pass by pass")
    })?;
    let costs = costs::of(&module, &axes);
    Ok(Lowered { module, program: compiled.program, plan: compiled.plan, costs, records })
}

/// The axes of a step: new positions are a window that begins where the past ends.
pub(crate) fn step_axes(axes: &Axes) -> Result<StepAxes, Error> {
    let missing = || {
        Error::new("C0201", "the graph is not in step form")
            .help("the passes `incremental` and `tail` bring it there")
    };
    let runtime = |it: &Name| {
        matches!(axes.get(it.as_str()).map(|it| &it.extent), Some(Extent::Runtime { .. }))
    };
    let (new, past) = axes
        .iter()
        .find_map(|(name, decl)| Some((name.clone(), decl.origin.clone()?)))
        .ok_or_else(missing)?;
    let mut others = axes.iter().map(|(name, _)| name).filter(|it| runtime(it));
    let last = others.find(|it| **it != new && **it != past).cloned().ok_or_else(missing)?;
    Ok(StepAxes { new, past, last })
}

/// Lowers the bound of a run-time axis.
fn limit(axes: &mut Axes, name: &Name, most: usize) {
    let Some(decl) = axes.get(name.as_str()).cloned() else { return };
    if let Extent::Runtime { max } = decl.extent {
        axes.declare(name, Extent::Runtime { max: max.min(most) });
        if let Some(origin) = decl.origin {
            axes.set_origin(name, origin);
        }
    }
}
