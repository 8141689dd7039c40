//! Functions that the processor lacks.
//!
//! `exp`, `tanh` and `erf` are emitted in line, four lanes at a time, since activations need them
//! for every element. The others call the runtime, lane by lane.

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
        UnaryFn::Neg
        | UnaryFn::Abs
        | UnaryFn::Exp
        | UnaryFn::Sqrt
        | UnaryFn::Rsqrt
        | UnaryFn::Floor
        | UnaryFn::Tanh
        | UnaryFn::Erf
        | UnaryFn::Not => None,
    }
}

/// The same for functions of two numbers.
pub(crate) fn binary_helper(function: BinaryFn) -> Option<&'static str> {
    (function == BinaryFn::Pow).then_some("math.pow")
}

/// What arithmetic can be emitted.
#[derive(Clone, Copy)]
pub(crate) struct Vector {
    /// How many numbers at once.
    pub(crate) lanes: u32,
    /// Whether `x y + z` is one instruction, which rounds once.
    pub(crate) fused: bool,
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
pub(crate) fn exp(b: &mut FunctionBuilder<'_>, vector: Vector, x: Value) -> Value {
    /// The Taylor series of e^r.
    const SERIES: [f32; 8] =
        [1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let lanes = vector.lanes;
    let [low, high] = [-104.0, 89.0].map(|it| number(b, lanes, it));
    let x = within(b, x, low, high);
    let log2e = number(b, lanes, std::f32::consts::LOG2_E);
    let scaled = b.ins().fmul(x, log2e);
    let n = b.ins().nearest(scaled);
    let mut r = x;
    for part in [LN2_HIGH, LN2_LOW] {
        let part = number(b, lanes, -part);
        r = multiply_add(b, vector, n, part, r);
    }
    let sum = polynomial(b, vector, &SERIES, r);
    let n = b.ins().fcvt_to_sint_sat(int(lanes), n);
    let one = b.ins().iconst(I32, 1);
    let half = b.ins().sshr(n, one);
    let rest = b.ins().isub(n, half);
    let first = power_of_two(b, lanes, half);
    let second = power_of_two(b, lanes, rest);
    let result = b.ins().fmul(sum, first);
    b.ins().fmul(result, second)
}

/// The hyperbolic tangent, within two units in the last place: near zero an odd polynomial, beyond
/// `1 - 2 / (e^2x + 1)`. The coefficients are fitted for the least relative error.
pub(crate) fn tanh(b: &mut FunctionBuilder<'_>, vector: Vector, x: Value) -> Value {
    let lanes = vector.lanes;
    const NEAR: [f32; 5] =
        [-0.006_653_567_3, 0.021_301_7, -0.053_899_97, 0.133_329_7, -0.333_333_28];
    let size = b.ins().fabs(x);
    let square = b.ins().fmul(x, x);
    let slope = polynomial(b, vector, &NEAR, square);
    let slope = b.ins().fmul(slope, square);
    let near = multiply_add(b, vector, x, slope, x);
    let twice = b.ins().fadd(size, size);
    let power = exp(b, vector, twice);
    let (one, two) = (number(b, lanes, 1.0), number(b, lanes, 2.0));
    let sum = b.ins().fadd(power, one);
    let rest = b.ins().fdiv(two, sum);
    let far = b.ins().fsub(one, rest);
    joined(b, lanes, x, near, far)
}

/// The error function, within ten units in the last place: an odd polynomial over an even one. The
/// coefficients are fitted for the least relative error up to `END`, where the result is 1.
pub(crate) fn erf(b: &mut FunctionBuilder<'_>, vector: Vector, x: Value) -> Value {
    const END: f32 = 3.927;
    const OVER: [f32; 6] = [
        2.050_083_4e-6,
        2.848_831_6e-4,
        0.003_765_636_6,
        0.052_748_784,
        0.190_406_93,
        std::f32::consts::FRAC_2_SQRT_PI,
    ];
    const UNDER: [f32; 6] =
        [3.809_17e-5, 0.001_162_540_3, 0.014_969_256, 0.114_109_3, 0.502_076_5, 1.0];
    let [low, high] = [-END, END].map(|it| number(b, vector.lanes, it));
    let x = within(b, x, low, high);
    let square = b.ins().fmul(x, x);
    let over = polynomial(b, vector, &OVER, square);
    let under = polynomial(b, vector, &UNDER, square);
    let over = b.ins().fmul(x, over);
    b.ins().fdiv(over, under)
}

/// A polynomial of `x`, the coefficient of the highest power first.
fn polynomial(
    b: &mut FunctionBuilder<'_>,
    vector: Vector,
    coefficients: &[f32],
    x: Value,
) -> Value {
    let mut sum = number(b, vector.lanes, coefficients[0]);
    for &coefficient in &coefficients[1..] {
        let coefficient = number(b, vector.lanes, coefficient);
        sum = multiply_add(b, vector, sum, x, coefficient);
    }
    sum
}

/// `x * y + z`.
fn multiply_add(
    b: &mut FunctionBuilder<'_>,
    vector: Vector,
    x: Value,
    y: Value,
    z: Value,
) -> Value {
    if vector.fused {
        return b.ins().fma(x, y, z);
    }
    let product = b.ins().fmul(x, y);
    b.ins().fadd(product, z)
}

/// `near` where `x` is nearer to zero than 0.5, elsewhere `far`, which is positive, with the sign
/// of `x`.
fn joined(b: &mut FunctionBuilder<'_>, lanes: u32, x: Value, near: Value, far: Value) -> Value {
    let [x_bits, far] = [x, far].map(|it| bits(b, int(lanes), it));
    let sign = whole(b, lanes, i32::MIN);
    let sign = b.ins().band(x_bits, sign);
    let far = b.ins().bor(far, sign);
    let far = bits(b, float(lanes), far);
    let size = b.ins().fabs(x);
    let border = number(b, lanes, 0.5);
    let is_near = compare(b, FloatCC::LessThan, size, border);
    choose(b, is_near, near, far)
}

/// `x`, but `low` where it is below and `high` where it is above.
fn within(b: &mut FunctionBuilder<'_>, x: Value, low: Value, high: Value) -> Value {
    let above = compare(b, FloatCC::GreaterThan, x, high);
    let x = choose(b, above, high, x);
    let below = compare(b, FloatCC::LessThan, x, low);
    choose(b, below, low, x)
}

/// 2^n for an integer n of moderate size.
fn power_of_two(b: &mut FunctionBuilder<'_>, lanes: u32, n: Value) -> Value {
    let bias = whole(b, lanes, 127);
    let biased = b.ins().iadd(n, bias);
    let mantissa_bits = b.ins().iconst(I32, 23);
    let shifted = b.ins().ishl(biased, mantissa_bits);
    bits(b, float(lanes), shifted)
}
