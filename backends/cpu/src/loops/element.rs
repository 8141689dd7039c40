//! The code for one element of a value, or for four neighbours at once.

use std::collections::{BTreeMap, HashMap};

use cranelift_codegen::ir::{
    AbiParam, BlockArg, InstBuilder, MemFlagsData, Signature, Type as ClifType, Value,
    condcodes::{FloatCC, IntCC},
    types::{F32, I32, I64},
};
use cranelift_codegen::isa::CallConv;
use cranelift_frontend::FunctionBuilder;
use ir::{
    Axis, DType, Function, Module, Name, Node, Op,
    ops::{BinaryFn, Contract, Reduce, UnaryFn},
};

use plan::LoopWord;

use super::{half, index::Index, math, math::Vector, tile::Tile};
use crate::extent::Extents;

/// What a fold does in the middle: from the places along its axes and what the last turn left.
type FoldStep<'a, 'f> = dyn FnOnce(&mut Scope<'a>, &[Index], &[Value]) -> Vec<Value> + 'f;

/// The function under construction. Truth values are masks: all bits or none.
pub(super) struct Scope<'a> {
    pub(super) b: FunctionBuilder<'a>,
    pub(super) module: &'a Module,
    pub(super) function: &'a Function,
    words: BTreeMap<LoopWord, Value>,
    tile: Option<Tile>,
    /// Whether the processor multiplies and adds in one instruction.
    fused: bool,
    /// Elements already computed in this block or in one around it.
    known: HashMap<(ir::Value, Vec<Index>, u32), Value>,
}

impl<'a> Extents<'a> for Scope<'a> {
    fn builder(&mut self) -> &mut FunctionBuilder<'a> {
        &mut self.b
    }

    fn runtime(&mut self, atom: &Name) -> Value {
        self.word(&LoopWord::Extent(atom.clone()))
    }
}

