//! Wrong places: slices, indices, axes that are as long as others.

use ir::{
    Axis, DType, Op,
    ops::{
        BinaryFn::{Add, Min, Mul},
        Constant, Rename, Slice, Transpose,
    },
};

use super::{Mutant, by, rule};

/// See the module.
pub(super) const ALL: &[Mutant] = &[
    // Two slices of one value are not equal because they are equally long.
    rule("slice from the beginning", |at| match at.op {
        Op::Slice(it) if !it.after.is_empty() => {
            at.put(Slice { after: Vec::new(), ..it.clone() }, at.x)
        }
        _ => None,
    }),
    by(
        "tail",
        "",
        rule("first rows for last", |at| match at.op {
            Op::Slice(it) if it.last => at.put(Slice { last: false, ..it.clone() }, at.x),
            _ => None,
        }),
    ),
    rule("index clipped", |at| match at.op {
        Op::Gather(_) => {
            let one = at.f.add(at.scope, Constant::scalar(DType::I32, 1.0), &[]);
            let clipped = at.binary(Min, at.x[1], one)?;
            at.put(at.op.clone(), &[at.x[0], clipped[0]])
        }
        _ => None,
    }),
    rule("position off by one", |at| match at.op {
        Op::Cast(_) if at.maker(at.x[0]).is_some_and(|it| matches!(it.op, Op::Iota(_))) => {
            let one = at.f.add(at.scope, Constant::scalar(DType::I32, 1.0), &[]);
            let next = at.binary(Add, at.x[0], one)?;
            at.put(at.op.clone(), &next)
        }
        _ => None,
    }),
    rule("parts of a whole swapped", |at| match at.op {
        Op::Concat(it) if it.parts.len() == 2 => {
            let same = at.f.ty(at.x[0]) == at.f.ty(at.x[1]);
            if same { at.swapped() } else { None }
        }
        _ => None,
    }),
    // Two axes of one length: a square matrix.
    rule("vector along the other axis", |at| {
        let (matrix, vector) = (at.f.ty(*at.x.first()?).clone(), at.f.ty(*at.x.get(1)?).clone());
        let ([rows, columns], [along]) = (matrix.axes.as_slice(), vector.axes.as_slice()) else {
            return None;
        };
        let length = |it: &Axis| at.scope.axes.fixed(it);
        if !at.is(Mul) || along != columns || length(rows)? != length(columns)? {
            return None;
        }
        let turned = Rename { axis: along.clone(), into: rows.clone() };
        let turned = at.put(turned, &at.x[1..])?;
        at.binary(Mul, at.x[0], turned[0])
    }),
    rule("square matrix not transposed", |at| {
        let Op::Transpose(it) = at.op else { return None };
        let from = at.f.ty(at.x[0]).axes.clone();
        let [a, b] = from.as_slice() else { return None };
        let lengths = [a, b].map(|it| at.scope.axes.fixed(it));
        if lengths[0]? != lengths[1]? || it.to != [b.clone(), a.clone()] {
            return None;
        }
        let between = Axis::atom("Between");
        at.scope.axes.get("Between")?;
        let first = at.put(Rename { axis: a.clone(), into: between.clone() }, at.x)?;
        let second = at.put(Rename { axis: b.clone(), into: a.clone() }, &first)?;
        let third = at.put(Rename { axis: between, into: b.clone() }, &second)?;
        at.put(Transpose { to: it.to.clone() }, &third)
    }),
];
