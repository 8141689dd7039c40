//! `prune`: a smaller model that keeps what matters most on a text.

mod config;
mod measure;
mod output;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use frontend::Compiled;
use import::Checkpoint;
use ir::Name;
use passes::Links;
use treen::budget::{self, Candidate, declared};
use treen::evaluate::{Evaluator, Windows};
use treen::rank::{self, By, Loss};
use treen::slices::{self, Sliced};
use treen::{Budget, Choice, Error, Options, Ranking, Spec, Stack, Weights};

use super::{ModelArgs, build::Unbound, eval, unwritable};

/// Axes that are pruned by default where the spec has them: the stream, feed-forward, query heads
/// of each group, Mamba's heads of each group, and their channels.
const USUAL: [&str; 5] = ["E", "F", "G", "J", "D"];

/// Make a smaller model that keeps what matters most on a text
///
/// The most important places of each axis are found on a calibration text and kept, within a
/// budget. The result is a spec with weights of its own; without a budget, only the orders of
/// importance are written, with which `--budget` cuts whenever the model is compiled.
#[derive(Args)]
pub(super) struct PruneArgs {
    /// Which model, and what it may cost.
    #[command(flatten)]
    model: ModelArgs,
    /// The most tokens of it that are read
    #[arg(long, value_name = "N", default_value = "16384")]
    tokens: NonZeroUsize,
    /// Tokens of the windows that texts are read in [default: 512, or what there is room for]
    #[arg(long, value_name = "N")]
    context: Option<usize>,
    /// What places are ranked by: importance, magnitude or random:SEED
    #[arg(long, default_value = "importance")]
    by: By,
    /// Axes that a limit may cut, such as `F,G,layers` [default: those that the spec declares
    /// elastic, or else E, F, G, J and D]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    axes: Vec<String>,
    /// How activations are summed over positions
    #[arg(long, default_value = "mean")]
    sum: Sum,
    /// Judge heads by those of their channels that survive
    #[arg(long)]
    nested: bool,
    /// What layers are ranked by
    #[arg(long, default_value = "cosine")]
    depth: Depth,
    /// Of so many of the largest models within a limit, the one that answers most like the whole
    /// one on the calibration text is taken
    #[arg(long, value_name = "N", default_value = "1")]
    candidates: NonZeroUsize,
    /// A text to tell the perplexity of, before and after
    #[arg(long, value_name = "FILE")]
    ppl: Option<PathBuf>,
    /// The folder to write
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// How activations are summed.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sum {
    /// The mean of magnitudes
    Mean,
    /// The root of the sum of squares
    L2,
}

/// What a layer is judged by.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Depth {
    /// How far it turns what it is given
    Cosine,
    /// The divergence of the predictions without it
    Kl,
    /// The mean squared change of the logits without it
    Mse,
    /// The same, relative to the squares of the logits
    Nmse,
}

impl Depth {
    /// What is measured where layers are left out one by one.
    fn loss(self) -> Loss {
        match self {
            Depth::Cosine | Depth::Kl => Loss::Kl,
            Depth::Mse => Loss::Mse,
            Depth::Nmse => Loss::Nmse,
        }
    }
}

/// A model that is to be pruned.
struct Whole<'a> {
    args: &'a PruneArgs,
    spec: Spec,
    compiled: Compiled,
    budget: Budget,
}

/// What was chosen.
struct Pruned {
    candidate: Candidate,
    choice: Choice,
    /// The divergence from the whole model, where it was measured.
    kl: Option<f64>,
}

impl PruneArgs {
    pub(super) fn execute(&self, out: &mut dyn Write) -> Result<(), Error> {
        let spec = self.model.open()?;
        let compiled = spec.compile()?;
        let budget = self.model.budget.clone().unwrap_or_default();
        let whole = Whole { args: self, spec, compiled, budget };
        whole.check_axes()?;
        let ranking = whole.ranking()?;
        let tried = whole.tried(&ranking)?;
        let best = tried.iter().min_by(|a, b| {
            let kl = |it: &Pruned| it.kl.unwrap_or(0.0);
            kl(a).total_cmp(&kl(b))
        });
        let best = best.ok_or_else(|| budget::above(&whole.compiled.module, &whole.choices()))?;
        let sliced = whole.slice(&best.choice, &ranking)?;
        let report = whole.report(best, &tried, &sliced)?;
        if let Some(folder) = &self.output {
            let is_cut = self.model.budget.is_some();
            output::write(folder, &whole, best, &ranking, is_cut.then_some(&sliced))?;
        }
        let text = if self.json { format!("{report:#}\n") } else { output::text(&report) };
        out.write_all(text.as_bytes()).map_err(unwritable)
    }
}

