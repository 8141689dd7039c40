//! Comparing a model with outputs that others computed.

use std::fmt;
use std::fs;
use std::path::Path;

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::Serialize;
use text::greedy;

use crate::{Batch, Fault, Model};

/// What a model should answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Golden {
    /// Texts as tokens.
    pub texts: Vec<Vec<i32>>,
    /// What an encoder has read before each text; empty without one.
    pub sources: Vec<Vec<i32>>,
    /// The logits that follow each token of each text: `f32[texts, tokens, vocabulary]`.
    pub logits: Vec<f32>,
    /// Logits of one token.
    pub vocabulary: usize,
    /// The most probable continuation of the first text; may be empty.
    pub greedy: Vec<i32>,
}

/// How well a model agrees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Agreement {
    /// The error of texts read in long steps: the norm of the difference over that of what is
    /// expected, over all logits.
    pub prompt_error: f64,
    /// The error of texts read token by token, of a model that can.
    pub token_error: Option<f64>,
    /// The error of texts of different lengths that are read by token in a batch, of a model that
    /// can.
    pub batch_error: Option<f64>,
    /// Whether a text in that batch got the same bits as with other texts beside it.
    pub batch_is_apart: Option<bool>,
    /// Tokens of the greedy continuation that the model chose too, before the first difference.
    pub greedy_same: usize,
    /// Tokens of the greedy continuation.
    pub greedy_tokens: usize,
}

impl Agreement {
    /// Whether errors are at most `tolerance` and the continuation is the same.
    pub fn within(&self, tolerance: f64) -> bool {
        // Also false when an error is not a number.
        self.prompt_error <= tolerance
            && self.token_error.is_none_or(|it| it <= tolerance)
            && self.batch_error.is_none_or(|it| it <= tolerance)
            && self.batch_is_apart != Some(false)
            && self.greedy_same == self.greedy_tokens
    }
}

impl fmt::Display for Agreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Agreement { prompt_error, token_error, greedy_same, greedy_tokens, .. } = self;
        writeln!(f, "error of a text read at once       {prompt_error:.2e}")?;
        if let Some(token_error) = token_error {
            writeln!(f, "error of a text read by token      {token_error:.2e}")?;
        }
        if let Some(batch_error) = self.batch_error {
            writeln!(f, "error of texts read in a batch     {batch_error:.2e}")?;
        }
        if self.batch_is_apart == Some(false) {
            writeln!(f, "texts of a batch depend on each other")?;
        }
        write!(f, "greedy tokens that are the same    {greedy_same} of {greedy_tokens}")
    }
}

impl Golden {
    /// Reads `input_ids i64[B, S]`, `logits f32[B, S, V]` (or, of a model without a head,
    /// `last_hidden_state f32[B, S, E]`) and, where there is one, `greedy i64[1, N]` from a
    /// safetensors file. With `decoder_input_ids i64[B, T]`, these are the texts, and `input_ids`
    /// is what the encoder reads.
    pub fn read(path: &Path) -> Result<Golden, Fault> {
        let bytes = fs::read(path).map_err(|error| Fault::reading(path, &error))?;
        Golden::parse(&bytes).map_err(|why| {
            Fault::new("R0501", format!("`{}` is no golden file: {why}", path.display()))
        })
    }

    fn parse(bytes: &[u8]) -> Result<Golden, String> {
        let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
        let tensor = |name: &str| file.tensor(name).map_err(|_| format!("it has no `{name}`"));
        let (first, logits) =
            (tensor("input_ids")?, tensor("logits").or(tensor("last_hidden_state"))?);
        let decoded = tensor("decoder_input_ids").ok();
        let (ids, sources) = match decoded {
            Some(decoded) => (decoded, rows(&first)?),
            None => (first, Vec::new()),
        };
        let (&[texts, tokens], &[logit_texts, logit_tokens, vocabulary]) =
            (ids.shape(), logits.shape())
        else {
            return Err("the tokens are not [B, S] or the outputs are not [B, S, V]".into());
        };
        let paired = sources.is_empty() || sources.len() == texts;
        if [texts, tokens] != [logit_texts, logit_tokens] || logits.data().is_empty() || !paired {
            return Err(format!("shapes {:?} and {:?}", ids.shape(), logits.shape()));
        }
        let greedy = tensor("greedy").ok().map(|it| integers(&it)).transpose()?;
        Ok(Golden {
            texts: rows(&ids)?,
            sources,
            logits: floats(&logits)?,
            vocabulary,
            greedy: greedy.unwrap_or_default(),
        })
    }
}

