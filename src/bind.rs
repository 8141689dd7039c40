//! Gives a program its weights: finds every tensor, checks it, packs it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
};

use frontend::{ParamRule, TensorSource, WeightMap};
use import::{Checkpoint, Metadata};
use ir::storage::Encoding;
use ir::{Axis, DType, Module, Name, Tensor, Type};
use kernels_cuda::pack;
use plan::Bank;
use runtime::{Pages, Target, WeightSlot};

use crate::{Error, Loaded, Loader, Lowered, costs, tensors::taken_type};

/// Where packed weights get their numbers from.
pub(crate) trait Supply: Sync {
    /// Names what a slot holds: slots of equal parts share a place.
    type Part: std::fmt::Debug + Sync;

    /// The format that a part is read in.
    fn dtype(&self, part: &Self::Part) -> Result<DType, Error>;

    /// Its numbers.
    fn load(&self, part: &Self::Part) -> Result<Loaded<'_>, String>;

    /// It is not needed any more.
    fn forget(&self, _: &Self::Part) {}
}

impl Supply for Loader<'_> {
    type Part = TensorSource;

    fn dtype(&self, part: &TensorSource) -> Result<DType, Error> {
        stored_type(part, self)
    }

    fn load(&self, part: &TensorSource) -> Result<Loaded<'_>, String> {
        Loader::load(self, part)
    }

    /// Pages of the checkpoint are given back as soon as they are read, so that both copies are
    /// never in memory at once.
    fn forget(&self, part: &TensorSource) {
        part.names().iter().for_each(|it| self.checkpoint.forget(it));
    }
}

/// Slots begin at multiples of this many bytes.
const ALIGN: u64 = 64;

/// A weight of a program and where it comes from.
pub(crate) struct Wanted<P> {
    pub(crate) slot: usize,
    pub(crate) part: P,
}

/// Packs the weights of `checkpoint` for `lowered`, whose slots are completed. `map` says where
/// each parameter comes from.
///
/// # Errors
///
/// Every tensor that is missing, left over or of another shape, all at once.
pub fn bind(
    lowered: &mut Lowered,
    maps: &[WeightMap],
    checkpoint: &Checkpoint,
) -> Result<Pages, Error> {
    let wanted = wanted(lowered, maps, checkpoint)?;
    pack_all(lowered, &wanted, &Loader { checkpoint })
}

/// Every weight of `lowered`, and the tensors it is read from.
///
/// # Errors
///
/// As [`bind`].
pub(crate) fn wanted(
    lowered: &Lowered,
    maps: &[WeightMap],
    checkpoint: &Checkpoint,
) -> Result<Vec<Wanted<TensorSource>>, Error> {
    let map = map_for(maps, checkpoint)?;
    let loader = Loader { checkpoint };
    check(&lowered.module, map, &loader)?;
    let mut wanted = Vec::new();
    for bank in &lowered.plan.banks {
        for layer in 0..bank.layers as usize {
            let part = bank_source(map, bank, layer, &loader)?;
            wanted.push(Wanted { slot: bank.first as usize + layer, part });
        }
    }
    Ok(wanted)
}

/// Where a layer of a bank comes from.
fn bank_source(
    map: &WeightMap,
    bank: &Bank,
    layer: usize,
    loader: &Loader<'_>,
) -> Result<TensorSource, Error> {
    let of = |param: &Name, layer: u64| {
        let (rule, layer) = (rule(map, param.as_str())?, layer as usize);
        let layers = rule.layers.as_ref().map_or(1, Vec::len);
        if bank.layers == 1 && bank.times.is_none() && 1 < layers {
            let all = (0..layers).map(|it| layer_source(rule, it, loader));
            return Ok(TensorSource::Stack(all.collect()));
        }
        let source = layer_source(rule, layer, loader);
        // A part of what the checkpoint has as a whole is a row of it.
        let is_part = rule.layers.is_none() && (1 < bank.layers || bank.times.is_some());
        let row = |whole| TensorSource::Rows(Box::new(whole), layer, layer + 1);
        Ok::<_, Error>(if is_part { row(source) } else { source })
    };
    let source = of(&bank.param, bank.from + layer as u64)?;
    match &bank.times {
        None => Ok(source),
        Some((by, from)) => {
            let by = of(by, from + layer as u64)?;
            Ok(loader.resolve(&TensorSource::Scaled(Box::new(source), Box::new(by))))
        }
    }
}

