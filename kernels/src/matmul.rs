//! Products with weights, and what becomes of them: `cpu/src/matmul.rs`.
//!
//! `contract x w` is claimed where `w` is a weight whose innermost axes are summed over and so are
//! those of `x`, in the same order. `w` may also be a concatenation of weights, which are then the
//! parts of one product. What follows is claimed as the product's tail, if it works element by
//! element: a bias, an activation, a residual, a cast. A tail may take several products of one `x`,
//! such as the two of SwiGLU.

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
        let parts = Parts::of(function);
        let (x, k) = (parts.x, parts.over.len());
        let (m, k) = (rows(&function.ty(x).axes, k), parts.over.to_vec());
        let n = |of: Value| rows(&function.ty(of).axes, k.len());
        let whole = function.ty(parts.contracts[0].result()).axes[m.len()..].to_vec();
        let mut words = vec![
            Word::Output,
            Word::Size(whole),
            Word::Operand(x.index()),
            Word::Size(k.clone()),
            Word::Size(m),
            Word::Size(k.clone()),
            Word::Bits(parts.weights.len() as u64),
            Word::flag(1 < parts.products.len()),
            Word::Tail,
            Word::Scratch,
        ];
        for w in parts.weights {
            let operand = w.index();
            let format = Word::Format { operand, rows: n(w), columns: k.clone() };
            words.extend([Word::Operand(operand), format, Word::Size(n(w))]);
        }
        words
    }

    fn tail(&self, scope: Scope<'_>, function: &Function) -> Option<Tail> {
        let Parts { products, .. } = Parts::of(function);
        let mut tail = Function::new(Name::from(format!("{}.tail", function.name)));
        tail.origin = Some(Origin { function: "loop".to_owned(), ..Origin::default() });
        let mut new: Vec<Option<Value>> = vec![None; function.n_values()];
        for (i, product) in products.iter().enumerate() {
            let ty = function.ty(*product).clone();
            new[product.index()] = Some(tail.param(format!("product.{i}"), Role::Value, ty));
        }
        let nodes = || function.nodes().iter().filter(|it| is_of_tail(it));
        let used = |it: usize| nodes().flat_map(|it| &it.operands).any(|used| used.index() == it);
        let operands: Vec<usize> = (0..function.params.len()).filter(|it| used(*it)).collect();
        for &operand in &operands {
            let param = &function.params[operand];
            new[operand] = Some(tail.param(&param.name, param.role, param.ty.clone()));
        }
        for node in nodes() {
            let given: Option<Vec<Value>> =
                node.operands.iter().map(|it| new[it.index()]).collect();
            let value = tail.add(scope, node.op.clone(), &given?);
            new[node.result().index()] = Some(value);
        }
        let output = &function.outputs[0];
        tail.output(&output.name, new[output.value.index()]?);
        let is_empty = tail.nodes().is_empty();
        (!is_empty).then_some(Tail { function: tail, products: products.len(), operands })
    }

    fn takes_half(&self) -> bool {
        true
    }
}

/// What a function of a claim multiplies.
struct Parts<'a> {
    x: Value,
    over: &'a [ir::Axis],
    contracts: Vec<&'a Node>,
    weights: Vec<Value>,
    /// What the tail takes.
    products: Vec<Value>,
}

impl<'a> Parts<'a> {
    fn of(function: &'a Function) -> Parts<'a> {
        let nodes = || function.nodes().iter();
        let contracts: Vec<&Node> = nodes().filter(|it| as_contract(it).is_some()).collect();
        let weights = contracts.iter().flat_map(|it| factors(function, it.operands[1]));
        let slices = nodes().filter_map(|it| Some((as_slice(it)?.after.len(), it.result())));
        let mut slices: Vec<(usize, Value)> = slices.collect();
        slices.sort_unstable();
        let products = match slices.is_empty() {
            true => contracts.iter().map(|it| it.result()).collect(),
            false => slices.into_iter().map(|(_, it)| it).collect(),
        };
        let over = &as_contract(contracts[0]).expect("just filtered").over;
        Parts { x: contracts[0].operands[0], over, weights: weights.collect(), contracts, products }
    }
}

/// The weights that `w` is made of.
fn factors(function: &Function, w: Value) -> Vec<Value> {
    match function.maker(w) {
        Some(node) if as_concat(node).is_some() => node.operands.to_vec(),
        _ => vec![w],
    }
}

fn is_of_tail(node: &Node) -> bool {
    !matches!(node.op, Op::Contract(_) | Op::Concat(_) | Op::Slice(_))
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
