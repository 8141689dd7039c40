//! Leaves out places of axes without cutting them: the module takes the weights of all places, and
//! computes what the sliced one does.
//!
//! Sums, products and maxima pass over the places left out, and the length of an axis is that of
//! what is kept. So a root mean square divides by the active width, which is the same as dividing
//! by the whole one with an `eps` times the part kept, and multiplying by the root of that part.
//! Layers can be left out too: each hands on what it was given.
//!
//! ```ir
//! axis E = 4
//! axis F = 8 elastic {6, 4}
//! axis S <= 8
//!
//! fn @model (input %x : f32[S, E], weight %up : f32[F, E], weight %down : f32[E, F]) {
//!   %0 = contract %x %up {over = [E]} : f32[S, F]
//!   %1 = contract %0 %down {over = [F]} : f32[S, E]
//!   return y = %1
//! }
//! ```
//! becomes
//! ```ir
//! axis E = 4
//! axis F = 8 elastic {6, 4}
//! axis S <= 8
//!
//! fn @model (input %x : f32[S, E], weight %up : f32[F, E], weight %down : f32[E, F]) {
//!   %0 = contract %x %up {over = [E]} : f32[S, F]
//!   %1 = iota {axis = F} : i32[F]
//!   %2 = constant {dtype = i32, axes = [], values = [4.0]} : i32[]
//!   %3 = less %1 %2 : bool[F]
//!   %4 = constant {dtype = f32, axes = [], values = [0.0]} : f32[]
//!   %5 = select %3 %0 %4 : f32[F, S]
//!   %6 = transpose %5 {to = [S, F]} : f32[S, F]
//!   %7 = select %3 %down %4 : f32[F, E]
//!   %8 = transpose %7 {to = [E, F]} : f32[E, F]
//!   %9 = contract %6 %8 {over = [F]} : f32[S, E]
//!   return y = %9
//! }
//! ```

use std::collections::BTreeSet;

use ir::{
    Axis, DType, Function, Module, Name, Node, Op, Scope, Type, Value,
    ops::{self, BinaryFn, Constant, Iota, ReduceKind},
};

use crate::{
    Contract, Cx, Fault, Noise, Pass, PassOption, Widths,
    check::{run, same_numbers},
    forms,
    rebuild::{Rebuild, live_nodes},
    slice::{TO, sliced, wanted},
};

/// See the module.
pub struct Mask;

impl Pass for Mask {
    fn name(&self) -> &'static str {
        "mask"
    }

    fn about(&self) -> &'static str {
        "leaves out places of elastic axes, and layers, without cutting them"
    }

    fn options(&self) -> &'static [PassOption] {
        &[
            TO,
            PassOption {
                name: "skip",
                default: "",
                doc: "layers of a pattern that hand on what they are given, such as `3 5`",
            },
        ]
    }

    fn contract(&self) -> Contract {
        Contract::Lowers(is_the_sliced)
    }

    fn run(&self, module: &Module, cx: &mut Cx) -> Result<Module, Fault> {
        masked(&skip(module, &skipped(cx)?), &wanted(module, cx)?.within(module)?)
    }
}

/// The layers that the option leaves out.
fn skipped(cx: &Cx) -> Result<BTreeSet<usize>, Fault> {
    let number = |it: &str| {
        it.parse().map_err(|_| Fault::new(format!("`{it}` is not the number of a layer")))
    };
    cx.option("skip").split_whitespace().map(number).collect()
}

/// A module without layers left out is what the sliced one is; of layers, there is no other form to
/// compare with.
fn is_the_sliced(before: &Module, after: &Module, cx: &Cx, noise: &mut Noise) -> Result<(), Fault> {
    let widths = wanted(before, cx)?;
    forms::agree(before, &sliced(before, &widths), &widths, noise)?;
    // That was about masks as such; the module after the pass has them, and nothing else.
    let right = masked(&skip(before, &skipped(cx)?), &widths.within(before)?)?;
    let sizes = before.axes.sizes(&noise.extents(before)).map_err(Fault::new)?;
    let arguments = noise.arguments(before, &sizes);
    let old = run(&right, &arguments, &sizes, false)?;
    let new = run(after, &arguments, &sizes, false)?;
    let outputs = before.entry().outputs.iter().zip(old.iter().zip(&new));
    let mut same = outputs.map(|(it, (old, new))| same_numbers(it.name.as_str(), old, new, 1e-12));
    same.try_for_each(|it| it)
}

/// `module` with the layers of those numbers handing on what they are given: calls of the entry
/// that take the weights of a layer.
fn skip(module: &Module, skipped: &BTreeSet<usize>) -> Module {
    if skipped.is_empty() {
        return module.clone();
    }
    let last = module.functions.len() - 1;
    let mut result = module.clone();
    let entry = &module.functions[last];
    let mut new = Rebuild::new(entry, &entry.name);
    entry.param_values().for_each(|it| new.param(it));
    let mut layer = 0;
    for node in live_nodes(entry) {
        let is_left_out = is_layer(module, entry, node) && {
            layer += 1;
            skipped.contains(&(layer - 1))
        };
        match is_left_out {
            true => {
                let carried = new.operands(node);
                new.set_results(node, &carried);
            }
            false => new.copy(module.scope(), node),
        }
    }
    new.outputs();
    result.functions[last] = new.new;
    result
}

