//! Causal convolution of each channel by itself: `cpu/src/conv1d.rs`.

use ir::{Axis, Function, Scope};

use crate::{Kernel, Site, Update, Word, callee, param_axes};

/// Claims calls of `prelude::conv1d` in step form: `x[S, C]`, `w[C, W]`, `b[C]` and the window
/// `[W, C]` of the inputs before give `y[S, C]` and the window after them.
pub(crate) struct Conv1d;

impl Kernel for Conv1d {
    fn name(&self) -> &'static str {
        "conv1d"
    }

    fn claim(&self, site: &Site<'_>, root: usize) -> Option<Vec<usize>> {
        site.calls(root, "prelude::conv1d", is_as_the_kernel)
    }

    fn words(&self, scope: Scope<'_>, function: &Function) -> Vec<Word> {
        let operands = &function.nodes().first().expect("the call").operands;
        let params = param_axes(callee(scope, function));
        let ([s, c], [_, w]) = (params[0], params[1]) else { unreachable!("x[S, C], w[C, W]") };
        let mut words = vec![Word::Output(0)];
        words.extend(operands.iter().map(|it| Word::Operand(it.index())));
        words.extend([s, c, w].map(|it| Word::Size(vec![it.clone()])));
        words
    }

    fn updates(&self, function: &Function) -> Vec<Update> {
        let operands = &function.nodes().first().expect("the call").operands;
        vec![Update { operand: operands[3].index(), result: 1 }]
    }
}

/// Whether `function` has the axes, in the order, that the kernel knows.
pub(crate) fn is_as_the_kernel(function: &Function) -> bool {
    let results = function.output_types();
    let [x, w, b, state] = param_axes(function)[..] else { return false };
    let ([s, c], [_, width], [y, after]) = (x, w, &results[..]) else { return false };
    let is = |axes: &[Axis], wanted: &[&Axis]| axes.iter().eq(wanted.iter().copied());
    is(w, &[c, width])
        && is(b, &[c])
        && is(state, &[width, c])
        && is(&y.axes, &[s, c])
        && after.axes == state
}
