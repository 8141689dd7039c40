//! Which values of a function are weights, and which of those may be stored in another form.

use ir::{Function, Module, Op, Role, Stored, Value, ops::Gather};

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Weights {
    stored: Vec<bool>,
    open: Vec<bool>,
}

impl Weights {
    /// Those of `function`; the layers of parameters for which `may_change` is true are open, where
    /// each is used once.
    pub(crate) fn of(
        module: &Module,
        stored: &Stored,
        function: &Function,
        may_change: &dyn Fn(&str) -> bool,
    ) -> Weights {
        let uses = function.uses();
        let is_open =
            |it: Value| uses[it.index()] == 1 && is_layer(module, function, it, may_change);
        let open = function.values().map(is_open).collect();
        Weights { stored: stored.values(&function.name), open }
    }

    /// Whether `value` is a weight.
    pub(crate) fn has(&self, value: Value) -> bool {
        self.stored.get(value.index()) == Some(&true)
    }

    /// Whether `value` is a weight that may be stored in another form.
    pub(crate) fn is_open(&self, value: Value) -> bool {
        self.open.get(value.index()) == Some(&true)
    }

    /// The same of a function that has only these values.
    pub(crate) fn of_values(&self, values: &[Value]) -> Weights {
        Weights {
            stored: values.iter().map(|it| self.has(*it)).collect(),
            open: values.iter().map(|it| self.is_open(*it)).collect(),
        }
    }
}

/// Whether `value` is one layer of a parameter of the entry that `may_change`, and is handed to
/// nothing else.
fn is_layer(
    module: &Module,
    function: &Function,
    value: Value,
    may_change: &dyn Fn(&str) -> bool,
) -> bool {
    let entry = module.entry();
    let is_bank = |it: Value| {
        let param = entry.as_param(it);
        param.is_some_and(|it| it.role == Role::Weight && may_change(it.name.as_str()))
    };
    if function.name == entry.name {
        let gather = function.maker(value).filter(|it| is_look_up(module, function, it));
        return gather.is_some_and(|it| {
            let bank = it.operands[0];
            let mut users = function.nodes().iter().filter(|it| it.operands.contains(&bank));
            is_bank(bank) && users.all(|it| is_look_up(module, function, it))
        });
    }
    let all = module.functions.iter().flat_map(Function::nodes);
    let mut loops = all.filter(|it| it.op.callee() == Some(&function.name));
    let (Some(node), None) = (loops.next(), loops.next()) else { return false };
    let is_of_entry = entry.nodes().contains(node);
    let Op::Scan(scan) = &node.op else { return false };
    let banked = scan.carries..scan.carries + scan.banked;
    let bank = node.operands.get(value.index()).filter(|_| banked.contains(&value.index()));
    let uses = entry.uses();
    let alone = |it: &&Value| uses[it.index()] == 1;
    is_of_entry && bank.filter(alone).is_some_and(|it| is_bank(*it))
}

/// Whether `node` takes one layer, which is known.
fn is_look_up(module: &Module, function: &Function, node: &ir::Node) -> bool {
    Gather::known_place(&module.axes, function, node).is_some()
}
