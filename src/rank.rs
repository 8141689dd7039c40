//! Orders of importance: which places of each axis, and which layers, a model can best do without.

mod loss;

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use frontend::WeightMap;
use import::Checkpoint;
use ir::{Axis, Module, Name, Type};
use passes::{Class, Links, Noise, Orders, Widths};

use crate::{Error, Loader, bind::layer_source, evaluate::Answer};

pub use loss::Loss;

/// What places are ranked by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// How much they are used on a text.
    Importance,
    /// The size of the weights that belong to them.
    Magnitude,
    /// Nothing: an order drawn with a seed.
    Random(u64),
}

impl FromStr for By {
    type Err = String;

    fn from_str(text: &str) -> Result<By, String> {
        match (text, text.strip_prefix("random:").and_then(|it| it.parse().ok())) {
            ("importance", _) => Ok(By::Importance),
            ("magnitude", _) => Ok(By::Magnitude),
            (_, Some(seed)) => Ok(By::Random(seed)),
            _ => Err("it is `importance`, `magnitude` or `random:SEED`".to_owned()),
        }
    }
}

/// Scores of the places of a class: the higher, the more important. Rows are those of its order.
pub type Scores = BTreeMap<String, Vec<f64>>;

/// What an output of the pass `importance` sums over positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sum {
    /// Magnitudes; of the means of windows, the root of the sum of squares is taken.
    Mean,
    /// Squares, of which the root is taken.
    L2,
}

/// What a model used of each place, summed over the windows of a text.
pub struct Usage {
    /// By the name of the output.
    measured: BTreeMap<String, Measured>,
    sum: Sum,
}

/// One output that the pass `importance` added.
struct Measured {
    ty: Type,
    /// Of this window.
    window: Vec<f64>,
    /// Of all windows: squares of what a position gives; of cosines, what they lack.
    total: Vec<f64>,
}

impl Usage {
    /// For a model with these outputs and their types.
    pub fn new<'a>(outputs: impl Iterator<Item = (&'a str, &'a str)>, sum: Sum) -> Usage {
        let ours = outputs.filter(|it| it.0.starts_with(passes::PREFIX));
        let measured = ours.filter_map(|(name, ty)| {
            let ty = Type::parse(ty).ok()?;
            Some((name.to_owned(), Measured { ty, window: Vec::new(), total: Vec::new() }))
        });
        Usage { measured: measured.collect(), sum }
    }

    /// Takes up what a step gave.
    pub fn see(&mut self, answer: &Answer<'_>) {
        for (name, it) in &mut self.measured {
            let found = answer.session.output(name).unwrap_or(&[]);
            it.window.resize(found.len(), 0.0);
            it.window.iter_mut().zip(found).for_each(|(sum, x)| *sum += f64::from(*x));
        }
    }

    /// Ends a window of so many positions.
    pub fn end_window(&mut self, positions: usize) {
        let layers = format!("{}{}.", passes::PREFIX, passes::LAYERS);
        for (name, it) in &mut self.measured {
            it.total.resize(it.window.len(), 0.0);
            let is_cosine = name.starts_with(&layers);
            for (total, x) in it.total.iter_mut().zip(&mut it.window) {
                let mean = std::mem::take(x) / positions.max(1) as f64;
                *total += match self.sum {
                    _ if is_cosine => 1.0 - mean,
                    Sum::Mean => mean * mean,
                    Sum::L2 => mean,
                };
            }
        }
    }

    /// Scores of all places. Where `nested` tells widths, the score of a place leaves out what is
    /// cut of the atoms inside of it: heads are judged by the channels that survive.
    pub fn scores(&self, module: &Module, nested: Option<&Widths>) -> Scores {
        let links = Links::of(module);
        let mut scores = Scores::new();
        let mut inner: Scores = Scores::new();
        // Atoms that stand inside of others first, since those may look at what is cut of them.
        let mut classes: Vec<&Class> = links.classes().iter().collect();
        classes.sort_by_key(|it| std::cmp::Reverse(it.holders.iter().map(|it| it.place).max()));
        for class in classes {
            let key = passes::key(&links, class);
            let prefix = format!("{}{key}.", passes::PREFIX);
            let of_class = self.measured.iter().filter_map(|(name, it)| {
                let (place, n) = name.strip_prefix(&prefix)?.split_once('.')?;
                n.parse::<usize>().ok()?;
                Some((place.parse::<usize>().ok()?, it))
            });
            let mut total = vec![0.0; passes::order_shape(module, class).iter().product()];
            let mut found = false;
            for (place, it) in of_class {
                found = true;
                let rows = Rows { module, class, place, scores: &inner, nested };
                rows.add(it, &mut total);
            }
            if found {
                inner.insert(class.atom.to_string(), total.clone());
                scores.insert(key, total);
            }
        }
        scores
    }

    /// Scores of the layers, if they were measured.
    pub fn layers(&self) -> Option<Vec<f64>> {
        let prefix = format!("{}{}.", passes::PREFIX, passes::LAYERS);
        let mut found: Vec<(usize, usize, &Measured)> = Vec::new();
        for (name, it) in &self.measured {
            let Some(rest) = name.strip_prefix(&prefix) else { continue };
            let (place, n) = rest.split_once('.')?;
            found.push((place.parse().ok()?, n.parse().ok()?, it));
        }
        found.sort_by_key(|it| (it.0, it.1));
        let all: Vec<f64> = found.iter().flat_map(|it| it.2.total.iter().copied()).collect();
        (!all.is_empty()).then_some(all)
    }
}

