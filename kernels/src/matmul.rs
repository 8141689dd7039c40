//! Products with weights, and what becomes of them: `cpu/src/matmul.rs`.
//!
//! `contract x w` is claimed where `w` is a weight whose innermost axes are summed over and so are
//! those of `x`, in the same order. `w` may also be a concatenation of weights, which are then the
//! parts of one product, each with a result of its own if the product is cut again. What follows is
//! claimed as a tail, if it works element by element: a bias, an activation, a residual, a cast. A
//! tail may take several products of one `x`, such as the two of SwiGLU.

mod claim;

use ir::{
    Function, Name, Node, Op, Origin, Role, Scope, Value,
    ops::{Concat, Contract, Slice},
};

use crate::{Kernel, Site, Tail, Word, rows};

/// See the file.
pub(crate) struct MatMul;

impl Kernel for MatMul {
    fn name(&self) -> &'static str {
        "matmul"
    }

    fn claim(&self, site: &Site<'_>, root: usize) -> Option<Vec<usize>> {
        claim::claim(site, root)
    }

    fn words(&self, _: Scope<'_>, function: &Function) -> Vec<Word> {
        let contract = function.nodes().iter().find(|it| as_contract(it).is_some());
        let contract = contract.expect("a product");
        let (x, k) = (contract.operands[0], &as_contract(contract).expect("just found").over);
        let m = rows(&function.ty(x).axes, k.len());
        let results = results(function);
        let mut words = vec![
            Word::Operand(x.index()),
            Word::Size(k.clone()),
            Word::Size(m.clone()),
            Word::Size(k.clone()),
            Word::Bits(results.len() as u64),
            Word::Scratch,
        ];
        for (i, it) in results.iter().enumerate() {
            let columns = function.ty(it.products[0]).axes[m.len()..].to_vec();
            let (parts, beside) = (it.weights.len() as u64, 1 < it.products.len());
            words.extend([Word::Output(i), Word::Size(columns), Word::Tail(i)]);
            words.extend([Word::Bits(parts), Word::flag(beside)]);
        }
        for w in results.iter().flat_map(|it| &it.weights) {
            let (operand, n) = (w.index(), rows(&function.ty(*w).axes, k.len()));
            let format = Word::Format { operand, rows: n.clone(), columns: k.clone() };
            words.extend([Word::Operand(operand), format, Word::Size(n)]);
        }
        words
    }

    fn tail(&self, scope: Scope<'_>, function: &Function, result: usize) -> Option<Tail> {
        let Made { products, nodes, .. } = results(function).swap_remove(result);
        let mut tail = Function::new(Name::from(format!("{}.tail.{result}", function.name)));
        tail.origin = Some(Origin { function: "loop".to_owned(), ..Origin::default() });
        let mut new: Vec<Option<Value>> = vec![None; function.n_values()];
        for (i, product) in products.iter().enumerate() {
            let ty = function.ty(*product).clone();
            new[product.index()] = Some(tail.param(format!("product.{i}"), Role::Value, ty));
        }
        let used = |it: usize| nodes.iter().flat_map(|it| &it.operands).any(|at| at.index() == it);
        let operands: Vec<usize> = (0..function.params.len()).filter(|it| used(*it)).collect();
        for &operand in &operands {
            let param = &function.params[operand];
            new[operand] = Some(tail.param(&param.name, param.role, param.ty.clone()));
        }
        for node in &nodes {
            let given: Option<Vec<Value>> =
                node.operands.iter().map(|it| new[it.index()]).collect();
            let value = tail.add(scope, node.op.clone(), &given?);
            new[node.result().index()] = Some(value);
        }
        let output = &function.outputs[result];
        tail.output(&output.name, new[output.value.index()]?);
        (!nodes.is_empty()).then_some(Tail { function: tail, products: products.len(), operands })
    }

    fn takes_half(&self) -> bool {
        true
    }
}

/// What a result of a function of a claim is made of.
struct Made<'a> {
    /// What the tail takes: whole products or parts of one.
    products: Vec<Value>,
    weights: Vec<Value>,
    /// The tail.
    nodes: Vec<&'a Node>,
}

fn results(function: &Function) -> Vec<Made<'_>> {
    function.outputs.iter().map(|it| made(function, it.value)).collect()
}

fn made(function: &Function, output: Value) -> Made<'_> {
    let mut needed = vec![false; function.n_values()];
    needed[output.index()] = true;
    let mut made = Made { products: Vec::new(), weights: Vec::new(), nodes: Vec::new() };
    for node in function.nodes().iter().rev().filter(|it| it.results().count() == 1) {
        let value = node.result();
        if !needed[value.index()] {
            continue;
        }
        match &node.op {
            Op::Contract(_) | Op::Slice(_) => made.products.push(value),
            _ => {
                node.operands.iter().for_each(|it| needed[it.index()] = true);
                made.nodes.push(node);
            }
        }
    }
    made.nodes.reverse();
    made.products.sort_unstable_by_key(|it| (place(function, *it), *it));
    made.weights = made.products.iter().flat_map(|it| weights(function, *it)).collect();
    made
}

/// How many parts come before a part of a product.
fn place(function: &Function, product: Value) -> usize {
    function.maker(product).and_then(as_slice).map_or(0, |it| it.after.len())
}

/// The weights that give a product, or a part of one.
fn weights(function: &Function, product: Value) -> Vec<Value> {
    let node = function.maker(product).expect("a product");
    match as_slice(node) {
        Some(slice) => {
            let whole = function.maker(node.operands[0]).expect("a product");
            vec![factors(function, whole.operands[1])[slice.after.len()]]
        }
        None => factors(function, node.operands[1]),
    }
}

/// The weights that `w` is made of.
fn factors(function: &Function, w: Value) -> Vec<Value> {
    match function.maker(w) {
        Some(node) if as_concat(node).is_some() => node.operands.to_vec(),
        _ => vec![w],
    }
}

fn as_contract(node: &Node) -> Option<&Contract> {
    if let Op::Contract(it) = &node.op { Some(it) } else { None }
}

fn as_concat(node: &Node) -> Option<&Concat> {
    if let Op::Concat(it) = &node.op { Some(it) } else { None }
}

fn as_slice(node: &Node) -> Option<&Slice> {
    if let Op::Slice(it) = &node.op { Some(it) } else { None }
}
