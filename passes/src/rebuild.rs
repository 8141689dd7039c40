//! A function made anew from another one, when its signature changes too.

use ir::{Function, Module, Name, Node, Scope, Value};

/// The new function, and where the values of the old one went.
pub(crate) struct Rebuild<'a> {
    pub(crate) old: &'a Function,
    pub(crate) new: Function,
    values: Vec<Option<Value>>,
}

impl<'a> Rebuild<'a> {
    /// A function of that name and origin, without parameters yet.
    pub(crate) fn new(old: &'a Function, name: &Name) -> Rebuild<'a> {
        let mut new = Function::new(name);
        new.origin.clone_from(&old.origin);
        Rebuild { old, new, values: vec![None; old.n_values()] }
    }

    /// Takes the parameter `param` of the old function.
    pub(crate) fn param(&mut self, param: Value) {
        let it = &self.old.params[param.index()];
        let new = self.new.param(&it.name, it.role, it.ty.clone());
        self.set(param, new);
    }

    /// Says what has become of `old`.
    pub(crate) fn set(&mut self, old: Value, new: Value) {
        self.values[old.index()] = Some(new);
    }

    /// What has become of `old`.
    pub(crate) fn get(&self, old: Value) -> Value {
        self.values[old.index()].expect("operands are rebuilt first")
    }

    /// The same for a value that may not be there yet: its maker is copied first.
    pub(crate) fn fetch(&mut self, scope: Scope<'_>, old: Value) -> Value {
        let function = self.old;
        if let Some(maker) = function.maker(old).filter(|_| !self.known(old)) {
            maker.operands.iter().for_each(|it| {
                self.fetch(scope, *it);
            });
            self.copy(scope, maker);
        }
        self.get(old)
    }

    /// Whether something has become of `old` already.
    pub(crate) fn known(&self, old: Value) -> bool {
        self.values[old.index()].is_some()
    }

    /// The operands of `node` in the new function.
    pub(crate) fn operands(&self, node: &Node) -> Vec<Value> {
        node.operands.iter().map(|&it| self.get(it)).collect()
    }

    /// Says what has become of the results of `node`.
    pub(crate) fn set_results(&mut self, node: &Node, values: &[Value]) {
        node.results().zip(values).for_each(|(old, &new)| self.set(old, new));
    }

    /// Takes `node` as it is.
    pub(crate) fn copy(&mut self, scope: Scope<'_>, node: &Node) {
        let values = self.new.copy(scope, self.old, node, &self.operands(node));
        self.set_results(node, &values);
    }

    /// Gives the outputs of the old function.
    pub(crate) fn outputs(&mut self) {
        for output in &self.old.outputs {
            self.new.output(&output.name, self.get(output.value));
        }
    }
}

/// The nodes that an output needs.
pub(crate) fn live_nodes(function: &Function) -> impl Iterator<Item = &Node> {
    function.nodes().iter().zip(function.live()).filter(|(_, live)| *live).map(|(node, _)| node)
}

/// Adds `function` to `done` under a name made from `stem` that neither module has, or finds the
/// function there that is the same but for its name; its name.
pub(crate) fn define(
    done: &mut Module,
    taken: &Module,
    mut function: Function,
    stem: &str,
) -> Name {
    for known in &done.functions {
        function.name = known.name.clone();
        if function == *known {
            return function.name;
        }
    }
    let is_free = |it: &str| [&*done, taken].iter().all(|module| module.function(it).is_none());
    let numbered = (1..).map(|i| format!("{stem}.{i}"));
    let mut names = std::iter::once(stem.to_owned()).chain(numbered);
    function.name = names.find(|it| is_free(it)).unwrap_or_default().into();
    done.functions.push(function.clone());
    function.name
}
