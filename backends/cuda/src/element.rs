//! The text of one element of a value: CUDA C++ for whatever no kernel claims.
//!
//! From an output towards the parameters, as on the CPU: a view changes the index, arithmetic
//! becomes an expression, a reduction a loop. Places along axes are `int`, addresses `long` where
//! an operand may have that many elements.

use std::collections::BTreeMap;
use std::fmt::Write;

use ir::{
    Axis, DType, Extent, Function, Module, Name, Node, Op, Value,
    ops::{BinaryFn, Contract, Pad, Reduce, ReduceKind, ScatterAdd, UnaryFn},
};

/// Text under construction.
#[derive(Clone)]
pub(crate) struct Element<'a> {
    module: &'a Module,
    function: &'a Function,
    /// How many of the parameters are products of a kernel, which it hands over as numbers.
    products: usize,
    /// Whether the lanes of a warp share the outermost loops.
    by_warp: bool,
    /// Whether rows are positions of sequences of their own.
    pub(crate) is_batch: bool,
    lines: String,
    depth: usize,
    named: usize,
    /// How many sums and the like there are in the text.
    folds: usize,
    /// Places along axes of these sizes, and the one place that they were taken from.
    divided: Vec<(Vec<String>, Vec<String>, String)>,
    /// Elements already computed in this block or in one around it.
    known: BTreeMap<(Value, Vec<String>), String>,
    /// Elements of operands that were read.
    reads: Vec<(Value, Vec<String>)>,
}

/// The type of an element in registers.
fn register(dtype: DType) -> &'static str {
    match dtype {
        DType::I32 => "int",
        DType::Bool => "bool",
        _ => "float",
    }
}

/// The type of an element in memory.
pub(crate) fn stored(dtype: DType) -> &'static str {
    match dtype {
        DType::F16 => "__half",
        DType::BF16 => "bf16",
        DType::I32 | DType::Bool => "int",
        _ => "float",
    }
}

/// A number as C++ reads it.
fn real(number: f64) -> String {
    let number = number as f32;
    match number {
        it if it.is_nan() => "__int_as_float(0x7fc00000)".to_owned(),
        it if it == f32::INFINITY => "__int_as_float(0x7f800000)".to_owned(),
        it if it == f32::NEG_INFINITY => "__int_as_float(0xff800000)".to_owned(),
        it => format!("{it:?}f"),
    }
}

/// The name of a run-time extent.
pub(crate) fn extent_name(atom: &Name) -> String {
    let letters = atom.as_str().chars().map(|it| if it.is_ascii_alphanumeric() { it } else { '_' });
    std::iter::once('n').chain(std::iter::once('_')).chain(letters).collect()
}

