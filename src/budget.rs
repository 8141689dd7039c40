//! What a model may cost, and the largest choice of its elastic axes that does not cost more.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use frontend::Compiled;
use ir::{DType, Extent, Module, Name};
use passes::Widths;

use crate::memory::{Format, Memory};
use crate::{Choice, Error, Ranking, Spec, Stack, slices::parameters};

/// More combinations of choices than this are not looked at.
const MOST_COMBINATIONS: usize = 1 << 16;

/// Limits, and what is asked for by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Budget {
    /// Parameters at most.
    pub parameters: Option<u64>,
    /// Bytes at most, of weights in `bf16` with the keys, values and states of one sequence.
    pub bytes: Option<u64>,
    /// Bytes at most that a step has time to read, of the same.
    pub step_bytes: Option<u64>,
    /// Positions of that sequence, if not as many as the spec allows.
    pub context: Option<u64>,
    /// These extents.
    pub widths: Widths,
    /// So many layers.
    pub layers: Option<usize>,
    /// Not these layers.
    pub skipped: BTreeSet<usize>,
}

impl FromStr for Budget {
    type Err = String;

    /// Reads `9b`, `12GiB@32768`, `20ms@60GB/s`, `F=8960`, `layers=48`, `skip=3+5`, or several of
    /// these with commas between.
    fn from_str(text: &str) -> Result<Budget, String> {
        let mut budget = Budget::default();
        for part in text.split(',').map(str::trim).filter(|it| !it.is_empty()) {
            budget.read(part).ok_or_else(|| format!("`{part}` is no budget; {SUCH_AS}"))?;
        }
        Ok(budget)
    }
}

const SUCH_AS: &str = "there is `9b`, `12GiB@32768`, `20ms@60GB/s`, `F=8960`, \
                       `layers=48` and `skip=3+5`";

/// Units of memory.
const UNITS: [(&str, f64); 4] =
    [("GiB", 1_073_741_824.0), ("MiB", 1_048_576.0), ("GB", 1e9), ("MB", 1e6)];

impl Budget {
    fn read(&mut self, part: &str) -> Option<()> {
        let count = |it: &str, unit: f64| {
            let number: f64 = it.trim().parse().ok()?;
            let number = number * unit;
            (0.0 < number && number < 1e18).then_some(number as u64)
        };
        if let Some((name, value)) = part.split_once('=') {
            match name.trim() {
                "layers" => self.layers = Some(value.trim().parse().ok().filter(|it| 0 < *it)?),
                "skip" => {
                    for layer in value.split('+') {
                        self.skipped.insert(layer.trim().parse().ok()?);
                    }
                }
                name => {
                    let size = value.trim().parse().ok().filter(|it| 0 < *it)?;
                    let name = Name::is_valid(name).then(|| Name::from(name))?;
                    self.widths.set(name, size);
                }
            }
            return Some(());
        }
        let (amount, rest) = part.split_once('@').map_or((part, None), |it| (it.0, Some(it.1)));
        if let Some(time) = amount.strip_suffix("ms") {
            let rate = count(rest?.trim().strip_suffix("GB/s")?, 1e9)?;
            self.step_bytes = Some(count(time, rate as f64 / 1e3)?);
            return Some(());
        }
        for (unit, size) in UNITS {
            if let Some(number) = amount.strip_suffix(unit) {
                self.bytes = Some(count(number, size)?);
                self.context = match rest {
                    Some(positions) => Some(positions.trim().parse().ok()?),
                    None => None,
                };
                return Some(());
            }
        }
        let (number, unit) = amount
            .strip_suffix(['b', 'B'])
            .map(|it| (it, 1e9))
            .or_else(|| amount.strip_suffix(['m', 'M']).map(|it| (it, 1e6)))?;
        self.parameters = Some(count(number, unit)?);
        rest.is_none().then_some(())
    }

    /// Whether there is a limit, and not only extents by name.
    pub fn is_limit(&self) -> bool {
        self.parameters.is_some() || self.bytes.is_some() || self.step_bytes.is_some()
    }

