//! From a module over whole sequences to a program for the CPU.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use ir::{Axes, Axis, DType, Extent, Module, Name, Op, Role, StepAxes};
use passes::{
    Absorb, Formats, Fuse, Inline, Manager, Pass, Pipeline, Record, Step, Widths, rules::Rules,
};
use runtime::{Program, Target};

use crate::{Cover, Error, catalog::cache_folder, checked::Checked, costs, precision::Rounded};

/// The passes that lead to the CPU, in order.
pub const DEFAULT_PIPELINE: &str =
    "incremental,tail,inline,canonicalise,fold,hoist,once,canonicalise,fuse,cover,loops";

/// The passes for a model that reads a text as a whole.
pub const WHOLE_PIPELINE: &str = "inline,canonicalise,fold,hoist,canonicalise,fuse,cover,loops";

/// The axis of positions that follow each other. A model without it reads a text as a whole.
const POSITIONS: &str = "S";

/// The most positions of a step whose logits can be had: there is room for all of them.
const MOST_LAST: usize = 256;

/// How to compile.
#[derive(Clone, Debug)]
pub struct Options {
    /// The passes, instead of [`DEFAULT_PIPELINE`] or [`WHOLE_PIPELINE`] and what else is said
    /// here.
    pub passes: Option<String>,
    /// Whether the contracts of passes are checked.
    pub check: bool,
    /// Whether what held before is kept in the cache folder, and not checked again.
    pub remembers: bool,
    /// The most positions in a step: longer prompts are read in parts.
    pub chunk: usize,
    /// How numbers of states that grow are stored, such as keys and values.
    pub cache: DType,
    /// What weights are stored in, where it is not what the checkpoint has.
    pub formats: Formats,
    /// The bytes of weights that were rounded on a text.
    pub rounded: Rounded,
    /// Parameters that may take in what is done to values, see [`crate::Weights::open`].
    pub open: Vec<String>,
    /// How many rewrites the passes may make, but for those that the target needs.
    pub limit: Option<usize>,
    /// What is kept of elastic axes, if not all.
    pub widths: Widths,
    /// The rules of the pass `fuse`.
    pub rules: Arc<Rules>,
    /// What runs the model.
    pub target: Target,
    /// For GPUs, whether prompts may be multiplied in 16 bits.
    pub rounds: bool,
    /// For GPUs, the architectures that code is made for, such as `sm_90a`.
    pub architectures: Vec<String>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            passes: None,
            check: true,
            remembers: false,
            chunk: 256,
            cache: DType::F32,
            formats: Formats::default(),
            rounded: Rounded::default(),
            open: Vec::new(),
            limit: None,
            widths: Widths::default(),
            rules: Arc::new(Rules::standard()),
            target: Target::Cpu,
            rounds: true,
            architectures: Vec::new(),
        }
    }
}

impl Options {
    /// The passes that run on `module`.
    ///
    /// # Errors
    ///
    /// When the list can not be read.
    pub fn pipeline(&self, module: &Module) -> Result<Pipeline, Error> {
        let list = [self.slice(module), self.precision(), self.list(module)].concat();
        Pipeline::parse(&list, &passes_with(&self.rules))
            .map_err(|why| Error::new("C0302", why.to_string()))
    }

    /// The pass that leaves no axis elastic, if one is or is to be cut.
    fn slice(&self, module: &Module) -> String {
        let mut widths = self.widths.clone();
        for (name, decl) in module.axes.iter() {
            match &decl.extent {
                Extent::Fixed { size, choices } if !choices.is_empty() => {
                    let kept = widths.get(name.as_str()).unwrap_or(*size);
                    widths.set(name, kept);
                }
                _ => {}
            }
        }
        match widths == Widths::default() {
            true => String::new(),
            false => format!("slice{{to={widths}}},"),
        }
    }

    /// The pass that says what weights are stored in, if any are stored anew.
    fn precision(&self) -> String {
        match self.formats.is_empty() {
            true => String::new(),
            false => format!("precision{{formats={}}},", self.formats),
        }
    }

