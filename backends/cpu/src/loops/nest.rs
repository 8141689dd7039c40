//! The loops around an element, and the function around the loops.

use std::collections::BTreeMap;

use cranelift_codegen::ir::{
    AbiParam, Function as Clif, InstBuilder, MemFlagsData, Signature, UserFuncName, Value,
    condcodes::IntCC, types::I64,
};
use cranelift_codegen::isa::{CallConv, TargetIsa};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use ir::{Axis, DType, Function, Module, Op};
use plan::LoopWord;

use crate::assemble;

use super::{element::Scope, half, index::Index, math, tile::Tile};

/// Lanes of a vector: Cranelift has 128-bit vectors.
pub(super) const LANES: u32 = 4;

/// A loop ready to be compiled.
pub(crate) struct LoopCode {
    /// The code.
    pub(crate) clif: Clif,
    /// What the caller passes, in order.
    pub(crate) words: Vec<LoopWord>,
}

/// The code of `function`, whose only output is stored densely. If its first parameters are
/// `products` of a kernel, it is the code for a tile of them: `kernels_cpu::Tail`.
///
/// # Errors
///
/// What the CPU backend can not compute: element types other than `f32`, `i32` and `bool`, but for
/// values of 16 bits that are read or written.
pub(crate) fn generate(
    module: &Module,
    function: &Function,
    products: usize,
    isa: &dyn TargetIsa,
) -> Result<LoopCode, String> {
    for value in function.values() {
        let ty = function.ty(value);
        let is_computed = matches!(ty.dtype, DType::F32 | DType::I32 | DType::Bool);
        let is_stored = half::is_read(function, value) || half::written(function, value).is_some();
        if !is_computed && !is_stored {
            return Err(format!("the CPU computes in f32, i32 and bool, not {ty}"));
        }
    }
    let words = words(module, function, products);
    let mut signature = Signature::new(CallConv::SystemV);
    signature.params.extend(vec![AbiParam::new(I64); if products == 0 { 3 } else { 2 }]);
    let mut clif = Clif::with_name_signature(UserFuncName::default(), signature);
    let mut context = FunctionBuilderContext::new();
    let mut b = FunctionBuilder::new(&mut clif, &mut context);
    let block = b.create_block();
    b.append_block_params_for_function_params(block);
    b.switch_to_block(block);
    let given = b.block_params(block).to_vec();
    let loaded: BTreeMap<LoopWord, Value> = (0..)
        .step_by(8)
        .zip(&words)
        .map(|(at, word)| (word.clone(), b.ins().load(I64, MemFlagsData::trusted(), given[0], at)))
        .collect();
    let tile = (0 < products).then(|| Tile::load(&mut b, given[1], products));
    let mut scope =
        Scope::new(b, module, function, loaded, tile, assemble::multiplies_and_adds(isa));
    match tile {
        None => store_output(&mut scope, given[1], given[2]),
        Some(tile) => store_tile(&mut scope, tile),
    }
    let mut b = scope.finish();
    b.ins().return_(&[]);
    b.seal_all_blocks();
    b.finalize(isa.frontend_config());
    Ok(LoopCode { clif, words })
}

/// Everything that the code of `function` needs to be told, but for its `products`.
fn words(module: &Module, function: &Function, products: usize) -> Vec<LoopWord> {
    let mut words = vec![LoopWord::Output];
    words.extend((products..function.params.len()).map(LoopWord::Operand));
    words.extend(plan::loop_extents(module, function));
    let helper = |op: &Op| match op {
        Op::Unary(it) => math::unary_helper(it.function),
        Op::Binary(it) => math::binary_helper(it.function),
        _ => None,
    };
    let mut helpers: Vec<&str> = function.nodes().iter().filter_map(|it| helper(&it.op)).collect();
    helpers.sort_unstable();
    helpers.dedup();
    words.extend(helpers.into_iter().map(LoopWord::Helper));
    words
}

/// Computes and stores every element of the share of `thread`. The parts of a concatenation are
/// stored one after the other, so that no element asks which part it is in.
fn store_output(scope: &mut Scope<'_>, thread: Value, threads: Value) {
    let function = scope.function;
    let output = computed(function);
    let axes = &function.ty(output).axes;
    match function.maker(output).map(|it| (&it.op, &it.operands)) {
        Some((Op::Concat(concat), operands)) => {
            let at = function.ty(output).position(&concat.whole()).expect("the concatenation");
            let mut offset = scope.b.ins().iconst(I64, 0);
            for (operand, part) in operands.iter().zip(&concat.parts) {
                let placed = Placed { value: *operand, at, offset };
                store_part(scope, axes, placed, thread, threads);
                let size = scope.size(part);
                offset = scope.b.ins().iadd(offset, size);
            }
        }
        _ => {
            let offset = scope.b.ins().iconst(I64, 0);
            store_part(scope, axes, Placed { value: output, at: 0, offset }, thread, threads);
        }
    }
}

/// The value that is stored as the output of `function`, perhaps rounded.
fn computed(function: &Function) -> ir::Value {
    let output = function.outputs[0].value;
    half::written(function, output).unwrap_or(output)
}

/// Computes and stores what the output has in `tile`, whose columns are along its last axis.
fn store_tile(scope: &mut Scope<'_>, tile: Tile) {
    let value = computed(scope.function);
    let axes = scope.function.ty(value).axes.clone();
    let (column, rows) = axes.split_last().expect("columns");
    let offset = scope.b.ins().iconst(I64, 0);
    let strides = scope.output_strides(&axes);
    let nest = Nest { part: Placed { value, at: 0, offset }, strides };
    let [[row, row_end], [from, to]] = [tile.rows, tile.columns];
    scope.count(row, row_end, 1, |scope, row| {
        let outer = match rows {
            [] => Vec::new(),
            _ => scope.divide(rows, Index::uniform(row)),
        };
        nest.innermost(scope, column, from, to, &outer);
    });
}