/// Whether a node is a call with the weights of one layer.
fn is_layer(module: &Module, entry: &Function, node: &Node) -> bool {
    let is_part = |it: &Value| {
        let maker = entry.maker(*it);
        maker.is_some_and(|it| ops::Gather::known_place(&module.axes, entry, it).is_some())
    };
    matches!(node.op, Op::Call(_)) && node.operands.iter().any(is_part)
}

/// `module` with all but the first of each atom that `widths` cuts left out.
pub(crate) fn masked(module: &Module, widths: &Widths) -> Result<Module, Fault> {
    let mut fault = None;
    let result = module.map(|done, function| {
        function.rewrite(done.scope(), |f, op, operands| {
            let mut masker = Masker { widths, scope: done.scope(), f };
            masker.op(op, operands).unwrap_or_else(|why| {
                fault.get_or_insert(why);
                None
            })
        })
    });
    match fault {
        Some(fault) => Err(fault),
        None => Ok(result),
    }
}

struct Masker<'a> {
    widths: &'a Widths,
    scope: Scope<'a>,
    f: &'a mut Function,
}

impl Masker<'_> {
    /// What stands for `op`, if it looks at places that are left out.
    fn op(&mut self, op: &Op, operands: &[Value]) -> Result<Option<Vec<Value>>, Fault> {
        match op {
            Op::Reduce(it) if self.is_cut(&it.over) => {
                let neutral = match it.kind {
                    ReduceKind::Sum => 0.0,
                    ReduceKind::Max => f64::NEG_INFINITY,
                };
                let kept = self.without_rest(operands[0], &it.over, neutral)?;
                Ok(Some(vec![self.f.add(self.scope, op.clone(), &[kept])]))
            }
            Op::Contract(it) if self.is_cut(&it.over) => {
                let kept = operands.iter().map(|value| self.without_rest(*value, &it.over, 0.0));
                let kept: Vec<Value> = kept.collect::<Result<_, _>>()?;
                Ok(Some(vec![self.f.add(self.scope, op.clone(), &kept)]))
            }
            Op::ExtentOf(it) if self.is_cut(std::slice::from_ref(&it.axis)) => {
                Ok(Some(vec![self.length(&it.axis)?]))
            }
            _ => Ok(None),
        }
    }

    fn is_cut(&self, axes: &[Axis]) -> bool {
        axes.iter().flat_map(Axis::atoms).any(|it| self.widths.get(it.as_str()).is_some())
    }

    /// `value` with `rest` at all places that are left out along `axes`.
    fn without_rest(&mut self, value: Value, axes: &[Axis], rest: f64) -> Result<Value, Fault> {
        let mut value = value;
        for axis in axes {
            if !self.is_cut(std::slice::from_ref(axis)) {
                continue;
            }
            let [atoms] = axis.segments() else {
                let why = format!("`{axis}` can not be masked: it is laid end to end");
                return Err(Fault::new(why));
            };
            let parts: Vec<Axis> = atoms.iter().map(Axis::from).collect();
            let is_product = 1 < parts.len();
            if is_product {
                let split = ops::Split { axis: axis.clone(), into: parts.clone() };
                value = self.f.add(self.scope, split, &[value]);
            }
            for atom in atoms {
                value = self.without_rest_of(value, atom, rest);
            }
            if is_product {
                let merge = ops::Merge { axes: parts, into: axis.clone() };
                value = self.f.add(self.scope, merge, &[value]);
            }
        }
        Ok(value)
    }

    fn without_rest_of(&mut self, value: Value, atom: &Name, rest: f64) -> Value {
        let Some(kept) = self.widths.get(atom.as_str()) else { return value };
        let Type { dtype, axes } = self.f.ty(value).clone();
        let place = self.f.add(self.scope, Iota { axis: atom.into() }, &[]);
        let end = self.f.add(self.scope, Constant::scalar(DType::I32, kept as f64), &[]);
        let is_kept = self.f.add(self.scope, Op::binary(BinaryFn::Less), &[place, end]);
        let rest = self.f.add(self.scope, Constant::scalar(dtype.value_type(), rest), &[]);
        let found = self.f.add(self.scope, ops::Select, &[is_kept, value, rest]);
        self.f.add(self.scope, ops::Transpose { to: axes }, &[found])
    }

    /// How many places of `axis` are kept.
    fn length(&mut self, axis: &Axis) -> Result<Value, Fault> {
        let unknown = || Fault::new(format!("`{axis}` has no known extent to leave places out of"));
        let mut total = 0;
        for segment in axis.segments() {
            let mut product = 1;
            for atom in segment {
                let size = self.scope.axes.fixed(&atom.into()).ok_or_else(unknown)?;
                product *= self.widths.get(atom.as_str()).unwrap_or(size);
            }
            total += product;
        }
        Ok(self.f.add(self.scope, Constant::scalar(DType::F32, total as f64), &[]))
    }
}
