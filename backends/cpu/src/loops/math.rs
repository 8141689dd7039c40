//! Functions that the processor lacks.
//!
//! `exp` is emitted in line, four lanes at a time, since activations need it for every element. The
//! others call the runtime, lane by lane.

use cranelift_codegen::ir::{
    InstBuilder, MemFlagsData, Type, Value,
    condcodes::FloatCC,
    types::{F32, I32},
};
use cranelift_frontend::FunctionBuilder;
use ir::ops::{BinaryFn, UnaryFn};

/// The runtime function that computes `function`, if it is not emitted in line.
pub(crate) fn unary_helper(function: UnaryFn) -> Option<&'static str> {
    match function {
        UnaryFn::Log => Some("math.log"),
        UnaryFn::Sin => Some("math.sin"),
        UnaryFn::Cos => Some("math.cos"),
        UnaryFn::Tanh => Some("math.tanh"),
        UnaryFn::Erf => Some("math.erf"),
        UnaryFn::Neg
        | UnaryFn::Abs
        | UnaryFn::Exp
        | UnaryFn::Sqrt
        | UnaryFn::Rsqrt
        | UnaryFn::Floor
        | UnaryFn::Not => None,
    }
}

/// The same for functions of two numbers.
pub(crate) fn binary_helper(function: BinaryFn) -> Option<&'static str> {
    (function == BinaryFn::Pow).then_some("math.pow")
}

/// The type of an `f32` or its vector, for `lanes` lanes.
pub(crate) fn float(lanes: u32) -> Type {
    if lanes == 1 { F32 } else { F32.by(lanes).expect("a vector type") }
}

/// The type of an `i32` or its vector, for `lanes` lanes.
pub(crate) fn int(lanes: u32) -> Type {
    if lanes == 1 { I32 } else { I32.by(lanes).expect("a vector type") }
}

/// What is known of the address of a vector: it is valid, but a multiple of 4 alone. With `trusted`
/// loads become operands of SSE instructions, which want a multiple of 16.
pub(crate) fn vector_flags() -> MemFlagsData {
    MemFlagsData::new().with_notrap()
}

/// `value` in every lane.
pub(crate) fn number(b: &mut FunctionBuilder<'_>, lanes: u32, value: f32) -> Value {
    let scalar = b.ins().f32const(value);
    if lanes == 1 { scalar } else { b.ins().splat(float(lanes), scalar) }
}

/// `value` in every lane.
pub(crate) fn whole(b: &mut FunctionBuilder<'_>, lanes: u32, value: i32) -> Value {
    let scalar = b.ins().iconst(I32, i64::from(value));
    if lanes == 1 { scalar } else { b.ins().splat(int(lanes), scalar) }
}

/// Reads the bits of `value` as another type of the same width.
pub(crate) fn bits(b: &mut FunctionBuilder<'_>, ty: Type, value: Value) -> Value {
    if b.func.dfg.value_type(value) == ty {
        return value;
    }
    let flags = MemFlagsData::new().with_endianness(cranelift_codegen::ir::Endianness::Little);
    b.ins().bitcast(ty, flags, value)
}

/// `x` where `mask` has all bits set, `y` where it has none.
pub(crate) fn choose(b: &mut FunctionBuilder<'_>, mask: Value, x: Value, y: Value) -> Value {
    let ty = b.func.dfg.value_type(x);
    if ty.is_vector() {
        let mask = bits(b, ty, mask);
        b.ins().bitselect(mask, x, y)
    } else {
        b.ins().select(mask, x, y)
    }
}

/// A comparison as a mask: all bits or none.
pub(crate) fn compare(b: &mut FunctionBuilder<'_>, cc: FloatCC, x: Value, y: Value) -> Value {
    let result = b.ins().fcmp(cc, x, y);
    widen(b, result)
}

/// The mask of a comparison's result.
pub(crate) fn widen(b: &mut FunctionBuilder<'_>, result: Value) -> Value {
    if b.func.dfg.value_type(result).is_vector() {
        return result;
    }
    let one = b.ins().uextend(I32, result);
    b.ins().ineg(one)
}

/// e to the power `x`, within two units in the last place.
///
/// `x = n ln 2 + r` with `|r| <= ln 2 / 2`; e^r by its Taylor series to the seventh power, whose
/// rest is below 2^-27; 2^n in two factors, so that results near the ends of the range are right.
pub(crate) fn exp(b: &mut FunctionBuilder<'_>, lanes: u32, x: Value) -> Value {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let (low, high) = (number(b, lanes, -104.0), number(b, lanes, 89.0));
    let above = compare(b, FloatCC::GreaterThan, x, high);
    let x = choose(b, above, high, x);
    let below = compare(b, FloatCC::LessThan, x, low);
    let x = choose(b, below, low, x);
    let log2e = number(b, lanes, std::f32::consts::LOG2_E);
    let scaled = b.ins().fmul(x, log2e);
    let n = b.ins().nearest(scaled);
    let mut r = x;
    for part in [LN2_HIGH, LN2_LOW] {
        let part = number(b, lanes, part);
        let product = b.ins().fmul(n, part);
        r = b.ins().fsub(r, product);
    }
    let mut sum = number(b, lanes, 1.0 / 5040.0);
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        let product = b.ins().fmul(sum, r);
        let coefficient = number(b, lanes, coefficient);
        sum = b.ins().fadd(product, coefficient);
    }
    let n = b.ins().fcvt_to_sint_sat(int(lanes), n);
    let one = b.ins().iconst(I32, 1);
    let half = b.ins().sshr(n, one);
    let rest = b.ins().isub(n, half);
    let first = power_of_two(b, lanes, half);
    let second = power_of_two(b, lanes, rest);
    let result = b.ins().fmul(sum, first);
    b.ins().fmul(result, second)
}

/// 2^n for an integer n of moderate size.
fn power_of_two(b: &mut FunctionBuilder<'_>, lanes: u32, n: Value) -> Value {
    let bias = whole(b, lanes, 127);
    let biased = b.ins().iadd(n, bias);
    let mantissa_bits = b.ins().iconst(I32, 23);
    let shifted = b.ins().ishl(biased, mantissa_bits);
    bits(b, float(lanes), shifted)
}
