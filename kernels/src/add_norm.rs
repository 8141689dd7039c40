//! A sum and the root-mean-square norm of it: `cpu/src/norm.rs`.
//!
//! A residual stream is needed as it is, and normalised. Where no product has the sum in its tail,
//! one pass over its rows gives both.

use ir::{Function, Op, Scope, Value, ops::BinaryFn};

use crate::{Kernel, Site, Update, Word, callee, matmul::MatMul, number, rms_norm::RmsNorm, rows};

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
        let norm = function.nodes().last().expect("the norm");
        let [x, weight] = norm.operands[..] else { unreachable!("x and weight") };
        let [a, b] = function.maker(x).expect("the sum").operands[..] else { unreachable!("two") };
        let row = function.ty(weight).axes.clone();
        let (sum, y) = match function.outputs.len() {
            1 => (Word::Bits(0), Word::Output(0)),
            _ => (Word::Output(0), Word::Output(1)),
        };
        let is_given = weight.index() < function.params.len();
        vec![
            y,
            sum,
            Word::Operand(a.index()),
            Word::Operand(b.index()),
            if is_given { Word::Operand(weight.index()) } else { Word::Bits(0) },
            Word::Size(rows(&function.ty(x).axes, row.len())),
            Word::Size(row),
            Word::real(number(callee(scope, function), "eps")),
        ]
    }

    fn reuses(&self, function: &Function) -> Vec<Update> {
        let addends = |it: &ir::Node| matches!(it.op, Op::Binary(_)).then(|| it.operands.clone());
        let addends = function.nodes().iter().find_map(addends).expect("the sum");
        addends.iter().map(|it| Update { operand: it.index(), result: 0 }).collect()
    }
}
