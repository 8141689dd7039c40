//! A function: nodes in an order where each one follows its operands.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use crate::{Line, Name, Op, Scope, Type, op::Real};

/// A parameter of a function, or one result of one of its nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value(pub(crate) u32);

impl Value {
    /// Its place among the values of its function.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a parameter of the entry function is; `Value` everywhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// An argument of a call.
    Value,
    /// What a user gives for each run.
    Input,
    /// What a checkpoint gives once.
    Weight,
    /// What the previous run left; an output of the same name gives the next one.
    State,
}

impl Role {
    /// Every role with its word in the text form.
    pub const ALL: [(Role, &'static str); 4] = [
        (Role::Value, ""),
        (Role::Input, "input "),
        (Role::Weight, "weight "),
        (Role::State, "state "),
    ];
}

/// A parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    /// Its name, which is its path in the spec for a weight.
    pub name: Name,
    /// What it is.
    pub role: Role,
    /// Its type.
    pub ty: Type,
}

/// One op applied to operands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    /// What is done.
    pub op: Op,
    /// To what.
    pub operands: Vec<Value>,
    /// The first of its results; the others follow.
    first: Value,
    n_results: u32,
}

impl Node {
    /// The results, in order.
    pub fn results(&self) -> impl ExactSizeIterator<Item = Value> + use<> {
        (self.first.0..self.first.0 + self.n_results).map(Value)
    }

    /// The only result.
    ///
    /// # Panics
    ///
    /// When there are several.
    pub fn result(&self) -> Value {
        assert_eq!(self.n_results, 1, "a node with one result");
        self.first
    }
}

/// What a function gives back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its name; for a state, that of the parameter which takes it in the next run.
    pub name: Name,
    /// What it is.
    pub value: Value,
}

/// Where a function comes from: the generic function and the compile-time arguments that made it.
/// A kernel that claims calls looks here.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Origin {
    /// Such as `prelude::rms_norm`.
    pub function: String,
    /// Numbers, by parameter name.
    pub numbers: BTreeMap<String, Real>,
    /// Options such as `mask = causal`, by parameter name.
    pub options: BTreeMap<String, String>,
}

/// Nodes over parameters. Nodes are hash-consed: the same op on the same operands is one node.
#[derive(Clone, Debug, Default)]
pub struct Function {
    /// Its name in the module.
    pub name: Name,
    /// What it was made from.
    pub origin: Option<Origin>,
    /// What it takes.
    pub params: Vec<Param>,
    /// What it gives.
    pub outputs: Vec<Output>,
    nodes: Vec<Node>,
    types: Vec<Type>,
    /// For each value: the node that makes it; `None` for parameters.
    makers: Vec<Option<u32>>,
    /// For each node: where it was written, if that is known.
    lines: Vec<Option<Line>>,
    /// What nodes of unknown lines are made in place of.
    here: Option<Line>,
    known: HashMap<(Op, Vec<Value>), u32>,
}

impl PartialEq for Function {
    fn eq(&self, other: &Function) -> bool {
        self.name == other.name
            && self.origin == other.origin
            && self.params == other.params
            && self.outputs == other.outputs
            && self.nodes == other.nodes
            && self.types == other.types
    }
}

impl Function {
    /// A function without nodes.
    pub fn new(name: impl Into<Name>) -> Function {
        Function { name: name.into(), ..Function::default() }
    }

    /// Adds a parameter.
    ///
    /// # Panics
    ///
    /// When there is a node already.
    pub fn param(&mut self, name: impl Into<Name>, role: Role, ty: Type) -> Value {
        assert!(self.nodes.is_empty(), "parameters come before nodes");
        self.params.push(Param { name: name.into(), role, ty: ty.clone() });
        self.makers.push(None);
        self.types.push(ty);
        Value(self.types.len() as u32 - 1)
    }

    /// Adds an op, or finds the node that already computes it.
    ///
    /// # Errors
    ///
    /// When the operands do not fit.
    pub fn try_add(
        &mut self,
        scope: Scope<'_>,
        op: impl Into<Op>,
        operands: &[Value],
    ) -> Result<Vec<Value>, String> {
        self.try_add_at(None, scope, op.into(), operands)
    }

