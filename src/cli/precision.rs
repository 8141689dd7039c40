//! `--precision`: what weights are stored in, decided before a model is compiled.

use std::path::{Path, PathBuf};

use clap::Args;
use ir::DType;
use ir::storage::Encoding;
use passes::Formats;
use runtime::Compiled;
use treen::evaluate::{Evaluator, Windows};
use treen::precision::{self, Assignment, Contraction, Judge, Request, Rounded, Rounding};
use treen::slices::Sliced;
use treen::{DEFAULT_PIPELINE, Error, Options};

use super::{ModelArgs, build::Unbound, eval};

/// Tokens of the calibration text that formats are chosen by, in windows of [`WINDOW`].
const CALIBRATION: usize = 512;
const WINDOW: usize = 256;
/// Tokens that are rounded by unless it is said, in windows of [`ROUNDING_WINDOW`].
const ROUNDING: usize = 1 << 13;
const ROUNDING_WINDOW: usize = 512;

/// How weights are stored.
#[derive(Args, Clone)]
pub(super) struct PrecisionArgs {
    /// Store the weights of products anew: a format, formats to choose from with `budget=4.5bpw` or
    /// `kl<=0.01`, a published recipe; and more, see docs/precision.md
    #[arg(long, value_name = "FORMAT,..", conflicts_with = "passes")]
    pub(super) precision: Option<String>,
    /// The calibration text: what is to be chosen by measuring is measured on it, and weights are
    /// rounded such that what they give for it changes least
    #[arg(long, value_name = "FILE")]
    pub(super) calib: Option<PathBuf>,
}

impl PrecisionArgs {
    /// What is stored in what, for the model that `args` name.
    pub(super) fn assign(&self, args: &ModelArgs) -> Result<Option<Assignment>, Error> {
        let Some(text) = &self.precision else { return Ok(None) };
        let request = Request::parse(text)?;
        let is_rounded = self.is_rounded(&request);
        if !is_rounded && !request.is_measured() {
            let contractions = contractions(args)?;
            request.check(&contractions)?;
            return Ok(Some(Assignment::uniform(&request, &contractions)));
        }
        let base = Unbound::with(args, args.options())?;
        let contractions = precision::contractions(&base.lowered, &base.maps);
        request.check(&contractions)?;
        let rounded = match is_rounded {
            true => self.round(args, &request, &contractions, &base)?,
            false => Rounded::default(),
        };
        if !request.is_measured() {
            let uniform = Assignment::uniform(&request, &contractions);
            return Ok(Some(Assignment { rounded, ..uniform }));
        }
        search(args, &request, &contractions, base, rounded, self.text()?).map(Some)
    }

    /// How to compile the model that `args` name.
    pub(super) fn options(&self, args: &ModelArgs) -> Result<Options, Error> {
        Ok(self.assign(args)?.unwrap_or_default().options(args.options()))
    }

    /// Where the calibration text is.
    fn text(&self) -> Result<&Path, Error> {
        self.calib.as_deref().ok_or_else(|| {
            Error::new("C0307", "the precision depends on what is measured on a text")
                .help("give one with --calib")
        })
    }

    /// Whether weights are rounded on the calibration text.
    fn is_rounded(&self, request: &Request) -> bool {
        match request.rounding {
            Some(it) => it == Rounding::Calibrated,
            None => self.calib.is_some(),
        }
    }

    /// The weights rounded on the calibration text.
    fn round(
        &self,
        args: &ModelArgs,
        request: &Request,
        contractions: &[Contraction],
        base: &Unbound,
    ) -> Result<Rounded, Error> {
        let model = telling_inputs(args, contractions)?.bind()?;
        let most = model.manifest().program.capacity().min(ROUNDING_WINDOW as u64) as usize;
        let windows = eval::windows(&model, self.text()?, Some(most))?;
        let windows = windows.spread(request.tokens.unwrap_or(ROUNDING));
        let numbers = |param: &str, layer: usize| {
            base.weights.numbers(&base.lowered, &base.maps, param, layer)
        };
        let report = &mut super::progress;
        precision::calibrate(request, contractions, &model, &windows, &numbers, report)
    }
}

/// The model with what its weights are multiplied with as outputs.
fn telling_inputs(args: &ModelArgs, contractions: &[Contraction]) -> Result<Unbound, Error> {
    let params: Vec<&str> = contractions.iter().map(|it| it.param.as_str()).collect();
    let inputs = format!("incremental,inputs{{of={}}},", params.join(" "));
    let passes = Some(DEFAULT_PIPELINE.replacen("incremental,", &inputs, 1));
    // Contracts are checked when the result is compiled.
    Unbound::with(args, Options { passes, check: false, ..args.options() })
}

