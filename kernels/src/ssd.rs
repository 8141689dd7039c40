//! The recurrence of state-space models with a number for each head as decay (Mamba 2, Dao and Gu
//! 2024): `cpu/src/ssd.rs`.

use ir::{Axis, Function, Scope};

use crate::{Kernel, Site, Update, Word, callee, param_axes};

/// Claims calls of `prelude::ssd` in step form: `x[S, H, J, D]`, `dt[S, H, J]`, `a[H, J]`,
/// `b[S, H, N]`, `c[S, H, N]` and the state `[H, J, D, N]` give `y[S, H, J, D]` and the next state.
pub(crate) struct Ssd;

impl Kernel for Ssd {
    fn name(&self) -> &'static str {
        "ssd"
    }

    fn claim(&self, site: &Site<'_>, root: usize) -> Option<Vec<usize>> {
        site.calls(root, "prelude::ssd", is_as_the_kernel)
    }

    fn words(&self, scope: Scope<'_>, function: &Function) -> Vec<Word> {
        let operands = &function.nodes().first().expect("the call").operands;
        let params = param_axes(callee(scope, function));
        let (x, state) = (params[0], params[5]);
        let mut words = vec![Word::Output(0)];
        words.extend(operands.iter().map(|it| Word::Operand(it.index())));
        words.extend(x.iter().chain(state.last()).map(|it| Word::Size(vec![it.clone()])));
        words.push(Word::Scratch);
        words
    }

    fn updates(&self, function: &Function) -> Vec<Update> {
        let operands = &function.nodes().first().expect("the call").operands;
        vec![Update { operand: operands[5].index(), result: 1 }]
    }
}

/// Whether `function` has the axes, in the order, that the kernel knows.
pub(crate) fn is_as_the_kernel(function: &Function) -> bool {
    let results = function.output_types();
    let [x, dt, a, b, c, state] = param_axes(function)[..] else { return false };
    let ([s, h, j, d], [_, _, _, n], [y, after]) = (x, state, &results[..]) else { return false };
    let is = |axes: &[Axis], wanted: &[&Axis]| axes.iter().eq(wanted.iter().copied());
    is(dt, &[s, h, j])
        && is(a, &[h, j])
        && is(b, &[s, h, n])
        && is(c, &[s, h, n])
        && is(state, &[h, j, d, n])
        && y.axes == x
        && after.axes == state
}
