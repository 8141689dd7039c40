//! Expands calls, except of functions that a kernel claims whole. The bodies of loops stay
//! functions.
//!
//! ```ir
//! axis E = 4
//! axis S <= 8
//!
//! fn @relu of "prelude::relu" (%x : f32[S, E]) {
//!   %0 = constant {dtype = f32, axes = [], values = [0.0]} : f32[]
//!   %1 = max %x %0 : f32[S, E]
//!   return y = %1
//! }
//!
//! fn @model (input %x : f32[S, E]) {
//!   %0 = call %x {function = @relu} : f32[S, E]
//!   %1 = mul %0 %0 : f32[S, E]
//!   return y = %1
//! }
//! ```
//! becomes
//! ```ir
//! axis E = 4
//! axis S <= 8
//!
//! fn @model (input %x : f32[S, E]) {
//!   %0 = constant {dtype = f32, axes = [], values = [0.0]} : f32[]
//!   %1 = max %x %0 : f32[S, E]
//!   %2 = mul %1 %1 : f32[S, E]
//!   return y = %2
//! }
//! ```

use std::sync::Arc;

use ir::{
    Function, Module, Op, Scope, Value,
    ops::{Call, Cast},
};

use crate::{
    Contract, Cx, Fault, Pass, PassOption,
    rebuild::{Rebuild, live_nodes},
};

/// The most nodes that a function may become.
const MAX_NODES: usize = 1 << 16;

/// See the module.
pub struct Inline {
    kept: Arc<dyn Fn(&Function) -> bool + Send + Sync>,
}

impl Inline {
    /// The pass that leaves calls of the functions for which `kept` is true.
    pub fn except(kept: impl Fn(&Function) -> bool + Send + Sync + 'static) -> Inline {
        Inline { kept: Arc::new(kept) }
    }

    /// `function` with its calls expanded, except of what is kept.
    fn expand(
        &self,
        scope: Scope<'_>,
        function: &Function,
        cx: &mut Cx,
    ) -> Result<Function, Fault> {
        let mut new = Rebuild::new(function, &function.name);
        function.param_values().for_each(|it| new.param(it));
        for node in live_nodes(function) {
            let callee = match &node.op {
                Op::Call(Call { function }) => scope.function(function.as_str()),
                _ => None,
            };
            match callee.filter(|it| !self.keeps(it, cx)) {
                Some(callee) if MAX_NODES < new.new.nodes().len() + callee.nodes().len() => {
                    let name = &function.name;
                    return Err(Fault::new(format!(
                        "@{name} would have more than {MAX_NODES} nodes"
                    )));
                }
                Some(callee) if cx.allows(&function.name, format!("call of @{}", callee.name)) => {
                    let operands = new.operands(node);
                    let arguments = as_params(scope, &mut new.new, callee, &operands);
                    let line = function.line(node);
                    let values = new.new.inline(line, scope, callee, &arguments);
                    new.set_results(node, &values);
                }
                Some(_) | None => new.copy(scope, node),
            }
        }
        new.outputs();
        Ok(new.new)
    }

    fn keeps(&self, function: &Function, cx: &Cx) -> bool {
        let origin = function.origin.as_ref().map_or("", |it| it.function.as_str());
        (self.kept)(function) || cx.option("except").split_whitespace().any(|it| it == origin)
    }
}

impl Default for Inline {
    fn default() -> Inline {
        Inline::except(|_| false)
    }
}

impl Pass for Inline {
    fn name(&self) -> &'static str {
        "inline"
    }

    fn about(&self) -> &'static str {
        "expands calls, except of functions that a kernel claims"
    }

    fn options(&self) -> &'static [PassOption] {
        &[PassOption {
            name: "except",
            default: "",
            doc: "origins of more functions to leave, such as `prelude::softmax`",
        }]
    }

    fn contract(&self) -> Contract {
        Contract::Exact
    }

    fn is_needed(&self) -> bool {
        true
    }

    fn run(&self, module: &Module, cx: &mut Cx) -> Result<Module, Fault> {
        let mut result = Module { axes: module.axes.clone(), functions: Vec::new() };
        for function in &module.functions {
            let expanded = self.expand(result.scope(), function, cx)?;
            result.functions.push(expanded);
        }
        result.prune();
        Ok(result)
    }
}

/// `arguments` as the parameters of `callee` read them: narrower storage reads as `f32`.
fn as_params(
    scope: Scope<'_>,
    f: &mut Function,
    callee: &Function,
    arguments: &[Value],
) -> Vec<Value> {
    let pairs = callee.params.iter().zip(arguments);
    pairs
        .map(|(param, &it)| match param.ty.dtype {
            dtype if f.ty(it).dtype != dtype => f.add(scope, Cast { dtype }, &[it]),
            _ => it,
        })
        .collect()
}