impl<'a> Scope<'a> {
    pub(super) fn new(
        b: FunctionBuilder<'a>,
        module: &'a Module,
        function: &'a Function,
        words: BTreeMap<LoopWord, Value>,
        tile: Option<Tile>,
        fused: bool,
    ) -> Scope<'a> {
        Scope { b, module, function, words, tile, fused, known: HashMap::new() }
    }

    pub(super) fn finish(self) -> FunctionBuilder<'a> {
        self.b
    }

    /// Runs `emit`, then forgets what it computed: it does not dominate what follows.
    pub(super) fn in_new_block<T>(&mut self, emit: impl FnOnce(&mut Self) -> T) -> T {
        let known = self.known.clone();
        let result = emit(self);
        self.known = known;
        result
    }

    pub(super) fn word(&self, word: &LoopWord) -> Value {
        self.words[word]
    }

    fn int(&mut self, value: i64) -> Value {
        self.b.ins().iconst(I64, value)
    }

    /// The extent of `axis`.
    pub(super) fn size(&mut self, axis: &Axis) -> Value {
        self.extent_of(&self.module.axes, axis)
    }

    /// Bytes between neighbours along each of `axes` of the output.
    pub(super) fn output_strides(&mut self, axes: &[Axis]) -> Vec<Value> {
        let bytes = half::element(self.function.ty(self.function.outputs[0].value).dtype);
        let stride = self.int(bytes);
        self.strides(axes, stride)
    }

    /// Where operand `value` begins, and the bytes between neighbours along each of its axes.
    fn operand(&mut self, value: ir::Value) -> (Value, Vec<Value>) {
        let ty = self.function.ty(value);
        let element = self.int(half::element(ty.dtype));
        match self.tile.filter(|it| value.index() < it.products) {
            None => {
                let first = self.word(&LoopWord::Operand(value.index()));
                (first, self.strides(&ty.axes, element))
            }
            Some(tile) => {
                let before = self.b.ins().imul_imm_s(tile.apart, value.index() as i64);
                let first = self.b.ins().iadd(tile.first, before);
                let mut strides = self.strides(&ty.axes[..ty.axes.len() - 1], tile.stride);
                strides.push(element);
                (first, strides)
            }
        }
    }

    /// Bytes between neighbours along each of `axes` of a value that is dense, but for as much as
    /// `stride` between neighbours along the last.
    fn strides(&mut self, axes: &[Axis], mut stride: Value) -> Vec<Value> {
        let mut strides = Vec::new();
        for axis in axes.iter().rev() {
            strides.push(stride);
            let size = self.size(axis);
            stride = self.b.ins().imul(stride, size);
        }
        strides.reverse();
        strides
    }

    /// The element of `value` at `index`, which has a place for each of its axes.
    pub(super) fn element_of(&mut self, value: ir::Value, index: &[Index], lanes: u32) -> Value {
        let key = (value, index.to_vec(), lanes);
        if let Some(&known) = self.known.get(&key) {
            return known;
        }
        let function = self.function;
        let element = match function.maker(value) {
            None => self.load(value, index, lanes),
            Some(node) => self.compute(node, value, index, lanes),
        };
        self.known.insert(key, element);
        element
    }

    fn clif_type(&self, value: ir::Value, lanes: u32) -> ClifType {
        match self.function.ty(value).dtype {
            DType::I32 | DType::Bool => math::int(lanes),
            _ => math::float(lanes),
        }
    }

    fn load(&mut self, value: ir::Value, index: &[Index], lanes: u32) -> Value {
        let (mut address, strides) = self.operand(value);
        let mut steps = Vec::new();
        for (index, &stride) in index.iter().zip(&strides) {
            let bytes = self.b.ins().imul(index.first, stride);
            address = self.b.ins().iadd(address, bytes);
            if index.step != 0 {
                steps.push((index.step, stride));
            }
        }
        let last_is_dense = index.last().is_some_and(|it| it.step == 1) && steps.len() == 1;
        if lanes == 1 || last_is_dense {
            return self.load_dense(value, address, lanes);
        }
        if steps.is_empty() {
            let one = self.load_dense(value, address, 1);
            return self.spread(one, lanes);
        }
        self.load_lanes(value, address, &steps, lanes)
    }

    /// Loads neighbours.
    fn load_dense(&mut self, value: ir::Value, address: Value, lanes: u32) -> Value {
        let dtype = self.function.ty(value).dtype;
        if half::is_half(dtype) {
            return half::load(&mut self.b, dtype, address, lanes);
        }
        let flags = if lanes == 1 { MemFlagsData::trusted() } else { math::vector_flags() };
        let ty = self.clif_type(value, lanes);
        self.b.ins().load(ty, flags, address, 0)
    }

    /// Loads lanes that do not lie side by side.
    fn load_lanes(
        &mut self,
        value: ir::Value,
        address: Value,
        steps: &[(i64, Value)],
        lanes: u32,
    ) -> Value {
        let mut apart = self.int(0);
        for &(step, stride) in steps {
            let step = self.int(step);
            let bytes = self.b.ins().imul(step, stride);
            apart = self.b.ins().iadd(apart, bytes);
        }
        let (mut at, mut result) = (address, None);
        for lane in 0..lanes {
            let one = self.load_dense(value, at, 1);
            result = Some(match result {
                None => self.spread(one, lanes),
                Some(so_far) => self.b.ins().insertlane(so_far, one, lane as u8),
            });
            at = self.b.ins().iadd(at, apart);
        }
        result.expect("a vector has lanes")
    }

    fn compute(&mut self, node: &Node, value: ir::Value, index: &[Index], lanes: u32) -> Value {
        let axes = &self.function.ty(value).axes;
        let at = |axis: &Axis| axes.iter().position(|it| it == axis).expect("a result axis");
        let operand = node.operands.first().copied();
        match &node.op {
            Op::Unary(it) => {
                let x = self.aligned(node.operands[0], axes, index, lanes);
                self.unary(it.function, x, lanes)
            }
            Op::Binary(it) => {
                let x = self.aligned(node.operands[0], axes, index, lanes);
                let y = self.aligned(node.operands[1], axes, index, lanes);
                let dtype = self.function.ty(node.operands[0]).dtype;
                self.binary(it.function, dtype, x, y, lanes)
            }
            Op::Select(_) => {
                let [mask, x, y] =
                    [0, 1, 2].map(|i| self.aligned(node.operands[i], axes, index, lanes));
                math::choose(&mut self.b, mask, x, y)
            }
            Op::Cast(it) => {
                let x = self.aligned(node.operands[0], axes, index, lanes);
                self.cast(self.function.ty(node.operands[0]).dtype, it.dtype, x, lanes)
            }
            Op::Constant(it) => self.constant(it.dtype, it.values[0].0, lanes),
            Op::ExtentOf(it) => {
                let size = self.size(&it.axis);
                let number = self.b.ins().fcvt_from_sint(F32, size);
                self.spread(number, lanes)
            }
            Op::Iota(it) => self.iota(&it.axis, index[0], lanes),
            Op::Transpose(it) => {
                let operand = operand.expect("one operand");
                self.aligned(operand, &it.to, index, lanes)
            }
            Op::Rename(_) => self.element_of(operand.expect("one operand"), index, lanes),
            Op::Split(it) => {
                let from = at(&it.into[0]);
                let joined = self.join(&it.into, &index[from..from + it.into.len()]);
                let inner = replaced(index, from, it.into.len(), &[joined]);
                self.element_of(operand.expect("one operand"), &inner, lanes)
            }
            Op::Merge(it) => {
                let from = at(&it.into);
                let parts = self.divide(&it.axes, index[from]);
                let inner = replaced(index, from, 1, &parts);
                self.element_of(operand.expect("one operand"), &inner, lanes)
            }
            Op::Slice(it) => {
                let start = self.start(&it.axis, &it.after, it.last, &it.into);
                let from = at(&it.into);
                let inner = self.shifted(index, from, start);
                self.element_of(operand.expect("one operand"), &inner, lanes)
            }
            Op::Pad(it) => self.pad(it, operand.expect("one operand"), at(&it.into), index, lanes),
            Op::Concat(it) => self.concat(&node.operands, &it.parts, at(&it.whole()), index, lanes),
            Op::Gather(it) => self.gather(node, &it.axis, axes, index, lanes),
            Op::ScatterAdd(it) => self.scatter_add(node, it, index),
            Op::Reduce(it) => self.reduce(operand.expect("one operand"), it, axes, index, lanes),
            Op::Contract(it) => self.contract(node, it, axes, index, lanes),
            Op::ArgMax(it) => self.argmax(operand.expect("one operand"), &it.axis, axes, index),
            Op::Call(_) | Op::Scan(_) => unreachable!("a loop function calls nothing"),
        }
    }

    /// The element of `operand` at the places that `index` has for the axes of that name.
    fn aligned(&mut self, operand: ir::Value, axes: &[Axis], index: &[Index], lanes: u32) -> Value {
        let place = self.place(operand, axes, index, &[], &[]);
        let uniform = place.iter().all(|it| it.step == 0);
        if lanes != 1 && uniform {
            let one = self.element_of(operand, &place, 1);
            return self.spread(one, lanes);
        }
        self.element_of(operand, &place, lanes)
    }

    /// The index into `operand`, from two lists of axes with their places.
    fn place(
        &self,
        operand: ir::Value,
        axes: &[Axis],
        index: &[Index],
        more_axes: &[Axis],
        more: &[Index],
    ) -> Vec<Index> {
        let all: Vec<(&Axis, Index)> = axes
            .iter()
            .zip(index.iter().copied())
            .chain(more_axes.iter().zip(more.iter().copied()))
            .collect();
        let find = |axis: &Axis| all.iter().find(|(it, _)| *it == axis).expect("a known axis").1;
        self.function.ty(operand).axes.iter().map(find).collect()
    }

    /// `number` in every lane.
    fn constant(&mut self, dtype: DType, number: f64, lanes: u32) -> Value {
        match dtype {
            DType::F32 => math::number(&mut self.b, lanes, number as f32),
            DType::Bool => math::whole(&mut self.b, lanes, -i32::from(number != 0.0)),
            _ => math::whole(&mut self.b, lanes, number as i32),
        }
    }

    /// A scalar in every lane.
    fn spread(&mut self, one: Value, lanes: u32) -> Value {
        let ty = self.b.func.dfg.value_type(one);
        if lanes == 1 { one } else { self.b.ins().splat(ty.by(lanes).expect("a vector"), one) }
    }

    fn unary(&mut self, function: UnaryFn, x: Value, lanes: u32) -> Value {
        let vector = Vector { lanes, fused: self.fused };
        let b = &mut self.b;
        match function {
            UnaryFn::Neg | UnaryFn::Abs if b.func.dfg.value_type(x).lane_type() == I32 => {
                if function == UnaryFn::Neg {
                    b.ins().ineg(x)
                } else {
                    b.ins().iabs(x)
                }
            }
            UnaryFn::Neg => b.ins().fneg(x),
            UnaryFn::Abs => b.ins().fabs(x),
            UnaryFn::Exp => math::exp(b, vector, x),
            UnaryFn::Sqrt => b.ins().sqrt(x),
            UnaryFn::Rsqrt => {
                let root = b.ins().sqrt(x);
                let one = math::number(b, lanes, 1.0);
                b.ins().fdiv(one, root)
            }
            UnaryFn::Floor => b.ins().floor(x),
            UnaryFn::Not => b.ins().bnot(x),
            UnaryFn::Tanh => math::tanh(b, vector, x),
            UnaryFn::Erf => math::erf(b, vector, x),
            UnaryFn::Log | UnaryFn::Sin | UnaryFn::Cos => {
                let helper = math::unary_helper(function).expect("a helper");
                self.call_helper(helper, &[x], lanes)
            }
        }
    }

    fn binary(
        &mut self,
        function: BinaryFn,
        dtype: DType,
        x: Value,
        y: Value,
        lanes: u32,
    ) -> Value {
        let real = dtype == DType::F32;
        let b = &mut self.b;
        match function {
            BinaryFn::Add if real => b.ins().fadd(x, y),
            BinaryFn::Sub if real => b.ins().fsub(x, y),
            BinaryFn::Mul if real => b.ins().fmul(x, y),
            BinaryFn::Add => b.ins().iadd(x, y),
            BinaryFn::Sub => b.ins().isub(x, y),
            BinaryFn::Mul => b.ins().imul(x, y),
            BinaryFn::Div => b.ins().fdiv(x, y),
            BinaryFn::Max | BinaryFn::Min => {
                let (real_cc, whole_cc) = match function {
                    BinaryFn::Max => (FloatCC::GreaterThan, IntCC::SignedGreaterThan),
                    _ => (FloatCC::LessThan, IntCC::SignedLessThan),
                };
                let mask = compare(b, real, real_cc, whole_cc, x, y);
                math::choose(b, mask, x, y)
            }
            BinaryFn::Pow => {
                let helper = math::binary_helper(function).expect("a helper");
                self.call_helper(helper, &[x, y], lanes)
            }
            BinaryFn::Less => compare(b, real, FloatCC::LessThan, IntCC::SignedLessThan, x, y),
            BinaryFn::LessEqual => {
                compare(b, real, FloatCC::LessThanOrEqual, IntCC::SignedLessThanOrEqual, x, y)
            }
            BinaryFn::Equal => compare(b, real, FloatCC::Equal, IntCC::Equal, x, y),
            BinaryFn::And => b.ins().band(x, y),
            BinaryFn::Or => b.ins().bor(x, y),
        }
    }

    fn cast(&mut self, from: DType, to: DType, x: Value, lanes: u32) -> Value {
        let b = &mut self.b;
        match (from, to) {
            _ if from == to => x,
            // What is read is `f32` by now.
            (DType::F16 | DType::BF16, DType::F32) => x,
            (DType::F32, DType::I32) => b.ins().fcvt_to_sint_sat(math::int(lanes), x),
            (DType::I32, DType::F32) => b.ins().fcvt_from_sint(math::float(lanes), x),
            (DType::Bool, DType::I32) => b.ins().ineg(x),
            (DType::Bool, _) => {
                let (one, zero) = (math::number(b, lanes, 1.0), math::number(b, lanes, 0.0));
                math::choose(b, x, one, zero)
            }
            (DType::I32, _) => {
                let zero = math::whole(b, lanes, 0);
                let result = b.ins().icmp(IntCC::NotEqual, x, zero);
                math::widen(b, result)
            }
            (_, _) => {
                let zero = math::number(b, lanes, 0.0);
                math::compare(b, FloatCC::NotEqual, x, zero)
            }
        }
    }

    /// Calls a function of `f32`s in the runtime, once for each lane.
    fn call_helper(&mut self, helper: &'static str, operands: &[Value], lanes: u32) -> Value {
        let mut signature = Signature::new(CallConv::SystemV);
        signature.params.extend(operands.iter().map(|_| AbiParam::new(F32)));
        signature.returns.push(AbiParam::new(F32));
        let signature = self.b.import_signature(signature);
        let address = self.word(&LoopWord::Helper(helper));
        let call = |scope: &mut Self, arguments: &[Value]| {
            let call = scope.b.ins().call_indirect(signature, address, arguments);
            scope.b.inst_results(call)[0]
        };
        if lanes == 1 {
            return call(self, operands);
        }
        let mut result = operands[0];
        for lane in 0..lanes as u8 {
            let lane_of = |b: &mut FunctionBuilder<'_>, &it: &Value| b.ins().extractlane(it, lane);
            let arguments: Vec<Value> =
                operands.iter().map(|it| lane_of(&mut self.b, it)).collect();
            let one = call(self, &arguments);
            result = self.b.ins().insertlane(result, one, lane);
        }
        result
    }

    /// The position that `index` stands for, counted from the origin of a window.
    fn iota(&mut self, axis: &Axis, index: Index, lanes: u32) -> Value {
        let origin =
            axis.as_atom().and_then(|it| self.module.axes.get(it.as_str())?.origin.clone());
        let mut first = index.first;
        if let Some(origin) = origin {
            let origin = self.size(&Axis::atom(origin));
            first = self.b.ins().iadd(first, origin);
        }
        let first = self.b.ins().ireduce(I32, first);
        let mut result = self.spread(first, lanes);
        if index.step != 0 {
            for lane in 1..lanes {
                let ahead = self.b.ins().iconst(I32, index.step * i64::from(lane));
                let one = self.b.ins().iadd(first, ahead);
                result = self.b.ins().insertlane(result, one, lane as u8);
            }
        }
        result
    }

    /// The place along a product of axes, the last of which varies fastest.
    fn join(&mut self, axes: &[Axis], index: &[Index]) -> Index {
        let mut joined = index[0];
        for (axis, index) in axes.iter().zip(index).skip(1) {
            let size = self.size(axis);
            let scaled = self.b.ins().imul(joined.first, size);
            // `is_vectorizable` has seen to it that lanes vary along the last axis, or that the
            // extents behind the axis along which they vary are fixed.
            let fixed = self.module.axes.fixed(axis).map_or(0, |it| it as i64);
            let first = self.b.ins().iadd(scaled, index.first);
            joined = Index { first, step: joined.step * fixed + index.step };
        }
        joined
    }

    /// The place along each of `axes`, from the place along their product.
    pub(super) fn divide(&mut self, axes: &[Axis], index: Index) -> Vec<Index> {
        let mut rest = index.first;
        let mut parts = Vec::new();
        for axis in axes.iter().skip(1).rev() {
            let size = self.size(axis);
            parts.push(Index::uniform(self.b.ins().urem(rest, size)));
            rest = self.b.ins().udiv(rest, size);
        }
        parts.push(Index::uniform(rest));
        parts.reverse();
        parts
    }

    /// Where a part of an axis begins.
    fn start(&mut self, whole: &Axis, after: &[Axis], last: bool, part: &Axis) -> Value {
        if last {
            let (whole, part) = (self.size(whole), self.size(part));
            return self.b.ins().isub(whole, part);
        }
        let mut start = self.int(0);
        for axis in after {
            let size = self.size(axis);
            start = self.b.ins().iadd(start, size);
        }
        start
    }

    fn shifted(&mut self, index: &[Index], at: usize, by: Value) -> Vec<Index> {
        let mut index = index.to_vec();
        index[at].first = self.b.ins().iadd(index[at].first, by);
        index
    }

    /// `index` with its place along `at` drawn into `0..size`, and whether it was there already.
    fn clamped(&mut self, index: &[Index], at: usize, size: Value) -> (Vec<Index>, Value) {
        let zero = self.int(0);
        let place = index[at].first;
        // As unsigned numbers, places before the first are beyond the last.
        let inside = self.b.ins().icmp(IntCC::UnsignedLessThan, place, size);
        let mut index = index.to_vec();
        index[at].first = self.b.ins().select(inside, place, zero);
        (index, math::widen(&mut self.b, inside))
    }

    fn pad(
        &mut self,
        pad: &ir::ops::Pad,
        operand: ir::Value,
        at: usize,
        index: &[Index],
        lanes: u32,
    ) -> Value {
        let start = self.start(&pad.into, &pad.after, pad.last, &pad.axis);
        let back = self.b.ins().ineg(start);
        let moved = self.shifted(index, at, back);
        let size = self.size(&pad.axis);
        let (index, inside) = self.clamped(&moved, at, size);
        let fill = self.constant(self.function.ty(operand).dtype, pad.value.0, lanes);
        self.if_inside(size, inside, fill, lanes, |scope| scope.element_of(operand, &index, lanes))
    }

    /// `element` where `inside` holds and `fill` elsewhere; nothing is read from an empty axis.
    fn if_inside(
        &mut self,
        size: Value,
        inside: Value,
        fill: Value,
        lanes: u32,
        element: impl FnOnce(&mut Self) -> Value,
    ) -> Value {
        let ty = self.b.func.dfg.value_type(fill);
        let [reads, after] = [(); 2].map(|()| self.b.create_block());
        let result = self.b.append_block_param(after, ty);
        self.b.ins().brif(size, reads, &[], after, &[fill.into()]);
        self.b.switch_to_block(reads);
        let read = self.in_new_block(element);
        let inside = self.spread(inside, lanes);
        let chosen = math::choose(&mut self.b, inside, read, fill);
        self.b.ins().jump(after, &[chosen.into()]);
        self.b.switch_to_block(after);
        result
    }

    fn concat(
        &mut self,
        operands: &[ir::Value],
        parts: &[Axis],
        at: usize,
        index: &[Index],
        lanes: u32,
    ) -> Value {
        let mut start = self.int(0);
        let mut result = None;
        for (&operand, part) in operands.iter().zip(parts) {
            let back = self.b.ins().ineg(start);
            let moved = self.shifted(index, at, back);
            let size = self.size(part);
            let (place, inside) = self.clamped(&moved, at, size);
            let dtype = self.function.ty(operand).dtype;
            let fill = result.unwrap_or_else(|| self.constant(dtype, 0.0, lanes));
            result = Some(self.if_inside(size, inside, fill, lanes, |scope| {
                scope.element_of(operand, &place, lanes)
            }));
            start = self.b.ins().iadd(start, size);
        }
        result.expect("a concatenation has parts")
    }

    fn gather(
        &mut self,
        node: &Node,
        axis: &Axis,
        axes: &[Axis],
        index: &[Index],
        lanes: u32,
    ) -> Value {
        let (table, rows) = (node.operands[0], node.operands[1]);
        let row_place = self.place(rows, axes, index, &[], &[]);
        let row = self.element_of(rows, &row_place, 1);
        let row = self.b.ins().sextend(I64, row);
        let at = self.function.ty(table).position(axis).expect("the table's axis");
        let along = [Index::uniform(row)];
        let place = self.place(table, axes, index, std::slice::from_ref(axis), &along);
        let size = self.size(axis);
        let (place, inside) = self.clamped(&place, at, size);
        let fill = self.constant(self.function.ty(table).dtype, 0.0, lanes);
        self.if_inside(size, inside, fill, lanes, |scope| scope.element_of(table, &place, lanes))
    }

    /// Each element of the table looks through all rows for those that are added to it.
    fn scatter_add(
        &mut self,
        node: &Node,
        scatter: &ir::ops::ScatterAdd,
        index: &[Index],
    ) -> Value {
        let (rows, wanted) = (node.operands[0], node.operands[1]);
        let at = scatter.into.iter().position(|it| *it == scatter.axis).expect("the table's axis");
        let all = &self.function.ty(rows).axes;
        let over: Vec<Axis> = all.iter().filter(|it| !scatter.into.contains(it)).cloned().collect();
        let zero = self.b.ins().f32const(0.0);
        let here = self.b.ins().ireduce(I32, index[at].first);
        self.fold(&over, &[zero], |scope, inner, sums| {
            let row_place = scope.place(wanted, &scatter.into, index, &over, inner);
            let row = scope.element_of(wanted, &row_place, 1);
            let place = scope.place(rows, &scatter.into, index, &over, inner);
            let x = scope.element_of(rows, &place, 1);
            let is_here = scope.b.ins().icmp(IntCC::Equal, row, here);
            let zero = scope.b.ins().f32const(0.0);
            let added = scope.b.ins().select(is_here, x, zero);
            vec![scope.b.ins().fadd(sums[0], added)]
        })[0]
    }

    fn reduce(
        &mut self,
        operand: ir::Value,
        reduce: &Reduce,
        axes: &[Axis],
        index: &[Index],
        lanes: u32,
    ) -> Value {
        let identity = math::number(&mut self.b, lanes, reduce.kind.identity() as f32);
        self.fold(&reduce.over, &[identity], |scope, inner, sums| {
            let place = scope.place(operand, axes, index, &reduce.over, inner);
            let x = scope.element_of(operand, &place, lanes);
            vec![scope.binary(reduce.kind.function(), DType::F32, sums[0], x, lanes)]
        })[0]
    }

    fn contract(
        &mut self,
        node: &Node,
        contract: &Contract,
        axes: &[Axis],
        index: &[Index],
        lanes: u32,
    ) -> Value {
        let (x, y) = (node.operands[0], node.operands[1]);
        let zero = math::number(&mut self.b, lanes, 0.0);
        self.fold(&contract.over, &[zero], |scope, inner, sums| {
            let factors = [x, y].map(|operand| {
                let place = scope.place(operand, axes, index, &contract.over, inner);
                if place.iter().all(|it| it.step == 0) {
                    let one = scope.element_of(operand, &place, 1);
                    scope.spread(one, lanes)
                } else {
                    scope.element_of(operand, &place, lanes)
                }
            });
            let product = scope.b.ins().fmul(factors[0], factors[1]);
            vec![scope.b.ins().fadd(sums[0], product)]
        })[0]
    }

    fn argmax(&mut self, operand: ir::Value, axis: &Axis, axes: &[Axis], index: &[Index]) -> Value {
        let lowest = self.b.ins().f32const(f32::NEG_INFINITY);
        let first = self.b.ins().iconst(I32, 0);
        let over = std::slice::from_ref(axis);
        self.fold(over, &[lowest, first], |scope, inner, best| {
            let place = scope.place(operand, axes, index, over, inner);
            let x = scope.element_of(operand, &place, 1);
            let better = scope.b.ins().fcmp(FloatCC::LessThan, best[0], x);
            let here = scope.b.ins().ireduce(I32, inner[0].first);
            let value = scope.b.ins().select(better, x, best[0]);
            vec![value, scope.b.ins().select(better, here, best[1])]
        })[1]
    }

    /// Loops over `axes`, handing `start` from step to step; what the last step gave.
    fn fold(
        &mut self,
        axes: &[Axis],
        start: &[Value],
        step: impl FnOnce(&mut Self, &[Index], &[Value]) -> Vec<Value>,
    ) -> Vec<Value> {
        self.fold_inner(axes, &[], start, Box::new(step))
    }

    fn fold_inner<'f>(
        &mut self,
        axes: &[Axis],
        outer: &[Index],
        start: &[Value],
        step: Box<FoldStep<'a, 'f>>,
    ) -> Vec<Value> {
        let Some((axis, inner)) = axes.split_first() else { return step(self, outer, start) };
        let size = self.size(axis);
        let [head, inside, after] = [(); 3].map(|()| self.b.create_block());
        let i = self.b.append_block_param(head, I64);
        let types: Vec<ClifType> = start.iter().map(|&it| self.b.func.dfg.value_type(it)).collect();
        let so_far: Vec<Value> =
            types.iter().map(|&it| self.b.append_block_param(head, it)).collect();
        let zero = self.int(0);
        let arguments = |i: Value, carried: &[Value]| -> Vec<BlockArg> {
            std::iter::once(i).chain(carried.iter().copied()).map(BlockArg::from).collect()
        };
        self.b.ins().jump(head, &arguments(zero, start));
        self.b.switch_to_block(head);
        let more = self.b.ins().icmp(IntCC::SignedLessThan, i, size);
        self.b.ins().brif(more, inside, &[], after, &[]);
        self.b.switch_to_block(inside);
        let outer = [outer, &[Index::uniform(i)]].concat();
        let next = self.in_new_block(|it| it.fold_inner(inner, &outer, &so_far, step));
        let one = self.int(1);
        let following = self.b.ins().iadd(i, one);
        self.b.ins().jump(head, &arguments(following, &next));
        self.b.switch_to_block(after);
        so_far
    }

    /// Whether four lanes of `value` can be computed at once, when they are `steps` apart along
    /// each axis.
    pub(super) fn is_vectorizable(&self, value: ir::Value, steps: &[i64]) -> bool {
        let Some(node) = self.function.maker(value) else { return true };
        let axes = &self.function.ty(value).axes;
        let at = |axis: &Axis| axes.iter().position(|it| it == axis).expect("a result axis");
        let aligned = |operand: &ir::Value| {
            let step =
                |axis: &Axis| axes.iter().position(|it| it == axis).map_or(0, |it| steps[it]);
            let inner: Vec<i64> = self.function.ty(*operand).axes.iter().map(step).collect();
            inner.iter().all(|it| *it == 0) || self.is_vectorizable(*operand, &inner)
        };
        match &node.op {
            Op::Split(it) => {
                let from = at(&it.into[0]);
                let range = from..from + it.into.len();
                let fixed = it.into.iter().all(|axis| self.module.axes.fixed(axis).is_some());
                let mut joined = 0;
                for (axis, i) in it.into.iter().zip(range.clone()) {
                    joined =
                        joined * self.module.axes.fixed(axis).map_or(0, |n| n as i64) + steps[i];
                }
                let varies = steps[range.clone()].iter().any(|it| *it != 0);
                let inner = replaced(steps, from, it.into.len(), &[joined]);
                (fixed || !varies) && self.is_vectorizable(node.operands[0], &inner)
            }
            Op::Merge(it) => {
                let from = at(&it.into);
                let inner = replaced(steps, from, 1, &vec![0; it.axes.len()]);
                steps[from] == 0 && self.is_vectorizable(node.operands[0], &inner)
            }
            Op::Rename(_) => self.is_vectorizable(node.operands[0], steps),
            Op::Slice(_) => self.is_vectorizable(node.operands[0], steps),
            Op::Pad(it) => {
                steps[at(&it.into)] == 0 && self.is_vectorizable(node.operands[0], steps)
            }
            Op::Concat(it) => {
                steps[at(&it.whole())] == 0
                    && node.operands.iter().all(|it| self.is_vectorizable(*it, steps))
            }
            Op::Gather(_) => {
                let rows = &self.function.ty(node.operands[1]).axes;
                let fixed_row = rows.iter().all(|axis| steps[at(axis)] == 0);
                fixed_row && aligned(&node.operands[0])
            }
            Op::ArgMax(_) | Op::ScatterAdd(_) => false,
            _ => node.operands.iter().all(aligned),
        }
    }
}

fn compare(
    b: &mut FunctionBuilder<'_>,
    real: bool,
    real_cc: FloatCC,
    whole_cc: IntCC,
    x: Value,
    y: Value,
) -> Value {
    if real {
        return math::compare(b, real_cc, x, y);
    }
    let result = b.ins().icmp(whole_cc, x, y);
    math::widen(b, result)
}

/// `list` with `n` items at `at` replaced.
fn replaced<T: Copy>(list: &[T], at: usize, n: usize, by: &[T]) -> Vec<T> {
    [&list[..at], by, &list[at + n..]].concat()
}