    fn list(&self, module: &Module) -> String {
        if let Some(passes) = &self.passes {
            return passes.clone();
        }
        let usual = if is_stepwise(module) { DEFAULT_PIPELINE } else { WHOLE_PIPELINE };
        let mut list = usual.to_owned();
        if self.cache != DType::F32 {
            let cache = format!("incremental,cache{{dtype={}}},", self.cache);
            list = list.replacen("incremental,", &cache, 1);
        }
        if self.target == Target::Cuda {
            // There, launches cost more than the products of one row.
            list = list.replacen(",fuse,", ",join,fuse,", 1);
            list = list.replacen(",cover,", ",cover{target=cuda},", 1);
        }
        if self.target == Target::Cpu && !self.open.is_empty() {
            let absorb = format!(",absorb{{into={}}},fuse,", self.open.join(" "));
            list = list.replacen(",fuse,", &absorb, 1);
        }
        if !self.rules.identity.is_empty() {
            let fuse = format!(",fuse{{rules={}}},", self.rules.identity);
            list = list.replacen(",fuse,", &fuse, 1);
        }
        list
    }
}

/// A compiled model.
pub struct Lowered {
    /// The graph that the program was made from.
    pub module: Module,
    /// The program, without weights.
    pub program: Program,
    /// The plan behind it.
    pub plan: plan::Plan,
    /// What its work amounts to.
    pub costs: runtime::Costs,
    /// What weights are to be stored in.
    pub formats: Formats,
    /// The bytes of those that were rounded on a text.
    pub rounded: Rounded,
    /// What each pass did.
    pub records: Vec<Record>,
    /// What runs it.
    pub target: Target,
    /// How kernels for GPUs are cut, where it was found by measuring.
    pub tuned: cuda::Tuned,
    /// Parameters in which rows are looked up.
    pub(crate) tables: BTreeSet<String>,
    /// What is left to do for a GPU when the formats of weights are known.
    gpu: Option<Gpu>,
}

/// What is left to do for a GPU.
struct Gpu {
    draft: cuda::Draft,
    rounds: bool,
    architectures: Vec<String>,
}

impl Lowered {
    /// The kernels for a GPU, for weights as the slots say.
    ///
    /// # Errors
    ///
    /// What no kernel can do.
    pub fn kernels(&self) -> Result<Option<cuda::GpuProgram>, Error> {
        let Some(Gpu { draft, rounds, .. }) = &self.gpu else { return Ok(None) };
        let formats: Vec<DType> = self.program.weights.iter().map(|it| it.dtype).collect();
        let program = draft.program(&self.module, &self.plan, &formats, *rounds, &self.tuned);
        program.map(Some).map_err(|why| Error::new("C0201", why))
    }

    /// The same, compiled.
    ///
    /// # Errors
    ///
    /// What no kernel can do, or can not be compiled.
    pub fn compiled_kernels(&self) -> Result<Option<cuda::GpuProgram>, Error> {
        self.kernels()?.map(|it| self.compiled(it)).transpose()
    }

    /// `program`, compiled for the architectures that were named.
    fn compiled(&self, mut program: cuda::GpuProgram) -> Result<cuda::GpuProgram, Error> {
        let architectures = self.gpu.as_ref().map_or(&[][..], |it| &it.architectures);
        let compiled = program.compile(architectures, images_folder().as_deref());
        compiled.map(|()| program).map_err(|why| Error::new("C0206", why))
    }

    /// Compiles what depends on the formats of weights. A GPU makes up those that are `drawn`: all,
    /// or none.
    pub(crate) fn finish(&mut self, drawn: &[cuda::Drawn]) -> Result<(), Error> {
        let Some(mut program) = self.kernels()? else { return Ok(()) };
        program.make_up(drawn);
        self.program.code = self.compiled(program)?.to_bytes();
        Ok(())
    }
}

/// Where compiled kernels are kept, if anywhere.
fn images_folder() -> Option<PathBuf> {
    cache_folder().ok().map(|it| it.join("kernels"))
}

/// Every pass that a pipeline may name.
pub fn passes() -> Vec<Arc<dyn Pass>> {
    passes_with(&Arc::new(Rules::standard()))
}

