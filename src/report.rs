//! What became of a model on its way through the compiler, for people ([`Report::to_html`]) and for
//! programs ([`Report::to_json`]). It holds no times: the same build gives the same report.

mod html;
mod memory;
mod picture;

use std::collections::BTreeMap;

use ir::{Function, Module};
use passes::Rewrite;
use plan::Plan;
use runtime::WeightSlot;
use serde::Serialize;

use crate::{
    Lowered,
    precision::{self, Assignment},
};

/// See the module.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The model's name in its spec.
    pub model: String,
    /// The axes with their extents, as the compiled graph has them.
    pub axes: Vec<String>,
    /// Figures of the compiled model.
    pub metrics: BTreeMap<&'static str, u64>,
    /// What each pass did.
    pub passes: Vec<PassReport>,
    /// The graph as the spec says it.
    pub graph: Vec<FunctionReport>,
    /// The graph as it runs.
    pub lowered: Vec<FunctionReport>,
    /// What runs in which order, a line each.
    pub plan: Vec<String>,
    /// Intermediate values, with when they are alive and where they lie.
    pub buffers: Vec<BufferReport>,
    /// The weights, by bank and format.
    pub weights: Vec<WeightReport>,
    /// Which of them are stored anew, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precision: Option<precision::Report>,
}

/// What a pass did.
#[derive(Clone, Debug, Serialize)]
pub struct PassReport {
    /// The pass and its options.
    pub stage: String,
    /// What it promises.
    pub contract: &'static str,
    /// How that was checked; none if it was not.
    pub check: Option<&'static str>,
    /// Nodes of the graph before.
    pub nodes_before: usize,
    /// Nodes of the graph after.
    pub nodes_after: usize,
    /// What it rewrote, in order of first time.
    pub rewrites: Vec<RewriteReport>,
    /// What a user should know of it, such as a limit that it met.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What it changed, see [`passes::diff`].
    pub diff: String,
}

/// Rewrites of one kind.
#[derive(Clone, Debug, Serialize)]
pub struct RewriteReport {
    /// The function they were made in.
    pub function: String,
    /// What was rewritten, or by which rule.
    pub what: String,
    /// How often.
    pub times: usize,
}

/// A function of the graph.
#[derive(Clone, Debug, Serialize)]
pub struct FunctionReport {
    /// Its name.
    pub name: String,
    /// What it was made from, if that is known: `kernel::matmul`, `loop`, `prelude::softmax`.
    pub origin: Option<String>,
    /// The text form.
    pub text: String,
    /// A picture of its nodes.
    #[serde(skip)]
    picture: String,
}

/// An intermediate value.
#[derive(Clone, Debug, Serialize)]
pub struct BufferReport {
    /// What it holds.
    pub ty: String,
    /// Bytes at the largest extents.
    pub bytes: u64,
    /// Where it lies among all.
    pub offset: u64,
    /// The first launch that touches it.
    pub first: usize,
    /// The last launch that needs it.
    pub last: usize,
}

/// Layers of a weight that are stored alike.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WeightReport {
    /// The parameter.
    pub name: String,
    /// The first of its layers.
    pub layer: u64,
    /// How many layers.
    pub layers: u64,
    /// Rows and columns of each.
    pub shape: [u64; 2],
    /// The format; none before weights are bound.
    pub format: Option<&'static str>,
    /// Whether it is packed for a kernel.
    pub packed: bool,
    /// Bytes of all these layers; 0 before weights are bound.
    pub bytes: u64,
}

impl Report {
    /// A report on what will become of `module`.
    pub fn new(module: &Module) -> Report {
        Report {
            model: module.entry().name.to_string(),
            graph: functions(module),
            ..Report::default()
        }
    }

    /// Takes in what a pass did.
    pub fn observe(&mut self, step: &passes::Step<'_>) {
        let record = step.record;
        self.passes.push(PassReport {
            stage: record.stage.clone(),
            contract: record.contract,
            check: record.check,
            nodes_before: record.nodes_before,
            nodes_after: record.nodes_after,
            rewrites: counted(&record.rewrites),
            notes: record.notes.clone(),
            diff: passes::diff(step.before, step.after),
        });
    }

