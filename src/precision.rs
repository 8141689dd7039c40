//! Precision assignment: which format each weight of a product is stored in, and why.
//!
//! What is assigned is a parameter in one layer. Embeddings, the head, norms, convolutions and
//! other small weights stay as they are unless they are asked for by name. A [`Request`] names
//! formats, and either takes the first for all, or has the choice made from measured
//! [`search`](crate::precision::search) under a budget of bits or of loss. The outcome is
//! [`passes::Formats`], which the pass `precision` writes into the graph, and a [`Report`].

mod calibrate;
mod moments;
mod report;
mod request;
mod rounding;
mod search;

pub use calibrate::{Numbers, Rounded, calibrate, with_shared_scales};
pub use report::{BankReport, Loss, Report};
pub use request::{PRESETS, Preset, Request, Rounding};
pub use search::{Judge, noise, search};

use frontend::WeightMap;
use ir::DType;
use ir::storage::{self, Encoding, Scales};
use passes::Formats;

use crate::{Loaded, Lowered, Options};

/// A weight that products are made with, in all its layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contraction {
    /// The parameter.
    pub param: String,
    /// The number in the whole model of each of its layers.
    pub layers: Vec<usize>,
    /// Elements of a layer.
    pub elements: u64,
    /// Elements that follow each other along the axis that is summed over.
    pub columns: usize,
}

/// The weights of products in `lowered`; `maps` know the numbers of layers.
pub fn contractions(lowered: &Lowered, maps: &[WeightMap]) -> Vec<Contraction> {
    let banks = lowered.plan.banks.iter().filter(|it| it.packed);
    banks
        .map(|bank| {
            let param = bank.param.to_string();
            let rules = maps.iter().flat_map(|it| &it.rules).filter(|it| it.param == param);
            let numbers = rules.filter_map(|it| it.layers.clone()).next();
            let count = 0..bank.layers as usize;
            Contraction {
                param,
                layers: numbers.unwrap_or(count.collect()),
                elements: bank.shape[0].saturating_mul(bank.shape[1]),
                columns: bank.shape[1] as usize,
            }
        })
        .collect()
}

/// The layers of the whole model.
fn depth(contractions: &[Contraction]) -> usize {
    contractions.iter().flat_map(|it| &it.layers).max().map_or(0, |it| it + 1)
}

/// A format for each weight, and the reasons.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Assignment {
    /// What was asked for.
    pub request: String,
    /// The formats.
    pub formats: Formats,
    /// The bytes of those that were rounded on a text.
    pub rounded: Rounded,
    /// For each parameter and layer why.
    pub reasons: Vec<(String, Vec<String>)>,
    /// Runs of the calibration text that it took.
    pub runs: usize,
    /// The divergence that was measured on the calibration text, in nats a token.
    pub calibrated: Option<f64>,
}

impl Assignment {
    /// How to compile a model that is stored so.
    pub fn options(&self, options: Options) -> Options {
        let (formats, rounded) = (self.formats.clone(), self.rounded.clone());
        Options { formats, rounded, ..options }
    }

    /// A layer of a parameter as it is to be stored, of which `given` is what there is. `None`
    /// where it stays.
    ///
    /// # Errors
    ///
    /// When it can not be stored so.
    pub fn stored(
        &self,
        param: &str,
        layer: usize,
        given: &Loaded<'_>,
    ) -> Result<Option<(DType, Vec<u8>)>, String> {
        let Some(format) = self.formats.of(param, layer) else { return Ok(None) };
        let columns = given.shape.last().copied().unwrap_or(1);
        let bytes = match self.rounded.get(param, layer, format) {
            _ if format.dtype == given.dtype => given.bytes.to_vec(),
            Some(bytes) => bytes.to_vec(),
            None => {
                let written = storage::encode(format, columns, &given.decode()?);
                written.map_err(|why| why.to_string())?
            }
        };
        Ok(Some((format.dtype, bytes)))
    }

    /// The first format of `request` wherever it may be.
    pub fn uniform(request: &Request, contractions: &[Contraction]) -> Assignment {
        let first = request.formats.first().copied();
        Assignment::choose(request, contractions, |_, _| (first, "asked for".into()))
    }

    /// What `choice` says of each parameter and layer, wherever the request leaves it open.
    fn choose(
        request: &Request,
        contractions: &[Contraction],
        mut choice: impl FnMut(usize, usize) -> (Option<Encoding>, String),
    ) -> Assignment {
        let last = depth(contractions);
        let mut chosen = Assignment { request: request.text.clone(), ..Assignment::default() };
        for (i, it) in contractions.iter().enumerate() {
            let of_layer = |(layer, &number): (usize, &usize)| {
                if let Some(why) = request.keeps(&it.param, number, last) {
                    return (None, why);
                }
                let (format, why) = choice(i, layer);
                match fitting(format, it.columns) {
                    Err(misfit) => (None, misfit),
                    Ok(found) if found == format => (found, why),
                    Ok(found) => (found, format!("{why}; {}", misfit(format, it.columns))),
                }
            };
            let (formats, reasons): (Vec<_>, Vec<_>) =
                it.layers.iter().enumerate().map(of_layer).unzip();
            if formats.iter().any(Option::is_some) {
                chosen.formats.0.insert(it.param.as_str().into(), formats);
            }
            chosen.reasons.push((it.param.clone(), reasons));
        }
        chosen
    }
}

/// The format, or that which stands in for it where rows of `columns` are no whole blocks of it.
fn fitting(format: Option<Encoding>, columns: usize) -> Result<Option<Encoding>, String> {
    let Some(wanted) = format.filter(|it| !it.fits(columns)) else { return Ok(format) };
    let other = match wanted.dtype {
        DType::F8Block => Some(Encoding { dtype: DType::F8E4M3, scales: Scales::Row, ..wanted }),
        DType::Q4K => Some(Encoding { dtype: DType::Q4_0, ..wanted }),
        _ => None,
    };
    let other = other.filter(|it| it.fits(columns));
    other.map(Some).ok_or_else(|| misfit(format, columns))
}

/// Why a format is not that of rows of `columns`.
fn misfit(format: Option<Encoding>, columns: usize) -> String {
    let block = format.map_or(1, |it| it.dtype.block_len());
    format!("rows of {columns} are no whole blocks of {block}")
}
