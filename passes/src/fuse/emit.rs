//! The terms that were chosen, as a function again.

use std::collections::HashMap;

use egg::Id;
use ir::{Function, Line, Module, Op, Origin, Role, Type, Value, ops::Call};

use crate::rebuild::define;

use super::{
    extract::Chosen,
    graph::Graph,
    saturate::Saturated,
    terms::{Fused, Head, Source, Term},
};

/// Origins of functions that rules made begin so.
pub(crate) const ORIGIN: &str = "fused::";

/// `function` with the terms of `chosen`, in the order that it had. Fused functions are added to
/// `result` under names that `taken` does not have.
pub(crate) fn emit<'b>(
    result: &mut Module,
    taken: &Module,
    saturated: &Saturated<'b>,
    chosen: &Chosen<'_, 'b>,
) -> Function {
    let old = saturated.classes.analysis.function;
    let mut emitter = Emitter {
        result,
        taken,
        saturated,
        chosen,
        old,
        made: HashMap::new(),
        new: old.signature(),
        line: None,
    };
    for (value, id) in old.values().zip(&saturated.values) {
        if let Some(id) = id.filter(|it| chosen.is_needed(*it)) {
            emitter.line = old.maker(value).and_then(|it| old.line(it)).cloned();
            emitter.class(id);
        }
    }
    for output in &old.outputs {
        if let Some(id) = saturated.values[output.value.index()] {
            let value = emitter.class(id)[0];
            emitter.new.output(&output.name, value);
        }
    }
    emitter.new
}

struct Emitter<'a, 'b> {
    result: &'a mut Module,
    taken: &'a Module,
    saturated: &'a Saturated<'b>,
    chosen: &'a Chosen<'a, 'b>,
    old: &'a Function,
    made: HashMap<Id, Vec<Value>>,
    new: Function,
    /// Where the value was written whose term is being added.
    line: Option<Line>,
}

impl Emitter<'_, '_> {
    /// The results of the term of a class.
    fn class(&mut self, id: Id) -> Vec<Value> {
        let class = self.saturated.classes.find(id);
        if let Some(values) = self.made.get(&class) {
            return values.clone();
        }
        let term = self.chosen.term(class).clone();
        let values = self.term(&term);
        self.made.insert(class, values.clone());
        values
    }

    fn term(&mut self, term: &Term) -> Vec<Value> {
        let head = Graph::heads(&self.saturated.classes).of(term).clone();
        let mut operands: Vec<Value> = Vec::new();
        for id in &term.operands {
            let values = self.class(*id);
            match head {
                Head::Part(i) => return vec![values[i]],
                _ => operands.push(values[0]),
            }
        }
        match head {
            Head::Given(value) => vec![self.given(value)],
            Head::Apply(op) => self.add(op, &operands),
            Head::Fused(fused) => {
                let types = self.new.operand_types(&operands);
                let function = function(self.result, &fused, &types);
                let function = define(self.result, self.taken, function, &fused.kind);
                self.add(Call { function }.into(), &operands)
            }
            Head::Part(_) | Head::Outputs => Vec::new(),
        }
    }

    fn add(&mut self, op: Op, operands: &[Value]) -> Vec<Value> {
        self.new.add_all_at(self.line.as_ref(), self.result.scope(), op, operands)
    }

    /// A parameter, or the layer of a weight as the function finds it.
    fn given(&mut self, index: usize) -> Value {
        let value = self.old.values().nth(index).expect("a value of the function");
        let Some(node) = self.old.maker(value) else { return value };
        let operands: Vec<Value> = node.operands.iter().map(|it| self.given(it.index())).collect();
        self.new.add(self.result.scope(), node.op.clone(), &operands)
    }
}

/// The function that `fused` is for operands of these types.
pub(crate) fn function(module: &Module, fused: &Fused, types: &[Type]) -> Function {
    let mut body = Function::new(fused.kind.as_str());
    body.origin = Some(Origin { function: format!("{ORIGIN}{}", fused.kind), ..Origin::default() });
    for (i, ty) in types.iter().enumerate() {
        body.param(format!("x{i}"), Role::Value, ty.clone());
    }
    let params: Vec<Value> = body.param_values().collect();
    let mut made: Vec<Value> = Vec::new();
    for (op, sources) in &fused.steps {
        let operands: Vec<Value> = sources
            .iter()
            .map(|it| match *it {
                Source::Param(i) => params[i],
                Source::Step(i) => made[i],
            })
            .collect();
        made.push(body.add(module.scope(), op.clone(), &operands));
    }
    body.output("y", *made.last().expect("a body has steps"));
    body
}