    /// The same for an op that was written at `line`.
    ///
    /// # Errors
    ///
    /// When the operands do not fit.
    pub fn try_add_at(
        &mut self,
        line: Option<&Line>,
        scope: Scope<'_>,
        op: Op,
        operands: &[Value],
    ) -> Result<Vec<Value>, String> {
        let types = self.operand_types(operands);
        let results = op.rules().infer(&types, scope)?;
        let nodes = self.nodes.len();
        let values = self.push(op, operands.to_vec(), results);
        if nodes < self.nodes.len() {
            self.lines[nodes] = line.or(self.here.as_ref()).cloned();
        }
        Ok(values)
    }

    /// Adds an op whose operands are known to fit, with all its results.
    ///
    /// # Panics
    ///
    /// When they do not fit.
    #[track_caller]
    pub fn add_all(
        &mut self,
        scope: Scope<'_>,
        op: impl Into<Op>,
        operands: &[Value],
    ) -> Vec<Value> {
        self.add_all_at(None, scope, op.into(), operands)
    }

    /// The same for an op that was written at `line`.
    ///
    /// # Panics
    ///
    /// When they do not fit.
    #[track_caller]
    pub fn add_all_at(
        &mut self,
        line: Option<&Line>,
        scope: Scope<'_>,
        op: Op,
        operands: &[Value],
    ) -> Vec<Value> {
        match self.try_add_at(line, scope, op.clone(), operands) {
            Ok(results) => results,
            Err(why) => panic!("{}: {why}", op.rules().name()),
        }
    }

    /// Adds `node` of another function, with these operands in the place of its own.
    ///
    /// # Panics
    ///
    /// When they do not fit.
    #[track_caller]
    pub fn copy(
        &mut self,
        scope: Scope<'_>,
        from: &Function,
        node: &Node,
        operands: &[Value],
    ) -> Vec<Value> {
        self.add_all_at(from.line(node), scope, node.op.clone(), operands)
    }

    /// The same for an op with one result.
    ///
    /// # Panics
    ///
    /// When the operands do not fit.
    #[track_caller]
    pub fn add(&mut self, scope: Scope<'_>, op: impl Into<Op>, operands: &[Value]) -> Value {
        self.add_all(scope, op, operands)[0]
    }

    pub(crate) fn push(&mut self, op: Op, operands: Vec<Value>, results: Vec<Type>) -> Vec<Value> {
        let key = (op, operands);
        if let Some(&node) = self.known.get(&key) {
            return self.nodes[node as usize].results().collect();
        }
        let node_idx = self.nodes.len() as u32;
        let first = Value(self.types.len() as u32);
        let node = Node {
            op: key.0.clone(),
            operands: key.1.clone(),
            first,
            n_results: results.len() as u32,
        };
        self.known.insert(key, node_idx);
        self.makers.extend(results.iter().map(|_| Some(node_idx)));
        self.types.extend(results);
        let results = node.results().collect();
        self.nodes.push(node);
        self.lines.push(None);
        results
    }

    /// Names an output.
    pub fn output(&mut self, name: impl Into<Name>, value: Value) {
        self.outputs.push(Output { name: name.into(), value });
    }

    /// The parameters as values.
    pub fn param_values(&self) -> impl ExactSizeIterator<Item = Value> + use<> {
        (0..self.params.len() as u32).map(Value)
    }

    /// Every node, operands first.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Values of all kinds: parameters, then results.
    pub fn n_values(&self) -> usize {
        self.types.len()
    }

    /// The node that makes `value`; `None` for a parameter.
    pub fn maker(&self, value: Value) -> Option<&Node> {
        self.maker_at(value).map(|it| &self.nodes[it])
    }

    /// The place among the nodes of the one that makes `value`; `None` for a parameter.
    pub fn maker_at(&self, value: Value) -> Option<usize> {
        self.makers[value.index()].map(|it| it as usize)
    }

    /// Where a node of this function was written, if that is known.
    pub fn line(&self, node: &Node) -> Option<&Line> {
        let at = self.makers[node.first.index()]?;
        self.lines[at as usize].as_ref()
    }