    /// The choice with the most parameters within the limits, of the choices that the spec
    /// declares; of equal ones that which keeps more of the first axes.
    ///
    /// # Errors
    ///
    /// When nothing is within the limits, or what is asked for is not there.
    pub fn choose(
        &self,
        spec: &Spec,
        compiled: &Compiled,
        ranking: &Ranking,
    ) -> Result<Choice, Error> {
        let skipped = self.skipped(spec, compiled, ranking)?;
        let (shallow, module) = without(spec, compiled, &skipped)?;
        let mut axes = declared(&module.module);
        if !skipped.is_empty() {
            let stack = Stack::of(spec, &compiled.module);
            axes.retain(|name, _| stack.as_ref().and_then(Stack::axis) != Some(name));
        }
        let found = self.search(&module, &axes, 1)?;
        match found.into_iter().next() {
            Some(found) => of(&shallow, &module, ranking, &found.sizes, skipped),
            None if axes.is_empty() => {
                Err(Error::new("C0305", "the spec has no elastic axis to cut")
                    .help("`--set \"F=15680 elastic {12544, 8960}\"` declares choices"))
            }
            None => {
                Err(Error::new("C0305", "even the least choice of all axes is above the budget"))
            }
        }
    }

    /// The layers that are left out by name or by number.
    ///
    /// # Errors
    ///
    /// When it is not known which are the least important.
    pub fn skipped(
        &self,
        spec: &Spec,
        compiled: &Compiled,
        ranking: &Ranking,
    ) -> Result<BTreeSet<usize>, Error> {
        let mut skipped = self.skipped.clone();
        let stack = Stack::of(spec, &compiled.module);
        if let Some((n, stack)) = self.layers.zip(stack) {
            skipped.extend(least(&stack, n, ranking)?);
        }
        Ok(skipped)
    }

    /// The choices of `axes` within the limits, the largest first, at most `most`.
    ///
    /// # Errors
    ///
    /// When there are too many to look at.
    pub fn search(
        &self,
        compiled: &Compiled,
        axes: &BTreeMap<String, Vec<usize>>,
        most: usize,
    ) -> Result<Vec<Candidate>, Error> {
        let mut free = axes.clone();
        for (name, size) in self.widths.iter() {
            free.insert(name.to_string(), vec![size]);
        }
        if !self.is_limit() {
            let whole = |(name, sizes): (&String, &Vec<usize>)| {
                Some((name.clone(), sizes.iter().copied().max()?))
            };
            let sizes: BTreeMap<String, usize> = free.iter().filter_map(whole).collect();
            let by_name = sizes.iter().map(|(name, size)| (name.as_str(), *size)).collect();
            let parameters = parameters(&compiled.module, &by_name).unwrap_or(u64::MAX);
            return Ok(vec![Candidate { parameters, sizes }]);
        }
        let mut found = combinations(&free)?
            .into_iter()
            .filter_map(|sizes| {
                let by_name = sizes.iter().map(|(name, size)| (name.as_str(), *size)).collect();
                let parameters = parameters(&compiled.module, &by_name)?;
                let fits = self.parameters.is_none_or(|it| parameters <= it);
                fits.then_some(Candidate { parameters, sizes })
            })
            .collect::<Vec<_>>();
        found.sort_by(|a, b| {
            b.parameters.cmp(&a.parameters).then_with(|| b.sizes.values().cmp(a.sizes.values()))
        });
        let mut within = Vec::new();
        for candidate in found {
            if most <= within.len() {
                break;
            }
            if self.has_room(compiled, &candidate.sizes)? {
                within.push(candidate);
            }
        }
        Ok(within)
    }

    /// Whether the memory of a candidate is within the limit.
    fn has_room(
        &self,
        compiled: &Compiled,
        sizes: &BTreeMap<String, usize>,
    ) -> Result<bool, Error> {
        if self.bytes.is_none() && self.step_bytes.is_none() {
            return Ok(true);
        }
        let mut module = compiled.module.clone();
        sizes.iter().for_each(|(name, size)| module.axes.fix(name.as_str(), *size));
        let Some(format) = Format::from_name("bf16") else { return Ok(false) };
        let memory = Memory::of(&module, &compiled.weights, &format, DType::BF16)?;
        let within = |context, most: Option<u64>| {
            let bytes = memory.total_bytes(context, 1);
            most.is_none_or(|most| bytes.is_some_and(|it| it <= most))
        };
        // Of a step, the first is timed: what is read of later ones grows with the text.
        let is_held = within(self.context.unwrap_or(memory.most_positions), self.bytes);
        Ok(is_held && within(self.context.unwrap_or(0), self.step_bytes))
    }
}

