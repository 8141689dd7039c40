//! `--precision`: what weights are stored in, decided before a model is compiled.

use std::path::PathBuf;

use clap::Args;
use passes::Formats;
use runtime::Compiled;
use treen::Error;
use treen::evaluate::{Evaluator, Windows};
use treen::precision::{self, Assignment, Contraction, Request};

use super::{ModelArgs, build::Unbound, eval};

/// Tokens of the calibration text that are read, in windows of [`WINDOW`].
const CALIBRATION: usize = 512;
const WINDOW: usize = 256;

/// How weights are stored.
#[derive(Args, Clone)]
pub(super) struct PrecisionArgs {
    /// Store the weights of products anew: a format, formats to choose from with `budget=4.5bpw` or
    /// `kl<=0.01`, a published recipe; and more, see docs/precision.md
    #[arg(long, value_name = "FORMAT,..", conflicts_with = "passes")]
    pub(super) precision: Option<String>,
    /// The calibration text: what is to be chosen by measuring is measured on it
    #[arg(long, value_name = "FILE")]
    pub(super) calib: Option<PathBuf>,
}

impl PrecisionArgs {
    /// What is stored in what, for the model that `args` name.
    pub(super) fn assign(&self, args: &ModelArgs) -> Result<Option<Assignment>, Error> {
        let Some(text) = &self.precision else { return Ok(None) };
        let request = Request::parse(text)?;
        let base = Unbound::with_formats(args, Formats::default())?;
        let contractions = precision::contractions(&base.lowered, &base.maps);
        if !request.is_measured() {
            return Ok(Some(Assignment::uniform(&request, &contractions)));
        }
        let path = self.calib.as_ref().ok_or_else(|| {
            Error::new("C0307", "the choice of formats is measured on a text")
                .help("give one with --calib")
        })?;
        let text = eval::read_text(path)?;
        search(args, &request, &contractions, base, &text).map(Some)
    }

    /// The same, the formats alone.
    pub(super) fn formats(&self, args: &ModelArgs) -> Result<Formats, Error> {
        Ok(self.assign(args)?.map(|it| it.formats).unwrap_or_default())
    }
}

fn search(
    args: &ModelArgs,
    request: &Request,
    contractions: &[Contraction],
    base: Unbound,
    text: &str,
) -> Result<Assignment, Error> {
    let base = base.bind()?;
    let most = base.manifest().program.capacity().min(WINDOW as u64) as usize;
    let windows = Windows::of(&base, text, most)?.first(CALIBRATION);
    let wanted = logits(&base, &windows, most)?;
    let mut runs = 0;
    precision::search(request, contractions, stored_bits(&base), &mut |formats| {
        runs += 1;
        super::progress(&format!("calibrating, run {runs}"));
        let model = Unbound::with_formats(args, formats.clone())?.bind()?;
        let mut evaluator = Evaluator::new(&model, most, None)?;
        let mut total = treen::evaluate::Score::default();
        for (window, wanted) in windows.tokens.iter().zip(&wanted) {
            total += evaluator.score(window, Some(wanted))?;
        }
        Ok(total.kl())
    })
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
