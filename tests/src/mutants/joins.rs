//! Products joined wrongly, and loops turned wrongly.

use ir::{
    Axis, Op, Value,
    ops::{
        BinaryFn::{Add, Mul},
        Scan, Slice,
    },
};

use super::{At, Mutant, by, rule};

/// A mistake of `join`.
const fn join(mutant: Mutant) -> Mutant {
    by("join", "incremental,inline", mutant)
}

/// A mistake of `rotate`.
const fn rotate(mutant: Mutant) -> Mutant {
    by("rotate", "incremental", mutant)
}

/// What lies end to end in the weight of a joined product.
fn parts(at: &At<'_>, product: Value) -> Option<Vec<Axis>> {
    let weight = *at.maker(product)?.operands.get(1)?;
    match at.maker(weight)?.op {
        Op::Concat(it) => Some(it.parts),
        _ => None,
    }
}

/// Two operands of the node, as many as it has `among`, that are unlike and of one type.
fn two_alike(at: &At<'_>, among: std::ops::Range<usize>) -> Option<(usize, usize)> {
    let pairs = among.clone().flat_map(|a| among.clone().map(move |b| (a, b)));
    let alike = |&(a, b): &(usize, usize)| {
        a < b && at.x[a] != at.x[b] && at.f.ty(at.x[a]) == at.f.ty(at.x[b])
    };
    pairs.into_iter().find(alike)
}

/// Whether the function is the turned body of a loop.
fn is_turned(at: &At<'_>) -> bool {
    at.f.params.iter().any(|it| it.name.as_str() == "normed")
}

/// The place in a turned loop of the norm that it begins with.
fn normed(at: &At<'_>) -> Option<(Scan, usize)> {
    let Op::Scan(scan) = at.op else { return None };
    let body = at.scope.function(scan.body.as_str())?;
    Some((scan.clone(), body.params.iter().position(|it| it.name.as_str() == "normed")?))
}

/// See the module.
pub(super) const ALL: &[Mutant] = &[
    join(rule("joined parts swapped", |at| {
        let Op::Slice(slice) = at.op else { return None };
        let parts = parts(at, at.x[0])?;
        let other =
            (0..parts.len()).find(|&i| parts[i] == slice.into && parts[..i] != slice.after)?;
        at.put(Slice { after: parts[..other].to_vec(), ..slice.clone() }, at.x)
    })),
    join(rule("joined weights swapped", |at| {
        let Op::Concat(_) = at.op else { return None };
        let (a, b) = two_alike(at, 0..at.x.len())?;
        let mut operands = at.x.to_vec();
        operands.swap(a, b);
        at.put(at.op.clone(), &operands)
    })),
    join(rule("one weight joined twice", |at| {
        let Op::Concat(_) = at.op else { return None };
        let (a, b) = two_alike(at, 0..at.x.len())?;
        let mut operands = at.x.to_vec();
        operands[b] = operands[a];
        at.put(at.op.clone(), &operands)
    })),
    join(rule("last part taken for the first", |at| {
        let Op::Slice(slice) = at.op else { return None };
        let is_first = slice.after.is_empty() && !slice.last && parts(at, at.x[0]).is_some();
        is_first.then_some(())?;
        at.put(Slice { last: true, ..slice.clone() }, at.x)
    })),
    // The weight of the norm that the layer began with.
    rotate(rule("norm of the same layer", |at| {
        let one = at.number(*at.x.get(1)?)?;
        let counts = matches!(at.maker(at.x[0])?.op, Op::Iota(_));
        (at.is(Add) && one == 1.0 && counts).then(|| vec![at.x[0]])
    })),
    rotate(rule("norm of the first layer in all", |at| {
        let [_, following, first] = at.x[..] else { return None };
        let counts = at.maker(following)?.op.as_binary() == Some(Add);
        let begins = matches!(at.op, Op::Select(_)) && at.number(first) == Some(0.0);
        (begins && counts).then(|| at.binary(Mul, following, first)).flatten()
    })),
    rotate(rule("begun without its norm", |at| {
        let (scan, at_norm) = normed(at)?;
        let mut operands = at.x.to_vec();
        operands[at_norm] = operands[0];
        (at.f.ty(at.x[0]) == at.f.ty(at.x[at_norm])).then_some(())?;
        at.put(scan, &operands)
    })),
    rotate(rule("value and norm swapped", |at| {
        let (scan, at_norm) = normed(at)?;
        (at.f.ty(at.x[0]) == at.f.ty(at.x[at_norm])).then_some(())?;
        let mut operands = at.x.to_vec();
        operands.swap(0, at_norm);
        at.put(scan, &operands)
    })),
    rotate(rule("norm of what came before the sum", |at| {
        let Op::Call(_) = at.op else { return None };
        let sum = at.maker(*at.x.first()?)?;
        let before = sum.operands.iter().copied().find(|it| at.f.as_param(*it).is_some())?;
        let is_it = is_turned(at) && sum.op.as_binary() == Some(Add);
        (is_it && at.f.ty(before) == at.f.ty(at.x[0])).then_some(())?;
        let mut operands = at.x.to_vec();
        operands[0] = before;
        at.put(at.op.clone(), &operands)
    })),
];
