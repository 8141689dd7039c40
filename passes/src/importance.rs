//! Adds outputs that tell how much each place of an axis is used: what pruning goes by.
//!
//! What is measured is what the weights of an axis are multiplied with: the result of the last norm
//! for the stream, the input of the last product for feed-forward channels and query heads. Of
//! Mamba's heads and channels it is what goes into their convolution, which tells more than what
//! comes out of the state. Each place gives the sum of magnitudes, or of squares, over the
//! positions of a step. Layers give the sum of cosines between what they are given and what they
//! hand on. The outputs are called `importance.AXIS.PLACE.N`, the n-th of a layer, or of all where
//! the layers are one loop.
//!
//! ```ir
//! axis E = 4
//! axis F = 8 elastic {4}
//! axis S <= 8
//!
//! fn @mlp (%x : f32[S, E], %up : f32[F, E], %down : f32[E, F]) {
//!   %0 = contract %x %up {over = [E]} : f32[S, F]
//!   %1 = contract %0 %down {over = [F]} : f32[S, E]
//!   return y = %1
//! }
//!
//! fn @model (input %x : f32[S, E], weight %up : f32[F, E], weight %down : f32[E, F]) {
//!   %0 = call %x %up %down {function = @mlp} : f32[S, E]
//!   return y = %0
//! }
//! ```
//! becomes
//! ```ir
//! axis E = 4
//! axis F = 8 elastic {4}
//! axis S <= 8
//!
//! fn @mlp (%x : f32[S, E], %up : f32[F, E], %down : f32[E, F]) {
//!   %0 = contract %x %up {over = [E]} : f32[S, F]
//!   %1 = contract %0 %down {over = [F]} : f32[S, E]
//!   %2 = abs %0 : f32[S, F]
//!   %3 = reduce %2 {over = [S], kind = sum} : f32[F]
//!   return y = %1, importance.F = %3
//! }
//!
//! fn @model (input %x : f32[S, E], weight %up : f32[F, E], weight %down : f32[E, F]) {
//!   %0 %1 = call %x %up %down {function = @mlp} : f32[S, E], f32[F]
//!   return y = %0, importance.F.0.0 = %1
//! }
//! ```

use std::collections::{BTreeMap, BTreeSet};

use ir::{
    Axis, DType, Function, Module, Name, Node, Op, Scope, Value,
    ops::{BinaryFn, Constant, Contract as Product, Gather, Reduce, ReduceKind, UnaryFn},
};

use crate::{
    Contract, Cx, Fault, Links, Noise, Pass, PassOption,
    check::outputs_stay,
    orders::key,
    rebuild::{Rebuild, live_nodes},
    widths::elastic,
};

/// How the names of the added outputs begin.
pub const PREFIX: &str = "importance.";

/// What stands for layers among the axes.
pub const LAYERS: &str = "layers";

/// See the module.
pub struct Importance;

impl Pass for Importance {
    fn name(&self) -> &'static str {
        "importance"
    }

    fn about(&self) -> &'static str {
        "adds outputs that tell how much each place of an axis is used"
    }

    fn options(&self) -> &'static [PassOption] {
        &[
            PassOption {
                name: "axes",
                default: "",
                doc: "of these, such as `E F layers`; else of the elastic ones",
            },
            PassOption { name: "axis", default: "S", doc: "the axis of positions" },
            PassOption { name: "sum", default: "mean", doc: "of magnitudes, or `l2`: of squares" },
        ]
    }

    fn contract(&self) -> Contract {
        Contract::Lowers(leaves_all_else)
    }

    fn run(&self, module: &Module, cx: &mut Cx) -> Result<Module, Fault> {
        let wanted: BTreeSet<String> = match cx.option("axes") {
            "" => elastic(module).map(|it| it.0.to_string()).collect(),
            text => text.split_whitespace().map(str::to_owned).collect(),
        };
        let is_known = |it: &&String| **it == LAYERS || module.axes.get(it.as_str()).is_some();
        if let Some(unknown) = wanted.iter().find(|it| !is_known(it)) {
            return Err(Fault::new(format!("there is no axis `{unknown}`")));
        }
        let squares = match cx.option("sum") {
            "mean" => false,
            "l2" => true,
            other => return Err(Fault::new(format!("`sum={other}` is neither mean nor l2"))),
        };
        let links = Links::of(module);
        let positions = Axis::atom(cx.option("axis"));
        let mut measure =
            Measure { module, links: &links, positions, squares, wanted, added: BTreeMap::new() };
        measure.run()
    }
}

/// The old outputs are what they were, and no new one is below 0 or no number.
fn leaves_all_else(
    before: &Module,
    after: &Module,
    _: &Cx,
    noise: &mut Noise,
) -> Result<(), Fault> {
    let added = outputs_stay(before, after, noise)?;
    let added = after.entry().outputs[before.entry().outputs.len()..].iter().zip(&added);
    let layers = format!("{PREFIX}{LAYERS}.");
    let mut sums = added.filter(|it| !it.0.name.as_str().starts_with(&layers));
    match sums.find(|it| !it.1.data.iter().all(|it| 0.0 <= *it)) {
        Some((output, _)) => Err(Fault::new(format!("output {} is below 0", output.name))),
        None => Ok(()),
    }
}

