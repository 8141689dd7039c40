//! Text as a module. Takes any input: what can not be read is an error that names the line.

use std::collections::BTreeMap;

use crate::{
    Attribute, Axes, Axis, Extent, Function, Module, Name, Op, Origin, Real, Role, Type, Value,
    Visit,
};

/// Reads a module. What it says is not verified, only read.
///
/// # Errors
///
/// The first line that can not be read, and why.
pub fn parse(text: &str) -> Result<Module, String> {
    let mut module = Module::default();
    let mut open: Option<Body> = None;
    for (line_idx, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with("//") {
            continue;
        }
        parse_line(&mut module, &mut open, line)
            .map_err(|why| format!("line {}: {why}", line_idx + 1))?;
    }
    match open {
        Some(body) => Err(format!("@{} is not closed", body.function.name)),
        None => Ok(module),
    }
}

/// A function being read.
struct Body {
    function: Function,
    names: BTreeMap<String, Value>,
    ops: BTreeMap<&'static str, Op>,
}

fn parse_line(module: &mut Module, open: &mut Option<Body>, line: &str) -> Result<(), String> {
    match open {
        None if line.starts_with("axis ") => parse_axis(&mut module.axes, &line[5..]),
        None if line.starts_with("fn ") => {
            *open = Some(parse_header(&line[3..])?);
            Ok(())
        }
        None => Err("expected `axis` or `fn`".into()),
        Some(_) if line == "}" => {
            module.functions.extend(open.take().map(|it| it.function));
            Ok(())
        }
        Some(body) => match line.strip_prefix("return ") {
            Some(outputs) => body.parse_return(outputs),
            None => body.parse_node(line),
        },
    }
}

fn parse_axis(axes: &mut Axes, line: &str) -> Result<(), String> {
    let (decl, origin) = match line.split_once(" from ") {
        Some((decl, origin)) => (decl, Some(name(origin)?)),
        None => (line, None),
    };
    let (atom, extent) = decl.trim().split_once(' ').ok_or("expected `axis NAME = EXTENT`")?;
    let atom = name(atom)?;
    let number = |it: &str| it.trim().parse().map_err(|_| format!("`{it}` is not an extent"));
    let extent = if let Some(max) = extent.strip_prefix("<= ") {
        Extent::Runtime { max: number(max)? }
    } else {
        let extent = extent.strip_prefix("= ").ok_or("expected `=` or `<=`")?;
        let (size, choices) = extent.split_once(" elastic ").unwrap_or((extent, "{}"));
        if size.starts_with(|it: char| it.is_ascii_digit()) {
            let choices = inner(choices, '{', '}')?.into_iter().map(number);
            Extent::Fixed { size: number(size)?, choices: choices.collect::<Result<_, _>>()? }
        } else {
            Extent::Like(Axis::parse(size)?)
        }
    };
    if axes.get(atom.as_str()).is_some() {
        return Err(format!("axis {atom} is declared already"));
    }
    axes.declare(&atom, extent);
    if let Some(origin) = origin {
        axes.set_origin(&atom, origin);
    }
    Ok(())
}

fn parse_header(line: &str) -> Result<Body, String> {
    let line = line.strip_suffix('{').ok_or("expected `{` at the end")?.trim();
    let (head, params) = line.split_once('(').ok_or("expected `(`")?;
    let params = params.strip_suffix(')').ok_or("expected `)`")?;
    let (symbol, origin) = match head.split_once(" of ") {
        Some((symbol, origin)) => (symbol, Some(parse_origin(origin.trim())?)),
        None => (head, None),
    };
    let symbol = symbol.trim().strip_prefix('@').ok_or("expected `@name`")?;
    let mut function = Function::new(name(symbol)?);
    function.origin = origin;
    let mut names = BTreeMap::new();
    for param in split_top(params) {
        let words = Role::ALL.iter().rev().find(|(_, it)| param.starts_with(it));
        let &(role, word) = words.ok_or("expected a parameter")?;
        let (param, ty) = param[word.len()..].split_once(':').ok_or("expected `%name : type`")?;
        let param = param.trim().strip_prefix('%').ok_or("expected `%name`")?;
        let value = function.param(name(param)?, role, Type::parse(ty)?);
        if names.insert(param.to_owned(), value).is_some() {
            return Err(format!("%{param} stands twice"));
        }
    }
    let ops = Op::all().into_iter().map(|it| (it.rules().name(), it)).collect();
    Ok(Body { function, names, ops })
}