/// A value that fills part of the output: its places along axis `at` lie `offset` ahead.
struct Placed {
    value: ir::Value,
    at: usize,
    offset: Value,
}

fn store_part(scope: &mut Scope<'_>, output: &[Axis], part: Placed, thread: Value, threads: Value) {
    let axes = scope.function.ty(part.value).axes.clone();
    let strides = scope.output_strides(output);
    let Some((outer, inner)) = axes.split_first() else {
        scope.only_first(thread, |scope| store_element(scope, &part, &strides, &[], 1));
        return;
    };
    let size = scope.size(outer);
    let from = share(scope, size, thread, threads);
    let one = scope.b.ins().iconst(I64, 1);
    let next = scope.b.ins().iadd(thread, one);
    let to = share(scope, size, next, threads);
    let nest = Nest { part, strides };
    if inner.is_empty() {
        nest.innermost(scope, outer, from, to, &[]);
    } else {
        scope.count(from, to, 1, |scope, i| nest.run(scope, inner, &[Index::uniform(i)]));
    }
}

/// `size * thread / threads`.
fn share(scope: &mut Scope<'_>, size: Value, thread: Value, threads: Value) -> Value {
    let product = scope.b.ins().imul(size, thread);
    scope.b.ins().udiv(product, threads)
}

struct Nest {
    part: Placed,
    strides: Vec<Value>,
}

impl Nest {
    /// Loops over `axes`, inside the loops that gave `outer`.
    fn run(&self, scope: &mut Scope<'_>, axes: &[Axis], outer: &[Index]) {
        let (axis, inner) = axes.split_first().expect("an axis");
        let from = scope.b.ins().iconst(I64, 0);
        let to = scope.size(axis);
        if inner.is_empty() {
            self.innermost(scope, axis, from, to, outer);
        } else {
            scope.count(from, to, 1, |scope, i| {
                self.run(scope, inner, &[outer, &[Index::uniform(i)]].concat());
            });
        }
    }

    /// Runs along the last axis in vectors, and over the rest, which does not fill one, by element.
    fn innermost(
        &self,
        scope: &mut Scope<'_>,
        axis: &Axis,
        from: Value,
        to: Value,
        outer: &[Index],
    ) {
        let mut steps = vec![0; outer.len()];
        steps.push(1);
        let mut from = from;
        let long_enough = scope.module.axes.bound(axis).is_some_and(|it| LANES as usize <= it);
        if long_enough && scope.is_vectorizable(self.part.value, &steps) {
            let length = scope.b.ins().isub(to, from);
            let mask = scope.b.ins().iconst(I64, -i64::from(LANES));
            let whole = scope.b.ins().band(length, mask);
            let end = scope.b.ins().iadd(from, whole);
            scope.count(from, end, i64::from(LANES), |scope, i| {
                let index = [outer, &[Index { first: i, step: 1 }]].concat();
                store_element(scope, &self.part, &self.strides, &index, LANES);
            });
            from = end;
        }
        scope.count(from, to, 1, |scope, i| {
            let index = [outer, &[Index::uniform(i)]].concat();
            store_element(scope, &self.part, &self.strides, &index, 1);
        });
    }
}

fn store_element(
    scope: &mut Scope<'_>,
    part: &Placed,
    strides: &[Value],
    index: &[Index],
    lanes: u32,
) {
    let element = scope.element_of(part.value, index, lanes);
    let mut place = scope.b.ins().iconst(I64, 0);
    for (i, (index, stride)) in index.iter().zip(strides).enumerate() {
        let mut along = index.first;
        if i == part.at {
            along = scope.b.ins().iadd(along, part.offset);
        }
        let bytes = scope.b.ins().imul(along, *stride);
        place = scope.b.ins().iadd(place, bytes);
    }
    let output = scope.word(&LoopWord::Output);
    let address = scope.b.ins().iadd(output, place);
    let dtype = scope.function.ty(scope.function.outputs[0].value).dtype;
    if half::is_half(dtype) {
        half::store(&mut scope.b, dtype, element, address, lanes);
    } else {
        scope.b.ins().store(math::vector_flags(), element, address, 0);
    }
}

impl Scope<'_> {
    /// Emits `body` for `from`, `from + step` and so on, below `to`.
    pub(super) fn count(
        &mut self,
        from: Value,
        to: Value,
        step: i64,
        body: impl FnOnce(&mut Self, Value),
    ) {
        let [head, inside, after] = [(); 3].map(|()| self.b.create_block());
        let i = self.b.append_block_param(head, I64);
        self.b.ins().jump(head, &[from.into()]);
        self.b.switch_to_block(head);
        let more = self.b.ins().icmp(IntCC::SignedLessThan, i, to);
        self.b.ins().brif(more, inside, &[], after, &[]);
        self.b.switch_to_block(inside);
        self.in_new_block(|scope| body(scope, i));
        let step = self.b.ins().iconst(I64, step);
        let next = self.b.ins().iadd(i, step);
        self.b.ins().jump(head, &[next.into()]);
        self.b.switch_to_block(after);
    }

    /// Emits `body` for thread 0 alone.
    fn only_first(&mut self, thread: Value, body: impl FnOnce(&mut Self)) {
        let [inside, after] = [(); 2].map(|()| self.b.create_block());
        self.b.ins().brif(thread, after, &[], inside, &[]);
        self.b.switch_to_block(inside);
        self.in_new_block(body);
        self.b.ins().jump(after, &[]);
        self.b.switch_to_block(after);
    }
}
