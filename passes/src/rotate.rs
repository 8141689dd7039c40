//! Turns a loop over layers so that the last sum of a layer meets the first norm of the next one.
//!
//! The first norm runs before the loop, and each layer gives the next one its value and the norm of
//! it. The norm after the last layer is of no use. This pays where a kernel adds and norms in one:
//! none of the CPU's does, because a product's columns are divided among threads.
//!
//! ```ir
//! axis E = 4
//! axis L = 3
//! axis S <= 8
//!
//! fn @norm of "prelude::rms_norm" (%x : f32[S, E], %w : f32[E]) {
//!   %0 = mul %x %w : f32[S, E]
//!   return y = %0
//! }
//!
//! fn @layer (%x : f32[S, E], %w : f32[E]) {
//!   %0 = call %x %w {function = @norm} : f32[S, E]
//!   %1 = exp %0 : f32[S, E]
//!   %2 = add %x %1 : f32[S, E]
//!   return x = %2
//! }
//!
//! fn @model (input %x : f32[S, E], weight %w : f32[L, E]) {
//!   %0 = scan %x %w {body = @layer, axis = L, carries = 1, banked = 1, reverse = false} : f32[S, E]
//!   return y = %0
//! }
//! ```
//! becomes
//! ```ir
//! axis E = 4
//! axis L = 3
//! axis S <= 8
//! axis next = L
//!
//! fn @norm of "prelude::rms_norm" (%x : f32[S, E], %w : f32[E]) {
//!   %0 = mul %x %w : f32[S, E]
//!   return y = %0
//! }
//!
//! fn @layer.1 (%x : f32[S, E], %normed : f32[S, E], %w : f32[E]) {
//!   %0 = exp %normed : f32[S, E]
//!   %1 = add %x %0 : f32[S, E]
//!   %2 = call %1 %w {function = @norm} : f32[S, E]
//!   return x = %1, normed = %2
//! }
//!
//! fn @model (input %x : f32[S, E], weight %w : f32[L, E]) {
//!   %0 = constant {dtype = i32, axes = [], values = [0.0]} : i32[]
//!   %1 = gather %w %0 {axis = L} : f32[E]
//!   %2 = call %x %1 {function = @norm} : f32[S, E]
//!   %3 = iota {axis = next} : i32[next]
//!   %4 = constant {dtype = i32, axes = [], values = [1.0]} : i32[]
//!   %5 = add %3 %4 : i32[next]
//!   %6 = extent {axis = L} : f32[]
//!   %7 = cast %6 {dtype = i32} : i32[]
//!   %8 = less %5 %7 : bool[next]
//!   %9 = select %8 %5 %0 : i32[next]
//!   %10 = gather %w %9 {axis = L} : f32[next, E]
//!   %11 = rename %10 {axis = next, into = L} : f32[L, E]
//!   %12 %13 = scan %x %2 %11 {body = @layer.1, axis = L, carries = 2, banked = 1, reverse = false} : f32[S, E], f32[S, E]
//!   return y = %12
//! }
//! ```

use ir::{
    Axis, DType, Extent, Function, Module, Name, Node, Op, Role, Scope, Value,
    ops::{BinaryFn, Constant, ExtentOf, Gather, Iota, Rename, Scan, Select},
};

use crate::{
    Contract, Cx, Fault, Pass,
    rebuild::{Rebuild, define, live_nodes},
};

/// See the module.
pub struct Rotate;

impl Pass for Rotate {
    fn name(&self) -> &'static str {
        "rotate"
    }

    fn about(&self) -> &'static str {
        "lets the last sum of a layer meet the first norm of the next one"
    }

    fn contract(&self) -> Contract {
        Contract::Exact
    }

    fn run(&self, module: &Module, cx: &mut Cx) -> Result<Module, Fault> {
        let mut result = Module { axes: module.axes.clone(), functions: Vec::new() };
        for function in &module.functions {
            let rotated = rotated(&mut result, module, function, cx);
            result.functions.push(rotated);
        }
        result.prune();
        Ok(result)
    }
}

/// The first norm of the body of a loop.
struct Norm<'a> {
    body: &'a Function,
    node: &'a Node,
    /// Which operand of the loop it norms: the one that is carried and ends with a sum.
    carry: usize,
    /// Which operands it takes besides: banks that nothing else takes.
    banks: Vec<usize>,
}

/// `function` with its loops turned.
fn rotated(result: &mut Module, module: &Module, function: &Function, cx: &mut Cx) -> Function {
    let mut new = Rebuild::new(function, &function.name);
    function.param_values().for_each(|it| new.param(it));
    for node in live_nodes(function) {
        let scan = if let Op::Scan(it) = &node.op { Some(it) } else { None };
        let norm = scan.and_then(|it| Some((it, first_norm(module, it)?)));
        match norm.filter(|it| cx.allows(&function.name, it.0.body.as_str())) {
            Some((scan, norm)) => turn(result, module, &mut new, node, scan, &norm),
            None => new.copy(result.scope(), node),
        }
    }
    new.outputs();
    new.new
}

