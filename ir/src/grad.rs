//! Reverse-mode differentiation.

use std::collections::HashMap;

use crate::{
    Axis, DType, Function, Module, Name, Op, Role, Type, Value,
    ops::{
        Binary, BinaryFn, Cast, Constant, Reduce, ReduceKind, Select, Transpose, Unary, UnaryFn,
    },
};

/// Adds to `module` the gradient of `function` and gives its name. It takes what `function` takes,
/// then the gradient of each float output; it gives the gradient of each float parameter. `None`
/// when there is no float to differentiate by.
pub fn differentiate(module: &mut Module, function: &str) -> Option<Name> {
    let forward = module.function(function)?.clone();
    let name = Name::from(format!("{function}.grad"));
    if module.function(name.as_str()).is_some() {
        return Some(name);
    }
    let is_float = |ty: &Type| ty.dtype.is_float();
    let any = forward.params.iter().any(|it| is_float(&it.ty))
        && forward.output_types().iter().any(is_float);
    if !any {
        return None;
    }
    let mut function = Function::new(&name);
    let mut arguments = Vec::new();
    for param in &forward.params {
        arguments.push(function.param(&param.name, Role::Value, param.ty.clone()));
    }
    let mut seeds = Vec::new();
    for output in &forward.outputs {
        let ty = forward.ty(output.value).clone();
        seeds.push(
            is_float(&ty).then(|| function.param(format!("d_{}", output.name), Role::Value, ty)),
        );
    }
    let mut grad = Grad { module, function };
    let gradients = grad.reverse(&forward, &arguments, &seeds);
    for (param, (&argument, gradient)) in forward.params.iter().zip(arguments.iter().zip(gradients))
    {
        if is_float(&param.ty) {
            let gradient = match gradient {
                Some(it) => grad.fit(it, argument),
                None => grad.zeros(argument),
            };
            grad.function.output(format!("d_{}", param.name), gradient);
        }
    }
    let function = grad.function;
    module.functions.push(function);
    Some(name)
}

/// A gradient under construction: what the gradient rules of ops build with.
pub struct Grad<'a> {
    module: &'a mut Module,
    function: Function,
}