/// How the elements of an output belong to the rows of an order.
struct Rows<'a> {
    module: &'a Module,
    class: &'a Class,
    /// The layer of an output that is of one layer alone.
    place: usize,
    scores: &'a Scores,
    nested: Option<&'a Widths>,
}

impl Rows<'_> {
    /// Adds the root of the sum of squares of each place.
    fn add(&self, measured: &Measured, total: &mut [f64]) {
        let extent = |it: &Name| self.module.axes.fixed(&Axis::from(it)).unwrap_or(1);
        let atoms: Vec<&Name> = measured.ty.axes.iter().flat_map(Axis::atoms).collect();
        let sizes: Vec<usize> = atoms.iter().map(|it| extent(it)).collect();
        let at = |name: &Name| atoms.iter().position(|it| *it == name);
        let Some(own) = at(&self.class.atom) else { return };
        let layer = self.class.layers.as_ref().map(|it| (at(it), extent(it)));
        let group = passes::group(self.class).map(|it| (at(it), extent(it)));
        let survivors: Vec<Option<Vec<BTreeSet<usize>>>> = atoms
            .iter()
            .enumerate()
            .map(|(i, atom)| if own < i { self.survivors(atom) } else { None })
            .collect();
        let mut sums = vec![0.0; total.len()];
        let mut index = vec![0; sizes.len()];
        for value in &measured.total {
            let layer = layer.map_or(0, |(at, _)| at.map_or(self.place, |it| index[it]));
            let survives = |(of, place): (&Option<Vec<BTreeSet<usize>>>, &usize)| {
                let of = of.as_ref().and_then(|it| it.get(layer).or(it.first()));
                of.is_none_or(|it| it.contains(place))
            };
            if survivors.iter().zip(&index).all(survives) {
                let row = group.map_or(layer, |(at, n)| layer * n + at.map_or(0, |it| index[it]));
                if let Some(sum) = sums.get_mut(row * sizes[own] + index[own]) {
                    *sum += value;
                }
            }
            for i in (0..sizes.len()).rev() {
                index[i] += 1;
                if index[i] < sizes[i] {
                    break;
                }
                index[i] = 0;
            }
        }
        total.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum.sqrt());
    }

    /// The places of an inner atom that are kept in each layer, or in all of them.
    fn survivors(&self, atom: &Name) -> Option<Vec<BTreeSet<usize>>> {
        let kept = self.nested?.get(atom.as_str())?;
        let scores = self.scores.get(atom.as_str())?;
        let size = self.module.axes.fixed(&Axis::from(atom))?;
        let row = |it: &[f64]| ranked(it).into_iter().take(kept).collect();
        Some(scores.chunks(size).map(row).collect())
    }
}