struct Measure<'a> {
    module: &'a Module,
    links: &'a Links,
    positions: Axis,
    squares: bool,
    /// The atoms to measure.
    wanted: BTreeSet<String>,
    /// What the outputs that were added to a function measure.
    added: BTreeMap<Name, Vec<String>>,
}

/// What is measured in a function.
struct Hook {
    label: String,
    value: Value,
}

/// Finds what a node of a function tells.
type Find<'a> = fn(&Measure<'a>, (usize, &Function), &Node) -> Vec<Hook>;

impl<'a> Measure<'a> {
    fn run(&mut self) -> Result<Module, Fault> {
        let mut hooks = self.hooks(Self::before_convolution);
        let known: BTreeSet<String> = hooks.iter().flatten().map(|it| it.label.clone()).collect();
        for (all, more) in hooks.iter_mut().zip(self.hooks(Self::before_product)) {
            all.extend(more.into_iter().filter(|it| !known.contains(&it.label)));
        }
        let mut done = Module { axes: self.module.axes.clone(), functions: Vec::new() };
        let last = self.module.functions.len() - 1;
        for (at, function) in self.module.functions.iter().enumerate() {
            let new = match at == last {
                true => self.entry(&done, function),
                false => self.function(&done, function, &hooks[at]),
            };
            done.functions.push(new);
        }
        Ok(done)
    }

    /// For each function, what `of` finds in its nodes, each value once.
    fn hooks(&self, of: Find<'a>) -> Vec<Vec<Hook>> {
        let all = self.module.functions.iter().enumerate();
        all.map(|at| {
            let mut hooks: Vec<Hook> = Vec::new();
            for hook in live_nodes(at.1).flat_map(|it| of(self, at, it)) {
                let known = hooks.iter().any(|it| it.label == hook.label && it.value == hook.value);
                if !known {
                    hooks.push(hook);
                }
            }
            hooks
        })
        .collect()
    }

    /// What goes into the convolution of a recurrence.
    fn before_convolution(&self, at: (usize, &Function), node: &Node) -> Vec<Hook> {
        let callee = node.op.callee().and_then(|it| self.module.function(it.as_str()));
        let origin = callee.and_then(|it| it.origin.as_ref());
        if origin.is_none_or(|it| it.function != "prelude::conv1d") {
            return Vec::new();
        }
        let value = node.operands[0];
        let axes = at.1.ty(value).axes.clone();
        axes.iter().flat_map(|axis| self.hooks_along(at, value, axis)).collect()
    }

    /// What a weight is multiplied with, along the axes that are summed over.
    fn before_product(&self, at: (usize, &Function), node: &Node) -> Vec<Hook> {
        let Op::Contract(product) = &node.op else { return Vec::new() };
        let has_positions = |it: &&Value| at.1.ty(**it).position(&self.positions).is_some();
        let with: Vec<&Value> = node.operands.iter().filter(has_positions).collect();
        let [value] = with[..] else { return Vec::new() };
        product.over.iter().flat_map(|axis| self.hooks_along(at, *value, axis)).collect()
    }

    fn hooks_along(&self, at: (usize, &Function), value: Value, axis: &Axis) -> Vec<Hook> {
        let classes = self.links.along(at, value, axis).map(|it| &self.links.classes()[it]);
        let wanted = classes.filter(|it| self.wanted.contains(it.atom.as_str()));
        wanted.map(|it| Hook { label: key(self.links, it), value }).collect()
    }

    /// A function with its own measures and those of what it calls as outputs.
    fn function(&mut self, done: &Module, function: &Function, hooks: &[Hook]) -> Function {
        let mut new = Rebuild::new(function, &function.name);
        function.param_values().for_each(|it| new.param(it));
        let mut found = self.nodes(done, &mut new);
        for hook in hooks {
            let value = new.get(hook.value);
            found.push((hook.label.clone(), self.magnitude(done.scope(), &mut new.new, value)));
        }
        new.outputs();
        let is_body = self.is_layer_body(&function.name);
        if is_body && let Some(cosine) = self.cosine_of(done.scope(), &mut new) {
            found.push((LAYERS.to_owned(), cosine));
        }
        for (label, value) in &found {
            let stem = format!("{PREFIX}{label}");
            let n = new.new.outputs.iter().filter(|it| it.name.as_str().starts_with(&stem)).count();
            new.new.output(if n == 0 { stem } else { format!("{stem}.{n}") }, *value);
        }
        self.added.insert(function.name.clone(), found.into_iter().map(|it| it.0).collect());
        new.new
    }