/// The numbers of a layer of a bank.
///
/// # Errors
///
/// When they can not be read.
pub(crate) fn numbers(
    bank: &Bank,
    layer: usize,
    maps: &[WeightMap],
    checkpoint: &Checkpoint,
) -> Result<Vec<f32>, Error> {
    let loader = Loader { checkpoint };
    let source = bank_source(map_for(maps, checkpoint)?, bank, layer, &loader)?;
    let n = (bank.shape[0] * bank.shape[1]) as usize;
    let numbers = loader.load(&source).and_then(|it| it.filling(n).decode());
    numbers.map_err(|why| Error::new("C0203", format!("`{}`: {why}", bank.param)))
}

/// Packs what is wanted; the slots of `lowered` are completed.
pub(crate) fn pack_all<S: Supply>(
    lowered: &mut Lowered,
    wanted: &[Wanted<S::Part>],
    supply: &S,
) -> Result<Pages, Error> {
    let (order, bytes) = lay_out(lowered, wanted, supply)?;
    let mut pages = Pages::zeroed(bytes)?;
    fill(&mut pages, lowered, wanted, &order, supply)?;
    finish(lowered, &[])?;
    Ok(pages)
}

/// Compiles what waits for the slots to be complete. A GPU makes up the weights that are `drawn`.
pub(crate) fn finish(lowered: &mut Lowered, drawn: &[cuda::Drawn]) -> Result<(), Error> {
    lowered.finish(drawn)?;
    lowered.costs.step_bytes = step_bytes(lowered);
    lowered.costs.parameters = parameters(lowered);
    Ok(())
}

/// The map for the checkpoint's kind.
pub(crate) fn map_for<'a>(
    maps: &'a [WeightMap],
    checkpoint: &Checkpoint,
) -> Result<&'a WeightMap, Error> {
    let format = match checkpoint.metadata() {
        Metadata::Gguf(_) => "gguf",
        Metadata::HuggingFace(_) | Metadata::None => "hf",
    };
    maps.iter().find(|it| it.format == format).ok_or_else(|| {
        Error::new("C0202", format!("the spec has no section `weights {format}`"))
            .help("it says which tensor each parameter is read from")
    })
}

fn rule<'a>(map: &'a WeightMap, param: &str) -> Result<&'a ParamRule, Error> {
    let found = map.rules.iter().find(|it| it.param == param);
    found.ok_or_else(|| Error::new("C0203", format!("`{param}` has no rule in its weight map")))
}

/// Where a layer of a parameter comes from, with every choice made.
pub(crate) fn layer_source(rule: &ParamRule, layer: usize, loader: &Loader<'_>) -> TensorSource {
    match &rule.layers {
        Some(layers) => loader.resolve(&rule.source.of_layer(layers[layer])),
        None => loader.resolve(&rule.source),
    }
}

/// The parameters of layers that are `f32`, and that are no other parameter at the same time.
pub(crate) fn open(maps: &[WeightMap], checkpoint: &Checkpoint) -> Vec<String> {
    let Ok(map) = map_for(maps, checkpoint) else { return Vec::new() };
    let loader = Loader { checkpoint };
    let sources = |rule: &ParamRule| -> Vec<TensorSource> {
        let layers = 0..rule.layers.as_ref().map_or(1, Vec::len);
        layers.map(|it| layer_source(rule, it, &loader)).collect()
    };
    let all: Vec<(&ParamRule, Vec<TensorSource>)> =
        map.rules.iter().map(|it| (it, sources(it))).collect();
    let mut users: BTreeMap<String, usize> = BTreeMap::new();
    for source in all.iter().flat_map(|it| &it.1) {
        *users.entry(format!("{source:?}")).or_default() += 1;
    }
    let is_f32 = |it: &TensorSource| stored_type(it, &loader).is_ok_and(|it| it == DType::F32);
    let is_own = |it: &TensorSource| users.get(&format!("{it:?}")) == Some(&1);
    let is_open = |(rule, sources): &&(&ParamRule, Vec<TensorSource>)| {
        rule.layers.is_some() && sources.iter().all(|it| is_f32(it) && is_own(it))
    };
    all.iter().filter(is_open).map(|it| it.0.param.clone()).collect()
}

