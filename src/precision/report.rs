//! What an assignment comes to: formats, bytes and reasons of every weight, and what was lost.

use std::collections::BTreeMap;
use std::fmt;

use runtime::{Program, WeightSlot};
use serde::Serialize;

use super::Assignment;

/// Neighbouring layers of a parameter that are stored alike.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BankReport {
    /// The parameter.
    pub param: String,
    /// The first and the last of its layers.
    pub layers: [u64; 2],
    /// What they are stored in.
    pub format: String,
    /// Bytes in all.
    pub bytes: u64,
    /// Bits of an element, scales and padding included.
    pub bits: f64,
    /// Why.
    pub why: String,
}

/// What storing weights anew did to the model, on a text.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Loss {
    /// The perplexity of the model as it was given.
    pub reference_perplexity: f64,
    /// By how much of that it has grown.
    pub perplexity_increase: f64,
    /// Divergence from the model as it was given, in nats a token.
    pub kl: f64,
    /// The share of tokens for which both hold the same one for the most probable.
    pub same_top: f64,
}

/// What an assignment comes to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// What was asked for.
    pub request: String,
    /// Bytes of all weights.
    pub bytes: u64,
    /// Bits of an element of the weights of products within layers.
    pub bits_per_weight: f64,
    /// Bits of an element of all weights.
    pub bits_per_parameter: f64,
    /// Runs of the calibration text that the choice took.
    pub runs: usize,
    /// Tokens of the calibration text that weights were rounded by; 0 where each number was
    /// rounded by itself.
    pub rounded_by: usize,
    /// The divergence measured on the calibration text.
    pub calibration_kl: Option<f64>,
    /// The loss on another text, where it was measured.
    pub loss: Option<Loss>,
    /// The matrices.
    pub banks: Vec<BankReport>,
}

impl Report {
    /// Of the bound `program`.
    pub fn new(program: &Program, assignment: &Assignment) -> Report {
        let mut banks: Vec<BankReport> = Vec::new();
        for slot in program.weights.iter().filter(|it| it.packed) {
            let (format, why) = (format(slot, assignment), why(slot, assignment));
            let same = |it: &&mut BankReport| {
                it.param == slot.name && it.format == format && it.why == why
            };
            match banks.last_mut().filter(same) {
                Some(bank) => {
                    bank.layers[1] = slot.layer;
                    bank.bytes += slot.bytes;
                }
                None => banks.push(BankReport {
                    param: slot.name.clone(),
                    layers: [slot.layer; 2],
                    format,
                    bytes: slot.bytes,
                    bits: bits([slot]),
                    why,
                }),
            }
        }
        // Tied weights are counted once.
        let unique: BTreeMap<u64, &WeightSlot> =
            program.weights.iter().map(|it| (it.offset, it)).collect();
        let within = |it: &&&WeightSlot| it.packed && it.name.contains('.');
        Report {
            request: assignment.request.clone(),
            bytes: unique.values().map(|it| it.bytes).sum(),
            bits_per_weight: bits(unique.values().filter(within).copied()),
            bits_per_parameter: bits(unique.values().copied()),
            runs: assignment.runs,
            rounded_by: assignment.rounded.tokens,
            calibration_kl: assignment.calibrated,
            loss: None,
            banks,
        }
    }
}

/// Bits of an element.
fn bits<'a>(slots: impl IntoIterator<Item = &'a WeightSlot>) -> f64 {
    let (mut bytes, mut elements) = (0, 0);
    for slot in slots {
        bytes += slot.bytes;
        elements += slot.shape[0] * slot.shape[1];
    }
    8.0 * bytes as f64 / elements.max(1) as f64
}

fn format(slot: &WeightSlot, assignment: &Assignment) -> String {
    let asked = assignment.formats.of(&slot.name, slot.layer as usize);
    asked.filter(|it| it.dtype == slot.dtype).map_or(slot.dtype.to_string(), |it| it.to_string())
}

fn why(slot: &WeightSlot, assignment: &Assignment) -> String {
    let found = assignment.reasons.iter().find(|(param, _)| *param == slot.name);
    let why = found.and_then(|(_, layers)| layers.get(slot.layer as usize));
    why.cloned().unwrap_or_default()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "precision {}", self.request)?;
        let wide = self.banks.iter().map(|it| it.param.len()).max().unwrap_or(0);
        for BankReport { param, layers: [from, to], format, bytes, bits, why } in &self.banks {
            let layers = if from == to { from.to_string() } else { format!("{from}-{to}") };
            writeln!(
                f,
                "  {param:wide$} {layers:>7}  {format:<12} {bytes:>11} bytes {bits:>5.2} bits  \
                 {why}"
            )?;
        }
        writeln!(f, "bytes of weights         {}", self.bytes)?;
        writeln!(f, "bits a weight in layers  {:.3}", self.bits_per_weight)?;
        writeln!(f, "bits a parameter         {:.3}", self.bits_per_parameter)?;
        if self.rounded_by != 0 {
            writeln!(f, "rounded by               {} tokens", self.rounded_by)?;
        }
        if let Some(kl) = self.calibration_kl {
            writeln!(f, "calibration              KL {kl:.3e} after {} runs", self.runs)?;
        }
        if let Some(Loss { reference_perplexity, perplexity_increase, kl, same_top }) = self.loss {
            writeln!(f, "perplexity as given      {reference_perplexity:.4}")?;
            writeln!(f, "perplexity increase      {:.3} %", 100.0 * perplexity_increase)?;
            writeln!(f, "KL                       {kl:.4e}")?;
            writeln!(f, "same most probable       {:.2} %", 100.0 * same_top)?;
        }
        Ok(())
    }
}
