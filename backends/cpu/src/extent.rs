//! The extent of an axis as machine code, for the host program and for loops.

use cranelift_codegen::ir::{InstBuilder, Value, types::I64};
use cranelift_frontend::FunctionBuilder;
use ir::{Axes, Axis, Extent, Name};

/// What emits code, and knows where the run-time extents are.
pub(crate) trait Extents<'a> {
    /// The function under construction.
    fn builder(&mut self) -> &mut FunctionBuilder<'a>;

    /// The extent of a run-time atom.
    fn runtime(&mut self, atom: &Name) -> Value;

    /// The extent of `axis`: a number where it is fixed, sums of products of run-time atoms
    /// elsewhere.
    fn extent_of(&mut self, axes: &Axes, axis: &Axis) -> Value {
        if let Some(size) = axes.fixed(axis) {
            return self.builder().ins().iconst(I64, size as i64);
        }
        let mut total = self.builder().ins().iconst(I64, 0);
        for segment in axes.resolve(axis).segments() {
            let mut product = self.builder().ins().iconst(I64, 1);
            for atom in segment {
                let size = match axes.get(atom.as_str()).map(|it| &it.extent) {
                    Some(Extent::Fixed { size, .. }) => {
                        self.builder().ins().iconst(I64, *size as i64)
                    }
                    _ => self.runtime(atom),
                };
                product = self.builder().ins().imul(product, size);
            }
            total = self.builder().ins().iadd(total, product);
        }
        total
    }
}
