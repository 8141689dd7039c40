//! Generated loops over rows whose elements take sums over the row, such as those of norms: a warp
//! or a block for each row, which adds up first and keeps what it has read.

use ir::{
    Axis, Function, Module, Node, Op, Value,
    ops::{BinaryFn, ReduceKind},
};
use kernels_cuda::Grid;

use crate::element::Element;
use crate::loops::{Loop, THREADS};

/// Rows up to this many numbers are a warp's.
const NARROW: usize = 256;

/// Bytes that memory gives at once.
const LINE: usize = 128;

/// A thread keeps so many numbers of a row.
const KEPT: usize = 16;

/// The body of the kernel for a loop, and its grid; `None` for what has no sums over rows, or
/// others besides.
pub(crate) fn kernel(of: &Loop<'_>) -> Option<(String, [Grid; 2])> {
    let Loop { module, function, .. } = of;
    let output = function.outputs[0].value;
    let (column, rows) = function.ty(output).axes.split_last()?;
    let columns = module.axes.fixed(column)?;
    let threads = if columns <= NARROW { 32 } else { THREADS };
    let sums = sums(module, function, rows)?;
    let mut text = Element::new(module, function, 0, false);
    text.line(&format!("__shared__ float shared[{}];", THREADS / 32));
    let (index, grid) = of.begin(&mut text, rows, threads);
    let threads = threads as usize;
    let mut row = Row { text, threads, rows, index, columns, kept: Vec::new() };
    row.load_constants(of, output);
    // The loads of a kernel that starts earlier would only delay those of this one.
    row.text.line("wait_for_earlier();");
    row.text.line("let_later_start();");
    for (value, node) in sums {
        row.sum(function, value, node);
    }
    Some((row.finish(output)?, grid))
}

/// The sums over rows in `function`, if it has some and joins elements in no other way.
fn sums<'f>(
    module: &Module,
    function: &'f Function,
    rows: &[Axis],
) -> Option<Vec<(Value, &'f Node)>> {
    let mut sums = Vec::new();
    let live = function.live();
    for (node, _) in function.nodes().iter().zip(live).filter(|(_, live)| *live) {
        match &node.op {
            Op::Reduce(it) => {
                let known = |axis: &Axis| rows.contains(axis) || it.over.contains(axis);
                let is_by_row = matches!(it.kind, ReduceKind::Sum)
                    && it.over.len() == 1
                    && module.axes.fixed(&it.over[0]).is_some()
                    && function.ty(node.operands[0]).axes.iter().all(known);
                sums.push(is_by_row.then(|| (node.result(), node))?);
            }
            Op::Contract(_) | Op::ArgMax(_) | Op::ScatterAdd(_) => return None,
            _ => {}
        }
    }
    (!sums.is_empty()).then_some(sums)
}

/// The text of a row.
struct Row<'a> {
    text: Element<'a>,
    /// How many threads share it.
    threads: usize,
    rows: &'a [Axis],
    /// Its place along each of `rows`.
    index: Vec<String>,
    columns: usize,
    /// What was kept before, each with its index.
    kept: Vec<(Value, Vec<String>, String)>,
}