/// Scores by the weights of each place: the root of the sum of their squares.
///
/// # Errors
///
/// When a weight can not be read.
pub fn magnitudes(
    module: &Module,
    maps: &[WeightMap],
    checkpoint: &Checkpoint,
    atoms: &BTreeSet<Name>,
) -> Result<Scores, Error> {
    let map = crate::bind::map_for(maps, checkpoint)?;
    let loader = Loader { checkpoint };
    let links = Links::of(module);
    let mut scores = Scores::new();
    for class in links.classes().iter().filter(|it| atoms.contains(&it.atom)) {
        let shape = passes::order_shape(module, class);
        let mut total = vec![0.0; shape.iter().product()];
        let params: BTreeSet<&Name> = class.holders.iter().map(|it| &it.param).collect();
        for name in params {
            let Some(rule) = map.rules.iter().find(|it| *name == *it.param) else { continue };
            let Some(param) = module.entry().params.iter().find(|it| it.name == *name) else {
                continue;
            };
            let banked = rule.layers.is_some();
            let ty = Type::new(param.ty.dtype, &param.ty.axes[usize::from(banked)..]);
            for layer in 0..rule.layers.as_ref().map_or(1, Vec::len) {
                let n = ty.axes.iter().filter_map(|it| module.axes.fixed(it)).product();
                let loaded = loader.load(&layer_source(rule, layer, &loader));
                let values = loaded.map(|it| it.filling(n)).and_then(|it| it.decode());
                let values =
                    values.map_err(|why| Error::new("C0203", format!("`{name}`: {why}")))?;
                let total_of = values.iter().map(|it| f64::from(*it).powi(2)).collect();
                let it = Measured { ty: ty.clone(), window: Vec::new(), total: total_of };
                let none = Scores::new();
                let place = if class.layers.is_some() { layer } else { 0 };
                let rows = Rows { module, class, place, scores: &none, nested: None };
                let mut sums = vec![0.0; total.len()];
                rows.add(&it, &mut sums);
                total.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum * sum);
            }
        }
        let roots = total.into_iter().map(f64::sqrt).collect();
        scores.insert(passes::key(&links, class), roots);
    }
    Ok(scores)
}

/// Orders by falling scores; of equal ones the first place first.
///
/// # Errors
///
/// When the scores are not those of the classes of `module`.
pub fn orders(module: &Module, scores: &Scores) -> Result<Orders, Error> {
    let links = Links::of(module);
    let mut orders = Orders::default();
    for class in links.classes() {
        let key = passes::key(&links, class);
        let Some(scores) = scores.get(&key) else { continue };
        let shape = passes::order_shape(module, class);
        let size = shape.last().copied().unwrap_or(1).max(1);
        let order = scores.chunks(size).flat_map(ranked).collect();
        let set = orders.set(&key, &shape, order);
        set.map_err(|why| Error::new("C0304", why.to_string()))?;
    }
    Ok(orders)
}

/// Random orders of the axes of `atoms`.
pub fn random(module: &Module, atoms: &BTreeSet<Name>, seed: u64) -> Orders {
    let mut widths = Widths::default();
    atoms.iter().for_each(|it| widths.set(it, 1));
    Orders::random(module, &widths, &mut Noise::new(seed))
}

