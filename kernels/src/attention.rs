//! Attention over a cache of keys and values: `cpu/src/attention.rs`.

use ir::{DType, Function, Scope};

use crate::{Kernel, Site, Word, callee, half, number, stored_word};

/// Claims calls of `prelude::attention` on keys and values of one type: `f32`, `f16` or `bf16`.
pub(crate) struct Attention;

impl Kernel for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn claim(&self, site: &Site<'_>, root: usize) -> Option<Vec<usize>> {
        let node = &site.function.nodes()[root];
        let is_attention = site.origin_of_call(node)?.function == "prelude::attention";
        let [q, k, v] = node.operands[..] else { return None };
        let [q, k, v] = [q, k, v].map(|it| site.function.ty(it).dtype);
        let are_known = q == DType::F32 && k == v && (k == DType::F32 || half(k));
        (is_attention && are_known).then(|| vec![root])
    }

    fn words(&self, scope: Scope<'_>, function: &Function) -> Vec<Word> {
        let operands = &function.nodes().first().expect("the call").operands;
        let [q, k, v] = operands[..] else { unreachable!("attention takes q, k and v") };
        let [s, heads, group, p] = &function.ty(q).axes[..] else { unreachable!("q[S, K, G, P]") };
        let t = &function.ty(k).axes[0];
        let pv = &function.ty(v).axes[2];
        let attention = callee(scope, function);
        let origin = attention.origin.as_ref().expect("a prelude function");
        let causal = origin.options.get("mask").is_none_or(|it| it == "causal");
        let width = scope.axes.fixed(p).unwrap_or(1) as f64;
        let scale = match number(attention, "scale") {
            0.0 => 1.0 / width.sqrt(),
            given => given,
        };
        let size = |axes: &[&ir::Axis]| Word::Size(axes.iter().map(|&it| it.clone()).collect());
        vec![
            Word::Output(0),
            size(&[heads, group, pv]),
            Word::Operand(q.index()),
            size(&[heads, group, p]),
            Word::Operand(k.index()),
            size(&[heads, p]),
            size(&[p]),
            Word::Operand(v.index()),
            size(&[heads, pv]),
            size(&[pv]),
            size(&[s]),
            size(&[t]),
            size(&[heads]),
            size(&[group]),
            size(&[p]),
            size(&[pv]),
            Word::real(scale),
            Word::flag(causal),
            Word::Bits(number(attention, "window") as u64),
            stored_word(function.ty(k).dtype),
            Word::Scratch,
        ]
    }

    fn takes_half(&self) -> bool {
        true
    }
}
