//! Runs models over the calibration text.

use std::collections::BTreeSet;

use treen::evaluate::{Evaluator, Windows};
use treen::rank::{self, Usage};
use treen::{Choice, DEFAULT_PIPELINE, Error, Options, Ranking, Stack};

use super::{Sum, Whole};

/// Tokens on which whole models are compared with each other, which takes a run of each.
const COMPARED: usize = 2048;

/// What the model uses of `axes` on the calibration text.
pub(super) fn usage(whole: &Whole<'_>, axes: &BTreeSet<String>) -> Result<Usage, Error> {
    let axes: Vec<&str> = axes.iter().map(String::as_str).collect();
    let (name, sum) = match whole.args.sum {
        Sum::Mean => ("mean", rank::Sum::Mean),
        Sum::L2 => ("l2", rank::Sum::L2),
    };
    let importance = format!("incremental,importance{{axes={},sum={name}}},", axes.join(" "));
    let passes = DEFAULT_PIPELINE.replacen("incremental,", &importance, 1);
    let options = Options { passes: Some(passes), ..whole.options() };
    let model = whole.bind(whole.whole(), &options)?;
    let windows = calibration(whole, &model, whole.args.tokens.get())?;
    let outputs = &model.manifest().program.outputs;
    let mut usage = Usage::new(outputs.iter().map(|it| (it.name.as_str(), it.ty.as_str())), sum);
    let mut evaluator = Evaluator::new(&model, windows.longest(), None)?;
    for (done, window) in windows.tokens.iter().enumerate() {
        crate::cli::progress(&format!("window {} of {}", done + 1, windows.tokens.len()));
        evaluator.read(window, &mut |answer| {
            usage.see(answer);
            Ok(())
        })?;
        usage.end_window(window.len());
    }
    Ok(usage)
}

fn calibration(
    whole: &Whole<'_>,
    model: &runtime::Compiled,
    tokens: usize,
) -> Result<Windows, Error> {
    let path = whole.args.model.precision.calib.as_ref().ok_or_else(|| {
        Error::new("C0305", "importance is measured on a text").help("give one with --calib FILE")
    })?;
    whole.windows(model, path, tokens.min(whole.args.tokens.get()))
}

/// How far a cut model's predictions are from those of the whole one.
pub(super) fn divergence(
    whole: &Whole<'_>,
    choice: &Choice,
    ranking: &Ranking,
) -> Result<f64, Error> {
    let all = whole.bind(whole.whole(), &whole.options())?;
    let cut = whole.bind(whole.slice(choice, ranking)?, &whole.options())?;
    let windows = calibration(whole, &all, COMPARED)?;
    let mut other = Evaluator::new(&all, windows.longest(), None)?;
    let mut evaluator = Evaluator::new(&cut, windows.longest(), None)?;
    Ok(evaluator.compare_all(&mut other, &windows, &mut |_| {})?[0].kl())
}

/// What is lost by leaving out each layer.
pub(super) fn layers(whole: &Whole<'_>) -> Result<Vec<f64>, Error> {
    let stack = Stack::of(&whole.spec, &whole.compiled.module);
    let stack = stack.ok_or_else(|| Error::new("C0305", "the spec has no stack of layers"))?;
    let all = whole.bind(whole.whole(), &whole.options())?;
    let windows = calibration(whole, &all, COMPARED)?;
    let mut all = Evaluator::new(&all, windows.longest(), None)?;
    (0..stack.n_layers())
        .map(|layer| {
            crate::cli::progress(&format!("without layer {} of {}", layer + 1, stack.n_layers()));
            let choice = Choice { skipped: [layer].into(), ..Choice::default() };
            let without = whole.slice(&choice, &Ranking::default())?;
            let without = whole.bind(without, &whole.options())?;
            let mut without = Evaluator::new(&without, windows.longest(), None)?;
            whole.args.depth.loss().of(&mut without, &mut all, &windows)
        })
        .collect()
}