impl Whole<'_> {
    fn checkpoint(&self) -> Result<Checkpoint, Error> {
        let path = self.spec.weights.as_ref().ok_or_else(|| {
            Error::new("C0204", "there are no weights to prune").help("give them with --weights")
        })?;
        Ok(Checkpoint::open(path)?)
    }

    /// The axes that may be cut.
    fn axes(&self) -> BTreeSet<String> {
        let mut axes: BTreeSet<String> =
            self.budget.widths.iter().map(|it| it.0.to_string()).collect();
        axes.extend(self.args.axes.iter().cloned());
        if axes.is_empty() {
            axes.extend(declared(&self.compiled.module).into_keys());
        }
        if axes.is_empty() {
            let links = Links::of(&self.compiled.module);
            let can_be =
                |it: &&str| links.rigid(it).is_none() && links.of_atom(it).next().is_some();
            axes.extend(USUAL.iter().filter(|it| can_be(it)).map(|it| (*it).to_owned()));
        }
        let stack = Stack::of(&self.spec, &self.compiled.module);
        let layer_axis = stack.as_ref().and_then(Stack::axis);
        if self.budget.layers.is_some() || layer_axis.is_some_and(|it| axes.contains(it)) {
            axes.insert(passes::LAYERS.to_owned());
        }
        axes
    }

    /// What `--axes` names has to be there, and such that it can be cut.
    fn check_axes(&self) -> Result<(), Error> {
        let module = &self.compiled.module;
        let links = Links::of(module);
        for name in self.args.axes.iter().filter(|it| *it != passes::LAYERS) {
            let is_there = module.axes.get(name.as_str()).is_some();
            let why = if is_there { links.rigid(name) } else { Some("there is no such axis") };
            if let Some(why) = why {
                let can_be = |it: &&str| links.rigid(it).is_none();
                let atoms = links.classes().iter().map(|it| it.atom.as_str());
                let all: BTreeSet<&str> = atoms.filter(can_be).chain([passes::LAYERS]).collect();
                let all = all.into_iter().collect::<Vec<_>>().join(", ");
                return Err(Error::new("C0305", format!("`{name}` can not be cut: {why}"))
                    .help(format!("of this model can be cut: {all}")));
            }
        }
        Ok(())
    }

    fn ranking(&self) -> Result<Ranking, Error> {
        let module = &self.compiled.module;
        let axes = self.axes();
        let atoms: BTreeSet<Name> =
            axes.iter().filter(|it| *it != passes::LAYERS).map(|it| it.as_str().into()).collect();
        let mut ranking = Ranking::default();
        match self.args.by {
            By::Random(seed) => ranking.orders = rank::random(module, &atoms, seed),
            By::Magnitude => {
                let maps = &self.compiled.weights;
                let scores = rank::magnitudes(module, maps, &self.checkpoint()?, &atoms)?;
                ranking.orders = rank::orders(module, &scores)?;
            }
            By::Importance => {
                self.check_nested()?;
                let usage = measure::usage(self, &axes)?;
                let nested = self.args.nested.then_some(&self.budget.widths);
                ranking.orders = rank::orders(module, &usage.scores(module, nested))?;
                ranking.layers = usage.layers().map(|it| rank::ranked(&it));
            }
        }
        if axes.contains(passes::LAYERS)
            && (self.args.depth != Depth::Cosine || ranking.layers.is_none())
        {
            ranking.layers = Some(rank::ranked(&measure::layers(self)?));
        }
        Ok(ranking)
    }

    /// Which channels survive has to be said before heads are judged by them.
    fn check_nested(&self) -> Result<(), Error> {
        let is_told = self.budget.widths.iter().next().is_some();
        match self.args.nested && !is_told {
            true => Err(Error::new("C0305", "nothing says which channels survive")
                .help("--nested wants extents in the budget, such as `J=14,D=64`")),
            false => Ok(()),
        }
    }

    /// The largest models within the budget, compared with the whole one if there are several.
    fn tried(&self, ranking: &Ranking) -> Result<Vec<Pruned>, Error> {
        let choices = self.choices();
        let most = self.args.candidates.get();
        let mut found: Vec<(Candidate, Choice)> = Vec::new();
        for skipped in self.depths(ranking)? {
            let (spec, compiled) = budget::without(&self.spec, &self.compiled, &skipped)?;
            for it in self.budget.search(&compiled, &choices, most)? {
                let choice = budget::of(&spec, &compiled, ranking, &it.sizes, skipped.clone())?;
                found.push((it, choice));
            }
        }
        found.sort_by_key(|it| std::cmp::Reverse(it.0.parameters));
        found.truncate(most);
        let compares = 1 < found.len();
        let judged = found.into_iter().map(|(candidate, choice)| {
            let kl = compares.then(|| measure::divergence(self, &choice, ranking));
            Ok(Pruned { candidate, choice, kl: kl.transpose()? })
        });
        judged.collect()
    }

    /// What each axis may become: what the spec declares, or else steps of our own where there is a
    /// limit.
    fn choices(&self) -> BTreeMap<String, Vec<usize>> {
        let axes = self.axes();
        let mut choices = declared(&self.compiled.module);
        choices.retain(|name, _| axes.contains(name));
        let sizes = &self.compiled.module.axes;
        for name in axes.into_iter().filter(|_| self.budget.is_limit()) {
            if let Some(size) = sizes.fixed(&ir::Axis::atom(name.as_str())) {
                choices.entry(name).or_insert_with(|| grid(size));
            }
        }
        choices
    }

    /// The layers to leave out: those that the budget tells, or where a limit may cut layers the
    /// least important ones, up to a fifth of them.
    fn depths(&self, ranking: &Ranking) -> Result<Vec<BTreeSet<usize>>, Error> {
        let told = self.budget.skipped(&self.spec, &self.compiled, ranking)?;
        let may_cut =
            self.budget.is_limit() && self.args.axes.iter().any(|it| it == passes::LAYERS);
        let stack = Stack::of(&self.spec, &self.compiled.module);
        match (stack, &ranking.layers) {
            (Some(stack), Some(layers)) if may_cut && told.is_empty() => {
                let n = stack.n_layers();
                ((n * 4).div_ceil(5)..=n).rev().map(|n| stack.least(n, layers)).collect()
            }
            _ => Ok(vec![told]),
        }
    }

    fn slice(&self, choice: &Choice, ranking: &Ranking) -> Result<Sliced, Error> {
        slices::slice(self.spec.clone(), self.compiled.clone(), choice, &ranking.orders)
    }

    /// A cut model, or the whole one, ready to run.
    fn bind(&self, sliced: Sliced, options: &Options) -> Result<runtime::Compiled, Error> {
        let options = Options { widths: sliced.widths.clone(), ..options.clone() };
        let weights = Weights::Checkpoint(self.checkpoint()?);
        Unbound::of(sliced, &options, weights)?.bind()
    }

    fn options(&self) -> Options {
        // The contracts were checked, or are, when the result is compiled.
        Options { check: false, ..self.args.model.options() }
    }

    /// The first windows of a text.
    fn windows(
        &self,
        model: &runtime::Compiled,
        path: &Path,
        most: usize,
    ) -> Result<Windows, Error> {
        Ok(eval::windows(model, path, self.args.context)?.first(most))
    }

    fn whole(&self) -> Sliced {
        let widths = passes::Widths::default();
        Sliced { spec: self.spec.clone(), compiled: self.compiled.clone(), widths }
    }

    fn perplexity(&self, sliced: Sliced) -> Result<Option<f64>, Error> {
        let Some(path) = &self.args.ppl else { return Ok(None) };
        let model = self.bind(sliced, &self.options())?;
        let windows = self.windows(&model, path, usize::MAX)?;
        let mut evaluator = Evaluator::new(&model, windows.longest(), None)?;
        let score = evaluator.score_all(&windows, &mut |_| {})?;
        Ok(Some(score.perplexity()))
    }

    fn report(
        &self,
        best: &Pruned,
        tried: &[Pruned],
        sliced: &Sliced,
    ) -> Result<serde_json::Value, Error> {
        let module = &self.compiled.module;
        let small = sliced.spec.compile()?.module;
        let none = BTreeMap::new();
        let axes: serde_json::Map<_, _> = best
            .choice
            .widths
            .iter()
            .map(|(name, kept)| {
                let size = module.axes.fixed(&name.into());
                (name.to_string(), serde_json::json!({ "from": size, "to": kept }))
            })
            .collect();
        let candidates: Vec<_> = tried
            .iter()
            .map(|it| {
                let Candidate { sizes, parameters } = &it.candidate;
                let skipped = &it.choice.skipped;
                serde_json::json!({
                    "sizes": sizes,
                    "skipped_layers": skipped,
                    "parameters": parameters,
                    "kl": it.kl,
                })
            })
            .collect();
        Ok(serde_json::json!({
            "model": module.entry().name.to_string(),
            "axes": axes,
            "skipped_layers": best.choice.skipped,
            "parameters": { "from": slices::parameters(module, &none), "to": slices::parameters(&small, &none) },
            "candidates": candidates,
            "perplexity": { "from": self.perplexity(self.whole())?, "to": self.perplexity(sliced.clone())? },
        }))
    }
}

/// What an axis may be cut to: steps of a sixteenth or less, down to 3/5.
fn grid(size: usize) -> Vec<usize> {
    let step = (size / 16).max(1);
    let step = 1 << step.ilog2();
    let least = (size * 3).div_ceil(5);
    let mut sizes: Vec<usize> = (least.div_ceil(step)..=size / step).map(|it| it * step).collect();
    sizes.push(size);
    sizes.dedup();
    sizes
}
