//! Numbers of 16 bits: loops read them, compute in `f32` alone, and round as they write.

use cranelift_codegen::ir::{
    InstBuilder, Value,
    condcodes::IntCC,
    types::{I32, I64X2},
};
use cranelift_frontend::FunctionBuilder;
use ir::{DType, Function, Op};

use super::math;

/// Whether `dtype` is one of 16 bits.
pub(super) fn is_half(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16)
}

/// Bytes of an element of type `dtype`.
pub(super) fn element(dtype: DType) -> i64 {
    if is_half(dtype) { 2 } else { 4 }
}

/// Whether `value` lies in memory as 16 bits, or is a view of what does.
pub(super) fn is_read(function: &Function, value: ir::Value) -> bool {
    let is_output = function.outputs.iter().any(|it| it.value == value);
    let is_view = function.maker(value).is_none_or(|it| {
        matches!(
            it.op,
            Op::Rename(_) | Op::Split(_) | Op::Merge(_) | Op::Transpose(_) | Op::Slice(_)
        )
    });
    is_half(function.ty(value).dtype) && is_view && !is_output
}

/// What `value` rounds to 16 bits, if it is the output of `function` and does.
pub(super) fn written(function: &Function, value: ir::Value) -> Option<ir::Value> {
    let is_output = function.outputs.iter().all(|it| it.value == value);
    let node = function.maker(value).filter(|it| is_output && matches!(it.op, Op::Cast(_)))?;
    let rounds = is_half(function.ty(value).dtype);
    let wide = node.operands[0];
    (rounds && function.ty(wide).dtype == DType::F32).then_some(wide)
}

/// Rounds `lanes` of `f32` to the nearest, ties to even, and writes them at `address`.
pub(super) fn store(
    b: &mut FunctionBuilder<'_>,
    dtype: DType,
    value: Value,
    address: Value,
    lanes: u32,
) {
    let flags = math::vector_flags();
    let word = math::bits(b, math::int(lanes), value);
    let half = match dtype {
        DType::BF16 => to_bf16(b, word, lanes),
        _ => to_f16(b, word, lanes),
    };
    if lanes == 1 {
        b.ins().istore16(flags, half, address, 0);
    } else {
        let packed = b.ins().unarrow(half, half);
        let words = math::bits(b, I64X2, packed);
        let four = b.ins().extractlane(words, 0);
        b.ins().store(flags, four, address, 0);
    }
}

/// The bits of the `bf16` nearest to the `f32` with the bits `word`.
fn to_bf16(b: &mut FunctionBuilder<'_>, word: Value, lanes: u32) -> Value {
    let places = b.ins().iconst(I32, 16);
    let upper = b.ins().ushr(word, places);
    let odd = lowest_bit(b, upper, lanes);
    let below_half = math::whole(b, lanes, 0x7fff);
    let rounded = b.ins().iadd(word, below_half);
    let rounded = b.ins().iadd(rounded, odd);
    // What is no number stays none when its lower half is gone.
    let quiet_bit = math::whole(b, lanes, 0x0040_0000);
    let quiet = b.ins().bor(word, quiet_bit);
    let magnitude = magnitude(b, word, lanes);
    let is_nan = is_more(b, magnitude, 0x7f80_0000, lanes);
    let word = math::choose(b, is_nan, quiet, rounded);
    b.ins().ushr(word, places)
}

