//! Parameters that nothing reads.

use std::collections::{BTreeMap, BTreeSet};

use ir::{Function, Module, Name, Op, Value, ops::Scan};

use crate::{
    Cx,
    rebuild::{Rebuild, live_nodes},
};

/// For each function, whether it keeps each of its parameters.
type Kept = BTreeMap<Name, Vec<bool>>;

/// `module` without the parameters of called functions that no output needs.
pub(crate) fn without_unused_parameters(module: &Module, cx: &mut Cx) -> Module {
    let mut kept = Kept::new();
    let entry = module.entry().name.clone();
    module.map(|done, function| {
        let narrowed = with_fewer_operands(done, function, &kept);
        if function.name == entry || function.origin.is_some() {
            return narrowed;
        }
        let needed = needed(&narrowed, carries(module, &function.name));
        if needed.iter().all(|it| *it) || !cx.allows(&function.name, "parameters") {
            return narrowed;
        }
        let narrowed = with_parameters(done, &narrowed, &needed);
        kept.insert(function.name.clone(), needed);
        narrowed
    })
}

/// The most values that a loop over `body` carries: those parameters must stay.
fn carries(module: &Module, body: &Name) -> usize {
    let nodes = module.functions.iter().flat_map(Function::nodes);
    let scans = nodes.filter_map(|it| match &it.op {
        Op::Scan(scan) if scan.body == *body => Some(scan.carries),
        _ => None,
    });
    scans.max().unwrap_or(0)
}

fn needed(function: &Function, carries: usize) -> Vec<bool> {
    let mut read: BTreeSet<Value> = function.outputs.iter().map(|it| it.value).collect();
    live_nodes(function).for_each(|it| read.extend(&it.operands));
    function.param_values().map(|it| it.index() < carries || read.contains(&it)).collect()
}

fn with_parameters(done: &Module, function: &Function, keep: &[bool]) -> Function {
    let mut new = Rebuild::new(function, &function.name);
    let params = function.param_values().zip(keep).filter(|(_, keep)| **keep);
    params.for_each(|(it, _)| new.param(it));
    live_nodes(function).for_each(|it| new.copy(done.scope(), it));
    new.outputs();
    new.new
}

/// `function` with calls that give only what callees still take.
fn with_fewer_operands(done: &Module, function: &Function, kept: &Kept) -> Function {
    let rewritten = function.rewrite(done.scope(), |f, op, operands| {
        let keep = kept.get(op.callee()?)?;
        let op = match op {
            Op::Scan(scan) => {
                let banks = &keep[scan.carries..][..scan.banked];
                let banked = banks.iter().filter(|it| **it).count();
                Scan { banked, ..scan.clone() }.into()
            }
            op => op.clone(),
        };
        let operands = operands.iter().zip(keep).filter(|(_, keep)| **keep).map(|(it, _)| *it);
        Some(f.add_all(done.scope(), op, &operands.collect::<Vec<_>>()))
    });
    rewritten.rewrite(done.scope(), |_, _, _| None)
}