/// `assignment` with its weights in NVFP4 as other programs want them, which take those for one
/// matrix that one value is multiplied with. Weights that were rounded on a text are so already.
pub(super) fn shared(args: &ModelArgs, assignment: Assignment) -> Result<Assignment, Error> {
    let formats = || assignment.formats.0.values().flatten().flatten();
    if assignment.rounded != Rounded::default() || !formats().any(|it| it.dtype == DType::NvFp4) {
        return Ok(assignment);
    }
    let base = Unbound::with(args, args.options())?;
    let contractions = precision::contractions(&base.lowered, &base.maps);
    let inputs = telling_inputs(args, &contractions)?;
    let numbers =
        |param: &str, layer: usize| base.weights.numbers(&base.lowered, &base.maps, param, layer);
    let (program, formats) = (&inputs.lowered.program, &assignment.formats);
    let rounded = precision::with_shared_scales(formats, &contractions, program, &numbers)?;
    Ok(Assignment { rounded, ..assignment })
}

/// The weights of products, of which nothing but the shapes is looked at.
fn contractions(args: &ModelArgs) -> Result<Vec<Contraction>, Error> {
    let spec = args.open()?;
    let compiled = spec.compile()?;
    let Sliced { compiled, widths, .. } = args.cut(spec, compiled)?;
    // Contracts are checked when the result is compiled.
    let options = Options { widths, check: false, ..args.options() };
    let lowered = treen::lower(compiled.module, &options, &mut |_| {})?;
    Ok(precision::contractions(&lowered, &compiled.weights))
}

fn search(
    args: &ModelArgs,
    request: &Request,
    contractions: &[Contraction],
    base: Unbound,
    rounded: Rounded,
    text: &Path,
) -> Result<Assignment, Error> {
    let whole = Unbound::with(args, args.options())?.bind()?;
    let most = whole.manifest().program.capacity().min(WINDOW as u64) as usize;
    let windows = eval::windows(&whole, text, Some(most))?.spread(CALIBRATION);
    let wanted = logits(&whole, &windows, most)?;
    let mut measured = Measured { args, base, rounded, windows, most, wanted, runs: 0 };
    let found = precision::search(request, contractions, stored_bits(&whole), &mut measured)?;
    Ok(Assignment { rounded: measured.rounded, ..found })
}

/// A model that is compared with itself in other formats.
struct Measured<'a> {
    args: &'a ModelArgs,
    base: Unbound,
    rounded: Rounded,
    windows: Windows,
    /// Tokens of the longest window.
    most: usize,
    /// What the model as it is answers to each window.
    wanted: Vec<Vec<f32>>,
    runs: usize,
}

impl Judge for Measured<'_> {
    /// On the first window where it is to be `brief`.
    fn divergence(&mut self, formats: &Formats, brief: bool) -> Result<f64, Error> {
        self.runs += 1;
        super::progress(&format!("measuring, run {}", self.runs));
        let (formats, rounded) = (formats.clone(), self.rounded.clone());
        // Contracts are checked when the result is compiled.
        let options = Options { formats, rounded, check: false, ..self.args.options() };
        let model = Unbound::with(self.args, options)?.bind()?;
        let mut evaluator = Evaluator::new(&model, self.most, None)?;
        let windows = if brief { 1 } else { self.windows.tokens.len() };
        let mut total = treen::evaluate::Score::default();
        for (window, wanted) in self.windows.tokens.iter().zip(&self.wanted).take(windows) {
            total += evaluator.score(window, Some(wanted))?;
        }
        Ok(total.kl())
    }

    fn noise(&mut self, of: &Contraction, layer: usize, format: Encoding) -> Result<f64, Error> {
        let Unbound { weights, lowered, maps, .. } = &self.base;
        let numbers = weights.numbers(lowered, maps, &of.param, layer)?;
        let bytes = self.rounded.get(&of.param, layer, format);
        precision::noise(format, of.columns, &numbers, bytes)
    }
}

/// What the model as it is answers to each window.
fn logits(model: &Compiled, windows: &Windows, most: usize) -> Result<Vec<Vec<f32>>, Error> {
    let mut evaluator = Evaluator::new(model, most, None)?;
    windows.tokens.iter().map(|it| evaluator.logits(it)).collect()
}

/// Bits of an element of the weights within layers as they are.
fn stored_bits(model: &Compiled) -> f64 {
    let slots = &model.manifest().program.weights;
    let slots = slots.iter().filter(|it| it.packed && it.name.contains('.'));
    let (bytes, elements) =
        slots.fold((0, 0), |sum, it| (sum.0 + it.bytes, sum.1 + it.shape[0] * it.shape[1]));
    8.0 * bytes as f64 / elements.max(1) as f64
}