/// The bits of the `f16` nearest to the `f32` with the bits `word`. A number below the normal ones
/// is rounded by the addition to one whose last place is worth as much as theirs.
fn to_f16(b: &mut FunctionBuilder<'_>, word: Value, lanes: u32) -> Value {
    let magnitude = magnitude(b, word, lanes);
    let places = b.ins().iconst(I32, 13);
    let last = b.ins().ushr(magnitude, places);
    let odd = lowest_bit(b, last, lanes);
    // The exponent begins 112 lower; to it the greatest number below half of the last place.
    let rebased = math::whole(b, lanes, 0xfff - (112 << 23));
    let normal = b.ins().iadd(magnitude, rebased);
    let normal = b.ins().iadd(normal, odd);
    let normal = b.ins().ushr(normal, places);
    let half = math::number(b, lanes, 0.5);
    let number = math::bits(b, math::float(lanes), magnitude);
    let small = b.ins().fadd(number, half);
    let small = math::bits(b, math::int(lanes), small);
    let half = math::bits(b, math::int(lanes), half);
    let small = b.ins().isub(small, half);
    let is_normal = is_more(b, magnitude, (113 << 23) - 1, lanes);
    let finite = math::choose(b, is_normal, normal, small);
    let (infinity, nan) = (math::whole(b, lanes, 0x7c00), math::whole(b, lanes, 0x7e00));
    let is_nan = is_more(b, magnitude, 0x7f80_0000, lanes);
    let special = math::choose(b, is_nan, nan, infinity);
    let is_large = is_more(b, magnitude, (143 << 23) - 1, lanes);
    let result = math::choose(b, is_large, special, finite);
    let sign = b.ins().bxor(word, magnitude);
    let places = b.ins().iconst(I32, 16);
    let sign = b.ins().ushr(sign, places);
    b.ins().bor(result, sign)
}

fn magnitude(b: &mut FunctionBuilder<'_>, word: Value, lanes: u32) -> Value {
    let mask = math::whole(b, lanes, 0x7fff_ffff);
    b.ins().band(word, mask)
}

fn lowest_bit(b: &mut FunctionBuilder<'_>, word: Value, lanes: u32) -> Value {
    let one = math::whole(b, lanes, 1);
    b.ins().band(word, one)
}

/// Whether a magnitude is more than `limit`, as a mask.
fn is_more(b: &mut FunctionBuilder<'_>, magnitude: Value, limit: i32, lanes: u32) -> Value {
    let limit = math::whole(b, lanes, limit);
    let result = b.ins().icmp(IntCC::SignedGreaterThan, magnitude, limit);
    math::widen(b, result)
}

/// `lanes` neighbours at `address`.
pub(super) fn load(b: &mut FunctionBuilder<'_>, dtype: DType, address: Value, lanes: u32) -> Value {
    let flags = math::vector_flags();
    let bits = match lanes {
        1 => b.ins().uload16(I32, flags, address, 0),
        _ => b.ins().uload16x4(flags, address, 0),
    };
    match dtype {
        DType::BF16 => shifted(b, bits, 16, lanes),
        _ => from_f16(b, bits, lanes),
    }
}

/// The bits of an `f16` as the `f32` that it stands for. Its exponent begins 112 lower; numbers
/// below the normal ones come right as they are multiplied.
fn from_f16(b: &mut FunctionBuilder<'_>, half: Value, lanes: u32) -> Value {
    let magnitude_bits = math::whole(b, lanes, 0x7fff);
    let magnitude = b.ins().band(half, magnitude_bits);
    let number = shifted(b, magnitude, 13, lanes);
    let scale = math::number(b, lanes, 2f32.powi(112));
    let finite = b.ins().fmul(number, scale);
    let infinity = math::whole(b, lanes, 0x7c00);
    let is_finite = b.ins().icmp(IntCC::SignedLessThan, magnitude, infinity);
    let is_finite = math::widen(b, is_finite);
    let number = math::bits(b, math::int(lanes), number);
    let exponent = math::whole(b, lanes, 0x7f80_0000);
    let special = b.ins().bor(number, exponent);
    let finite = math::bits(b, math::int(lanes), finite);
    let magnitude = math::choose(b, is_finite, finite, special);
    let sign_bit = math::whole(b, lanes, 0x8000);
    let sign = b.ins().band(half, sign_bit);
    let places = b.ins().iconst(I32, 16);
    let sign = b.ins().ishl(sign, places);
    let number = b.ins().bor(magnitude, sign);
    math::bits(b, math::float(lanes), number)
}

/// `bits` moved up, as an `f32`.
fn shifted(b: &mut FunctionBuilder<'_>, bits: Value, by: i64, lanes: u32) -> Value {
    let places = b.ins().iconst(I32, by);
    let moved = b.ins().ishl(bits, places);
    math::bits(b, math::float(lanes), moved)
}
