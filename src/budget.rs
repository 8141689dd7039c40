//! What a model may cost, and the largest choice of its elastic axes that does not cost more.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use frontend::Compiled;
use ir::{Axis, DType, Extent, Module, Name};
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
        for part in text.split(',').map(str::trim) {
            let before = budget.clone();
            budget.read(part).ok_or_else(|| format!("`{part}` is no budget; {SUCH_AS}"))?;
            if budget.said() == before.said() {
                return Err(format!("`{part}` says again what is said before it"));
            }
        }
        Ok(budget)
    }
}

const SUCH_AS: &str = "there is `9b`, `12GiB@32768`, `20ms@60GB/s`, `F=8960`, \
                       `layers=48` and `skip=3+5`";

/// Units of memory.
const BYTES: [(&str, f64); 5] =
    [("GiB", 1_073_741_824.0), ("MiB", 1_048_576.0), ("KiB", 1024.0), ("GB", 1e9), ("MB", 1e6)];

/// Units of time, in seconds.
const SECONDS: [(&str, f64); 2] = [("ms", 1e-3), ("us", 1e-6)];

/// Units of parameters.
const PARAMETERS: [(&str, f64); 6] =
    [("b", 1e9), ("B", 1e9), ("m", 1e6), ("M", 1e6), ("k", 1e3), ("K", 1e3)];

/// The number before a unit and what the unit stands for, if it is one of `units`.
fn measured<'a>(text: &'a str, units: &[(&str, f64)]) -> Option<(&'a str, f64)> {
    units.iter().find_map(|(unit, size)| Some((text.strip_suffix(unit)?, *size)))
}

/// A number of units, as a whole number.
fn count(number: &str, unit: f64) -> Option<u64> {
    let number = number.trim().parse::<f64>().ok()? * unit;
    (0.0 < number && number < 1e18).then_some(number as u64)
}

impl Budget {
    fn read(&mut self, part: &str) -> Option<()> {
        if let Some((name, value)) = part.split_once('=') {
            return self.read_named(name.trim(), value.trim());
        }
        let (amount, rest) = part.split_once('@').map_or((part, None), |it| (it.0, Some(it.1)));
        if let Some((number, unit)) = measured(amount, &SECONDS) {
            let rate = count(rest?.trim().strip_suffix("GB/s")?, 1e9)?;
            self.step_bytes = Some(count(number, rate as f64 * unit)?);
        } else if let Some((number, unit)) = measured(amount, &BYTES) {
            self.bytes = Some(count(number, unit)?);
            if let Some(positions) = rest {
                self.context = Some(positions.trim().parse().ok()?);
            }
        } else {
            let (number, unit) = measured(amount, &PARAMETERS).filter(|_| rest.is_none())?;
            self.parameters = Some(count(number, unit)?);
        }
        Some(())
    }

    fn read_named(&mut self, name: &str, value: &str) -> Option<()> {
        let size = |it: &str| it.parse().ok().filter(|it| 0 < *it);
        match name {
            "layers" => self.layers = Some(size(value)?),
            "skip" => {
                for layer in value.split('+') {
                    self.skipped.insert(layer.trim().parse().ok()?);
                }
            }
            name => {
                let name = Name::is_valid(name).then(|| Name::from(name))?;
                self.widths.set(name, size(value)?);
            }
        }
        Some(())
    }

    /// How many things are asked for.
    fn said(&self) -> usize {
        let limits = [self.parameters, self.bytes, self.step_bytes];
        let n_limits = limits.iter().flatten().count() + usize::from(self.layers.is_some());
        n_limits + self.widths.iter().count() + self.skipped.len()
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
                let n = parameters(&module.module, &BTreeMap::new()).unwrap_or(u64::MAX);
                let message = format!("the spec has {n} parameters and no elastic axis to cut");
                Err(Error::new("C0305", message)
                    .help("`--set \"F=15680 elastic {12544, 8960}\"` declares choices"))
            }
            None => Err(above(&module.module, &axes)),
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
    /// When there are too many to look at, or an axis is shorter than what is asked for.
    pub fn search(
        &self,
        compiled: &Compiled,
        axes: &BTreeMap<String, Vec<usize>>,
        most: usize,
    ) -> Result<Vec<Candidate>, Error> {
        let mut free = axes.clone();
        for (name, size) in self.widths.iter() {
            let whole = compiled.module.axes.fixed(&Axis::from(name));
            if let Some(whole) = whole.filter(|it| *it < size) {
                let message = format!("`{name}` is {whole} and can not become {size}");
                return Err(Error::new("C0305", message));
            }
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

/// That even the shortest of all `axes` leave more than the budget allows.
pub fn above(module: &Module, axes: &BTreeMap<String, Vec<usize>>) -> Error {
    let least =
        |(name, sizes): (&String, &Vec<usize>)| Some((name.clone(), sizes.iter().copied().min()?));
    let least: BTreeMap<String, usize> = axes.iter().filter_map(least).collect();
    let sizes: BTreeMap<&str, usize> = least.iter().map(|it| (it.0.as_str(), *it.1)).collect();
    let all: Vec<String> = least.iter().map(|(name, size)| format!("{name}={size}")).collect();
    let n = parameters(module, &sizes).unwrap_or(u64::MAX);
    let message = format!("even the least choice of all axes is above the budget: {n} parameters");
    Error::new("C0305", message).help(format!("that is {}", all.join(", ")))
}

/// The layers to leave out so that the `n` most important are left.
fn least(stack: &Stack, n: usize, ranking: &Ranking) -> Result<BTreeSet<usize>, Error> {
    let all = stack.n_layers();
    if all < n {
        return Err(Error::new("C0305", format!("there are {all} layers, and not {n}")));
    }
    if n == all {
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
        let small = Budget { parameters: Some(200_000), ..Budget::default() };
        assert_eq!(of("200k"), Ok(small));
        assert_eq!(of("100KiB").map(|it| it.bytes), Ok(Some(102_400)));
        assert_eq!(of("5us@60GB/s").map(|it| it.step_bytes), Ok(Some(300_000)));
        let mut named = Budget { layers: Some(48), ..Budget::default() };
        named.widths.set("F", 8960);
        named.skipped.extend([3, 5]);
        assert_eq!(of("F=8960,layers=48,skip=3+5"), Ok(named));
        for wrong in
            ["9", "9x", "b", "-1b", "F=0", "f-=1", "9b@3", "20ms", "20ms@6", "layers=0", ""]
        {
            assert!(of(wrong).is_err(), "{wrong}");
        }
        for twice in ["F=8,F=4", "9b,8b", "skip=1,skip=1", "1GiB,1MiB"] {
            let why = of(twice).unwrap_err();
            assert!(why.ends_with("says again what is said before it"), "{twice}: {why}");
        }
    }

    #[test]
    fn what_is_not_there_is_refused() {
        let spec = Spec::open("models/llama.tn", &["F=64 elastic {32}".to_owned()], &mut |_| {});
        let spec = spec.unwrap_or_else(|why| panic!("{why}"));
        let compiled = spec.compile().unwrap_or_else(|why| panic!("{why}"));
        for (budget, why) in [
            ("F=65", "`F` is 64 and can not become 65"),
            ("layers=1000", "layers, and not 1000"),
            ("1k", "even the least choice of all axes is above the budget: "),
            ("1k", "that is F=32"),
        ] {
            let budget: Budget = budget.parse().unwrap();
            let found = budget.choose(&spec, &compiled, &Ranking::default()).unwrap_err();
            assert!(found.to_string().contains(why), "{found}");
        }
    }
}