/// The names of the tensors that `module` reads of a checkpoint.
///
/// # Errors
///
/// As [`bind`].
pub(crate) fn used(
    module: &Module,
    maps: &[WeightMap],
    checkpoint: &Checkpoint,
) -> Result<BTreeSet<String>, Error> {
    check(module, map_for(maps, checkpoint)?, &Loader { checkpoint })
}

/// Compares what the spec wants with what the checkpoint has; the names of the tensors it reads.
fn check(module: &Module, map: &WeightMap, loader: &Loader<'_>) -> Result<BTreeSet<String>, Error> {
    let mut faults = Vec::new();
    let mut used: BTreeSet<String> = BTreeSet::new();
    for rule in &map.rules {
        let Some(param) = module.entry().params.iter().find(|it| it.name == *rule.param) else {
            continue;
        };
        let n_layers = rule.layers.as_ref().map_or(1, Vec::len);
        for layer in 0..n_layers {
            let source = layer_source(rule, layer, loader);
            used.extend(source.names().into_iter().map(str::to_owned));
            let ty = part_type(&param.ty, rule.layers.is_some());
            let at =
                if rule.layers.is_some() { format!(" of layer {layer}") } else { String::new() };
            match loader.shape(&source) {
                Err(why) => faults.push(format!("`{}`{at} {ty}: {why}", rule.param)),
                Ok(None) => {}
                Ok(Some(found)) => {
                    let shape = fixed_shape(module, &ty);
                    if shape.as_ref() != Some(&found) {
                        let (names, shape) = (source.names().join(", "), shape.unwrap_or_default());
                        faults.push(format!(
                            "`{}`{at} is {ty}, {shape:?}, but {names} is {found:?}",
                            rule.param
                        ));
                    }
                }
            }
        }
    }
    for entry in loader.checkpoint.tensors() {
        if !used.contains(&entry.name) && !map.spares(&entry.name) {
            faults.push(format!("the checkpoint's `{}` is asked for by no parameter", entry.name));
        }
    }
    if faults.is_empty() {
        return Ok(used);
    }
    let n = faults.len();
    let head = format!("the checkpoint does not fit the spec, in {n} places:\n  ");
    Err(Error::new("C0203", head + &faults.join("\n  ")))
}

/// The type of one layer's part of a parameter.
fn part_type(ty: &Type, banked: bool) -> Type {
    Type::new(ty.dtype, &ty.axes[usize::from(banked)..])
}

fn fixed_shape(module: &Module, ty: &Type) -> Option<Vec<usize>> {
    ty.axes.iter().map(|it| module.axes.fixed(it)).collect()
}

/// Completes the slots: formats, sizes and places. Equal weights share a place. Which of `wanted`
/// are to be written, and how many bytes there are.
pub(crate) fn lay_out<S: Supply>(
    lowered: &mut Lowered,
    wanted: &[Wanted<S::Part>],
    supply: &S,
) -> Result<(Vec<usize>, u64), Error> {
    let mut known: BTreeMap<String, u64> = BTreeMap::new();
    let mut order = Vec::new();
    let mut end = 0u64;
    for (i, it) in wanted.iter().enumerate() {
        let given = supply.dtype(&it.part)?;
        let encoding = encoding(lowered, &lowered.program.weights[it.slot], given);
        let target = lowered.target;
        let slot = &mut lowered.program.weights[it.slot];
        let [n, k] = slot.shape.map(|it| it as usize);
        let dtype = encoding.map_or(given, |it| it.dtype);
        let bytes_as = |dtype| packed_bytes(target, dtype, n, k);
        let packed = slot.packed.then(|| bytes_as(dtype)).flatten();
        slot.dtype = if packed.is_some() { dtype } else { DType::F32 };
        let plain = if slot.packed { bytes_as(DType::F32) } else { DType::F32.bytes(n, k) };
        let bytes = packed.or(plain);
        slot.bytes = bytes
            .ok_or_else(|| Error::new("C0203", format!("`{}` is too large", slot.name)))?
            as u64;
        let key = format!("{:?} {:?} {} {encoding:?}", it.part, slot.shape, slot.packed);
        slot.offset = *known.entry(key).or_insert_with(|| {
            order.push(i);
            let offset = end;
            end = (end + slot.bytes).next_multiple_of(ALIGN);
            offset
        });
    }
    Ok((order, end))
}

