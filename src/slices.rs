//! A model cut to chosen extents and layers: its module, and where its weights come from.
//!
//! The checkpoint stays as it is. What each weight keeps of its tensor becomes part of its weight
//! map, so that whatever reads weights reads those of the cut model.

use std::collections::{BTreeMap, BTreeSet};

use frontend::{Compiled, ParamRule, TensorSource, WeightMap};
use import::Checkpoint;
use ir::{Axis, DType, Module, Param};
use passes::{Cut, Links, Orders, Widths};

use crate::{Error, Spec, Stack, budget::without};

/// How the names of orders begin in a checkpoint: `treen.order.F` for the axis `F`, row by row as
/// [`passes::order_shape`] says, and `treen.order.layers`, the most important layer first.
pub const ORDER: &str = "treen.order.";

/// What is kept of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// So much of each axis.
    pub widths: Widths,
    /// Not these layers.
    pub skipped: BTreeSet<usize>,
}

/// In which order places are kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ranking {
    /// The places of axes.
    pub orders: Orders,
    /// The layers, the most important first.
    pub layers: Option<Vec<usize>>,
}

/// A cut model. The axes of its module are still whole: the pass `slice` cuts them.
#[derive(Clone, Debug)]
pub struct Sliced {
    /// The spec of what is kept.
    pub spec: Spec,
    /// Its module with whole axes, and its weight maps.
    pub compiled: Compiled,
    /// What the pass has to keep of the axes.
    pub widths: Widths,
}

impl Ranking {
    /// The orders that a checkpoint holds for `module`.
    ///
    /// # Errors
    ///
    /// When one of them is no order of what it is for.
    pub fn read(module: &Module, checkpoint: &Checkpoint) -> Result<Ranking, Error> {
        let links = Links::of(module);
        let mut ranking = Ranking::default();
        for class in links.classes() {
            let key = passes::key(&links, class);
            let shape = passes::order_shape(module, class);
            if let Some(places) = numbers(checkpoint, &format!("{ORDER}{key}"))? {
                let set = ranking.orders.set(&key, &shape, places);
                set.map_err(|why| Error::new("C0203", why.to_string()))?;
            }
        }
        ranking.layers = numbers(checkpoint, &format!("{ORDER}{}", passes::LAYERS))?;
        Ok(ranking)
    }
}

/// The whole numbers of a tensor, if it is there.
fn numbers(checkpoint: &Checkpoint, name: &str) -> Result<Option<Vec<usize>>, Error> {
    if checkpoint.find(name).is_none() {
        return Ok(None);
    }
    let tensor = checkpoint.tensor(name)?;
    let number = |it: &[u8]| {
        let bytes = it.try_into().map_or(-1, i32::from_le_bytes);
        usize::try_from(bytes).ok()
    };
    let numbers: Option<Vec<usize>> = match tensor.dtype {
        DType::I32 => tensor.bytes.chunks(4).map(number).collect(),
        _ => None,
    };
    let unfit = || Error::new("C0203", format!("`{name}` does not hold places: i32 from 0 on"));
    numbers.map(Some).ok_or_else(unfit)
}

/// Cuts a model to `choice`; `compiled` is what `spec` compiles to.
///
/// # Errors
///
/// When an axis can not be cut, or there is no such layer.
pub fn slice(
    spec: Spec,
    compiled: Compiled,
    choice: &Choice,
    orders: &Orders,
) -> Result<Sliced, Error> {
    let widths = choice.widths.within(&compiled.module);
    let widths = widths.map_err(|why| Error::new("C0305", why.to_string()))?;
    let kept_layers = match choice.skipped.is_empty() {
        true => None,
        false => Stack::of(&spec, &compiled.module).map(|it| it.kept(&choice.skipped)),
    };
    let (mut spec, mut small) = without(&spec, &compiled, &choice.skipped)?;
    widths.iter().for_each(|(name, size)| spec.settings.set(name.as_str(), size));
    let links = Links::of(&compiled.module);
    let cut = Cut::new(&compiled.module, &links, &widths, orders);
    let cutter = Cutter { whole: &compiled.module, cut: &cut, kept_layers: kept_layers.as_deref() };
    for map in &mut small.weights {
        if let Some(whole) = compiled.weights.iter().find(|it| it.format == map.format) {
            cutter.map(whole, map);
        }
    }
    // An axis of layers that are all left out is gone.
    let mut left = Widths::default();
    let is_left = |name: &str| small.module.axes.get(name).is_some();
    widths.iter().filter(|it| is_left(it.0.as_str())).for_each(|(name, size)| left.set(name, size));
    Ok(Sliced { spec, compiled: small, widths: left })
}

/// Turns weight maps of the whole model into those of the cut one.
struct Cutter<'a> {
    whole: &'a Module,
    cut: &'a Cut<'a>,
    /// The layers that are left, if not all are.
    kept_layers: Option<&'a [usize]>,
}

impl Cutter<'_> {
    fn map(&self, whole: &WeightMap, small: &mut WeightMap) {
        for rule in &mut small.rules {
            if let Some(of_whole) = whole.rules.iter().find(|it| it.param == rule.param) {
                self.rule(of_whole, rule);
            }
        }
        let Some(kept) = self.kept_layers else { return };
        for rule in &whole.rules {
            let layers = rule.layers.iter().flatten().filter(|it| !kept.contains(it));
            for source in layers.map(|it| rule.source.of_layer(*it)) {
                small.unused.extend(source.names().into_iter().map(str::to_owned));
            }
        }
    }

    fn rule(&self, whole: &ParamRule, small: &mut ParamRule) {
        if let (Some(layers), Some(kept)) = (&mut small.layers, self.kept_layers) {
            layers.iter_mut().for_each(|it| *it = kept[*it]);
        }
        let params = &self.whole.entry().params;
        let Some(param) = params.iter().find(|it| it.name == *whole.param) else { return };
        small.source = match &whole.layers {
            None => self.source(param, 0, 0, whole.source.clone()),
            Some(layers) => {
                let part = |(row, layer): (usize, &usize)| {
                    (*layer, self.source(param, 1, row, whole.source.clone()))
                };
                TensorSource::ByLayer(layers.iter().enumerate().map(part).collect())
            }
        };
    }

    /// What is kept of `source` for one layer of `param`, whose own axes begin at `first`.
    fn source(
        &self,
        param: &Param,
        first: usize,
        layer: usize,
        source: TensorSource,
    ) -> TensorSource {
        (first..param.ty.axes.len()).fold(source, |source, axis| {
            match self.cut.kept(param, axis, layer) {
                Some(kept) => TensorSource::Take(Box::new(source), axis - first, kept.into()),
                None => source,
            }
        })
    }
}

/// Weights of `module`, each counted once, over the extents that `widths` keeps.
pub fn parameters(module: &Module, widths: &BTreeMap<&str, usize>) -> Option<u64> {
    let size = |axis: &Axis| {
        axis.segments().iter().try_fold(0u64, |sum, segment| {
            let product = segment.iter().try_fold(1u64, |n, atom| {
                let size = match widths.get(atom.as_str()) {
                    Some(size) => *size,
                    None => module.axes.fixed(&atom.into())?,
                };
                n.checked_mul(size as u64)
            })?;
            sum.checked_add(product)
        })
    };
    let weights = module.entry().params.iter().filter(|it| it.role == ir::Role::Weight);
    weights
        .map(|it| it.ty.axes.iter().try_fold(1u64, |n, axis| n.checked_mul(size(axis)?)))
        .try_fold(0u64, |sum, n| sum.checked_add(n?))
}
