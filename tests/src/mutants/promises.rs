//! What every pass has to keep whatever it does: the interface, and the rules of the graph.

use ir::{Axis, Extent, Module, Role};

use super::{Mistake, Mutant};

const fn whole(name: &'static str, it: fn(&Module) -> Option<Module>) -> Mutant {
    Mutant { name, of: "canonicalise", before: "", mistake: Mistake::Whole(it) }
}

/// See the module.
pub(super) const ALL: &[Mutant] = &[
    whole("parameter renamed", |module| {
        let mut wrong = module.clone();
        wrong.functions.last_mut()?.params.first_mut()?.name = "renamed".into();
        Some(wrong)
    }),
    whole("input made a weight", |module| {
        let mut wrong = module.clone();
        let params = &mut wrong.functions.last_mut()?.params;
        params.iter_mut().find(|it| it.role == Role::Input)?.role = Role::Weight;
        Some(wrong)
    }),
    whole("output dropped", |module| {
        let mut wrong = module.clone();
        let outputs = &mut wrong.functions.last_mut()?.outputs;
        if outputs.len() == 1 {
            return None;
        }
        outputs.pop();
        Some(wrong)
    }),
    whole("nothing given", |module| {
        let mut wrong = module.clone();
        wrong.functions.last_mut()?.outputs.clear();
        Some(wrong)
    }),
    whole("callee forgotten", |module| {
        let mut wrong = module.clone();
        (1 < wrong.functions.len()).then(|| wrong.functions.remove(0))?;
        Some(wrong)
    }),
    whole("axis longer", |module| {
        let entry = module.entry();
        let mut atoms = entry.params.iter().flat_map(|it| &it.ty.axes).flat_map(Axis::atoms);
        let is_fixed = |it: &&ir::Name| {
            let decl = module.axes.get(it.as_str());
            matches!(decl.map(|it| &it.extent), Some(Extent::Fixed { .. }))
        };
        let name = atoms.find(is_fixed)?.clone();
        let mut wrong = module.clone();
        let size = module.axes.fixed(&Axis::atom(&name))?;
        wrong.axes.fix(&name, size + 1);
        Some(wrong)
    }),
    whole("panic", |module| {
        assert!(module.functions.is_empty(), "there was always one function");
        None
    }),
];
