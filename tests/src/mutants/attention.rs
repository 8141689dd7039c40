//! Wrong attention: masks, rotations, heads, keys and values.

use ir::{
    Axes, Axis, Module, Op, Value,
    ops::{
        BinaryFn::{Add, Less, LessEqual, Mul, Sub},
        Rename, Split, Transpose, UnaryFn,
    },
};

use super::{At, Mistake, Mutant, by, rule};

/// The axis of new positions as if nothing came before it.
fn without_past(module: &Module) -> Option<Module> {
    let mut axes = Axes::default();
    for (name, decl) in module.axes.iter() {
        axes.declare(name, decl.extent.clone());
    }
    (axes != module.axes).then(|| Module { axes, functions: module.functions.clone() })
}

/// The second of two heads in a group is not the first of the next group.
pub(super) fn heads_taken_flat(at: &mut At<'_>) -> Option<Vec<Value>> {
    let Op::Split(it) = at.op else { return None };
    let [k, g, rest @ ..] = it.into.as_slice() else { return None };
    let other = [&[g.clone(), k.clone()], rest].concat();
    let axis = Axis::product(&other)?;
    let types = at.f.ty(at.x[0]).axes.iter().map(|axis| match *axis == it.axis {
        true => it.into.clone(),
        false => vec![axis.clone()],
    });
    let to = Transpose { to: types.collect::<Vec<_>>().concat() };
    let renamed = at.put(Rename { axis: it.axis.clone(), into: axis.clone() }, at.x)?;
    let split = at.put(Split { axis, into: other }, &renamed)?;
    at.put(to, &split)
}

/// Gate and up stand beside each other, and are of one type.
fn is_gated(name: &str) -> bool {
    name.ends_with("::mlp")
}

/// See the module.
pub(super) const ALL: &[Mutant] = &[
    rule("mask flipped", |at| if at.is(LessEqual) { at.swapped() } else { None }),
    rule("mask hides the position itself", |at| {
        if at.is(LessEqual) { at.binary(Less, at.x[0], at.x[1]) } else { None }
    }),
    rule("window longer by one", |at| {
        at.number(*at.x.get(1)?)?;
        if at.is(Less) { at.binary(LessEqual, at.x[0], at.x[1]) } else { None }
    }),
    rule("rotation the other way", |at| {
        let is_product = |it: &Value| at.maker(*it).is_some_and(|it| it.op == Op::binary(Mul));
        let rotates = at.is(Sub) && at.x.iter().all(is_product);
        if rotates { at.binary(Add, at.x[0], at.x[1]) } else { None }
    }),
    rule("sine for cosine", |at| match at.op.as_unary() {
        Some(UnaryFn::Cos) => at.put(Op::unary(UnaryFn::Sin), at.x),
        _ => None,
    }),
    rule("halves of a head swapped", |at| match at.op {
        Op::Concat(it) if it.parts.len() == 2 && it.parts[0] == it.parts[1] => at.swapped(),
        _ => None,
    }),
    rule("heads of groups taken flat", heads_taken_flat),
    by(
        "inline",
        "",
        rule("keys and values swapped", |at| {
            let callee = at.scope.function(at.op.callee()?.as_str())?;
            let origin = callee.origin.as_ref()?;
            let same = 2 < at.x.len() && at.f.ty(at.x[1]) == at.f.ty(at.x[2]);
            if !origin.function.ends_with("attention") || !same {
                return None;
            }
            let mut operands = at.x.to_vec();
            operands.swap(1, 2);
            at.put(at.op.clone(), &operands)
        }),
    ),
    rule("gate and up swapped", |at| {
        let callee = at.scope.function(at.op.callee()?.as_str())?;
        let place = |name: &str| callee.params.iter().position(|it| it.name == *name);
        let (gate, up) = (place("gate")?, place("up")?);
        if !is_gated(&callee.origin.as_ref()?.function) {
            return None;
        }
        let mut operands = at.x.to_vec();
        operands.swap(gate, up);
        at.put(at.op.clone(), &operands)
    }),
    Mutant {
        name: "positions begin anew",
        of: "incremental",
        before: "",
        mistake: Mistake::Whole(without_past),
    },
];
