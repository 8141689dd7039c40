//! The reference backend: a step function run by the meaning of its graph.

use std::collections::BTreeMap;

use ir::{Axis, Module, Name, Role, Tensor};

/// A model in step form with its weights and what it remembers.
pub struct Reference {
    module: Module,
    weights: BTreeMap<Name, Tensor>,
    states: BTreeMap<Name, Tensor>,
    axes: StepAxes,
    past: usize,
    typed: bool,
}

/// The run-time axes of a step, by name.
#[derive(Clone, Debug)]
pub struct StepAxes {
    /// New positions.
    pub new: Name,
    /// Positions of earlier steps.
    pub past: Name,
    /// The last positions, for which there are outputs.
    pub last: Name,
}

impl Reference {
    /// A model that has read nothing. With `typed`, every result is rounded to its type.
    pub fn new(
        module: Module,
        weights: BTreeMap<Name, Tensor>,
        axes: StepAxes,
        typed: bool,
    ) -> Reference {
        Reference { module, weights, states: BTreeMap::new(), axes, past: 0, typed }
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.states.clear();
        self.past = 0;
    }

    /// Reads `tokens`; the outputs at the last `last` of them, row by row.
    ///
    /// # Errors
    ///
    /// When the module does not take this, or more positions than its axes allow.
    pub fn step(&mut self, tokens: &[i32], last: usize) -> Result<Vec<f64>, String> {
        let given =
            [(&self.axes.new, tokens.len()), (&self.axes.past, self.past), (&self.axes.last, last)];
        let given = given.map(|(name, n)| (name.clone(), n)).into();
        let sizes = self.module.axes.sizes(&given)?;
        let entry = self.module.entry();
        let input =
            entry.params.iter().find(|it| it.role == Role::Input).ok_or("there is no input")?;
        let tokens: Vec<f64> = tokens.iter().map(|&it| f64::from(it)).collect();
        let input = Tensor::new(input.ty.clone(), &sizes, tokens);
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
                Role::Input | Role::Value => &input,
            });
        }
        let results = ir::eval(&self.module, &arguments, &sizes, self.typed)?;
        let mut outputs = Vec::new();
        for (output, result) in entry.outputs.iter().zip(results) {
            match entry.params.iter().find(|it| it.role == Role::State && it.name == output.name) {
                Some(state) => {
                    // What was past and new is past from now on.
                    let ty = state.ty.clone();
                    self.states.insert(output.name.clone(), Tensor { ty, ..result });
                }
                None => outputs.extend(result.data),
            }
        }
        self.past = sizes.of(&Axis::atom(&self.axes.past)) + sizes.of(&Axis::atom(&self.axes.new));
        Ok(outputs)
    }
}