    /// Takes in what came of it all, and what the weights are stored in if that was asked for.
    pub fn finish(&mut self, lowered: &Lowered, assignment: Option<&Assignment>) {
        self.axes = lowered.module.axes.to_string().lines().map(str::to_owned).collect();
        self.lowered = functions(&lowered.module);
        self.metrics = metrics(lowered);
        let plan = lowered.plan.to_string();
        let is_step = |it: &&str| {
            !["arena ", "buffer ", "state ", "weight "].iter().any(|head| it.starts_with(head))
        };
        self.plan = plan.lines().filter(is_step).map(str::to_owned).collect();
        self.buffers = buffers(&lowered.plan);
        self.weights = weights(&lowered.program.weights);
        self.precision = assignment.map(|it| precision::Report::new(&lowered.program, it));
    }

    /// For programs.
    pub fn to_json(&self) -> String {
        let text = serde_json::to_string_pretty(self).expect("plain data");
        text + "\n"
    }

    /// A page that needs nothing else.
    pub fn to_html(&self) -> String {
        html::page(self)
    }
}

fn functions(module: &Module) -> Vec<FunctionReport> {
    let report = |it: &Function| FunctionReport {
        name: it.name.to_string(),
        origin: it.origin.as_ref().map(|it| it.function.clone()),
        text: it.to_string(),
        picture: picture::of(it),
    };
    // The entry first.
    module.functions.iter().rev().map(report).collect()
}

fn counted(rewrites: &[Rewrite]) -> Vec<RewriteReport> {
    let mut counted: Vec<RewriteReport> = Vec::new();
    for Rewrite { function, what } in rewrites {
        match counted.iter_mut().find(|it| *function == *it.function && it.what == *what) {
            Some(known) => known.times += 1,
            None => counted.push(RewriteReport {
                function: function.to_string(),
                what: what.clone(),
                times: 1,
            }),
        }
    }
    counted
}

fn metrics(lowered: &Lowered) -> BTreeMap<&'static str, u64> {
    let Lowered { module, plan, program, costs, records, .. } = lowered;
    let (launches, barriers) = plan.counts();
    let nodes: usize = module.functions.iter().map(|it| it.nodes().len()).sum();
    let rewrites: usize = records.iter().map(|it| it.rewrites.len()).sum();
    let weight_bytes: u64 = weights(&program.weights).iter().map(|it| it.bytes).sum();
    [
        ("functions", module.functions.len() as u64),
        ("nodes", nodes as u64),
        ("rewrites", rewrites as u64),
        ("launches", launches as u64),
        ("barriers", barriers as u64),
        ("arena bytes", plan.arena_bytes),
        ("scratch bytes of a thread", program.scratch_bytes),
        ("bytes of constants", plan.constants.len() as u64),
        ("bytes of code", program.code.len() as u64),
        ("bytes of weights", weight_bytes),
        ("parameters", costs.parameters),
        ("flops of a position", costs.position_flops),
        ("flops of a pair of positions", costs.pair_flops),
        ("flops of the head", costs.head_flops),
    ]
    .into()
}

fn buffers(plan: &Plan) -> Vec<BufferReport> {
    let lives = plan::lives(plan).into_iter().zip(&plan.buffers);
    let report = |(life, it): (Option<plan::Life>, &plan::Buffer)| {
        let plan::Life { first, last } = life?;
        Some(BufferReport {
            ty: it.ty.to_string(),
            bytes: it.bytes,
            offset: it.offset,
            first,
            last,
        })
    };
    lives.filter_map(report).collect()
}

/// Layers that follow each other and are stored alike are one line.
fn weights(slots: &[WeightSlot]) -> Vec<WeightReport> {
    let mut reports: Vec<WeightReport> = Vec::new();
    for slot in slots {
        let one = WeightReport {
            name: slot.name.clone(),
            layer: slot.layer,
            layers: 1,
            shape: slot.shape,
            format: (0 < slot.bytes).then(|| slot.dtype.name()),
            packed: slot.packed,
            bytes: slot.bytes,
        };
        match reports.last_mut().filter(|it| is_alike(it, &one)) {
            Some(last) => {
                last.layers += 1;
                last.bytes += one.bytes;
            }
            None => reports.push(one),
        }
    }
    reports
}

fn is_alike(a: &WeightReport, b: &WeightReport) -> bool {
    a.name == b.name && a.shape == b.shape && a.format == b.format && a.packed == b.packed
}
