//! Products of many rows by cuBLASLt, where it was found to be faster: it takes matrices as they
//! lie in memory and can add to what is there. All else is left to the kernels here.

use ir::DType;

use super::{Made, MatMul, Part, Ready};
use crate::{Instance, MatrixProduct, Tunable};

/// The rows with which it is measured whether the library is faster.
const MEASURED_ROWS: u64 = 2048;

impl MatMul<'_> {
    /// The form that leaves all products to the library, and the choice whether there is one.
    pub(super) fn by_library(&self) -> Option<(Tunable, Instance)> {
        if !self.depth.is_multiple_of(8) || !self.parts().all(|(made, it)| self.is_taken(made, it))
        {
            return None;
        }
        let Ready { before, x, weights, scratch } = self.ready(DType::BF16);
        let product = |((made, part), weights): ((&Made<'_>, &Part), Vec<(usize, u64)>)| {
            let bytes = if made.dtype == DType::F32 { 4 } else { 2 };
            Some(MatrixProduct {
                x,
                weights: weights[0],
                y: (made.at, bytes * part.first),
                dtype: made.dtype,
                rows: 2,
                columns: part.n,
                depth: self.depth,
                stride: self.columns(made)?,
                adds: made.tail.is_some(),
            })
        };
        let products = self.parts().zip(weights).map(product).collect::<Option<Vec<_>>>()?;
        let shape = |it: &MatrixProduct| {
            let added = if it.adds { " added" } else { "" };
            format!("{}{added} in {}", it.columns, it.dtype)
        };
        let shapes: Vec<String> = products.iter().map(shape).collect();
        let of = format!("{} of {}", shapes.join(", "), self.depth);
        let choice = Tunable::new("library", &of, MEASURED_ROWS);
        Some((choice, Instance { products, scratch, before, ..Instance::default() }))
    }

    /// Whether the library computes a part as it is to be: one product, or that added to what lies
    /// where it goes.
    fn is_taken(&self, made: &Made<'_>, part: &Part) -> bool {
        part.format() == DType::BF16
            && part.weights.len() == 1
            && part.n.is_multiple_of(8)
            && self.columns(made).is_some_and(|it| it.is_multiple_of(8))
            && matches!(made.dtype, DType::F32 | DType::BF16)
            && made.place.is_none()
            && !self.is_own(made)
            && made.tail.is_none_or(|it| it.adds)
    }
}