impl<'a> Element<'a> {
    pub(crate) fn new(
        module: &'a Module,
        function: &'a Function,
        products: usize,
        by_warp: bool,
    ) -> Element<'a> {
        Element {
            module,
            function,
            products,
            by_warp,
            is_batch: false,
            lines: String::new(),
            depth: 1,
            named: 0,
            folds: 0,
            divided: Vec::new(),
            known: BTreeMap::new(),
            reads: Vec::new(),
        }
    }

    /// The statements so far.
    pub(crate) fn finish(self) -> String {
        self.lines
    }

    /// Adds a statement or the beginning or end of a block.
    pub(crate) fn line(&mut self, text: &str) {
        if text.starts_with('}') {
            self.depth -= 1;
        }
        let _ = writeln!(self.lines, "{:1$}{text}", "", 2 * self.depth);
        if text.ends_with('{') {
            self.depth += 1;
        }
    }

    /// A new name for `value`.
    pub(crate) fn name(&mut self, ty: &str, value: &str) -> String {
        let name = format!("v{}", self.named);
        self.named += 1;
        self.line(&format!("const {ty} {name} = {value};"));
        name
    }

    fn variable(&mut self, ty: &str, value: &str) -> String {
        let name = format!("v{}", self.named);
        self.named += 1;
        self.line(&format!("{ty} {name} = {value};"));
        name
    }

    /// Runs `emit` inside a block, then forgets what it computed.
    pub(crate) fn block<T>(&mut self, head: &str, emit: impl FnOnce(&mut Self) -> T) -> T {
        self.line(head);
        let known = self.known.clone();
        let result = emit(self);
        self.known = known;
        self.line("}");
        result
    }

    /// The extent of `axis`: a number, or sums of products of run-time extents.
    pub(crate) fn size(&self, axis: &Axis) -> String {
        size(self.module, axis)
    }

    /// The place along each of `axes`, from the place along their product.
    pub(crate) fn divide(&mut self, axes: &[Axis], place: &str) -> Vec<String> {
        let mut rest = place.to_owned();
        let mut parts = Vec::new();
        let mut wholes = vec![rest.clone()];
        for (i, axis) in axes.iter().enumerate().skip(1).rev() {
            let size = self.size(axis);
            parts.push(self.name("int", &format!("{rest} % {size}")));
            let ty = if self.is_large(&axes[..i]) { "long" } else { "int" };
            rest = self.name(ty, &format!("{rest} / {size}"));
            wholes.push(rest.clone());
        }
        parts.extend((!axes.is_empty()).then_some(rest));
        parts.reverse();
        wholes.reverse();
        let sizes: Vec<String> = axes.iter().map(|it| self.size(it)).collect();
        for (i, whole) in wholes.into_iter().enumerate().skip(1) {
            self.divided.push((parts[..=i].to_vec(), sizes[..=i].to_vec(), whole));
        }
        parts
    }

    /// The element of `value` at `index`, which has a place for each of its axes.
    pub(crate) fn element(&mut self, value: Value, index: &[String]) -> String {
        let key = (value, index.to_vec());
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        let function = self.function;
        let element = match function.maker(value) {
            None => self.load(value, index),
            Some(node) => self.compute(node, value, index),
        };
        self.known.insert(key, element.clone());
        element
    }

    /// Has the element of `value` at `index` be `text` from now on.
    pub(crate) fn remember(&mut self, value: Value, index: Vec<String>, text: String) {
        self.known.insert((value, index), text);
    }

    /// Which elements of operands that of `value` at `index` is made of, as far as is not known.
    pub(crate) fn reads(&self, value: Value, index: &[String]) -> Vec<(Value, Vec<String>)> {
        let mut text = self.clone();
        text.reads.clear();
        text.element(value, index);
        text.reads
    }

    /// How many times elements were joined so far.
    pub(crate) fn folds(&self) -> usize {
        self.folds
    }

    /// Whether an `int` may not count all places along `axes`.
    pub(crate) fn is_large(&self, axes: &[Axis]) -> bool {
        let bounds = axes.iter().map(|it| self.module.axes.bound(it).unwrap_or(usize::MAX));
        i32::MAX as usize <= bounds.fold(1, usize::saturating_mul)
    }

    /// The extent of `axis`, which is known.
    pub(crate) fn fixed(&self, axis: &Axis) -> usize {
        self.module.axes.fixed(axis).expect("a fixed axis")
    }

    fn load(&mut self, value: Value, index: &[String]) -> String {
        let at = value.index();
        if at < self.products {
            return format!("q{at}");
        }
        self.reads.push((value, index.to_vec()));
        let ty = self.function.ty(value);
        let is_large = self.is_large(&ty.axes);
        let mut place = String::from("0");
        let mut left = index;
        while let [first, ..] = left {
            let axes = &ty.axes[ty.axes.len() - left.len()..];
            let sizes: Vec<String> = axes.iter().map(|it| self.size(it)).collect();
            let known = self.divided.iter();
            let known = known.filter(|it| left.starts_with(&it.0) && sizes.starts_with(&it.1));
            let (n, index) = match known.max_by_key(|it| it.0.len()) {
                Some((parts, _, whole)) => (parts.len(), whole),
                None => (1, first),
            };
            left = &left[n..];
            let size = sizes[..n].join(" * ");
            place = match place.as_str() {
                "0" if is_large => format!("(long){index}"),
                "0" => index.clone(),
                _ => format!("({place}) * {size} + {index}"),
            };
        }
        let read = format!("p{at}[{place}]");
        let read = match self.function.params[at].ty.dtype {
            DType::F16 => format!("__half2float({read})"),
            DType::BF16 => format!("__bfloat162float({read})"),
            DType::Bool => format!("({read} != 0)"),
            _ => read,
        };
        self.name(register(ty.dtype), &read)
    }

    fn compute(&mut self, node: &Node, value: Value, index: &[String]) -> String {
        let axes = &self.function.ty(value).axes.clone();
        let at = |axis: &Axis| axes.iter().position(|it| it == axis).expect("a result axis");
        let operand = node.operands.first().copied();
        let only = || operand.expect("one operand");
        match &node.op {
            Op::Unary(_) | Op::Binary(_) | Op::Select(_) | Op::Cast(_) => {
                self.pointwise(node, value, axes, index)
            }
            Op::Constant(it) => constant(it.dtype, it.values[0].0),
            Op::ExtentOf(it) => format!("(float)({})", self.size(&it.axis)),
            Op::Iota(it) => self.iota(&it.axis, &index[0]),
            Op::Transpose(it) => {
                let place = self.place(only(), &[(axes, index)]);
                debug_assert_eq!(it.to.len(), place.len());
                self.element(only(), &place)
            }
            Op::Rename(_) => self.element(only(), index),
            Op::Split(it) => {
                let from = at(&it.into[0]);
                let joined = self.join(&it.into, &index[from..from + it.into.len()]);
                let inner = replaced(index, from, it.into.len(), &[joined]);
                self.element(only(), &inner)
            }
            Op::Merge(it) => {
                let from = at(&it.into);
                let parts = self.divide(&it.axes, &index[from].clone());
                self.element(only(), &replaced(index, from, 1, &parts))
            }
            Op::Slice(it) => {
                let start = self.start(&it.axis, &it.after, it.last, &it.into);
                let inner = self.shifted(index, at(&it.into), &format!("+ ({start})"));
                self.element(only(), &inner)
            }
            Op::Pad(it) => self.pad(it, only(), at(&it.into), index),
            Op::Concat(it) => self.concat(&node.operands, &it.parts, at(&it.whole()), index),
            Op::Gather(it) => self.gather(node, &it.axis, axes, index),
            Op::ScatterAdd(it) => self.scatter_add(node, it, index),
            Op::Reduce(it) => self.reduce(only(), it, axes, index),
            Op::Contract(it) => self.contract(node, it, axes, index),
            Op::ArgMax(it) => self.argmax(only(), &it.axis, axes, index),
            Op::Call(_) | Op::Scan(_) => unreachable!("a loop function calls nothing"),
        }
    }

    fn pointwise(&mut self, node: &Node, value: Value, axes: &[Axis], index: &[String]) -> String {
        let mut x = Vec::new();
        for &operand in &node.operands {
            let place = self.place(operand, &[(axes, index)]);
            x.push(self.element(operand, &place));
        }
        let from = self.function.ty(node.operands[0]).dtype;
        let dtype = self.function.ty(value).dtype;
        let text = match &node.op {
            Op::Unary(it) => unary(it.function, from, &x[0]),
            Op::Binary(it) => binary(it.function, &x[0], &x[1]),
            Op::Select(_) => format!("{} ? {} : {}", x[0], x[1], x[2]),
            Op::Cast(it) => cast(from, it.dtype, &x[0]),
            _ => unreachable!("pointwise ops alone"),
        };
        self.name(register(dtype), &text)
    }

    /// The index into `operand`, from lists of axes with their places.
    pub(crate) fn place(&self, operand: Value, known: &[(&[Axis], &[String])]) -> Vec<String> {
        let find = |axis: &Axis| {
            let mut all = known.iter().flat_map(|(axes, index)| axes.iter().zip(*index));
            all.find(|(it, _)| *it == axis).expect("a known axis").1.clone()
        };
        self.function.ty(operand).axes.iter().map(find).collect()
    }

    fn iota(&mut self, axis: &Axis, place: &str) -> String {
        let decl = axis.as_atom().and_then(|it| self.module.axes.get(it.as_str()));
        match decl.and_then(|it| it.origin.clone()) {
            Some(origin) => {
                let begin = self.size(&Axis::atom(origin));
                let place = if self.is_batch { "0" } else { place };
                self.name("int", &format!("{begin} + {place}"))
            }
            None => place.to_owned(),
        }
    }

    /// The place along a product of axes, the last of which varies fastest.
    fn join(&mut self, axes: &[Axis], index: &[String]) -> String {
        let mut joined = index[0].clone();
        for (axis, index) in axes.iter().zip(index).skip(1) {
            let size = self.size(axis);
            joined = self.name("int", &format!("{joined} * {size} + {index}"));
        }
        joined
    }

    /// Where a part of an axis begins.
    fn start(&self, whole: &Axis, after: &[Axis], last: bool, part: &Axis) -> String {
        if last {
            return format!("{} - {}", self.size(whole), self.size(part));
        }
        let sizes: Vec<String> = after.iter().map(|it| self.size(it)).collect();
        if sizes.is_empty() { "0".to_owned() } else { sizes.join(" + ") }
    }

    fn shifted(&mut self, index: &[String], at: usize, by: &str) -> Vec<String> {
        let moved = self.name("int", &format!("{} {by}", index[at]));
        replaced(index, at, 1, &[moved])
    }

    /// `element` where `place` is among the first `size`, and `fill` elsewhere.
    fn if_inside(
        &mut self,
        place: &str,
        size: &str,
        (ty, fill): (&str, &str),
        element: impl FnOnce(&mut Self) -> String,
    ) -> String {
        let result = self.variable(ty, fill);
        // As unsigned numbers, places before the first are beyond the last.
        let head = format!("if ((unsigned)({place}) < (unsigned)({size})) {{");
        self.block(&head, |text| {
            let inside = element(text);
            text.line(&format!("{result} = {inside};"));
        });
        result
    }

    fn pad(&mut self, pad: &Pad, operand: Value, at: usize, index: &[String]) -> String {
        let start = self.start(&pad.into, &pad.after, pad.last, &pad.axis);
        let moved = self.shifted(index, at, &format!("- ({start})"));
        let dtype = self.function.ty(operand).dtype;
        let (size, fill) = (self.size(&pad.axis), constant(dtype, pad.value.0));
        let place = moved[at].clone();
        self.if_inside(&place, &size, (register(dtype), &fill), |it| it.element(operand, &moved))
    }

    fn concat(
        &mut self,
        operands: &[Value],
        parts: &[Axis],
        at: usize,
        index: &[String],
    ) -> String {
        let dtype = self.function.ty(operands[0]).dtype;
        let result = self.variable(register(dtype), &constant(dtype, 0.0));
        let mut start = String::from("0");
        for (&operand, part) in operands.iter().zip(parts) {
            let moved = self.shifted(index, at, &format!("- ({start})"));
            let size = self.size(part);
            let head = format!("if ((unsigned){} < (unsigned)({size})) {{", moved[at]);
            self.block(&head, |text| {
                let inside = text.element(operand, &moved);
                text.line(&format!("{result} = {inside};"));
            });
            start = format!("{start} + {size}");
        }
        result
    }

    fn gather(&mut self, node: &Node, axis: &Axis, axes: &[Axis], index: &[String]) -> String {
        let (table, rows) = (node.operands[0], node.operands[1]);
        let row_place = self.place(rows, &[(axes, index)]);
        let row = self.element(rows, &row_place);
        let along = [row.clone()];
        let place = self.place(table, &[(axes, index), (std::slice::from_ref(axis), &along)]);
        let dtype = self.function.ty(table).dtype;
        let (size, fill) = (self.size(axis), constant(dtype, 0.0));
        self.if_inside(&row, &size, (register(dtype), &fill), |it| it.element(table, &place))
    }

    /// Each element of the table looks through all rows for those that are added to it.
    fn scatter_add(&mut self, node: &Node, scatter: &ScatterAdd, index: &[String]) -> String {
        let (rows, wanted) = (node.operands[0], node.operands[1]);
        let at = scatter.into.iter().position(|it| *it == scatter.axis).expect("the table's axis");
        let all = &self.function.ty(rows).axes;
        let over: Vec<Axis> = all.iter().filter(|it| !scatter.into.contains(it)).cloned().collect();
        let here = index[at].clone();
        self.fold(ReduceKind::Sum, &over, |text, inner| {
            let row_place = text.place(wanted, &[(&scatter.into, index), (&over, inner)]);
            let row = text.element(wanted, &row_place);
            let place = text.place(rows, &[(&scatter.into, index), (&over, inner)]);
            let x = text.element(rows, &place);
            format!("{row} == {here} ? {x} : 0.0f")
        })
    }

    fn reduce(
        &mut self,
        operand: Value,
        reduce: &Reduce,
        axes: &[Axis],
        index: &[String],
    ) -> String {
        self.fold(reduce.kind, &reduce.over, |text, inner| {
            let place = text.place(operand, &[(axes, index), (&reduce.over, inner)]);
            text.element(operand, &place)
        })
    }

    fn contract(
        &mut self,
        node: &Node,
        contract: &Contract,
        axes: &[Axis],
        index: &[String],
    ) -> String {
        self.fold(ReduceKind::Sum, &contract.over, |text, inner| {
            let [x, y] = [node.operands[0], node.operands[1]].map(|operand| {
                let place = text.place(operand, &[(axes, index), (&contract.over, inner)]);
                text.element(operand, &place)
            });
            format!("{x} * {y}")
        })
    }

    /// Joins `term` over all places along `axes`. The lanes of a warp share an outermost loop.
    fn fold(
        &mut self,
        kind: ReduceKind,
        axes: &[Axis],
        term: impl FnOnce(&mut Self, &[String]) -> String,
    ) -> String {
        let shared = std::mem::replace(&mut self.by_warp, false);
        let total = self.variable("float", &real(kind.identity()));
        self.places(axes, shared, |text, inner| {
            let x = term(text, inner);
            text.line(&match kind {
                ReduceKind::Sum => format!("{total} += {x};"),
                ReduceKind::Max => format!("{total} = fmaxf({total}, {x});"),
            });
        });
        if shared {
            let joined = if kind == ReduceKind::Sum { "warp_sum" } else { "warp_max" };
            self.line(&format!("{total} = {joined}({total});"));
        }
        self.by_warp = shared;
        total
    }

    fn argmax(&mut self, operand: Value, axis: &Axis, axes: &[Axis], index: &[String]) -> String {
        let shared = std::mem::replace(&mut self.by_warp, false);
        let over = std::slice::from_ref(axis);
        let best = self.variable("float", &real(f64::NEG_INFINITY));
        let place = self.variable("int", "0");
        self.places(over, shared, |text, inner| {
            let at = text.place(operand, &[(axes, index), (over, inner)]);
            let x = text.element(operand, &at);
            let here = &inner[0];
            text.line(&format!("if ({best} < {x}) {{ {best} = {x}; {place} = {here}; }}"));
        });
        if shared {
            self.line(&format!("warp_argmax({best}, {place});"));
        }
        self.by_warp = shared;
        place
    }

    /// Loops over all places along `axes`.
    fn places(&mut self, axes: &[Axis], shared: bool, inside: impl FnOnce(&mut Self, &[String])) {
        self.folds += 1;
        let sizes: Vec<String> = axes.iter().map(|it| format!("({})", self.size(it))).collect();
        let total = self.name("int", &sizes.join(" * "));
        let at = format!("i{}", self.named);
        self.named += 1;
        let (from, step) = if shared { ("threadIdx.x % 32", "32") } else { ("0", "1") };
        let head = format!("for (int {at} = {from}; {at} < {total}; {at} += {step}) {{");
        self.block(&head, |text| {
            let index = text.divide(axes, &at);
            inside(text, &index);
        });
    }
}

