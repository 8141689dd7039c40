//! A sum and the root-mean-square norm of it: `cpu/src/norm.rs`.
//!
//! A residual stream is needed as it is, and normalised. Where no product has the sum in its tail,
//! one pass over its rows gives both.

use ir::{Function, Op, Scope, Value, ops::BinaryFn};

use crate::{
    Kernel, Site, Update, Word,
    matmul::MatMul,
    rms_norm::{RmsNorm, norm_words},
};

/// Claims what [`RmsNorm`] does with the sum before it, unless that ends a product or a loop.
pub(crate) struct AddNorm;

impl Kernel for AddNorm {
    fn name(&self) -> &'static str {
        "add_norm"
    }

    fn claim(&self, site: &Site<'_>, root: usize) -> Option<Vec<usize>> {
        let mut nodes = RmsNorm.claim(site, root)?;
        let all = site.function.nodes();
        let x = all[root].operands[0];
        let sum = all.iter().position(|it| it.results().eq([x]))?;
        // A loop that gives an addend can give the sum as well.
        let is_of_loop = |it: Value| {
            let maker = site.function.maker(it).filter(|_| site.uses[it.index()] == 1);
            maker.is_some_and(|it| matches!(it.op, Op::Unary(_) | Op::Binary(_) | Op::Select(_)))
        };
        let fits = |it: &Value| {
            let is_value = !site.is_stored(*it) && site.function.ty(*it) == site.function.ty(x);
            is_value && !is_of_loop(*it)
        };
        let is_sum = all[sum].op.as_binary() == Some(BinaryFn::Add);
        let is_free = is_sum && all[sum].operands.iter().all(fits);
        (is_free && MatMul.claim(site, sum).is_none()).then(|| {
            nodes.push(sum);
            nodes.sort_unstable();
            nodes
        })
    }

    /// The sum is a result where something else needs it.
    fn gives_inner(&self) -> bool {
        true
    }

    fn words(&self, scope: Scope<'_>, function: &Function) -> Vec<Word> {
        let (x, how) = norm_words(scope, function);
        let (sum, y) = match function.outputs.len() {
            1 => (Word::Bits(0), Word::Output(0)),
            _ => (Word::Output(0), Word::Output(1)),
        };
        let addends = addends(function, x).map(|it| Word::Operand(it.index()));
        [y, sum].into_iter().chain(addends).chain(how).collect()
    }

    fn reuses(&self, function: &Function) -> Vec<Update> {
        let x = function.nodes().last().expect("the norm").operands[0];
        let places = addends(function, x).map(|it| Update { operand: it.index(), result: 0 });
        places.into()
    }
}

/// What the sum `x` is of.
fn addends(function: &Function, x: Value) -> [Value; 2] {
    let sum = function.maker(x).expect("a claimed sum");
    [sum.operands[0], sum.operands[1]]
}
