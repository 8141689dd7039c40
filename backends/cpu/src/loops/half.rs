//! Numbers of 16 bits as `f32`: loops read them, and compute in `f32` alone.

use cranelift_codegen::ir::{InstBuilder, Value, condcodes::IntCC, types::I32};
use cranelift_frontend::FunctionBuilder;
use ir::{DType, Function, Op};

use super::math;

/// Whether `dtype` is one of 16 bits.
pub(super) fn is_half(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16)
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