/// What is kept of a model, which has no layers of `skipped` any more, when its axes are cut to
/// `sizes`.
///
/// # Errors
///
/// When layers are to be left out and it is not known which.
pub fn of(
    spec: &Spec,
    compiled: &Compiled,
    ranking: &Ranking,
    sizes: &BTreeMap<String, usize>,
    skipped: BTreeSet<usize>,
) -> Result<Choice, Error> {
    let stack = Stack::of(spec, &compiled.module);
    let mut choice = Choice { widths: Widths::default(), skipped };
    for (name, size) in sizes {
        match &stack {
            Some(stack) if stack.axis() == Some(name) => {
                choice.skipped.extend(least(stack, *size, ranking)?);
            }
            _ => choice.widths.set(name.as_str(), *size),
        }
    }
    Ok(choice)
}

/// The layers to leave out so that the `n` most important are left.
fn least(stack: &Stack, n: usize, ranking: &Ranking) -> Result<BTreeSet<usize>, Error> {
    if n == stack.n_layers() {
        return Ok(BTreeSet::new());
    }
    let ranking = ranking.layers.as_ref().ok_or_else(|| {
        Error::new("C0305", "the checkpoint has no order of importance of the layers")
            .help("`treen prune` makes one; `skip=3+5` says which layers to leave out")
    })?;
    stack.least(n, ranking)
}

/// A spec without some layers, and what it compiles to.
///
/// # Errors
///
/// When there are no such layers.
pub fn without(
    spec: &Spec,
    compiled: &Compiled,
    skipped: &BTreeSet<usize>,
) -> Result<(Spec, Compiled), Error> {
    if skipped.is_empty() {
        return Ok((spec.clone(), compiled.clone()));
    }
    let stack = Stack::of(spec, &compiled.module).ok_or_else(|| {
        Error::new("C0305", "layers can be left out of a spec with one stack of them")
    })?;
    let mut shallow = spec.clone();
    stack.skip(&mut shallow, skipped)?;
    let compiled = shallow.compile()?;
    Ok((shallow, compiled))
}

/// Extents, with the parameters that are left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Weights, each counted once.
    pub parameters: u64,
    /// By axis.
    pub sizes: BTreeMap<String, usize>,
}

/// The elastic axes of a module with all that they may be.
pub fn declared(module: &Module) -> BTreeMap<String, Vec<usize>> {
    let choices = module.axes.iter().filter_map(|(name, decl)| match &decl.extent {
        Extent::Fixed { size, choices } if !choices.is_empty() => {
            let all = std::iter::once(size).chain(choices).copied().collect();
            Some((name.to_string(), all))
        }
        _ => None,
    });
    choices.collect()
}

fn combinations(
    axes: &BTreeMap<String, Vec<usize>>,
) -> Result<Vec<BTreeMap<String, usize>>, Error> {
    let n = axes.values().try_fold(1usize, |n, it| n.checked_mul(it.len()));
    if n.is_none_or(|it| MOST_COMBINATIONS < it) {
        let message = format!("there are more than {MOST_COMBINATIONS} combinations of choices");
        return Err(Error::new("C0305", message));
    }
    let mut all = vec![BTreeMap::new()];
    for (name, sizes) in axes {
        let with = |it: &BTreeMap<String, usize>| {
            let it = it.clone();
            sizes.iter().map(move |size| {
                let mut it = it.clone();
                it.insert(name.clone(), *size);
                it
            })
        };
        all = all.iter().flat_map(with).collect();
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_read() {
        let of = |text: &str| text.parse::<Budget>();
        let limits = Budget {
            parameters: Some(1_500_000_000),
            bytes: Some(12 << 30),
            context: Some(32768),
            ..Budget::default()
        };
        assert_eq!(of("1.5b, 12GiB@32768"), Ok(limits));
        let step = Budget { step_bytes: Some(1_200_000_000), ..Budget::default() };
        assert_eq!(of("20ms@60GB/s"), Ok(step));
        let mut named = Budget { layers: Some(48), ..Budget::default() };
        named.widths.set("F", 8960);
        named.skipped.extend([3, 5]);
        assert_eq!(of("F=8960,layers=48,skip=3+5"), Ok(named));
        for wrong in ["9", "9x", "b", "-1b", "F=0", "f-=1", "9b@3", "20ms", "20ms@6", "layers=0"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }
}
