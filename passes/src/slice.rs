//! Cuts axes: the same module over fewer places.
//!
//! What is kept of an atom is the first so many places of an order that is stored with the weights
//! (see [`Orders`]). Nothing but the axis table changes, because ops name axes and hold no extents.
//! So cutting `J` of `H*J*D` keeps the first heads of every group; the first places of the product
//! as such can not be asked for, and an axis that is a product by number alone is refused.
//!
//! ```ir
//! axis E = 4
//! axis F = 8 elastic {6, 4}
//! axis S <= 8
//!
//! fn @mlp (%x : f32[S, E], %up : f32[F, E], %down : f32[E, F]) {
//!   %0 = contract %x %up {over = [E]} : f32[S, F]
//!   %1 = mul %0 %0 : f32[S, F]
//!   %2 = contract %1 %down {over = [F]} : f32[S, E]
//!   return y = %2
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
//! axis F = 4
//! axis S <= 8
//!
//! fn @mlp (%x : f32[S, E], %up : f32[F, E], %down : f32[E, F]) {
//!   %0 = contract %x %up {over = [E]} : f32[S, F]
//!   %1 = mul %0 %0 : f32[S, F]
//!   %2 = contract %1 %down {over = [F]} : f32[S, E]
//!   return y = %2
//! }
//!
//! fn @model (input %x : f32[S, E], weight %up : f32[F, E], weight %down : f32[E, F]) {
//!   %0 = call %x %up %down {function = @mlp} : f32[S, E]
//!   return y = %0
//! }
//! ```

use ir::{Axes, Extent, Module};

use crate::{Contract, Cx, Fault, Pass, PassOption, Widths, forms};

/// See the module.
pub struct Slice;

/// The option by which passes are told what to keep.
pub(crate) const TO: PassOption = PassOption {
    name: "to",
    default: "",
    doc: "at most so many of each axis, such as `F=8960 J=14`; else the least choice of all",
};

impl Pass for Slice {
    fn name(&self) -> &'static str {
        "slice"
    }

    fn about(&self) -> &'static str {
        "cuts elastic axes"
    }

    fn options(&self) -> &'static [PassOption] {
        &[TO]
    }

    fn contract(&self) -> Contract {
        Contract::Slices
    }

    fn run(&self, module: &Module, cx: &mut Cx) -> Result<Module, Fault> {
        let widths = wanted(module, cx)?;
        Ok(sliced(module, &widths.within(module)?))
    }
}

/// What the option asks for.
pub(crate) fn wanted(module: &Module, cx: &Cx) -> Result<Widths, Fault> {
    match cx.option(TO.name) {
        "" => Ok(Widths::least(module)),
        text => Widths::parse(text),
    }
}

/// `module` with the axes `widths` cut, and no choice left.
pub(crate) fn sliced(module: &Module, widths: &Widths) -> Module {
    let mut axes = Axes::default();
    for (name, decl) in module.axes.iter() {
        let extent = match &decl.extent {
            Extent::Fixed { size, .. } => {
                let kept = widths.get(name.as_str()).map_or(*size, |it| it.min(*size));
                Extent::Fixed { size: kept, choices: Vec::new() }
            }
            other => other.clone(),
        };
        axes.declare(name, extent);
        if let Some(origin) = &decl.origin {
            axes.set_origin(name, origin.clone());
        }
    }
    Module { axes, functions: module.functions.clone() }
}

/// Compares what a pass made of a small module, and then all forms of every cut that its choices,
/// or the option, allow.
pub(crate) fn check(
    small: &Module,
    after: &Module,
    cx: &Cx,
    noise: &mut crate::Noise,
) -> Result<(), Fault> {
    forms::agree(small, after, &lost(small, after), noise)?;
    let combinations = wanted(small, cx)?.combinations(small);
    combinations.iter().try_for_each(|it| forms::agree(small, &sliced(small, it), it, noise))
}

/// The axes that are shorter in `after`, with what is left of them.
fn lost(before: &Module, after: &Module) -> Widths {
    let mut widths = Widths::default();
    for (name, _) in before.axes.iter() {
        let [old, new] = [before, after].map(|it| it.axes.fixed(&name.into()));
        if let Some((_, new)) = old.zip(new).filter(|(old, new)| new < old) {
            widths.set(name, new);
        }
    }
    widths
}
