//! The reference backend: a step function run by the meaning of its graph.

use std::collections::BTreeMap;

use ir::{Axis, Module, Name, Role, StepAxes, Tensor};

/// A model in step form with its weights and what it remembers.
pub struct Reference {
    module: Module,
    weights: BTreeMap<Name, Tensor>,
    states: BTreeMap<Name, Tensor>,
    axes: StepAxes,
    /// What the encoder reads, if there is one.
    source: Vec<i32>,
    past: usize,
    typed: bool,
}

impl Reference {
    /// A model that has read nothing. With `typed`, every result is rounded to its type.
    pub fn new(
        module: Module,
        weights: BTreeMap<Name, Tensor>,
        axes: StepAxes,
        typed: bool,
    ) -> Reference {
        let (states, source) = (BTreeMap::new(), Vec::new());
        Reference { module, weights, states, axes, source, past: 0, typed }
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.states.clear();
        self.past = 0;
    }

    /// Forgets everything and gives the encoder something else to read.
    ///
    /// # Errors
    ///
    /// When there is no encoder.
    pub fn set_source(&mut self, tokens: &[i32]) -> Result<(), String> {
        self.axes.source.as_ref().ok_or("the model has no encoder")?;
        self.reset();
        self.source = tokens.to_vec();
        Ok(())
    }

    /// Reads `tokens`; the first output at the last `last` of them, row by row.
    ///
    /// # Errors
    ///
    /// When the module does not take this, or more positions than its axes allow.
    pub fn step(&mut self, tokens: &[i32], last: usize) -> Result<Vec<f64>, String> {
        let (axes, n_new) = (&self.axes, tokens.len());
        if axes.source.is_some() && self.source.is_empty() {
            return Err("the encoder has read nothing yet".into());
        }
        let given = axes.extents(n_new, self.past, last, self.source.len());
        let sizes = self.module.axes.sizes(&given)?;
        let entry = self.module.entry();
        let inputs: BTreeMap<&Name, Tensor> = entry
            .params
            .iter()
            .filter(|it| matches!(it.role, Role::Input | Role::Value))
            .map(|it| {
                let of_source = axes
                    .source
                    .as_ref()
                    .is_some_and(|axis| it.ty.position(&Axis::atom(axis)).is_some());
                let tokens = if of_source { &self.source } else { tokens };
                let tokens = tokens.iter().map(|&it| f64::from(it)).collect();
                (&it.name, Tensor::new(it.ty.clone(), &sizes, tokens))
            })
            .collect();
        for param in entry.params.iter().filter(|it| it.role == Role::State) {
            let empty = || Tensor::from_fn(param.ty.clone(), &sizes, |_| 0.0);
            self.states.entry(param.name.clone()).or_insert_with(empty);
        }
        let mut arguments = Vec::new();
        for param in &entry.params {
            arguments.push(match param.role {
                Role::Weight => {
                    self.weights.get(&param.name).ok_or(format!("no weight {}", param.name))?
                }
                Role::State => &self.states[&param.name],
                Role::Input | Role::Value => &inputs[&param.name],
            });
        }
        let results = ir::eval(&self.module, &arguments, &sizes, self.typed)?;
        let mut first = None;
        for (output, result) in entry.outputs.iter().zip(results) {
            match entry.params.iter().find(|it| it.role == Role::State && it.name == output.name) {
                Some(state) => {
                    // What was past and new is past from now on.
                    let ty = state.ty.clone();
                    self.states.insert(output.name.clone(), Tensor { ty, ..result });
                }
                None => drop(first.get_or_insert(result.data)),
            }
        }
        if axes.past.is_some() {
            self.past += n_new;
        }
        first.ok_or("there is no output".to_owned())
    }
}
