//! What computing an element again would cost.

use ir::{
    Op,
    ops::{BinaryFn, UnaryFn},
};

/// Whether the op takes one element of each operand for one of its result.
pub(crate) fn is_pointwise(op: &Op) -> bool {
    matches!(op, Op::Unary(_) | Op::Binary(_) | Op::Select(_) | Op::Cast(_))
}

/// Whether computing an element again is worse than reading it back.
pub(crate) fn is_costly(op: &Op) -> bool {
    use UnaryFn::{Cos, Erf, Exp, Log, Rsqrt, Sin, Sqrt, Tanh};
    let unary = matches!(op.as_unary(), Some(Cos | Erf | Exp | Log | Rsqrt | Sin | Sqrt | Tanh));
    unary || matches!(op.as_binary(), Some(BinaryFn::Div | BinaryFn::Pow))
}
