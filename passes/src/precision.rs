//! Writes into the types of weights how they are stored: a lossy change, whose measure is taken on
//! noise.
//!
//! Elements are read as the `f32` that they stand for, so nothing but the numbers of the weights
//! changes. A bank whose layers differ is of type `mixed`; the option says what each one is.
//!
//! Nothing is stored anew unless the option says so:
//! ```ir
//! axis E = 32
//! axis F = 4
//! axis S <= 8
//!
//! fn @model (input %x : f32[S, E], weight %up : f32[F, E]) {
//!   %0 = contract %x %up {over = [E]} : f32[S, F]
//!   return y = %0
//! }
//! ```
//! stays, and with `formats = up:nvfp4` the parameter becomes `weight %up : nvfp4[F, E]`.
//! ```ir
//! axis E = 32
//! axis F = 4
//! axis S <= 8
//!
//! fn @model (input %x : f32[S, E], weight %up : f32[F, E]) {
//!   %0 = contract %x %up {over = [E]} : f32[S, F]
//!   return y = %0
//! }
//! ```

use std::collections::BTreeMap;
use std::fmt;

use ir::storage::{self, Encoding};
use ir::{DType, Module, Name, Role, Tensor};

use crate::check::{run, same_numbers};
use crate::rebuild::{Rebuild, live_nodes};
use crate::{Contract, Cx, Fault, Noise, Pass, PassOption};

/// What the layers of weights are to be stored in, by parameter: for each layer a format, or `None`
/// where it stays as it is given. In text: `layers.mlp.up:nvfp4*20+stored*4;head:q8_0`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Formats(pub BTreeMap<Name, Vec<Option<Encoding>>>);

/// The word for a weight that stays as it is.
const STORED: &str = "stored";
/// More layers than any model has.
const MOST_LAYERS: usize = 1 << 16;

impl Formats {
    /// Reads what `Display` writes.
    ///
    /// # Errors
    ///
    /// What is no format.
    pub fn parse(text: &str) -> Result<Formats, Fault> {
        let entries = text.split(';').filter(|it| !it.trim().is_empty());
        let formats = entries.map(|entry| {
            let (param, runs) = entry
                .split_once(':')
                .ok_or_else(|| Fault::new(format!("`{entry}` is not `parameter:format`")))?;
            let mut layers = Vec::new();
            for run in runs.split('+') {
                let (name, count) = run.split_once('*').unwrap_or((run, "1"));
                let count = count.parse::<usize>().ok().filter(|it| *it <= MOST_LAYERS);
                let format = match name {
                    STORED => Some(None),
                    _ => Encoding::from_name(name).map(Some),
                };
                let (Some(count), Some(format)) = (count, format) else {
                    return Err(Fault::new(format!("`{run}` is no format of weights")));
                };
                layers.extend(std::iter::repeat_n(format, count));
            }
            Ok((param.trim().into(), layers))
        });
        Ok(Formats(formats.collect::<Result<_, _>>()?))
    }

    /// The format of a layer of a parameter, where it is not left as it is.
    pub fn of(&self, param: &str, layer: usize) -> Option<Encoding> {
        *self.0.get(&Name::from(param))?.get(layer)?
    }

    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Formats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.0.iter().map(|(param, layers)| {
            let runs = layers.chunk_by(|a, b| a == b).map(|run| {
                let name = run[0].map_or(STORED.to_owned(), |it| it.to_string());
                if run.len() == 1 { name } else { format!("{name}*{}", run.len()) }
            });
            format!("{param}:{}", runs.collect::<Vec<_>>().join("+"))
        });
        f.write_str(&entries.collect::<Vec<_>>().join(";"))
    }
}

/// See the module.
pub struct Precision;