impl Row<'_> {
    /// Loads those constants that elements of `output` take at their own column, which need not
    /// wait for anything, and brings short others to L2.
    fn load_constants(&mut self, of: &Loop<'_>, output: Value) {
        let each = self.columns.div_ceil(self.threads);
        let index = [&self.index[..], &["column".to_owned()]].concat();
        let reads = self.text.reads(output, &index);
        let is_early = |(value, at): &(Value, Vec<String>)| {
            of.is_constant(*value) && at.iter().all(|it| index.contains(it)) && each <= KEPT
        };
        let early: Vec<_> = reads.into_iter().filter(is_early).collect();
        let others = of.function.values().filter(|it| early.iter().all(|early| early.0 != *it));
        others.filter(|it| of.is_constant(*it)).for_each(|it| self.prefetch(of, it));
        for (i, (value, at)) in early.into_iter().enumerate() {
            self.text.line(&format!("float early{i}[{each}];"));
            self.each(self.columns, |text| {
                let x = text.element(value, &at);
                text.line(&format!("early{i}[j] = {x};"));
            });
            self.kept.push((value, at, format!("early{i}[j]")));
        }
    }

    /// Brings a constant to L2, if a line for each thread is enough.
    fn prefetch(&mut self, of: &Loop<'_>, constant: Value) {
        let ty = of.function.ty(constant);
        let size: Option<usize> = ty.axes.iter().map(|it| of.module.axes.fixed(it)).product();
        let lines = size.and_then(|it| ty.dtype.bytes(1, it)).map(|it| it.div_ceil(LINE));
        if let Some(lines) = lines.filter(|it| *it <= THREADS as usize) {
            let line = format!("(const char*)p{} + {LINE} * threadIdx.x", constant.index());
            self.text.line(&format!("if (threadIdx.x < {lines}) prefetch({line});"));
        }
    }

    /// Adds up `value`, the sum that `node` makes.
    fn sum(&mut self, function: &Function, value: Value, node: &Node) {
        let Op::Reduce(reduce) = &node.op else { unreachable!("a sum") };
        let n = self.text.fixed(&reduce.over[0]);
        let over = ["column".to_owned()];
        let known: [(&[Axis], &[String]); 2] = [(self.rows, &self.index), (&reduce.over, &over)];
        let (term, names) = (node.operands[0], self.kept.len());
        let keeps = factor(function, term);
        let [term_at, kept_at] = [term, keeps].map(|it| self.text.place(it, &known));
        let (sum, kept) = (format!("sum{names}"), format!("kept{names}"));
        let is_kept = n == self.columns && n.div_ceil(self.threads) <= KEPT;
        self.text.line(&format!("float {sum} = 0.0f;"));
        if is_kept {
            self.text.line(&format!("float {kept}[{}];", n.div_ceil(self.threads)));
        }
        self.each(n, |text| {
            let x = text.element(term, &term_at);
            if is_kept {
                let x = text.element(keeps, &kept_at);
                text.line(&format!("{kept}[j] = {x};"));
            }
            text.line(&format!("{sum} += {x};"));
        });
        let joined = match self.threads {
            32 => format!("warp_sum({sum})"),
            _ => format!("block_sum<{THREADS}>({sum}, shared)"),
        };
        self.text.line(&format!("{sum} = {joined};"));
        let at = self.text.place(value, &[(self.rows, &self.index)]);
        self.text.remember(value, at, sum);
        self.kept.push((
            keeps,
            kept_at,
            if is_kept { format!("{kept}[j]") } else { String::new() },
        ));
    }

    /// Calls `inside` in a loop over this thread's part of `n` columns.
    fn each<T>(&mut self, n: usize, inside: impl FnOnce(&mut Element<'_>) -> T) -> T {
        let threads = self.threads;
        if n.div_ceil(threads) <= KEPT {
            self.text.line("#pragma unroll");
        }
        let head = format!("for (int j = 0; j < {}; ++j) {{", n.div_ceil(threads));
        self.text.block(&head, |text| {
            text.line(&format!("const int column = j * {threads} + threadIdx.x % {threads};"));
            if n.is_multiple_of(threads) {
                return inside(text);
            }
            text.block(&format!("if (column < {n}) {{"), inside)
        })
    }

    /// Writes the row; `None` if elements take other sums than those that are known.
    fn finish(mut self, output: Value) -> Option<String> {
        for (value, at, text) in std::mem::take(&mut self.kept) {
            if !text.is_empty() {
                self.text.remember(value, at, text);
            }
        }
        let (index, columns) = ([&self.index[..], &["column".to_owned()]].concat(), self.columns);
        let (before, each) = (self.text.folds(), columns.div_ceil(self.threads));
        let put = |text: &mut Element<'_>, value: &str| {
            text.line(&format!("put(out + at * {columns} + column, {value});"));
        };
        if each <= KEPT {
            // Nothing is stored until all is loaded, so that loads do not wait for each other.
            self.text.line(&format!("float made[{each}];"));
            self.each(columns, |text| {
                let value = text.element(output, &index);
                text.line(&format!("made[j] = {value};"));
            });
            self.each(columns, |text| put(text, "made[j]"));
        } else {
            self.each(columns, |text| {
                let value = text.element(output, &index);
                put(text, &value);
            });
        }
        self.text.line("}");
        // Without rows too: this kernel must not end before those that came earlier.
        self.text.line("wait_for_earlier();");
        (self.text.folds() == before).then(|| self.text.finish())
    }
}

/// What `term` is the square of, or itself.
fn factor(function: &Function, term: Value) -> Value {
    match function.maker(term) {
        Some(Node { op: Op::Binary(it), operands, .. })
            if it.function == BinaryFn::Mul && operands[0] == operands[1] =>
        {
            operands[0]
        }
        _ => term,
    }
}