/// The format that a resolved source is read in.
fn stored_type(source: &TensorSource, loader: &Loader<'_>) -> Result<DType, Error> {
    match source {
        TensorSource::Tensor(name) => Ok(loader.checkpoint.tensor(name)?.dtype),
        TensorSource::Rows(of, ..) | TensorSource::Unrotate(of, _) => stored_type(of, loader),
        TensorSource::Squeeze(of) | TensorSource::Flat(of) => stored_type(of, loader),
        TensorSource::Take(of, axis, kept) => {
            let rank = loader.shape(of).ok().flatten().map_or(0, |it| it.len());
            Ok(taken_type(stored_type(of, loader)?, rank, *axis, kept))
        }
        TensorSource::ByLayer(_)
        | TensorSource::FirstOf(_)
        | TensorSource::Fill(_)
        | TensorSource::Transpose(_)
        | TensorSource::Scaled(..)
        | TensorSource::Stack(_)
        | TensorSource::Each(..) => Ok(DType::F32),
    }
}

/// Writes the weights `order`, shared among threads.
fn fill<S: Supply>(
    pages: &mut Pages,
    lowered: &Lowered,
    wanted: &[Wanted<S::Part>],
    order: &[usize],
    supply: &S,
) -> Result<(), Error> {
    let mut jobs = Vec::new();
    let mut rest: &mut [u8] = pages;
    let mut begin = 0u64;
    for &i in order {
        let slot = &lowered.program.weights[wanted[i].slot];
        let (_, tail) = rest.split_at_mut((slot.offset - begin) as usize);
        let (target, tail) = tail.split_at_mut(slot.bytes as usize);
        jobs.push((slot, &wanted[i].part, target));
        rest = tail;
        begin = slot.offset + slot.bytes;
    }
    jobs.reverse();
    let jobs = Mutex::new(jobs);
    let faults = Mutex::new(Vec::new());
    std::thread::scope(|threads| {
        for _ in 0..runtime::default_threads() {
            threads.spawn(|| {
                loop {
                    let job = jobs.lock().ok().and_then(|mut it| it.pop());
                    let Some((slot, part, target)) = job else { break };
                    if let Err(why) = write(slot, lowered, part, target, supply)
                        && let Ok(mut faults) = faults.lock()
                    {
                        faults.push(format!("`{}`: {why}", slot.name));
                    }
                    supply.forget(part);
                }
            });
        }
    });
    let mut faults = faults.into_inner().unwrap_or_default();
    faults.sort();
    if faults.is_empty() { Ok(()) } else { Err(Error::new("C0203", faults.join("\n"))) }
}

/// The format that a weight has to be written in, which is given as `given`.
pub(crate) fn encoding(lowered: &Lowered, slot: &WeightSlot, given: DType) -> Option<Encoding> {
    let wanted = lowered.formats.of(&slot.name, slot.layer as usize).filter(|_| slot.packed);
    let wanted = wanted.filter(|it| it.dtype != given && it.fits(slot.shape[1] as usize));
    let stored = wanted.map_or(given, |it| it.dtype);
    // Kernels that look rows up read plain ones.
    let is_table = lowered.tables.contains(&slot.name);
    let plain = matches!(stored, DType::F32 | DType::F16 | DType::BF16);
    let columns = slot.shape[1] as usize;
    let unread = (is_table && !plain) || pack::laid_out(stored, columns) != stored;
    match lowered.target == Target::Cuda && slot.packed && unread {
        true => Encoding::from_name("bf16"),
        false => wanted,
    }
}