/// The rows of a matrix of tokens.
fn rows(tensor: &TensorView<'_>) -> Result<Vec<Vec<i32>>, String> {
    let tokens = tensor.shape().last().copied().unwrap_or(0).max(1);
    Ok(integers(tensor)?.chunks(tokens).map(<[i32]>::to_vec).collect())
}

fn integers(tensor: &TensorView<'_>) -> Result<Vec<i32>, String> {
    if tensor.dtype() != Dtype::I64 {
        return Err(format!("tokens are {:?}, not i64", tensor.dtype()));
    }
    let (chunks, _) = tensor.data().as_chunks();
    let token = |bytes: &[u8; 8]| i32::try_from(i64::from_le_bytes(*bytes));
    chunks.iter().map(token).collect::<Result<_, _>>().map_err(|_| "a token is too large".into())
}

fn floats(tensor: &TensorView<'_>) -> Result<Vec<f32>, String> {
    if tensor.dtype() != Dtype::F32 {
        return Err(format!("logits are {:?}, not f32", tensor.dtype()));
    }
    let (chunks, _) = tensor.data().as_chunks();
    Ok(chunks.iter().map(|bytes: &[u8; 4]| f32::from_le_bytes(*bytes)).collect())
}

/// Asks `model` for all that `golden` knows.
pub fn verify(model: &mut dyn Model, golden: &Golden) -> Result<Agreement, Fault> {
    let long = model.longest_step();
    let (greedy_same, greedy_tokens) = (same_greedy(model, golden)?, golden.greedy.len());
    Ok(Agreement {
        prompt_error: relative_error(model, golden, long)?,
        token_error: match model.is_stepwise() {
            true => Some(relative_error(model, golden, 1)?),
            false => None,
        },
        greedy_same,
        greedy_tokens,
        ..Agreement::default()
    })
}

/// Asks `batch` too, for texts of different lengths beside each other.
pub fn verify_batch(
    batch: &mut Batch,
    golden: &Golden,
    agreement: &mut Agreement,
) -> Result<(), Fault> {
    let all = read_in_batch(batch, golden, usize::MAX)?;
    let alone = read_in_batch(batch, golden, 1)?;
    agreement.batch_error = Some(all.error);
    agreement.batch_is_apart = Some(all.first == alone.first);
    Ok(())
}

/// What a batch answered.
struct Batched {
    /// The error of all logits.
    error: f64,
    /// The bits of the logits of the first sequence.
    first: Vec<u32>,
}

/// Sequence i reads i tokens of a text at once and then the others by token; those from `stopped`
/// on read none of these.
fn read_in_batch(batch: &mut Batch, golden: &Golden, stopped: usize) -> Result<Batched, Fault> {
    let (sequences, width) = (batch.sequences(), golden.vocabulary);
    let texts: Vec<usize> = (0..sequences).map(|it| it % golden.texts.len()).collect();
    let length = golden.texts.first().map_or(0, Vec::len);
    let wanted = |sequence: usize, position: usize| {
        &golden.logits[(texts[sequence] * length + position) * width..][..width]
    };
    let (mut errors, mut first) = (Errors::default(), Vec::new());
    for (sequence, &text) in texts.iter().enumerate() {
        batch.reset(sequence);
        let text = &golden.texts[text][..sequence.min(length)];
        if !text.is_empty() {
            errors.add(batch.prefill(sequence, text)?, wanted(sequence, text.len() - 1));
        }
    }
    for step in 0..length {
        let token = |sequence: usize| {
            let position = sequence + step;
            let reads = position < length && sequence < stopped;
            reads.then(|| golden.texts[texts[sequence]][position])
        };
        let tokens: Vec<Option<i32>> = (0..sequences).map(token).collect();
        let logits = batch.step(&tokens)?;
        first.extend(logits[..width].iter().map(|it| it.to_bits()));
        for (sequence, row) in logits.chunks(width).enumerate() {
            if tokens[sequence].is_some() {
                errors.add(row, wanted(sequence, sequence + step));
            }
        }
    }
    Ok(Batched { error: errors.relative(), first })
}

/// Sums of squares: of differences, and of what was expected.
#[derive(Default)]
struct Errors {
    difference: f64,
    scale: f64,
}

impl Errors {
    fn add(&mut self, found: &[f32], wanted: &[f32]) {
        for (&found, &wanted) in found.iter().zip(wanted) {
            let (found, wanted) = (f64::from(found), f64::from(wanted));
            self.difference += (found - wanted).powi(2);
            self.scale += wanted.powi(2);
        }
    }

    fn relative(&self) -> f64 {
        if self.difference == 0.0 { 0.0 } else { (self.difference / self.scale).sqrt() }
    }
}

