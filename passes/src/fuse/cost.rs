//! What a term costs in a step of one position: a launch, and the bytes that it moves.

use egg::Id;
use ir::{Axis, Op, Scope, Type};

use super::{
    graph::{Classes, Fact, Graph},
    matching::number,
    terms::{Head, Term},
};

/// A launch costs as much as moving so many bytes.
const LAUNCH: u64 = 4096;

/// The cost of `term`, without that of its operands.
pub(crate) fn cost(classes: &Classes<'_>, term: &Term) -> u64 {
    let head = Graph::heads(classes).of(term);
    let is_free = match head {
        Head::Given(_) | Head::Part(_) | Head::Outputs => true,
        Head::Fused(_) => false,
        Head::Apply(op) => matches!(
            op,
            Op::Constant(_)
                | Op::ExtentOf(_)
                | Op::Iota(_)
                | Op::Split(_)
                | Op::Merge(_)
                | Op::Rename(_)
                | Op::Slice(_)
        ),
    };
    if is_free {
        return 0;
    }
    let scope = classes.scope();
    let facts: Vec<&Fact> =
        term.operands.iter().map(|it| classes.fact(classes.find(*it))).collect();
    if matches!(head, Head::Apply(Op::Binary(_))) && facts.iter().all(|it| it.weight) {
        return 0;
    }
    let results = head.infer(&facts.iter().map(|it| it.types.clone()).collect::<Vec<_>>(), scope);
    let is_read = |it: &&Id| number(classes, classes.find(**it)).is_none();
    let read = term.operands.iter().filter(is_read).map(|it| classes.fact(classes.find(*it)));
    let types = read.flat_map(|it| &it.types).chain(results.iter().flatten());
    types.map(|it| bytes(scope, it)).fold(LAUNCH, u64::saturating_add)
}

fn bytes(scope: Scope<'_>, ty: &Type) -> u64 {
    let elements = ty.axes.iter().map(|it| extent(scope, it)).fold(1, u64::saturating_mul);
    elements.saturating_mul(ty.dtype.block_bytes() as u64) / ty.dtype.block_len() as u64
}

/// The extent of an axis, where those known at run time count 1.
fn extent(scope: Scope<'_>, axis: &Axis) -> u64 {
    let resolved = scope.axes.resolve(axis);
    let atom = |it: &ir::Name| scope.axes.fixed(&Axis::atom(it)).unwrap_or(1) as u64;
    let segment = |it: &Vec<ir::Name>| it.iter().map(atom).fold(1, u64::saturating_mul);
    resolved.segments().iter().map(segment).fold(0, u64::saturating_add)
}