/// The same, where `fuse` has these rules.
pub fn passes_with(rules: &Arc<Rules>) -> Vec<Arc<dyn Pass>> {
    let mut all = passes::all();
    for pass in &mut all {
        match pass.name() {
            // Calls that a kernel may claim are left alone.
            "inline" => *pass = Arc::new(Inline::except(kernels::is_claimable)),
            "absorb" => *pass = Arc::new(Absorb::new(rules.clone())),
            "fuse" => *pass = Arc::new(Fuse::new(rules.clone())),
            _ => {}
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
    let pipeline = options.pipeline(&module)?;
    let remembers = options.check && options.remembers;
    let checked = remembers.then(|| Checked::of(&pipeline, &module, options.limit)).flatten();
    let trusts = checked.as_ref().is_some_and(Checked::is_known);
    let (check, most) = (options.check, options.limit);
    let manager = Manager { check, trusts, limit: most, ..Manager::default() };
    let (mut module, records) = manager.run(&pipeline, module, observe)?;
    checked.iter().filter(|_| !trusts).for_each(Checked::remember);
    let axes = step_axes(&module)?;
    if axes.past.is_some() {
        limit(&mut module.axes, &axes.new, options.chunk);
        axes.last.iter().for_each(|it| limit(&mut module.axes, it, options.chunk.min(MOST_LAST)));
    }
    let (program, plan, gpu) = plan_for(&module, &axes, options).map_err(|why| {
        Error::new("C0201", why).help("`treen opt` and `--print-after` show the graph pass by pass")
    })?;
    let costs = costs::of(&module, &axes);
    let (formats, rounded) = (options.formats.clone(), options.rounded.clone());
    let (target, tables) = (options.target, tables(&plan));
    let tuned = cuda::Tuned::standard().map_err(|why| Error::new("C0207", why))?;
    Ok(Lowered {
        module,
        program,
        plan,
        costs,
        formats,
        rounded,
        records,
        target,
        tuned,
        tables,
        gpu,
    })
}

/// The parameters of which kernels take rows by number.
fn tables(plan: &plan::Plan) -> BTreeSet<String> {
    let launches = plan.launches().into_iter();
    let look_ups = launches.filter(|it| plan.callee_name(it.callee) == "gather");
    let banks = look_ups.flat_map(|it| &it.reads).filter_map(|it| match it.base {
        plan::Base::Weight(bank, _) => Some(plan.banks[bank].param.to_string()),
        _ => None,
    });
    banks.collect()
}

/// The program and plan of a module in step form, for the target that `options` name.
fn plan_for(
    module: &Module,
    axes: &StepAxes,
    options: &Options,
) -> Result<(Program, plan::Plan, Option<Gpu>), String> {
    match options.target {
        Target::Cpu => {
            let compiled = cpu::compile(module, axes)?;
            Ok((compiled.program, compiled.plan, None))
        }
        Target::Cuda => {
            let (plan, draft) = cuda::draft(module, axes)?;
            let program = plan::program(module, axes, &plan)?;
            let program = Program { abi: runtime::abi::ABI, target: Target::Cuda, ..program };
            let architectures = options.architectures.clone();
            Ok((program, plan, Some(Gpu { draft, rounds: options.rounds, architectures })))
        }
    }
}

/// Whether the model can read a text position by position.
pub(crate) fn is_stepwise(module: &Module) -> bool {
    is_runtime(&module.axes, &POSITIONS.into())
}

fn is_runtime(axes: &Axes, name: &Name) -> bool {
    matches!(axes.get(name.as_str()).map(|it| &it.extent), Some(Extent::Runtime { .. }))
}

/// The axes of a step. New positions are a window that begins where the past ends, or all that are
/// counted; an output that has another run-time axis is wanted for the last ones, an input that has
/// another is read by an encoder. A loop along another one runs in the first step alone.
pub(crate) fn step_axes(module: &Module) -> Result<StepAxes, Error> {
    let axes = &module.axes;
    let runtime: Vec<&Name> =
        axes.iter().map(|it| it.0).filter(|it| is_runtime(axes, it)).collect();
    let window = runtime.iter().find_map(|it| Some((*it, axes.get(it.as_str())?.origin.clone()?)));
    let (new, past) = match (window, runtime.as_slice()) {
        (Some((new, past)), _) => (new.clone(), Some(past)),
        (None, [only]) => ((*only).clone(), None),
        (None, _) => {
            return Err(Error::new("C0201", "the graph is not in step form")
                .help("the passes `incremental` and `tail` bring it there"));
        }
    };
    let entry = module.entry();
    let other = |role: Option<Role>| {
        let of_params = entry.params.iter().filter(|it| Some(it.role) == role).map(|it| &it.ty);
        let of_outputs = entry.outputs.iter().filter(|_| role.is_none());
        let types = of_params.chain(of_outputs.map(|it| entry.ty(it.value)));
        let mut atoms = types.flat_map(|it| it.axes.iter().filter_map(Axis::as_atom));
        atoms.find(|it| **it != new && past.as_ref() != Some(*it) && is_runtime(axes, it)).cloned()
    };
    let first = entry.nodes().iter().find_map(|it| match &it.op {
        Op::Scan(scan) => scan.axis.as_atom().filter(|it| **it != new && is_runtime(axes, it)),
        _ => None,
    });
    let first = first.cloned();
    let (last, source) = (other(None), other(Some(Role::Input)));
    Ok(StepAxes { new, past, last, source, first })
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