/// The error over all texts, read `step` tokens at a time.
fn relative_error(model: &mut dyn Model, golden: &Golden, step: usize) -> Result<f64, Fault> {
    let mut expected = golden.logits.chunks(golden.vocabulary);
    let mut errors = Errors::default();
    for (i, text) in golden.texts.iter().enumerate() {
        begin(model, golden, i)?;
        for part in text.chunks(step.max(1)) {
            let logits = model.step(part, part.len())?;
            if logits.len() != part.len() * golden.vocabulary {
                let per_token = logits.len() / part.len();
                let message = format!(
                    "the golden logits are {} a token, the model's {per_token}",
                    golden.vocabulary
                );
                return Err(Fault::new("R0501", message));
            }
            for (row, expected) in logits.chunks(golden.vocabulary).zip(&mut expected) {
                errors.add(row, expected);
            }
        }
    }
    Ok(errors.relative())
}

/// Makes the model ready for a text.
fn begin(model: &mut dyn Model, golden: &Golden, text: usize) -> Result<(), Fault> {
    match golden.sources.get(text) {
        Some(source) => model.read_source(source)?,
        None => model.reset()?,
    }
    Ok(())
}

fn same_greedy(model: &mut dyn Model, golden: &Golden) -> Result<usize, Fault> {
    let Some(text) = golden.texts.first().filter(|_| !golden.greedy.is_empty()) else {
        return Ok(0);
    };
    begin(model, golden, 0)?;
    let mut next = 0;
    for part in text.chunks(model.longest_step().max(1)) {
        next = greedy(model.step(part, 1)?) as i32;
    }
    for (same, &expected) in golden.greedy.iter().enumerate() {
        if next != expected {
            return Ok(same);
        }
        if same + 1 < golden.greedy.len() {
            next = greedy(model.step(&[next], 1)?) as i32;
        }
    }
    Ok(golden.greedy.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Prefers the token after the last one, modulo its vocabulary.
    struct Successor {
        vocabulary: usize,
        logits: Vec<f32>,
    }

    impl Model for Successor {
        fn reset(&mut self) -> Result<(), Fault> {
            Ok(())
        }

        fn read_source(&mut self, _: &[i32]) -> Result<(), Fault> {
            Err(Fault::new("R0303", "it has no encoder"))
        }

        fn is_stepwise(&self) -> bool {
            true
        }

        fn step(&mut self, tokens: &[i32], last: usize) -> Result<&[f32], Fault> {
            self.logits = vec![0.0; last * self.vocabulary];
            for (row, token) in tokens[tokens.len() - last..].iter().enumerate() {
                let next = (*token as usize + 1) % self.vocabulary;
                self.logits[row * self.vocabulary + next] = 2.0;
            }
            Ok(&self.logits)
        }

        fn longest_step(&self) -> usize {
            2
        }
    }

    fn successor() -> Successor {
        Successor { vocabulary: 3, logits: Vec::new() }
    }

    fn golden() -> Golden {
        let texts = vec![vec![0, 1, 2], vec![2, 2, 1]];
        let next = [1, 2, 0, 0, 0, 2];
        let row = |next: &usize| (0..3).map(|it| if it == *next { 2.0 } else { 0.0 }).collect();
        let logits = next.iter().flat_map(|it| -> Vec<f32> { row(it) }).collect();
        Golden { texts, logits, vocabulary: 3, greedy: vec![0, 1, 2, 0], ..Golden::default() }
    }

    #[test]
    fn a_model_agrees_with_itself() {
        let found = verify(&mut successor(), &golden()).unwrap();
        assert!(found.within(0.0), "{found}");
        assert_eq!(found.greedy_same, 4);
    }

    #[test]
    fn every_kind_of_difference_is_seen() {
        let mut wrong = golden();
        wrong.logits[7] += 0.5;
        let found = verify(&mut successor(), &wrong).unwrap();
        assert!(!found.within(0.1) && found.within(0.11), "{found}");
        let mut wrong = golden();
        wrong.logits[17] = f32::NAN;
        assert!(!verify(&mut successor(), &wrong).unwrap().within(f64::INFINITY));
        let wrong = Golden { greedy: vec![0, 1, 1], ..golden() };
        let found = verify(&mut successor(), &wrong).unwrap();
        assert_eq!((found.greedy_same, found.greedy_tokens), (2, 3));
        assert!(!found.within(1.0));
    }

    #[test]
    fn another_vocabulary_is_refused() {
        let mut model = Successor { vocabulary: 4, logits: Vec::new() };
        assert_eq!(verify(&mut model, &golden()).unwrap_err().code, "R0501");
    }

    #[test]
    fn hostile_files_are_refused() {
        for bytes in [&b""[..], b"{}", &[0xff; 64]] {
            assert!(Golden::parse(bytes).is_err());
        }
    }
}