fn first_norm<'a>(module: &'a Module, scan: &Scan) -> Option<Norm<'a>> {
    let body = module.function(scan.body.as_str()).filter(|_| !scan.reverse)?;
    let nodes = || live_nodes(body);
    nodes().find_map(|node| {
        let Op::Call(call) = &node.op else { return None };
        let origin = module.function(call.function.as_str())?.origin.as_ref()?;
        let is_norm =
            matches!(origin.function.as_str(), "prelude::rms_norm" | "prelude::layer_norm");
        let (x, weights) = node.operands.split_first()?;
        let carry = x.index();
        let ends_with_sum = || {
            let end = body.maker(body.outputs[carry].value);
            end.is_some_and(|it| it.op.as_binary() == Some(BinaryFn::Add))
        };
        let banks: Vec<usize> = weights.iter().map(|it| it.index()).collect();
        let is_bank = |it: &usize| (scan.carries..scan.carries + scan.banked).contains(it);
        let uses =
            |it: &Value| nodes().flat_map(|n| &n.operands).filter(|used| *used == it).count();
        let own = weights.iter().all(|it| uses(it) == 1) && banks.iter().all(is_bank);
        let fits = is_norm && carry < scan.carries && own && !banks.is_empty();
        (fits && ends_with_sum()).then_some(Norm { body, node, carry, banks })
    })
}

/// Adds the turned loop of `node`.
fn turn(
    result: &mut Module,
    module: &Module,
    new: &mut Rebuild<'_>,
    node: &Node,
    scan: &Scan,
    norm: &Norm<'_>,
) {
    let mut operands = new.operands(node);
    let place = like(result, &scan.axis);
    let first =
        norm.banks.iter().map(|&it| layer(result.scope(), &mut new.new, operands[it], &scan.axis));
    let first: Vec<Value> = std::iter::once(operands[norm.carry]).chain(first).collect();
    let normed = new.new.copy(result.scope(), norm.body, norm.node, &first)[0];
    for &bank in &norm.banks {
        operands[bank] = next(result.scope(), &mut new.new, operands[bank], &scan.axis, &place);
    }
    operands.insert(scan.carries, normed);
    let body = turned(result.scope(), scan, norm);
    let body = define(result, module, body, scan.body.as_str());
    let turned = Scan { body, carries: scan.carries + 1, ..scan.clone() };
    let mut values = new.new.add_all(result.scope(), turned, &operands);
    values.remove(scan.carries);
    new.set_results(node, &values);
}

/// An axis as long as the one of the layers, for places among them.
fn like(result: &mut Module, layers: &Axis) -> Axis {
    let name: Name = result.axes.fresh("next");
    result.axes.declare(&name, Extent::Like(layers.clone()));
    Axis::atom(&name)
}

/// The first layer of a bank.
fn layer(scope: Scope<'_>, f: &mut Function, bank: Value, layers: &Axis) -> Value {
    let zero = f.add(scope, Constant::scalar(DType::I32, 0.0), &[]);
    f.add(scope, Gather { axis: layers.clone() }, &[bank, zero])
}

/// A bank of which each layer has what the next one had; the last has what the first one had.
fn next(scope: Scope<'_>, f: &mut Function, bank: Value, layers: &Axis, place: &Axis) -> Value {
    let binary = |f: &mut Function, function, a, b| f.add(scope, Op::binary(function), &[a, b]);
    let at = f.add(scope, Iota { axis: place.clone() }, &[]);
    let one = f.add(scope, Constant::scalar(DType::I32, 1.0), &[]);
    let zero = f.add(scope, Constant::scalar(DType::I32, 0.0), &[]);
    let following = binary(f, BinaryFn::Add, at, one);
    let many = f.add(scope, ExtentOf { axis: layers.clone() }, &[]);
    let many = f.add(scope, ir::ops::Cast { dtype: DType::I32 }, &[many]);
    let inside = binary(f, BinaryFn::Less, following, many);
    let index = f.add(scope, Select, &[inside, following, zero]);
    let rows = f.add(scope, Gather { axis: layers.clone() }, &[bank, index]);
    f.add(scope, Rename { axis: place.clone(), into: layers.clone() }, &[rows])
}

/// The body that is given the norm, and gives the next one.
fn turned(scope: Scope<'_>, scan: &Scan, norm: &Norm<'_>) -> Function {
    let body = norm.body;
    let mut new = Rebuild::new(body, &body.name);
    let given = body.ty(norm.node.result()).clone();
    let mut normed = None;
    for param in body.param_values() {
        if param.index() == scan.carries {
            normed = Some(new.new.param("normed", Role::Value, given.clone()));
        }
        new.param(param);
    }
    for node in live_nodes(body) {
        match normed.filter(|_| node == norm.node) {
            Some(normed) => new.set(node.result(), normed),
            None => new.copy(scope, node),
        }
    }
    let weights = norm.node.operands[1..].iter().map(|&it| new.get(it));
    let sum = new.get(body.outputs[norm.carry].value);
    let operands: Vec<Value> = std::iter::once(sum).chain(weights).collect();
    let next = new.new.copy(scope, body, norm.node, &operands)[0];
    for (i, output) in body.outputs.iter().enumerate() {
        if i == scan.carries {
            new.new.output("normed", next);
        }
        new.new.output(&output.name, new.get(output.value));
    }
    if body.outputs.len() == scan.carries {
        new.new.output("normed", next);
    }
    new.new
}
