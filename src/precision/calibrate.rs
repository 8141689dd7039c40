//! Calibrated rounding of the weights of a model, a part of them at a time: a run over the text for
//! the moments of as many as there is room for, then these weights are rounded.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use ir::DType;
use ir::storage::{Beside, Encoding, Mismatch, encode_beside};
use passes::{Formats, INPUTS};
use runtime::{Compiled, Program};

use super::moments::{Moments, add_all, in_parallel};
use super::rounding::Feedback;
use super::{Contraction, Request, depth, fitting};
use crate::Error;
use crate::evaluate::{Evaluator, Windows};

/// Bytes of moments that are held at a time, unless those of one weight are more.
const MOST_BYTES: usize = 1 << 30;

/// A parameter, a layer of it and a format.
type Key = (String, usize, Encoding);

/// The bytes of a weight.
type Stored = Result<Vec<(Key, Vec<u8>)>, Error>;

/// Weights that were rounded on a text, by parameter, layer and format.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rounded {
    bytes: Arc<BTreeMap<Key, Vec<u8>>>,
    /// Tokens of the text.
    pub tokens: usize,
}

impl Rounded {
    /// The bytes of a layer of a parameter in a format, if it was rounded.
    pub fn get(&self, param: &str, layer: usize, format: Encoding) -> Option<&[u8]> {
        self.bytes.get(&(param.to_owned(), layer, format)).map(Vec::as_slice)
    }
}

/// Gives the numbers of a layer of a parameter.
pub type Numbers<'a> = dyn Fn(&str, usize) -> Result<Vec<f32>, Error> + Sync + 'a;

/// What some weights are multiplied with in a layer.
struct Input<'a> {
    /// The output of the model that tells it.
    output: &'a str,
    /// Which of its layers, and of how many.
    part: (usize, usize),
    /// The parameters, all of as many columns, and their layer.
    contractions: Vec<&'a Contraction>,
    layer: usize,
}

/// Rounds all that `request` may change of `contractions` in each of its formats. `model` has the
/// outputs that the pass `inputs` adds and reads `windows`; `numbers` are those of the weights;
/// `report` is told what is being done.
///
/// # Errors
///
/// When the model can not read the text, or a weight can not be read.
pub fn calibrate(
    request: &Request,
    contractions: &[Contraction],
    model: &Compiled,
    windows: &Windows,
    numbers: &Numbers<'_>,
    report: &mut dyn FnMut(&str),
) -> Result<Rounded, Error> {
    let inputs = inputs(&model.manifest().program, contractions);
    let mut evaluator = Evaluator::new(model, windows.longest(), None)?;
    let mut all = BTreeMap::new();
    for (part, inputs) in parts(&inputs).into_iter().enumerate() {
        report(&format!("calibrating, part {}", part + 1));
        let moments = moments(inputs, &mut evaluator, windows)?;
        let work: Vec<_> = inputs.iter().zip(moments).collect();
        report(&format!("rounding, part {}", part + 1));
        let round = |(input, moments): (&Input<'_>, Moments)| {
            input.round(request, depth(contractions), &moments, numbers)
        };
        all.extend(collected(work, round)?);
    }
    Ok(Rounded { bytes: Arc::new(all), tokens: windows.predicted() })
}

/// The weights that `formats` store in NVFP4, as others read them: matrices that one value is
/// multiplied with are one matrix there, and so have one scale of the whole. `program` has the
/// outputs that the pass `inputs` adds.
///
/// # Errors
///
/// When a weight can not be read.
pub fn with_shared_scales(
    formats: &Formats,
    contractions: &[Contraction],
    program: &Program,
    numbers: &Numbers<'_>,
) -> Result<Rounded, Error> {
    let inputs = inputs(program, contractions);
    let all = collected(inputs.iter().collect(), |it| it.store(formats, numbers))?;
    Ok(Rounded { bytes: Arc::new(all.into_iter().collect()), tokens: 0 })
}

/// What `store` makes of each of `work`, on all cores.
fn collected<T: Send>(work: Vec<T>, store: impl Fn(T) -> Stored + Sync) -> Stored {
    let found = Mutex::new(Vec::new());
    in_parallel(work, |it| {
        let stored = store(it);
        if let Ok(mut found) = found.lock() {
            found.push(stored);
        }
    });
    let found: Result<Vec<_>, Error> = found.into_inner().unwrap_or_default().into_iter().collect();
    Ok(found?.into_iter().flatten().collect())
}