impl Pass for Precision {
    fn name(&self) -> &'static str {
        "precision"
    }

    fn about(&self) -> &'static str {
        "says what weights are stored in"
    }

    fn options(&self) -> &'static [PassOption] {
        &[PassOption {
            name: "formats",
            default: "",
            doc: "for each parameter the formats of its layers: `layers.mlp.up:nvfp4*20+stored*4`",
        }]
    }

    fn contract(&self) -> Contract {
        Contract::Lowers(changes_weights_alone)
    }

    fn run(&self, module: &Module, cx: &mut Cx) -> Result<Module, Fault> {
        let formats = Formats::parse(cx.option("formats"))?;
        let mut done = module.clone();
        let Some(entry) = done.functions.pop() else { return Ok(done) };
        let mut new = Rebuild::new(&entry, &entry.name);
        for (value, param) in entry.param_values().zip(&entry.params) {
            let mut ty = param.ty.clone();
            if let Some(layers) = formats.0.get(&param.name)
                && param.role == Role::Weight
            {
                ty.dtype = stored_as(layers, ty.dtype);
                if ty != param.ty {
                    cx.allows(&entry.name, format!("{} is {}", param.name, ty.dtype));
                }
            }
            let given = new.new.param(&param.name, param.role, ty);
            new.set(value, given);
        }
        let unknown = |it: &&Name| !entry.params.iter().any(|param| param.name == **it);
        if let Some(name) = formats.0.keys().find(unknown) {
            return Err(Fault::new(format!("no parameter is called `{name}`")));
        }
        live_nodes(&entry).for_each(|node| new.copy(done.scope(), node));
        new.outputs();
        done.functions.push(new.new);
        Ok(done)
    }
}

/// The type of a bank of such layers, which was `before`.
fn stored_as(layers: &[Option<Encoding>], before: DType) -> DType {
    let mut dtypes = layers.iter().map(|it| it.map(|it| it.dtype));
    let first = dtypes.next().flatten();
    match (first, dtypes.all(|it| it == first)) {
        (Some(dtype), true) => dtype,
        (None, true) => before,
        (_, false) => DType::Mixed,
    }
}

/// With the same numbers for weights both modules give the same, and no number of a weight differs
/// from that which is stored for it by more than its format's bound.
fn changes_weights_alone(
    before: &Module,
    after: &Module,
    cx: &Cx,
    noise: &mut Noise,
) -> Result<(), Fault> {
    let sizes = after.axes.sizes(&noise.extents(after)).map_err(Fault::new)?;
    let stored = noise.arguments(after, &sizes);
    let params = before.entry().params.iter().zip(&stored);
    let wide: Vec<Tensor> =
        params.map(|(param, it)| Tensor { ty: param.ty.clone(), ..it.clone() }).collect();
    let old = run(before, &wide, &sizes, false)?;
    let new = run(after, &stored, &sizes, false)?;
    let outputs = before.entry().outputs.iter().zip(old.iter().zip(&new));
    for (output, (old, new)) in outputs {
        same_numbers(output.name.as_str(), old, new, 1e-12)?;
    }
    let formats = Formats::parse(cx.option("formats"))?;
    let used = formats.0.values().flatten().flatten();
    stored.iter().zip(used).try_for_each(|(it, encoding)| loses_little(*encoding, &it.data))
}

/// Whether `values` are stored within the bound of a format.
fn loses_little(encoding: Encoding, values: &[f64]) -> Result<(), Fault> {
    let mut values: Vec<f32> = values.iter().map(|it| *it as f32).collect();
    let columns = values.len().next_multiple_of(encoding.dtype.block_len()).max(1);
    values.resize(columns, 0.0);
    let mut found = vec![0.0; columns];
    let fault = |why: storage::Mismatch| Fault::new(why.to_string());
    let bytes = storage::encode(encoding, columns, &values).map_err(fault)?;
    storage::decode(encoding.dtype, &bytes, &mut found).map_err(fault)?;
    let most = values.iter().fold(0.0f32, |most, it| most.max(it.abs()));
    let allowed = encoding.bound() * most;
    match values.iter().zip(&found).find(|(a, b)| allowed < (*a - *b).abs()) {
        Some((value, found)) => Err(Fault::new(format!("{encoding} stores {value} as {found}"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_come_back() {
        for text in ["", "a:nvfp4", "a.b:nvfp4*3+stored*2+fp8-row;c:q8_0"] {
            assert_eq!(Formats::parse(text).unwrap().to_string(), text);
        }
        for text in ["a", "a:", "a:q9", "a:nvfp4*x", "a:nvfp4*99999999"] {
            assert!(Formats::parse(text).is_err(), "{text}");
        }
        let formats = Formats::parse("a:nvfp4*2+stored").unwrap();
        assert_eq!(formats.of("a", 1), Encoding::from_name("nvfp4"));
        assert_eq!(
            (formats.of("a", 2), formats.of("a", 3), formats.of("b", 0)),
            (None, None, None)
        );
    }
}
