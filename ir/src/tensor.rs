//! The values of the reference interpreter.

use crate::{Sizes, Type};

/// Elements in double precision, the last axis fastest. Integers and truth values are numbers too.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// What it claims to be.
    pub ty: Type,
    /// The extent of each axis of `ty`.
    pub shape: Vec<usize>,
    /// The elements.
    pub data: Vec<f64>,
}

impl Tensor {
    /// A tensor of the given elements.
    ///
    /// # Panics
    ///
    /// When their number is not what `sizes` says.
    #[track_caller]
    pub fn new(ty: Type, sizes: &Sizes, data: Vec<f64>) -> Tensor {
        let shape = sizes.shape(&ty.axes);
        assert_eq!(shape.iter().product::<usize>(), data.len(), "{ty} of shape {shape:?}");
        Tensor { ty, shape, data }
    }

    /// A tensor whose elements are told by their index along each axis.
    pub fn from_fn(ty: Type, sizes: &Sizes, mut element: impl FnMut(&[usize]) -> f64) -> Tensor {
        let shape = sizes.shape(&ty.axes);
        let mut data = Vec::with_capacity(shape.iter().product());
        each_index(&shape, |index| data.push(element(index)));
        Tensor { ty, shape, data }
    }

    /// Elements between neighbours along each axis.
    pub fn strides(&self) -> Vec<usize> {
        strides(&self.shape)
    }

    /// Rounds every element to the element type.
    pub fn round(mut self) -> Tensor {
        let dtype = self.ty.dtype;
        self.data.iter_mut().for_each(|it| *it = dtype.round(*it));
        self
    }
}

/// Elements between neighbours along each axis of a dense value of this shape.
pub fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i];
    }
    strides
}

/// Visits every index of `shape` in order, the last axis fastest.
pub fn each_index(shape: &[usize], mut visit: impl FnMut(&[usize])) {
    if shape.contains(&0) {
        return;
    }
    let mut index = vec![0; shape.len()];
    loop {
        visit(&index);
        let Some(axis) = (0..shape.len()).rev().find(|&i| index[i] + 1 < shape[i]) else { return };
        index[axis] += 1;
        index[axis + 1..].fill(0);
    }
}
