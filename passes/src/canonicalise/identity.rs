//! Ops that say nothing, or say it twice.

use ir::{
    DType, Function, Op, Value,
    ops::{BinaryFn, Rename, Transpose, UnaryFn},
};

/// The value that `op` gives back, or that an op and its inverse give back.
pub(super) fn operand_given_back(f: &Function, op: &Op, operands: &[Value]) -> Option<Value> {
    let x = *operands.first()?;
    let same = match op {
        Op::Rename(it) => it.axis == it.into,
        Op::Split(it) => it.into == [it.axis.clone()],
        Op::Merge(it) => it.axes == [it.into.clone()],
        Op::Slice(it) => it.axis == it.into,
        Op::Pad(it) => it.axis == it.into,
        Op::Transpose(it) => it.to == f.ty(x).axes,
        Op::Cast(it) => it.dtype == f.ty(x).dtype,
        Op::Concat(it) => it.parts.len() == 1,
        Op::Binary(it) => return of_binary(f, it.function, x, operands[1]),
        Op::Select(_) => return of_select(f, x, operands[1], operands[2]),
        _ => false,
    };
    if same { Some(x) } else { undone(f, op, x) }
}

/// What `op` makes of `x`, which undoes it.
fn undone(f: &Function, op: &Op, x: Value) -> Option<Value> {
    let inner = f.maker(x)?;
    let original = *inner.operands.first()?;
    let undoes = match (op, &inner.op) {
        (Op::Rename(outer), Op::Rename(inner)) => {
            outer.into == inner.axis && outer.axis == inner.into
        }
        (Op::Split(outer), Op::Merge(inner)) => {
            outer.into == inner.axes && outer.axis == inner.into
        }
        (Op::Merge(outer), Op::Split(inner)) => {
            outer.axes == inner.into && outer.into == inner.axis
        }
        (Op::Cast(outer), Op::Cast(inner)) => {
            let stored = f.ty(original).dtype;
            outer.dtype == stored && holds(inner.dtype, stored)
        }
        (Op::Unary(outer), Op::Unary(inner)) => {
            outer == inner && matches!(outer.function, UnaryFn::Neg | UnaryFn::Not)
        }
        _ => false,
    };
    undoes.then_some(original)
}

/// Whether every number of type `narrow` is one of type `wide`.
fn holds(wide: DType, narrow: DType) -> bool {
    match wide {
        DType::F64 => narrow.is_float(),
        DType::F32 => narrow.is_float() && narrow != DType::F64,
        _ => wide == narrow,
    }
}

fn of_binary(f: &Function, function: BinaryFn, x: Value, y: Value) -> Option<Value> {
    let (left, right) = (number(f, x), number(f, y));
    let is =
        |value: Option<f64>, wanted: f64| value.is_some_and(|it| it.to_bits() == wanted.to_bits());
    // The zero that leaves every number alone is -0 in a sum.
    let zero = if f.ty(x).dtype.is_float() { -0.0 } else { 0.0 };
    match function {
        BinaryFn::Mul if is(right, 1.0) => Some(x),
        BinaryFn::Mul if is(left, 1.0) => Some(y),
        BinaryFn::Div | BinaryFn::Pow if is(right, 1.0) => Some(x),
        BinaryFn::Add if is(right, zero) => Some(x),
        BinaryFn::Add if is(left, zero) => Some(y),
        BinaryFn::Sub if is(right, 0.0) => Some(x),
        BinaryFn::Max | BinaryFn::Min | BinaryFn::And | BinaryFn::Or if x == y => Some(x),
        BinaryFn::And if is(right, 1.0) => Some(x),
        BinaryFn::And if is(left, 1.0) => Some(y),
        BinaryFn::Or if is(right, 0.0) => Some(x),
        BinaryFn::Or if is(left, 0.0) => Some(y),
        _ => None,
    }
}

fn of_select(f: &Function, condition: Value, x: Value, y: Value) -> Option<Value> {
    match number(f, condition) {
        _ if x == y => Some(x),
        Some(it) => Some(if it == 0.0 { y } else { x }),
        None => None,
    }
}

/// The number that every element of `value` is.
fn number(f: &Function, value: Value) -> Option<f64> {
    match &f.maker(value)?.op {
        Op::Constant(it) if it.values.len() == 1 => Some(it.dtype.round(it.values[0].0)),
        _ => None,
    }
}

/// An op that does what `op` and the one before it do together.
pub(super) fn shorter(f: &Function, op: &Op, operands: &[Value]) -> Option<(Op, Vec<Value>)> {
    let inner = operands.iter().map(|&it| f.maker(it));
    let first = inner.clone().next()?;
    match (op, first.map(|it| (&it.op, it.operands.as_slice()))) {
        (Op::Rename(outer), Some((Op::Rename(inner), &[x]))) if inner.into == outer.axis => {
            Some((Rename { axis: inner.axis.clone(), into: outer.into.clone() }.into(), vec![x]))
        }
        (Op::Transpose(outer), Some((Op::Transpose(_), &[x]))) => {
            Some((Transpose { to: outer.to.clone() }.into(), vec![x]))
        }
        // These read storage as the wider type that they sum in.
        (Op::Contract(_) | Op::Gather(_), _) => {
            let stored: Vec<Value> = operands.iter().map(|&it| before_widening(f, it)).collect();
            (stored != operands).then(|| (op.clone(), stored))
        }
        _ => None,
    }
}

/// What `value` was before a cast that changes no number.
fn before_widening(f: &Function, value: Value) -> Value {
    let cast = f.maker(value).and_then(|it| match &it.op {
        Op::Cast(cast) => Some((cast.dtype, it.operands[0])),
        _ => None,
    });
    match cast {
        Some((dtype, x)) if f.ty(x).dtype.is_float() && holds(dtype, f.ty(x).dtype) => x,
        _ => value,
    }
}