/// The places by falling score.
pub fn ranked(scores: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_come_first() {
        assert_eq!(ranked(&[0.5, 2.0, 0.5, 3.0]), [3, 1, 0, 2]);
        assert_eq!("random:7".parse(), Ok(By::Random(7)));
        assert!("random".parse::<By>().is_err());
    }

    /// Two layers of heads, whose channels are the same ones in all heads.
    fn heads() -> Module {
        let text = "axis D = 2\naxis E = 3\naxis J = 2\naxis L = 2\naxis S <= 8\n
            fn @layer (%x : f32[S, E], %up : f32[J*D, E], %c : f32[D], %down : f32[E, J*D]) {
              %0 = contract %x %up {over = [E]} : f32[S, J*D]
              %1 = split %0 {axis = J*D, into = [J, D]} : f32[S, J, D]
              %2 = mul %1 %c : f32[S, J, D]
              %3 = merge %2 {axes = [J, D], into = J*D} : f32[S, J*D]
              %4 = contract %3 %down {over = [J*D]} : f32[S, E]
              return x = %4
            }
            fn @model (input %x : f32[S, E], weight %up : f32[L, J*D, E], weight %c : f32[L, D], \
            weight %down : f32[L, E, J*D]) {
              %0 = scan %x %up %c %down {body = @layer, axis = L, carries = 1, banked = 3, \
              reverse = false} : f32[S, E]
              return y = %0
            }";
        ir::parse(text).unwrap_or_else(|why| panic!("{why}"))
    }

    /// What was used in windows of two positions, which give these sums for each of the outputs.
    fn usage(outputs: &[(&str, &str)], windows: &[&[f64]], sum: Sum) -> Usage {
        let mut usage = Usage::new(outputs.iter().copied(), sum);
        for window in windows {
            usage.measured.values_mut().for_each(|it| it.window = window.to_vec());
            usage.end_window(2);
        }
        usage
    }

    #[test]
    fn magnitudes_are_means_of_windows_and_squares_are_squares() {
        let score = |sum, windows: &[&[f64]]| {
            let outputs = [("importance.E.0.0", "f32[E]")];
            let total = &usage(&outputs, windows, sum).measured["importance.E.0.0"].total;
            total.iter().map(|it| it.sqrt()).collect::<Vec<f64>>()
        };
        // Magnitudes 6 and 8 of two positions each: the root of 3^2 + 4^2.
        let windows: [&[f64]; 2] = [&[6.0, 0.0, 2.0, 2.0], &[8.0, 2.0, 0.0, 0.0]];
        assert_eq!(score(Sum::Mean, &windows), [5.0, 1.0, 1.0, 1.0]);
        // Squares that sum to 18 and to 32 in two positions each: the root of 9 + 16.
        let windows: [&[f64]; 2] = [&[18.0, 0.0, 2.0, 2.0], &[32.0, 2.0, 0.0, 0.0]];
        assert_eq!(score(Sum::L2, &windows), [5.0, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn layers_that_turn_most_matter_most() {
        let outputs = [("importance.layers.all.0", "f32[L]")];
        let usage = usage(&outputs, &[&[2.0, 0.0, -2.0, 1.0]], Sum::L2);
        assert!(usage.layers().is_none(), "`all` is no place");
        let outputs = [("importance.layers.0.0", "f32[L]")];
        for sum in [Sum::Mean, Sum::L2] {
            let layers = self::usage(&outputs, &[&[2.0, 0.0, -2.0, 1.0]], sum).layers();
            assert_eq!(layers, Some(vec![0.0, 1.0, 2.0, 0.5]));
        }
    }

    #[test]
    fn nested_heads_are_judged_by_the_channels_that_survive() {
        let module = heads();
        let ty = "f32[L, J, D]";
        let outputs = [("importance.J.0.0", ty), ("importance.D.0.0", ty)];
        // By head and channel: in the first layer the first channel is used more, in the second
        // one the second; the second head is used more in both.
        let used: &[f64] = &[10.0, 0.0, 2.0, 9.0, 0.0, 10.0, 9.0, 2.0];
        let usage = usage(&outputs, &[used], Sum::L2);
        let best = |nested: Option<&Widths>| {
            let scores = usage.scores(&module, nested);
            let of =
                |atom: &str| scores.iter().find(|it| it.0.starts_with(atom)).expect("scores").1;
            ["J", "D"].map(|it| of(it).chunks(2).map(ranked).collect::<Vec<_>>())
        };
        let (first, second) = (vec![0, 1], vec![1, 0]);
        let channels = vec![first.clone(), second.clone()];
        assert_eq!(best(None), [vec![second.clone(), second], channels.clone()]);
        let mut widths = Widths::default();
        widths.set("D", 1);
        assert_eq!(best(Some(&widths)), [vec![first.clone(), first], channels]);
        widths.set("D", 2);
        assert_eq!(best(Some(&widths)), best(None));
    }
}