    /// Takes over all nodes; what the functions that they call measure.
    fn nodes(&self, done: &Module, new: &mut Rebuild<'_>) -> Vec<(String, Value)> {
        let mut found = Vec::new();
        for node in live_nodes(new.old) {
            found.extend(self.node(done, new, node));
        }
        found
    }

    fn node(&self, done: &Module, new: &mut Rebuild<'_>, node: &Node) -> Vec<(String, Value)> {
        let values = new.new.copy(done.scope(), new.old, node, &new.operands(node));
        new.set_results(node, &values);
        let labels = node.op.callee().and_then(|it| self.added.get(it));
        let more = values.into_iter().skip(node.results().len());
        labels.into_iter().flatten().cloned().zip(more).collect()
    }

    /// The entry, with a name for each measure that says of which layer it is.
    fn entry(&self, done: &Module, function: &Function) -> Function {
        let mut new = Rebuild::new(function, &function.name);
        function.param_values().for_each(|it| new.param(it));
        let mut found: Vec<(String, usize, Value)> = Vec::new();
        let mut layer = 0;
        for node in live_nodes(function) {
            let place = self.place(function, node);
            let measured = self.node(done, &mut new, node);
            found.extend(measured.into_iter().map(|(label, it)| {
                let place = if label == LAYERS { 0 } else { place.unwrap_or(0) };
                (label, place, it)
            }));
            if let (Some(_), true, Op::Call(_)) = (place, self.wanted.contains(LAYERS), &node.op) {
                let (from, to) = (new.get(node.operands[0]), node.results().next());
                let to = to.map_or(from, |it| new.get(it));
                found.extend(
                    self.cosine(done.scope(), &mut new.new, from, to)
                        .map(|it| (LAYERS.to_owned(), layer, it)),
                );
                layer += 1;
            }
        }
        new.outputs();
        let mut counts: BTreeMap<(String, usize), usize> = BTreeMap::new();
        for (label, place, value) in found {
            let n = counts.entry((label.clone(), place)).or_default();
            new.new.output(format!("{PREFIX}{label}.{place}.{n}"), value);
            *n += 1;
        }
        new.new
    }

    /// Which of its kind the layer is whose weights `node` takes.
    fn place(&self, function: &Function, node: &Node) -> Option<usize> {
        let of =
            |it: &Value| Gather::known_place(&self.module.axes, function, function.maker(*it)?);
        node.operands.iter().find_map(of).map(|it| it as usize)
    }

    /// Whether a function is one turn of a loop over layers, and layers are measured.
    fn is_layer_body(&self, name: &Name) -> bool {
        let layers = self.links.layer_axes();
        let is_loop = |node: &Node| match &node.op {
            Op::Scan(it) => {
                it.body == *name && it.axis.as_atom().is_some_and(|axis| layers.contains(axis))
            }
            _ => false,
        };
        self.wanted.contains(LAYERS) && self.module.entry().nodes().iter().any(is_loop)
    }

    /// The cosines between what a turn is handed and what it hands on.
    fn cosine_of(&self, scope: Scope<'_>, new: &mut Rebuild<'_>) -> Option<Value> {
        let from = new.new.param_values().next()?;
        let to = new.new.outputs.first()?.value;
        self.cosine(scope, &mut new.new, from, to)
    }

    fn magnitude(&self, scope: Scope<'_>, f: &mut Function, value: Value) -> Value {
        let size = match self.squares {
            true => f.add(scope, Op::binary(BinaryFn::Mul), &[value, value]),
            false => f.add(scope, Op::unary(UnaryFn::Abs), &[value]),
        };
        let over = vec![self.positions.clone()];
        f.add(scope, Reduce { over, kind: ReduceKind::Sum }, &[size])
    }

    /// The sum over positions of the cosines between `from` and `to`, if they have positions.
    fn cosine(&self, scope: Scope<'_>, f: &mut Function, from: Value, to: Value) -> Option<Value> {
        let ty = f.ty(from).clone();
        ty.position(&self.positions)?;
        if f.ty(to).axes != ty.axes {
            return None;
        }
        let over: Vec<Axis> = ty.axes.into_iter().filter(|it| *it != self.positions).collect();
        let mut product = |a, b| f.add(scope, Product { over: over.clone() }, &[a, b]);
        let (dot, of_from, of_to) = (product(from, to), product(from, from), product(to, to));
        let sizes = f.add(scope, Op::binary(BinaryFn::Mul), &[of_from, of_to]);
        // Nothing has no direction; this keeps it from being divided by.
        let least = f.add(scope, Constant::scalar(DType::F32, f64::from(f32::MIN_POSITIVE)), &[]);
        let sizes = f.add(scope, Op::binary(BinaryFn::Add), &[sizes, least]);
        let inverse = f.add(scope, Op::unary(UnaryFn::Rsqrt), &[sizes]);
        let cosine = f.add(scope, Op::binary(BinaryFn::Mul), &[dot, inverse]);
        let over = vec![self.positions.clone()];
        Some(f.add(scope, Reduce { over, kind: ReduceKind::Sum }, &[cosine]))
    }
}
