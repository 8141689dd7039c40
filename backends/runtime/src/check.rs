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
        for entry in &self.entries {
            holds((entry.at as u64) < code_bytes, || "its entry lies outside its code".into())?;
        }
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
        holds(self.input_of(ExtentRole::New).is_some(), || "it takes no tokens".into())?;
        for input in &self.inputs {
            let role = input.rows.map(|it| self.extents[it].role);
            let known = matches!(role, Some(ExtentRole::New | ExtentRole::Source));
            let tokens = known && input.element_bytes == 4 && input.row == 1;
            holds(tokens, || format!("its input `{}` is not tokens", input.name))?;
        }
        let texts = self.inputs.len() <= 1 + usize::from(self.bound(ExtentRole::Source).is_some());
        holds(texts, || format!("it takes {} texts at once", self.inputs.len()))?;
        let [output, ..] = &self.outputs[..] else {
            return Err(contradiction("it has no output".into()));
        };
        let floats = output.element_bytes == 4 && 0 < output.row;
        holds(floats, || format!("its output `{}` is not rows of `f32`", output.name))?;
        let vocabulary = (1..=i32::MAX as u64).contains(&self.vocabulary);
        holds(vocabulary, || format!("its vocabulary has {} tokens", self.vocabulary))?;
        let counted = self.bound(ExtentRole::New).is_some_and(|it| 0 < it);
        holds(counted, || "nothing counts its tokens".into())?;
        let possible = self.extents.iter().all(|it| it.max < 1 << 32);
        holds(possible, || "an extent has no sensible bound".into())
    }

    /// The most positions that a session can have room for.
    pub fn capacity(&self) -> u64 {
        let bounds = [ExtentRole::Capacity, ExtentRole::Past].map(|it| self.bound(it));
        let bound = bounds.into_iter().flatten().min();
        bound.or(self.bound(ExtentRole::New)).unwrap_or(0)
    }

    /// The place of the input whose rows an extent of this role counts.
    pub(crate) fn input_of(&self, role: ExtentRole) -> Option<usize> {
        let counted = |it: &Port| it.rows.is_some_and(|it| self.extents[it].role == role);
        self.inputs.iter().position(counted)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::{Entry, ExtentSlot, Level};
    use ir::DType;

    fn sound() -> Program {
        let port = |row, rows| Port {
            name: "port".into(),
            ty: "i32[S]".into(),
            element_bytes: 4,
            row,
            rows,
        };
        Program {
            abi: ABI,
            vocabulary: 10,
            extents: vec![ExtentSlot { name: "S".into(), role: ExtentRole::New, max: 8 }],
            inputs: vec![port(1, Some(0))],
            outputs: vec![port(10, None)],
            weights: vec![WeightSlot {
                name: "w".into(),
                layer: 0,
                dtype: DType::F32,
                shape: [1, 16],
                packed: false,
                offset: 64,
                bytes: 64,
            }],
            ..Program::default()
        }
    }

    fn refused(change: impl FnOnce(&mut Program)) -> &'static str {
        let mut program = sound();
        change(&mut program);
        program.check(1, 128).unwrap_err().code
    }

    #[test]
    fn a_sound_program_passes() {
        assert_eq!(sound().check(1, 128), Ok(()));
    }

    #[test]
    fn contradictions_are_found() {
        assert_eq!(refused(|it| it.abi += 1), "R0104");
        assert_eq!(refused(|it| it.entries.push(Entry { level: Level::V2, at: 1 })), "R0201");
        assert_eq!(refused(|it| it.weights[0].offset = 128), "R0201");
        assert_eq!(refused(|it| it.weights[0].offset = 32), "R0201");
        assert_eq!(refused(|it| it.weights[0].bytes = u64::MAX), "R0201");
        assert_eq!(refused(|it| it.inputs.clear()), "R0201");
        assert_eq!(refused(|it| it.inputs[0].element_bytes = 8), "R0201");
        assert_eq!(refused(|it| it.inputs[0].rows = Some(1)), "R0201");
        assert_eq!(refused(|it| it.outputs.clear()), "R0201");
        assert_eq!(refused(|it| it.outputs[0].row = 0), "R0201");
        assert_eq!(refused(|it| it.extents[0].max = 0), "R0201");
        assert_eq!(refused(|it| it.extents[0].max = u64::MAX), "R0201");
        assert_eq!(refused(|it| it.vocabulary = 0), "R0201");
    }
}
