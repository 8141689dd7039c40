//! What memory a model takes, from the types of its parameters and of what its steps leave.

use frontend::WeightMap;
use import::Checkpoint;
use ir::storage::Encoding;
use ir::{Axis, DType, Module, Param, Role, Type};
use passes::{Manager, Pipeline};
use runtime::Costs;

use crate::{Error, bind, costs, lower, precision::Request};

/// How weights are stored.
#[derive(Clone, Debug)]
pub struct Format {
    /// What it was asked for by.
    pub name: String,
    /// Of matrices whose rows are whole blocks. Vectors, such as norms and biases, and matrices
    /// with shorter rows stay in `bf16`, or in `f32` where that is the format.
    dtype: DType,
    /// What is stored otherwise.
    precision: Option<Request>,
}

impl Format {
    /// The format of that name: one of [`Encoding::names`], or another that weights can be read
    /// in.
    pub fn from_name(name: &str) -> Option<Format> {
        let read = || DType::from_name(name).filter(|it| !NOT_STORED.contains(it));
        let dtype = Encoding::from_name(name).map(|it| it.dtype).or_else(read)?;
        Some(Format { name: name.to_owned(), dtype, precision: None })
    }

    /// The same, but for what `request` stores anew.
    ///
    /// # Errors
    ///
    /// When that is to be chosen by measuring.
    pub fn with(self, request: Request) -> Result<Format, Error> {
        if request.is_measured() {
            return Err(Error::new("C0307", "nothing is measured for a plan")
                .help("name one format, without `budget=` and `kl<=`"));
        }
        let name = format!("{}, {}", self.name, request.text);
        Ok(Format { name, precision: Some(request), ..self })
    }

    /// Bytes of a matrix, or of another parameter, with so many elements.
    fn bytes_of(dtype: DType, elements: u64, columns: u64, is_matrix: bool) -> Option<u64> {
        let (block, bytes) = (dtype.block_len() as u64, dtype.block_bytes() as u64);
        let is_long = SHORT <= columns && columns.is_multiple_of(block);
        if !dtype.is_scaled() || (is_matrix && is_long) {
            return (elements / block).checked_mul(bytes);
        }
        elements.checked_mul(2)
    }
}

/// Rows below this are no rows of products, but those of convolutions.
const SHORT: u64 = 16;

/// Types that no weights are stored in.
const NOT_STORED: [DType; 4] = [DType::F64, DType::I32, DType::Bool, DType::Mixed];

/// What a model takes.
#[derive(Clone, Debug)]
pub struct Memory {
    /// Its name.
    pub name: String,
    /// Parameters, those used twice counted once.
    pub parameters: u64,
    /// Bytes of all weights.
    pub weight_bytes: u64,
    /// Bytes that each position of each sequence leaves: keys and values.
    pub position_bytes: u64,
    /// Bytes that a sequence leaves however long it is: the states of recurrences, and what is kept
    /// of the longest text that an encoder can read.
    pub sequence_bytes: u64,
    /// The most positions that the spec allows.
    pub most_positions: u64,
    /// The work of a step.
    pub costs: Costs,
}

impl Memory {
    /// Of the module of a spec with weights in the given format and keys and values of type
    /// `cache`. `maps` tell which parameters are banks of layers.
    ///
    /// # Errors
    ///
    /// When the model has no form that works step by step, or numbers overflow.
    pub fn of(
        module: &Module,
        maps: &[WeightMap],
        format: &Format,
        cache: DType,
    ) -> Result<Memory, Error> {
        let step = step_form(module)?;
        let axes = lower::step_axes(&step)?;
        let past = axes.past.as_ref().map(Axis::from);
        let new = Axis::from(&axes.new);
        let mut memory = Memory {
            name: module.entry().name.to_string(),
            parameters: 0,
            weight_bytes: 0,
            position_bytes: 0,
            sequence_bytes: 0,
            most_positions: step.axes.bound(past.as_ref().unwrap_or(&new)).unwrap_or(0) as u64,
            costs: costs::of(&step, &axes),
        };
        let depth = maps.iter().flat_map(|it| &it.rules).filter_map(|it| it.layers.as_ref());
        let depth = depth.flatten().max().map_or(0, |it| it + 1);
        for param in &step.entry().params {
            let added = match param.role {
                Role::Weight => memory.add_weight(&step, maps, param, (format, depth)),
                Role::State => memory.add_state(&step, past.as_ref(), &param.ty, cache),
                Role::Input | Role::Value => Some(()),
            };
            added.ok_or_else(|| Error::new("C0201", format!("`{}` is too large", param.name)))?;
        }
        Ok(memory)
    }