    /// The parameter that `value` is.
    pub fn as_param(&self, value: Value) -> Option<&Param> {
        self.params.get(value.index())
    }

    /// The type of `value`.
    pub fn ty(&self, value: Value) -> &Type {
        &self.types[value.index()]
    }

    /// The types of the outputs.
    pub fn output_types(&self) -> Vec<Type> {
        self.outputs.iter().map(|it| self.ty(it.value).clone()).collect()
    }

    /// The types of `operands`.
    pub fn operand_types(&self, operands: &[Value]) -> Vec<Type> {
        operands.iter().map(|&it| self.ty(it).clone()).collect()
    }

    /// Every value, in order.
    pub fn values(&self) -> impl ExactSizeIterator<Item = Value> + use<> {
        (0..self.types.len() as u32).map(Value)
    }

    /// For each node, whether an output needs it.
    pub fn live(&self) -> Vec<bool> {
        let mut live = vec![false; self.nodes.len()];
        let mut pending: Vec<Value> = self.outputs.iter().map(|it| it.value).collect();
        while let Some(value) = pending.pop() {
            let Some(node) = self.makers[value.index()] else { continue };
            if !std::mem::replace(&mut live[node as usize], true) {
                pending.extend(&self.nodes[node as usize].operands);
            }
        }
        live
    }

    /// How often each value is used by what an output needs; outputs are uses.
    pub fn uses(&self) -> Vec<usize> {
        let mut uses = vec![0; self.n_values()];
        let live = self.nodes.iter().zip(self.live()).filter(|it| it.1);
        let operands = live.flat_map(|(node, _)| &node.operands).copied();
        let outputs = self.outputs.iter().map(|it| it.value);
        operands.chain(outputs).for_each(|it| uses[it.index()] += 1);
        uses
    }

    /// The same name, origin and parameters, and nothing else.
    pub fn signature(&self) -> Function {
        let mut result = Function { origin: self.origin.clone(), ..Function::new(&self.name) };
        for param in &self.params {
            result.param(&param.name, param.role, param.ty.clone());
        }
        result
    }

    /// Rebuilds the function bottom up. `rule` sees each node that an output needs, with its
    /// operands already rewritten, and may answer with other values for its results.
    pub fn rewrite(
        &self,
        scope: Scope<'_>,
        mut rule: impl FnMut(&mut Function, &Op, &[Value]) -> Option<Vec<Value>>,
    ) -> Function {
        let mut result = self.signature();
        let mut new: Vec<Value> = self.values().collect();
        let live = self.live();
        for (node, _) in self.nodes.iter().zip(live).filter(|(_, live)| *live) {
            let operands: Vec<Value> = node.operands.iter().map(|it| new[it.index()]).collect();
            result.here = self.line(node).cloned();
            let replaced = rule(&mut result, &node.op, &operands);
            let values = replaced.unwrap_or_else(|| result.copy(scope, self, node, &operands));
            for (old, value) in node.results().zip(values) {
                new[old.index()] = value;
            }
        }
        result.here = None;
        for output in &self.outputs {
            result.output(&output.name, new[output.value.index()]);
        }
        result
    }

    /// Copies the nodes of `callee` here, with `arguments` for its parameters; the values of its
    /// outputs. Those of unknown lines come from `line`, where it is called.
    pub fn inline(
        &mut self,
        line: Option<&Line>,
        scope: Scope<'_>,
        callee: &Function,
        arguments: &[Value],
    ) -> Vec<Value> {
        let mut new: Vec<Value> = callee.values().collect();
        new[..arguments.len()].copy_from_slice(arguments);
        for node in &callee.nodes {
            let operands: Vec<Value> = node.operands.iter().map(|it| new[it.index()]).collect();
            let line = callee.line(node).or(line);
            let values = self.add_all_at(line, scope, node.op.clone(), &operands);
            for (old, value) in node.results().zip(values) {
                new[old.index()] = value;
            }
        }
        callee.outputs.iter().map(|it| new[it.value.index()]).collect()
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "%{}", self.0)
    }
}
