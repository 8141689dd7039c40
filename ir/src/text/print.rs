//! A module as text.

use std::fmt;

use crate::{
    Attribute, Axes, AxisDecl, Extent, Function, Module, Node, Origin, Role, Type, Value, Visit,
};

impl fmt::Display for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.axes.fmt(f)?;
        for function in &self.functions {
            write!(f, "\n{function}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Axes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|(name, decl)| writeln!(f, "axis {name} {decl}"))
    }
}

impl fmt::Display for AxisDecl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.extent {
            Extent::Fixed { size, choices } => {
                write!(f, "= {size}")?;
                if !choices.is_empty() {
                    let choices: Vec<String> = choices.iter().map(usize::to_string).collect();
                    write!(f, " elastic {{{}}}", choices.join(", "))?;
                }
            }
            Extent::Runtime { max } => write!(f, "<= {max}")?,
            Extent::Like(axis) => write!(f, "= {axis}")?,
        }
        self.origin.iter().try_for_each(|it| write!(f, " from {it}"))
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fn @{}", self.name)?;
        self.origin.iter().try_for_each(|it| write!(f, " of {it}"))?;
        let params: Vec<String> = self
            .params
            .iter()
            .map(|it| format!("{}%{} : {}", role(it.role), it.name, it.ty))
            .collect();
        writeln!(f, " ({}) {{", params.join(", "))?;
        for node in self.nodes() {
            writeln!(f, "  {}", self.node_text(node))?;
        }
        let outputs: Vec<String> = self
            .outputs
            .iter()
            .map(|it| format!("{} = {}", it.name, self.value_text(it.value)))
            .collect();
        writeln!(f, "  return {}\n}}", outputs.join(", "))
    }
}

fn role(role: Role) -> &'static str {
    Role::ALL[role as usize].1
}

impl Function {
    /// A value as the text form writes it.
    pub fn value_text(&self, value: Value) -> String {
        match self.as_param(value) {
            Some(param) => format!("%{}", param.name),
            None => format!("%{}", value.index() - self.params.len()),
        }
    }

    /// One node as the text form writes it.
    pub fn node_text(&self, node: &Node) -> String {
        self.node_text_as(node, &|it| self.value_text(it))
    }

    /// The same with values called as `name` says.
    pub fn node_text_as(&self, node: &Node, name: &dyn Fn(Value) -> String) -> String {
        let mut printer = Printer::default();
        node.op.clone().rules_mut().attributes(&mut printer);
        let values: Vec<String> = node.results().map(name).collect();
        let operands: String = node.operands.iter().map(|&it| format!(" {}", name(it))).collect();
        let types: Vec<String> = node.results().map(|it| Type::to_string(self.ty(it))).collect();
        format!(
            "{} = {}{operands}{} : {}",
            values.join(" "),
            node.op.rules().name(),
            printer.braced(),
            types.join(", ")
        )
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.function)?;
        let numbers = self.numbers.iter().map(|(name, it)| format!("{name} = {}", it.print()));
        let options = self.options.iter().map(|(name, it)| format!("{name} = \"{it}\""));
        let all: Vec<String> = numbers.chain(options).collect();
        if all.is_empty() { Ok(()) } else { write!(f, " {{{}}}", all.join(", ")) }
    }
}

#[derive(Default)]
struct Printer {
    fields: Vec<String>,
}

impl Printer {
    fn braced(&self) -> String {
        if self.fields.is_empty() {
            String::new()
        } else {
            format!(" {{{}}}", self.fields.join(", "))
        }
    }
}

impl Visit for Printer {
    fn attribute(&mut self, name: &'static str, value: &mut dyn Attribute) {
        self.fields.push(format!("{name} = {}", value.print()));
    }
}