/// The extent of `axis` as C++.
pub(crate) fn size(module: &Module, axis: &Axis) -> String {
    if let Some(size) = module.axes.fixed(axis) {
        return size.to_string();
    }
    let mut terms = Vec::new();
    for segment in module.axes.resolve(axis).segments() {
        let factor = |atom: &Name| match module.axes.get(atom.as_str()).map(|it| &it.extent) {
            Some(Extent::Fixed { size, .. }) => size.to_string(),
            _ => extent_name(atom),
        };
        let factors: Vec<String> = segment.iter().map(factor).collect();
        terms.push(factors.join(" * "));
    }
    format!("({})", terms.join(" + "))
}

fn constant(dtype: DType, number: f64) -> String {
    match dtype {
        DType::Bool => (number != 0.0).to_string(),
        DType::I32 => (number as i32).to_string(),
        _ => real(number),
    }
}

fn unary(function: UnaryFn, dtype: DType, x: &str) -> String {
    match function {
        UnaryFn::Neg => format!("-{x}"),
        UnaryFn::Abs if dtype == DType::I32 => format!("abs({x})"),
        UnaryFn::Abs => format!("fabsf({x})"),
        UnaryFn::Exp => format!("expf({x})"),
        UnaryFn::Log => format!("logf({x})"),
        UnaryFn::Sin => format!("sinf({x})"),
        UnaryFn::Cos => format!("cosf({x})"),
        UnaryFn::Tanh => format!("tanhf({x})"),
        UnaryFn::Sqrt => format!("sqrtf({x})"),
        UnaryFn::Rsqrt => format!("1.0f / sqrtf({x})"),
        UnaryFn::Erf => format!("erff({x})"),
        UnaryFn::Floor => format!("floorf({x})"),
        UnaryFn::Not => format!("!{x}"),
    }
}