fn parse_origin(text: &str) -> Result<Origin, String> {
    let (function, fields) = text
        .strip_prefix('"')
        .and_then(|it| it.split_once('"'))
        .ok_or("expected a quoted origin")?;
    let mut origin = Origin { function: function.to_owned(), ..Origin::default() };
    let fields = if fields.trim().is_empty() { Vec::new() } else { inner(fields, '{', '}')? };
    for field in fields {
        let (key, value) = field.split_once(" = ").ok_or("expected `name = value`")?;
        if let Some(option) = value.strip_prefix('"').and_then(|it| it.strip_suffix('"')) {
            origin.options.insert(key.to_owned(), option.to_owned());
        } else {
            let mut number = Real(0.0);
            number.parse(value)?;
            origin.numbers.insert(key.to_owned(), number);
        }
    }
    Ok(origin)
}

impl Body {
    fn value(&self, text: &str) -> Result<Value, String> {
        let known = text.strip_prefix('%').and_then(|it| self.names.get(it));
        known.copied().ok_or_else(|| format!("`{text}` is not defined"))
    }

    fn parse_return(&mut self, outputs: &str) -> Result<(), String> {
        for output in split_top(outputs) {
            let (key, value) = output.split_once(" = ").ok_or("expected `name = %value`")?;
            let value = self.value(value.trim())?;
            self.function.output(name(key)?, value);
        }
        Ok(())
    }

    fn parse_node(&mut self, line: &str) -> Result<(), String> {
        let (results, rest) = line.split_once(" = ").ok_or("expected `%name = op ...`")?;
        let (rest, types) = rest.rsplit_once(" : ").ok_or("expected `: type`")?;
        let (rest, attributes) = match rest.find('{') {
            Some(at) => (&rest[..at], inner(&rest[at..], '{', '}')?),
            None => (rest, Vec::new()),
        };
        let mut words = rest.split_whitespace();
        let op_name = words.next().ok_or("expected an op")?;
        let op = self.ops.get(op_name).ok_or_else(|| format!("no op is called `{op_name}`"))?;
        let mut op = op.clone();
        let mut reader = Reader { fields: attributes, error: None };
        op.rules_mut().attributes(&mut reader);
        reader.finish()?;
        let operands = words.map(|it| self.value(it)).collect::<Result<Vec<_>, _>>()?;
        let types = split_top(types).into_iter().map(Type::parse).collect::<Result<Vec<_>, _>>()?;
        let results: Vec<&str> = results.split_whitespace().collect();
        if types.len() != results.len() || types.is_empty() {
            return Err(format!("{} types for {} results", types.len(), results.len()));
        }
        let values = self.function.push(op, operands, types);
        if values.len() != results.len() {
            return Err("the same node stands above with other results".into());
        }
        for (result, value) in results.into_iter().zip(values) {
            let result = result.strip_prefix('%').ok_or("expected `%name`")?;
            if self.names.insert(result.to_owned(), value).is_some() {
                return Err(format!("%{result} stands twice"));
            }
        }
        Ok(())
    }
}

fn name(text: &str) -> Result<Name, String> {
    let text = text.trim();
    Name::is_valid(text).then(|| Name::from(text)).ok_or_else(|| format!("`{text}` is not a name"))
}

/// The items between two brackets.
fn inner(text: &str, open: char, close: char) -> Result<Vec<&str>, String> {
    let text = text.trim();
    let inside = text.strip_prefix(open).and_then(|it| it.strip_suffix(close));
    inside.map(split_top).ok_or_else(|| format!("expected {open}...{close}, not `{text}`"))
}

/// Splits at commas that no bracket or quote encloses.
fn split_top(text: &str) -> Vec<&str> {
    let (mut items, mut depth, mut quoted, mut start) = (Vec::new(), 0usize, false, 0);
    for (at, it) in text.char_indices() {
        match it {
            '"' => quoted = !quoted,
            '[' | '{' | '(' if !quoted => depth += 1,
            ']' | '}' | ')' if !quoted => depth = depth.saturating_sub(1),
            ',' if depth == 0 && !quoted => {
                items.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    let last = text[start..].trim();
    if !last.is_empty() || !items.is_empty() {
        items.push(last);
    }
    items
}

struct Reader<'a> {
    fields: Vec<&'a str>,
    error: Option<String>,
}

impl Reader<'_> {
    fn finish(self) -> Result<(), String> {
        match (self.error, self.fields.first()) {
            (Some(error), _) => Err(error),
            (None, Some(field)) => Err(format!("`{field}` is no attribute of this op")),
            (None, None) => Ok(()),
        }
    }
}

impl Visit for Reader<'_> {
    fn attribute(&mut self, name: &'static str, value: &mut dyn Attribute) {
        let is_it = |it: &&str| it.split_once(" = ").is_some_and(|(key, _)| key == name);
        let outcome = match self.fields.iter().position(is_it) {
            None => Err(format!("attribute `{name}` is missing")),
            Some(at) => {
                let field = self.fields.remove(at);
                value.parse(&field[name.len() + 3..]).map_err(|why| format!("{name}: {why}"))
            }
        };
        self.error = self.error.take().or(outcome.err());
    }
}
