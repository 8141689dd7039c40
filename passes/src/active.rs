//! Makes the extents of elastic axes known when running: one set of weights for every choice.
//!
//! Each weight keeps all its places, `F.all` of them, and the model takes the first `F` of these,
//! where `F` is told in each run. Taking them is a view: what is kept within each group stays where
//! it is.
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
//! axis F <= 8
//! axis F.all = 8
//! axis S <= 8
//!
//! fn @model (input %x : f32[S, E], weight %up : f32[F.all, E], weight %down : f32[E, F.all]) {
//!   %0 = slice %up {axis = F.all, after = [], last = false, into = F} : f32[F, E]
//!   %1 = slice %down {axis = F.all, after = [], last = false, into = F} : f32[E, F]
//!   %2 = contract %x %0 {over = [E]} : f32[S, F]
//!   %3 = contract %2 %1 {over = [F]} : f32[S, E]
//!   return y = %3
//! }
//! ```

use std::collections::BTreeMap;

use ir::{
    Axis, Extent, Function, Module, Name, Role, Scope, Type, Value,
    ops::{Merge, Slice, Split},
};

use crate::{
    Contract, Cx, Fault, Noise, Pass, PassOption, Widths, forms,
    rebuild::{Rebuild, live_nodes},
    slice::{TO, sliced, wanted},
};

/// See the module.
pub struct Active;

impl Pass for Active {
    fn name(&self) -> &'static str {
        "active"
    }

    fn about(&self) -> &'static str {
        "makes the extents of elastic axes known when running"
    }

    fn options(&self) -> &'static [PassOption] {
        &[PassOption { doc: "these axes, such as `F=8960 J=14`; else all that are elastic", ..TO }]
    }

    fn contract(&self) -> Contract {
        Contract::Lowers(is_the_sliced)
    }

    fn run(&self, module: &Module, cx: &mut Cx) -> Result<Module, Fault> {
        active(module, &wanted(module, cx)?.within(module)?)
    }
}

fn is_the_sliced(before: &Module, _: &Module, cx: &Cx, noise: &mut Noise) -> Result<(), Fault> {
    let widths = wanted(before, cx)?;
    forms::agree(before, &sliced(before, &widths), &widths, noise)
}

/// `module` with the extents of the atoms that `widths` names told in each run.
pub(crate) fn active(module: &Module, widths: &Widths) -> Result<Module, Fault> {
    let mut result = module.clone();
    let mut whole = BTreeMap::new();
    for (name, _) in widths.iter() {
        let Some(size) = module.axes.fixed(&name.into()) else { continue };
        let all = result.axes.fresh(&format!("{name}.all"));
        result.axes.fix(&all, size);
        result.axes.declare(name, Extent::Runtime { max: size });
        whole.insert(name.clone(), all);
    }
    let Some(entry) = result.functions.pop() else { return Err(Fault::new("no entry")) };
    let mut new = Rebuild::new(&entry, &entry.name);
    let mut views = Vec::new();
    for (value, param) in entry.param_values().zip(&entry.params) {
        let is_weight = param.role == Role::Weight;
        let ty = if is_weight { stored(&param.ty, &whole) } else { param.ty.clone() };
        let stored = new.new.param(&param.name, param.role, ty);
        views.push((value, stored));
    }
    for (value, stored) in views {
        let param = &entry.params[value.index()];
        let view = match param.role {
            Role::Weight => view(result.scope(), &mut new.new, stored, &param.ty, &whole)?,
            _ => stored,
        };
        new.set(value, view);
    }
    for node in live_nodes(&entry) {
        new.copy(result.scope(), node);
    }
    new.outputs();
    result.functions.push(new.new);
    Ok(result)
}

/// The type of a weight with all its places.
fn stored(ty: &Type, whole: &BTreeMap<Name, Name>) -> Type {
    let axis = |it: &Axis| {
        let segments = it.segments().iter().map(|segment| {
            let atoms = segment.iter().map(|it| Axis::from(whole.get(it).unwrap_or(it)));
            Axis::product(&atoms.collect::<Vec<_>>()).unwrap_or_default()
        });
        Axis::concat(&segments.collect::<Vec<_>>())
    };
    Type::new(ty.dtype, ty.axes.iter().map(axis).collect::<Vec<_>>())
}

/// The first places of a weight, as type `ty` has them.
fn view(
    scope: Scope<'_>,
    f: &mut Function,
    mut value: Value,
    ty: &Type,
    whole: &BTreeMap<Name, Name>,
) -> Result<Value, Fault> {
    for axis in ty.axes.iter().filter(|it| it.atoms().any(|atom| whole.contains_key(atom))) {
        let [atoms] = axis.segments() else {
            return Err(Fault::new(format!("`{axis}` is laid end to end: it can not be a view")));
        };
        let all: Vec<Axis> =
            atoms.iter().map(|it| Axis::from(whole.get(it).unwrap_or(it))).collect();
        let parts: Vec<Axis> = atoms.iter().map(Axis::from).collect();
        if let Some(product) = Axis::product(&all).filter(|_| 1 < all.len()) {
            value = f.add(scope, Split { axis: product, into: all.clone() }, &[value]);
        }
        for (all, part) in all.iter().zip(&parts).filter(|(all, part)| all != part) {
            let slice = Slice { axis: all.clone(), into: part.clone(), ..Slice::default() };
            value = f.add(scope, slice, &[value]);
        }
        if 1 < parts.len() {
            value = f.add(scope, Merge { axes: parts, into: axis.clone() }, &[value]);
        }
    }
    Ok(value)
}