/// What the added outputs of `model` tell, each layer by itself.
fn inputs<'a>(program: &'a Program, contractions: &'a [Contraction]) -> Vec<Input<'a>> {
    let mut inputs = Vec::new();
    for port in &program.outputs {
        let mut words = port.name.strip_prefix(INPUTS).unwrap_or("").split('\'');
        let place = words.next().and_then(|it| it.split('.').next()).unwrap_or("");
        let of = |name: &str| contractions.iter().find(|it| it.param == name);
        let contractions: Vec<&Contraction> = words.filter_map(of).collect();
        let Some(first) = contractions.first() else { continue };
        let alike = |it: &&Contraction| {
            it.columns == first.columns && it.layers.len() == first.layers.len()
        };
        let layers = match place.parse() {
            Ok(layer) => layer..layer + 1,
            Err(_) => 0..first.layers.len(),
        };
        let contractions: Vec<_> = contractions.iter().copied().filter(alike).collect();
        inputs.extend(layers.clone().enumerate().map(|(i, layer)| Input {
            output: &port.name,
            part: (i, layers.len()),
            contractions: contractions.clone(),
            layer,
        }));
    }
    inputs
}

/// The inputs in runs whose moments there is room for.
fn parts<'i, 'a>(inputs: &'i [Input<'a>]) -> Vec<&'i [Input<'a>]> {
    let (mut parts, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (i, input) in inputs.iter().enumerate() {
        let more = Moments::bytes(input.columns());
        if start < i && MOST_BYTES < bytes + more {
            parts.push(&inputs[start..i]);
            (start, bytes) = (i, 0);
        }
        bytes += more;
    }
    parts.push(&inputs[start..]);
    parts
}

/// The moments of each of `inputs` over a text.
fn moments(
    inputs: &[Input<'_>],
    evaluator: &mut Evaluator,
    windows: &Windows,
) -> Result<Vec<Moments>, Error> {
    let mut all: Vec<Moments> = inputs.iter().map(|it| Moments::new(it.columns())).collect();
    for window in &windows.tokens {
        evaluator.read(window, &mut |answer| {
            let work = all.iter_mut().zip(inputs).map(|(moments, input)| {
                let given = answer.session.output(input.output).unwrap_or(&[]);
                let (part, of) = input.part;
                let each = given.len() / of;
                (moments, &given[part * each..][..each])
            });
            add_all(work.collect());
            Ok(())
        })?;
    }
    Ok(all)
}

impl Input<'_> {
    fn columns(&self) -> usize {
        self.contractions[0].columns
    }

    /// The weights in each format that they may be stored in.
    fn round(
        &self,
        request: &Request,
        depth: usize,
        moments: &Moments,
        numbers: &Numbers<'_>,
    ) -> Stored {
        let feedback = Feedback::new(moments);
        let is_open = |it: &Contraction| {
            let number = it.layers.get(self.layer);
            number.is_some_and(|number| request.keeps(&it.param, *number, depth).is_none())
        };
        let mut all = Vec::new();
        let matrices = self.matrices(is_open, numbers)?;
        for (it, numbers) in &matrices {
            let formats = request.formats.iter().map(|format| fitting(Some(*format), it.columns));
            for format in formats.filter_map(|it| it.ok().flatten()) {
                let bytes = feedback.round(format, numbers, whole(format, &matrices));
                all.push((self.key(it, format), self.named(it, bytes)?));
            }
        }
        Ok(all)
    }

    /// The weights that are stored in NVFP4, each number by itself.
    fn store(&self, formats: &Formats, numbers: &Numbers<'_>) -> Stored {
        let format = |it: &Contraction| {
            formats.of(&it.param, self.layer).filter(|it| it.dtype == DType::NvFp4)
        };
        let matrices = self.matrices(|it| format(it).is_some(), numbers)?;
        let mut all = Vec::new();
        for (it, numbers) in &matrices {
            let Some(format) = format(it) else { continue };
            let beside = Beside { whole: whole(format, &matrices), ..Beside::default() };
            let bytes = encode_beside(format, it.columns, numbers, &beside);
            all.push((self.key(it, format), self.named(it, bytes)?));
        }
        Ok(all)
    }

    fn key(&self, of: &Contraction, format: Encoding) -> Key {
        (of.param.clone(), self.layer, format)
    }

    fn named<T>(&self, of: &Contraction, outcome: Result<T, Mismatch>) -> Result<T, Error> {
        let number = of.layers.get(self.layer).copied().unwrap_or(self.layer);
        let named = |why| Error::new("C0203", format!("`{}` of layer {number}: {why}", of.param));
        outcome.map_err(named)
    }

    /// The numbers of those weights for which `is_open` is true.
    fn matrices(
        &self,
        is_open: impl Fn(&Contraction) -> bool,
        numbers: &Numbers<'_>,
    ) -> Result<Vec<(&Contraction, Vec<f32>)>, Error> {
        let open = self.contractions.iter().copied().filter(|it| is_open(it));
        open.map(|it| Ok((it, numbers(&it.param, self.layer)?))).collect()
    }
}

/// The largest magnitude of all that have one scale of the whole in `format`; 0 where each has its
/// own.
fn whole(format: Encoding, matrices: &[(&Contraction, Vec<f32>)]) -> f32 {
    let is_shared = format.dtype == DType::NvFp4;
    let all = matrices.iter().filter(|_| is_shared).flat_map(|it| &it.1);
    all.fold(0.0, |most, it| most.max(it.abs()))
}