fn binary(function: BinaryFn, x: &str, y: &str) -> String {
    let infix = match function {
        BinaryFn::Add => "+",
        BinaryFn::Sub => "-",
        BinaryFn::Mul => "*",
        BinaryFn::Div => "/",
        BinaryFn::Less => "<",
        BinaryFn::LessEqual => "<=",
        BinaryFn::Equal => "==",
        BinaryFn::And => "&&",
        BinaryFn::Or => "||",
        BinaryFn::Max => return format!("{x} > {y} ? {x} : {y}"),
        BinaryFn::Min => return format!("{x} < {y} ? {x} : {y}"),
        BinaryFn::Pow => return format!("powf({x}, {y})"),
    };
    format!("{x} {infix} {y}")
}

fn cast(from: DType, to: DType, x: &str) -> String {
    match (from, to) {
        _ if from == to => x.to_owned(),
        // Halves are widened as they are read, and what is rounded is rounded as it is written.
        (_, DType::F16 | DType::BF16) => x.to_owned(),
        (DType::F16 | DType::BF16, DType::F32) => x.to_owned(),
        (DType::F32, DType::I32) => format!("__float2int_rz({x})"),
        (DType::I32 | DType::Bool, DType::F32) => format!("(float){x}"),
        (DType::Bool, _) => format!("(int){x}"),
        (DType::I32, _) => format!("{x} != 0"),
        (_, _) => format!("{x} != 0.0f"),
    }
}

/// `list` with `n` items at `at` replaced.
fn replaced(list: &[String], at: usize, n: usize, by: &[String]) -> Vec<String> {
    [&list[..at], by, &list[at + n..]].concat()
}