    fn add_weight(
        &mut self,
        module: &Module,
        maps: &[WeightMap],
        param: &Param,
        (format, depth): (&Format, usize),
    ) -> Option<()> {
        let rules = maps.first().map_or(&[][..], |it| &it.rules);
        let rule = rules.iter().find(|it| param.name == *it.param);
        let layers = rule.and_then(|it| it.layers.as_ref());
        let n = elements(module, &param.ty.axes)?;
        let columns = param.ty.axes.last().map_or(Some(1), |it| module.axes.fixed(it))? as u64;
        let is_matrix = 2 <= param.ty.axes.len() - usize::from(layers.is_some());
        self.parameters = self.parameters.checked_add(n)?;
        let layers = layers.map_or(&[0][..], Vec::as_slice);
        for layer in layers {
            let request = format.precision.as_ref().filter(|_| is_matrix);
            let anew =
                request.and_then(|it| it.of(param.name.as_str(), *layer, depth, columns as usize));
            let dtype = anew.map_or(format.dtype, |it| it.dtype);
            let bytes = Format::bytes_of(dtype, n / layers.len() as u64, columns, is_matrix)?;
            self.weight_bytes = self.weight_bytes.checked_add(bytes)?;
        }
        Some(())
    }

    fn add_state(
        &mut self,
        module: &Module,
        past: Option<&Axis>,
        ty: &Type,
        cache: DType,
    ) -> Option<()> {
        let mut axes = ty.axes.clone();
        axes.retain(|it| Some(it) != past);
        let (bytes, dtype) = if axes.len() < ty.axes.len() {
            (&mut self.position_bytes, cache)
        } else {
            (&mut self.sequence_bytes, ty.dtype)
        };
        let mut sizes = axes.iter().map(|it| module.axes.bound(it));
        let n = sizes.try_fold(1u64, |n, it| n.checked_mul(it? as u64))?;
        *bytes = bytes.checked_add(n.checked_mul(dtype.block_bytes() as u64)?)?;
        Some(())
    }

    /// Bytes of keys and values of `batch` sequences of `context` positions.
    pub fn cache_bytes(&self, context: u64, batch: u64) -> Option<u64> {
        self.position_bytes.checked_mul(context)?.checked_mul(batch)
    }

    /// Bytes of the recurrent states of `batch` sequences.
    pub fn state_bytes(&self, batch: u64) -> Option<u64> {
        self.sequence_bytes.checked_mul(batch)
    }

    /// Bytes of it all.
    pub fn total_bytes(&self, context: u64, batch: u64) -> Option<u64> {
        let left = self.cache_bytes(context, batch)?.checked_add(self.state_bytes(batch)?)?;
        self.weight_bytes.checked_add(left)
    }
}

/// Bytes of the weights that `checkpoint` has for `module`, as it stores them.
///
/// # Errors
///
/// When it does not fit.
pub fn stored_bytes(
    module: &Module,
    maps: &[WeightMap],
    checkpoint: &Checkpoint,
) -> Result<u64, Error> {
    let used = bind::used(module, maps, checkpoint)?;
    let entries = checkpoint.tensors().filter(|it| used.contains(&it.name));
    Ok(entries.map(|it| it.range.len() as u64).sum())
}

/// The form that works step by step, of a model that has one.
fn step_form(module: &Module) -> Result<Module, Error> {
    if !lower::is_stepwise(module) {
        return Ok(module.clone());
    }
    let pipeline = Pipeline::parse("incremental,tail,inline,hoist,once", &passes::all())
        .map_err(|why| Error::new("C0302", why.to_string()))?;
    let manager = Manager { check: false, ..Manager::default() };
    Ok(manager.run(&pipeline, module.clone(), &mut |_| {})?.0)
}

fn elements(module: &Module, axes: &[Axis]) -> Option<u64> {
    axes.iter().try_fold(1u64, |n, it| n.checked_mul(module.axes.fixed(it)? as u64))
}