impl Grad<'_> {
    /// The gradients of `arguments`, given those of the outputs of `forward`.
    fn reverse(
        &mut self,
        forward: &Function,
        arguments: &[Value],
        seeds: &[Option<Value>],
    ) -> Vec<Option<Value>> {
        let new = self.replay(forward, arguments);
        let mut gradients: HashMap<usize, Value> = HashMap::new();
        for (output, seed) in forward.outputs.iter().zip(seeds) {
            if let Some(seed) = *seed {
                self.accumulate(&mut gradients, output.value, seed);
            }
        }
        for node in forward.nodes().iter().rev() {
            let upstream: Vec<_> =
                node.results().map(|it| gradients.get(&it.index()).copied()).collect();
            if upstream.iter().all(Option::is_none) {
                continue;
            }
            let operands: Vec<Value> = node.operands.iter().map(|it| new[it.index()]).collect();
            let results: Vec<Value> = node.results().map(|it| new[it.index()]).collect();
            let contributions = node.op.rules().gradient(self, &operands, &results, &upstream);
            for (&operand, contribution) in node.operands.iter().zip(contributions) {
                if let Some(contribution) = contribution {
                    self.accumulate(&mut gradients, operand, contribution);
                }
            }
        }
        forward.param_values().map(|it| gradients.get(&it.index()).copied()).collect()
    }

    /// Computes the forward values here; each value's counterpart.
    fn replay(&mut self, forward: &Function, arguments: &[Value]) -> Vec<Value> {
        let mut new: Vec<Value> = forward.values().collect();
        new[..arguments.len()].copy_from_slice(arguments);
        for node in forward.nodes() {
            let operands: Vec<Value> = node.operands.iter().map(|it| new[it.index()]).collect();
            let values = self.add_all(node.op.clone(), &operands);
            for (old, value) in node.results().zip(values) {
                new[old.index()] = value;
            }
        }
        new
    }

    fn accumulate(&mut self, gradients: &mut HashMap<usize, Value>, of: Value, more: Value) {
        let total = match gradients.get(&of.index()) {
            Some(&so_far) => self.binary(BinaryFn::Add, so_far, more),
            None => more,
        };
        gradients.insert(of.index(), total);
    }

    /// The module, which may have grown functions.
    pub fn module(&self) -> &Module {
        self.module
    }

    /// The type of a value.
    pub fn ty(&self, value: Value) -> &Type {
        self.function.ty(value)
    }

    /// Whether a value can have a gradient.
    pub fn is_float(&self, value: Value) -> bool {
        self.ty(value).dtype.is_float()
    }

    /// Adds an op with one result.
    pub fn add(&mut self, op: impl Into<Op>, operands: &[Value]) -> Value {
        self.function.add(self.module.scope(), op, operands)
    }

    /// Adds an op with all its results.
    pub fn add_all(&mut self, op: impl Into<Op>, operands: &[Value]) -> Vec<Value> {
        self.function.add_all(self.module.scope(), op, operands)
    }

    /// A number.
    pub fn number(&mut self, value: f64) -> Value {
        self.add(Constant::scalar(DType::F32, value), &[])
    }

    /// Zeros of the type of `value`.
    pub fn zeros(&mut self, value: Value) -> Value {
        let ty = self.ty(value).clone();
        self.add(Constant::fill(ty.with_dtype(ty.dtype.value_type()), 0.0), &[])
    }

    /// A function of one value.
    pub fn unary(&mut self, function: UnaryFn, x: Value) -> Value {
        self.add(Unary { function }, &[x])
    }

    /// A function of two values.
    pub fn binary(&mut self, function: BinaryFn, x: Value, y: Value) -> Value {
        self.add(Binary { function }, &[x, y])
    }

    /// `x * y`.
    pub fn mul(&mut self, x: Value, y: Value) -> Value {
        self.binary(BinaryFn::Mul, x, y)
    }

    /// `x / y`.
    pub fn div(&mut self, x: Value, y: Value) -> Value {
        self.binary(BinaryFn::Div, x, y)
    }

    /// `x - y`.
    pub fn sub(&mut self, x: Value, y: Value) -> Value {
        self.binary(BinaryFn::Sub, x, y)
    }

    /// 1 where `x` is above 0, -1 where it is below, 0 at 0.
    pub fn sign(&mut self, x: Value) -> Value {
        let (zero, one) = (self.number(0.0), self.number(1.0));
        let minus = self.number(-1.0);
        let (below, above) =
            (self.binary(BinaryFn::Less, x, zero), self.binary(BinaryFn::Less, zero, x));
        let negative = self.add(Select, &[below, minus, zero]);
        self.add(Select, &[above, one, negative])
    }

    /// `x` where `condition` holds, and 0 elsewhere.
    pub fn keep(&mut self, condition: Value, x: Value) -> Value {
        let zero = self.number(0.0);
        self.add(Select, &[condition, x, zero])
    }

    /// `upstream` for the first of a pair where `compare(a, b)` holds and for the second elsewhere.
    pub fn choose(
        &mut self,
        compare: BinaryFn,
        a: Value,
        b: Value,
        upstream: Value,
    ) -> (Value, Value) {
        let first = self.binary(compare, a, b);
        let zero = self.number(0.0);
        (self.add(Select, &[first, upstream, zero]), self.add(Select, &[first, zero, upstream]))
    }

    /// Gives a gradient the type of what it is the gradient of: sums over the axes along which that
    /// was repeated, repeats along those that were summed, and orders the rest.
    pub fn fit(&mut self, gradient: Value, of: Value) -> Value {
        let target = self.ty(of).with_dtype(self.ty(of).dtype.value_type());
        let extra = |it: &&Axis| target.position(it).is_none();
        let over: Vec<Axis> = self.ty(gradient).axes.iter().filter(extra).cloned().collect();
        let mut gradient = gradient;
        if !over.is_empty() {
            gradient = self.add(Reduce { over, kind: ReduceKind::Sum }, &[gradient]);
        }
        if self.ty(gradient).axes.len() < target.axes.len() {
            let zeros = self.zeros(of);
            gradient = self.binary(BinaryFn::Add, zeros, gradient);
        }
        if self.ty(gradient).axes != target.axes {
            gradient = self.add(Transpose { to: target.axes.clone() }, &[gradient]);
        }
        if self.ty(gradient).dtype != target.dtype {
            gradient = self.add(Cast { dtype: target.dtype }, &[gradient]);
        }
        gradient
    }

    /// The gradient of a function, made when first asked for.
    pub fn of_function(&mut self, name: &Name) -> Option<Name> {
        differentiate(self.module, name.as_str())
    }

    /// Adds a function that `build` fills, unless it is there already.
    pub fn define(&mut self, name: String, build: impl FnOnce(&Module, &mut Function)) -> Name {
        let name = Name::from(name);
        if self.module.function(name.as_str()).is_none() {
            let mut function = Function::new(&name);
            build(self.module, &mut function);
            self.module.functions.push(function);
        }
        name
    }

    /// The gradients of all float `results`, zeros where there is none.
    pub fn fill(&mut self, results: &[Value], upstream: &[Option<Value>]) -> Vec<Value> {
        let floats = results.iter().zip(upstream).filter(|(it, _)| self.is_float(**it));
        let floats: Vec<(Value, Option<Value>)> = floats.map(|(&it, &up)| (it, up)).collect();
        let fill = |(result, up): (Value, Option<Value>)| match up {
            Some(it) => self.fit(it, result),
            None => self.zeros(result),
        };
        floats.into_iter().map(fill).collect()
    }

    /// Hands one gradient to each float among `operands`, in order.
    pub fn to_floats(&self, operands: &[Value], gradients: Vec<Value>) -> Vec<Option<Value>> {
        let mut gradients = gradients.into_iter();
        operands.iter().map(|&it| self.is_float(it).then(|| gradients.next()).flatten()).collect()
    }
}