/// Bytes of a weight as the kernels of `target` want it.
fn packed_bytes(target: Target, dtype: DType, n: usize, k: usize) -> Option<usize> {
    match target {
        Target::Cpu => kernels_cpu::pack::packed_bytes(dtype, n, k),
        Target::Cuda => pack::packed_bytes(dtype, n, k),
    }
}

fn write<S: Supply>(
    slot: &WeightSlot,
    lowered: &Lowered,
    part: &S::Part,
    target: &mut [u8],
    supply: &S,
) -> Result<(), String> {
    let [n, k] = slot.shape.map(|it| it as usize);
    let loaded = supply.load(part)?.filling(n * k);
    let encoding = encoding(lowered, slot, loaded.dtype);
    let bytes = if let Some(encoding) = encoding {
        match lowered.rounded.get(&slot.name, slot.layer as usize, encoding) {
            Some(bytes) => bytes.into(),
            None => {
                let written = ir::storage::encode(encoding, k, &loaded.decode()?);
                written.map_err(|it| it.to_string())?.into()
            }
        }
    } else if loaded.dtype == slot.dtype {
        loaded.bytes
    } else {
        loaded.decode()?.iter().flat_map(|it| it.to_le_bytes()).collect::<Vec<u8>>().into()
    };
    if slot.packed && lowered.target == Target::Cpu {
        return kernels_cpu::pack::pack(slot.dtype, n, k, &bytes, target)
            .map_err(|it| it.to_string());
    }
    let bytes = if slot.packed { pack::pack(slot.dtype, [n, k], bytes)? } else { bytes };
    if bytes.len() != target.len() {
        return Err(format!("{} bytes, not {}", bytes.len(), target.len()));
    }
    target.copy_from_slice(&bytes);
    Ok(())
}

/// Bytes of weights that a step reads from end to end.
fn step_bytes(lowered: &Lowered) -> u64 {
    let banks = costs::streamed_banks(&lowered.plan);
    let slots = banks.iter().flat_map(|&it| {
        let bank = &lowered.plan.banks[it];
        &lowered.program.weights[bank.first as usize..(bank.first + bank.layers) as usize]
    });
    let unique: BTreeMap<u64, u64> = slots.map(|it| (it.offset, it.bytes)).collect();
    unique.values().sum()
}

/// Parameters, shared ones once.
fn parameters(lowered: &Lowered) -> u64 {
    let slots = lowered.program.weights.iter();
    let unique: BTreeMap<u64, u64> =
        slots.map(|it| (it.offset, it.shape[0] * it.shape[1])).collect();
    unique.values().sum()
}

/// Every weight of `module` as the reference takes it, by parameter.
///
/// # Errors
///
/// As [`bind`].
pub(crate) fn tensors(
    module: &Module,
    maps: &[WeightMap],
    checkpoint: &Checkpoint,
) -> Result<BTreeMap<Name, Tensor>, Error> {
    let map = map_for(maps, checkpoint)?;
    let loader = Loader { checkpoint };
    check(module, map, &loader)?;
    let mut tensors = BTreeMap::new();
    for rule in &map.rules {
        let Some(param) = module.entry().params.iter().find(|it| it.name == *rule.param) else {
            continue;
        };
        let mut data = Vec::new();
        for layer in 0..rule.layers.as_ref().map_or(1, Vec::len) {
            let source = layer_source(rule, layer, &loader);
            let load = |it: Loaded<'_>| it.decode();
            let ty = part_type(&param.ty, rule.layers.is_some());
            let n = fixed_shape(module, &ty).unwrap_or_default().iter().product();
            let values = loader.load(&source).map(|it| it.filling(n)).and_then(load);
            let values =
                values.map_err(|why| Error::new("C0203", format!("`{}`: {why}", rule.param)))?;
            data.extend(values.into_iter().map(f64::from));
        }
        let shape =
            param.ty.axes.iter().map(|it: &Axis| module.axes.fixed(it).unwrap_or(0)).collect();
        tensors.insert(param.name.clone(), Tensor { ty: param.ty.clone(), shape, data });
    }
    Ok(tensors)
}
