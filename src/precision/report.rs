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
    /// Of `program`; before its weights are bound, what stays has no bytes, nor has it all.
    pub fn new(program: &Program, assignment: &Assignment) -> Report {
        let mut banks: Vec<BankReport> = Vec::new();
        for slot in program.weights.iter().filter(|it| it.packed) {
            let (format, bytes) = stored(slot, assignment);
            let why = why(slot, assignment);
            let same = |it: &&mut BankReport| {
                it.param == slot.name && it.format == format && it.why == why
            };
            match banks.last_mut().filter(same) {
                Some(bank) => {
                    bank.layers[1] = slot.layer;
                    bank.bytes += bytes;
                }
                None => banks.push(BankReport {
                    param: slot.name.clone(),
                    layers: [slot.layer; 2],
                    format,
                    bytes,
                    bits: bits(bytes, elements(slot)),
                    why,
                }),
            }
        }
        // Tied weights are counted once.
        let unique: BTreeMap<u64, &WeightSlot> =
            program.weights.iter().map(|it| (it.offset, it)).collect();
        let within = |it: &&&WeightSlot| it.packed && it.name.contains('.');
        let bits_of = |slots: &mut dyn Iterator<Item = &WeightSlot>| {
            let (bytes, n) = slots.fold((0, 0), |sum, it| (sum.0 + it.bytes, sum.1 + elements(it)));
            bits(bytes, n)
        };
        Report {
            request: assignment.request.clone(),
            bytes: unique.values().map(|it| it.bytes).sum(),
            bits_per_weight: bits_of(&mut unique.values().filter(within).copied()),
            bits_per_parameter: bits_of(&mut unique.values().copied()),
            runs: assignment.runs,
            rounded_by: assignment.rounded.tokens,
            calibration_kl: assignment.calibrated,
            loss: None,
            banks,
        }
    }
}

fn elements(slot: &WeightSlot) -> u64 {
    slot.shape[0] * slot.shape[1]
}

/// Bits of an element.
fn bits(bytes: u64, elements: u64) -> f64 {
    8.0 * bytes as f64 / elements.max(1) as f64
}

/// The format of a weight, and its bytes.
fn stored(slot: &WeightSlot, assignment: &Assignment) -> (String, u64) {
    let asked = assignment.formats.of(&slot.name, slot.layer as usize);
    if 0 < slot.bytes {
        let as_asked = asked.filter(|it| it.dtype == slot.dtype).map(|it| it.to_string());
        return (as_asked.unwrap_or(slot.dtype.to_string()), slot.bytes);
    }
    let [rows, columns] = slot.shape.map(|it| it as usize);
    asked.map_or(("as given".to_owned(), 0), |it| {
        (it.to_string(), it.dtype.bytes(rows, columns).unwrap_or_default() as u64)
    })
}

fn why(slot: &WeightSlot, assignment: &Assignment) -> String {
    let found = assignment.reasons.iter().find(|(param, _)| *param == slot.name);
    let why = found.and_then(|(_, layers)| layers.get(slot.layer as usize));
    why.cloned().unwrap_or_default()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "precision {}", self.request)?;
        let widest = |of: fn(&BankReport) -> usize| self.banks.iter().map(of).max().unwrap_or(0);
        let (wide, long) = (widest(|it| it.param.len()), widest(|it| it.format.len()));
        for BankReport { param, layers: [from, to], format, bytes, bits, why } in &self.banks {
            let layers = if from == to { from.to_string() } else { format!("{from}-{to}") };
            writeln!(
                f,
                "  {param:wide$} {layers:>7}  {format:<long$} {bytes:>11} bytes {bits:>5.2} bits  \
                 {why}"
            )?;
        }
        if self.bytes != 0 {
            writeln!(f, "bytes of weights         {}", self.bytes)?;
            writeln!(f, "bits a weight in layers  {:.3}", self.bits_per_weight)?;
            writeln!(f, "bits a parameter         {:.3}", self.bits_per_parameter)?;
        }
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
