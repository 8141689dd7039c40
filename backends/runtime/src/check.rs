//! Whether a program can be run at all: what a damaged file or a faulty backend could get wrong.

use crate::Fault;
use crate::abi::ABI;
use crate::program::{ExtentRole, Port, Program, WeightSlot};

/// What the kernels may assume of a weight's address.
const WEIGHT_ALIGN: u64 = 64;

impl Program {
    /// Checks that every reference inside the program has an aim, and every size a meaning.
    pub(crate) fn check(&self, code_bytes: u64, weight_bytes: u64) -> Result<(), Fault> {
        if self.abi != ABI {
            let message = format!("the program has interface {}, not {ABI}", self.abi);
            return Err(Fault::new("R0104", message).help("build the model again"));
        }
        holds((self.entry as u64) < code_bytes, || "its entry lies outside its code".into())?;
        for weight in &self.weights {
            check_weight(weight, weight_bytes)?;
        }
        for port in self.inputs.iter().chain(&self.outputs) {
            check_port(port, self.extents.len())?;
        }
        self.check_shape()
    }

    /// Sessions run programs that take tokens and give rows of logits.
    fn check_shape(&self) -> Result<(), Fault> {
        let [input] = &self.inputs[..] else {
            return Err(contradiction(format!("it takes {} inputs, not 1", self.inputs.len())));
        };
        let tokens = input.element_bytes == 4 && input.row == 1;
        holds(tokens, || format!("its input `{}` is not tokens", input.name))?;
        let [output, ..] = &self.outputs[..] else {
            return Err(contradiction("it has no output".into()));
        };
        let floats = output.element_bytes == 4 && 0 < output.row;
        holds(floats, || format!("its output `{}` is not rows of `f32`", output.name))?;
        let vocabulary = (1..=i32::MAX as u64).contains(&self.vocabulary);
        holds(vocabulary, || format!("its vocabulary has {} tokens", self.vocabulary))?;
        let counted = self.extents.iter().any(|it| it.role == ExtentRole::New);
        holds(counted, || "nothing counts its tokens".into())?;
        let possible = self.extents.iter().all(|it| it.max < 1 << 32);
        holds(possible, || "an extent has no sensible bound".into())
    }

    /// The most positions that a session can have room for.
    pub fn capacity(&self) -> u64 {
        let new = self.bound(ExtentRole::New).unwrap_or(0);
        self.bound(ExtentRole::Capacity).unwrap_or(new)
    }

    /// The smallest bound of the extents with this role; `None` when there are none.
    pub fn bound(&self, role: ExtentRole) -> Option<u64> {
        self.extents.iter().filter(|it| it.role == role).map(|it| it.max).min()
    }
}

fn check_weight(weight: &WeightSlot, weight_bytes: u64) -> Result<(), Fault> {
    let end = weight.offset.checked_add(weight.bytes);
    let inside = end.is_some_and(|it| it <= weight_bytes);
    let aligned = weight.offset.is_multiple_of(WEIGHT_ALIGN);
    holds(inside && aligned, || format!("its weight `{}` lies where none can be", weight.name))
}

fn check_port(port: &Port, extents: usize) -> Result<(), Fault> {
    let counted = port.rows.is_none_or(|it| it < extents);
    holds(counted, || format!("nothing counts the rows of `{}`", port.name))
}

fn holds(condition: bool, otherwise: impl FnOnce() -> String) -> Result<(), Fault> {
    if condition { Ok(()) } else { Err(contradiction(otherwise())) }
}

fn contradiction(what: String) -> Fault {
    Fault::new("R0201", format!("the program contradicts itself: {what}"))
}
