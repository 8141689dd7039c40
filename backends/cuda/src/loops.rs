//! Generated loops and tails as CUDA C++.

use std::fmt::Write;

use ir::{Axis, DType, Function, Module, Op, Value, ops::BinaryFn};
use kernels_cuda::{Functor, Grid, Instance};
use plan::{LoopWord, loop_extents};

use crate::element::{Element, extent_name, size, stored};
use crate::rows;

/// Threads of a block of a generated loop.
pub(crate) const THREADS: u32 = 256;

/// Reductions of as many terms are shared by a warp.
const SHARED: usize = 32;

/// What the code of `function` is called with, whose first parameters are `products` of a kernel.
///
/// # Errors
///
/// Element types that are not computed with.
pub(crate) fn words(
    module: &Module,
    function: &Function,
    products: usize,
) -> Result<Vec<LoopWord>, String> {
    for value in function.values() {
        let ty = function.ty(value);
        let is_computed = matches!(ty.dtype, DType::F32 | DType::I32 | DType::Bool);
        if !is_computed && !is_read(function, value) && rounded(function, value).is_none() {
            return Err(format!("loops compute in f32, i32 and bool, not {ty}"));
        }
    }
    let mut words = vec![LoopWord::Output];
    words.extend((products..function.params.len()).map(LoopWord::Operand));
    let text = unbound(module, function, products);
    let is_used = |it: &LoopWord| match it {
        LoopWord::Extent(name) => text.contains(&extent_name(name)),
        _ => true,
    };
    words.extend(loop_extents(module, function).into_iter().filter(is_used));
    Ok(words)
}

/// The text of an element of the output of `function`, and of how many there are if it is no tail.
fn unbound(module: &Module, function: &Function, products: usize) -> String {
    let output = function.outputs[0].value;
    let axes = &function.ty(output).axes;
    let mut text = Element::new(module, function, products, false);
    let index = if axes.is_empty() { Vec::new() } else { text.divide(axes, "at") };
    text.element(output, &index);
    if products == 0 {
        let sizes: Vec<String> = axes.iter().map(|it| size(module, it)).collect();
        text.line(&sizes.join(" * "));
    }
    text.finish()
}

/// Whether `value` lies in memory as 16 bits, or is a view of what does.
fn is_read(function: &Function, value: Value) -> bool {
    let is_view = function.maker(value).is_none_or(|it| {
        let views = ["rename", "split", "merge", "transpose", "slice"];
        views.contains(&it.op.rules().name())
    });
    matches!(function.ty(value).dtype, DType::F16 | DType::BF16) && is_view
}

/// What `value` rounds to 16 bits, if it is the output of `function` and does.
fn rounded(function: &Function, value: Value) -> Option<Value> {
    let is_output = function.outputs.iter().all(|it| it.value == value);
    let node = function.maker(value).filter(|it| is_output && matches!(it.op, Op::Cast(_)))?;
    let wide = node.operands[0];
    (function.ty(wide).dtype == DType::F32).then_some(wide)
}

/// A generated loop that is to be a kernel. Word `i` is a `long` named `wi`.
pub(crate) struct Loop<'a> {
    pub(crate) module: &'a Module,
    pub(crate) function: &'a Function,
    pub(crate) words: &'a [LoopWord],
    /// What the result is stored as.
    pub(crate) out: DType,
    /// Which words are others for each row of the result, which is then a position of a sequence of
    /// its own; empty where none are.
    pub(crate) own: &'a [bool],
    /// Which words are addresses of what no kernel writes.
    pub(crate) constant: &'a [bool],
}

impl<'a> Loop<'a> {
    /// The kernel.
    pub(crate) fn kernel(&self) -> Instance {
        let by_rows = rows::kernel(self);
        let waits = by_rows.is_some();
        let (body, grid) = by_rows.unwrap_or_else(|| self.by_element());
        let (includes, threads) = (vec!["base.cuh"], THREADS);
        Instance { includes, body, threads, grid, waits, ..Instance::default() }
    }

    /// Whether no kernel writes what the parameter `value` is.
    pub(crate) fn is_constant(&self, value: Value) -> bool {
        let is_it = |word: &LoopWord| matches!(word, LoopWord::Operand(i) if *i == value.index());
        self.words.iter().position(is_it).is_some_and(|it| self.constant[it])
    }

    /// The same, where each element is by itself.
    fn by_element(&self) -> (String, [Grid; 2]) {
        let output = self.function.outputs[0].value;
        let ty = self.function.ty(output);
        let by_warp = is_shared(self.module, self.function);
        let mut text = Element::new(self.module, self.function, 0, by_warp);
        let (index, grid) = self.begin(&mut text, &ty.axes, if by_warp { 32 } else { 1 });
        let value = text.element(output, &index);
        let put = match ty.dtype {
            DType::Bool => format!("out[at] = -(int){value};"),
            DType::I32 => format!("out[at] = {value};"),
            _ => format!("put(out + at, {value});"),
        };
        let first = if by_warp { "if (threadIdx.x % 32 == 0) " } else { "" };
        text.line(&format!("{first}{put}"));
        text.line("}");
        (text.finish(), grid)
    }

    /// Binds all names, and opens the loop over the places `at` along `axes`, each of which
    /// `threads` threads take: a place along each axis, and the grid.
    pub(crate) fn begin(
        &self,
        text: &mut Element<'a>,
        axes: &[Axis],
        threads: u32,
    ) -> (Vec<String>, [Grid; 2]) {
        let Loop { module, function, words, out, own, .. } = self;
        text.is_batch = own.contains(&true);
        let shared = words.iter().enumerate().filter(|it| own.get(it.0) != Some(&true));
        bind(text, function, shared, "w");
        if !text.is_batch {
            text.line(&format!("{0}* out = ({0}*)w0;", stored(*out)));
        }
        let sizes = axes.iter().map(|it| size(module, it));
        let total = std::iter::once("(long)1".to_owned()).chain(sizes).collect::<Vec<_>>();
        text.line(&format!("const long total = {};", total.join(" * ")));
        text.line(&format!(
            "for (long at = ((long)blockIdx.x * {THREADS} + threadIdx.x) / {threads}; at < total; \
             at += (long)gridDim.x * {THREADS} / {threads}) {{"
        ));
        let place = if text.is_large(axes) { "at" } else { "(int)at" };
        let index = if axes.is_empty() { Vec::new() } else { text.divide(axes, place) };
        if text.is_batch {
            self.bind_row(text, &index[0]);
        }
        let each = u64::from(THREADS / threads);
        let blocks = Grid { of: Vec::new(), axes: axes.to_vec(), each, most: kernels_cuda::MANY };
        (index, [blocks, Grid::fixed(1)])
    }

    /// Names what row `row` has of its own. What is `own` is the address for the first row.
    fn bind_row(&self, text: &mut Element<'_>, row: &str) {
        let Loop { module, function, words, out, own, .. } = self;
        text.line(&format!("const long row = {row};"));
        let ty = stored(*out);
        if own.first() != Some(&true) {
            text.line(&format!("{ty}* out = ({ty}*)w0;"));
        }
        let axes = &function.ty(function.outputs[0].value).axes;
        for (i, word) in words.iter().enumerate().filter(|it| own[it.0]) {
            if let LoopWord::Extent(name) = word {
                text.line(&format!("const int {} = (int)past[row];", extent_name(name)));
                continue;
            }
            text.line(&format!("const long r{i} = w{i} + row * c{i} + past[row] * b{i};"));
            if *word == LoopWord::Output {
                // Places count from the first row on.
                let width = axes[1..].iter().map(|it| format!("{} * ", size(module, it)));
                let width: String = width.collect();
                let before = format!("row * {width}(long)sizeof({ty})");
                text.line(&format!("{ty}* out = ({ty}*)(r{i} - {before});"));
            }
            bind(text, function, std::iter::once((i, word)), "r");
        }
    }
}

/// Names operands and extents as the text of elements does; word `i` is `prefix` and its number.
fn bind<'a>(
    text: &mut Element<'_>,
    function: &Function,
    words: impl Iterator<Item = (usize, &'a LoopWord)>,
    prefix: &str,
) {
    for (i, word) in words {
        let line = match word {
            LoopWord::Operand(at) => {
                let ty = stored(function.params[*at].ty.dtype);
                format!("const {ty}* p{at} = (const {ty}*){prefix}{i};")
            }
            LoopWord::Extent(name) => {
                format!("const int {} = (int){prefix}{i};", extent_name(name))
            }
            LoopWord::Output | LoopWord::Helper(_) => continue,
        };
        text.line(&line);
    }
}

/// The functor of a tail, but for its name.
pub(crate) struct Tail {
    /// What it has and does.
    members: String,
    /// What its members are made of.
    made: String,
    /// Whether it adds its one operand to the product, element by element, and does nothing else.
    is_sum: bool,
}

impl Tail {
    /// That of `function`, the first of whose parameters are `products`; its own words begin at
    /// word `first` of the call. `None` where it gives the product as it is.
    pub(crate) fn new(
        module: &Module,
        function: &Function,
        products: usize,
        words: &[LoopWord],
        first: usize,
    ) -> Option<Tail> {
        let output = function.outputs[0].value;
        let given = rounded(function, output).unwrap_or(output);
        if products == 1 && function.param_values().next() == Some(given) {
            return None;
        }
        let axes = &function.ty(output).axes;
        let mut text = Element::new(module, function, products, false);
        text.line("");
        bind(&mut text, function, words.iter().enumerate(), "t");
        let (_, rows) = axes.split_last().expect("columns");
        let mut index = match rows {
            [] => Vec::new(),
            _ => text.divide(rows, "row"),
        };
        index.push("column".to_owned());
        let value = text.element(output, &index);
        text.line(&format!("return {value};"));
        let mut members = String::new();
        for it in 1..words.len() {
            let _ = writeln!(members, "  long t{it};");
        }
        let products: Vec<String> = (0..products).map(|it| format!("float q{it}")).collect();
        let _ = writeln!(
            members,
            "  __device__ float operator()(int row, int column, {}) const {{{}  }}",
            products.join(", "),
            text.finish()
        );
        let made: Vec<String> = (1..words.len()).map(|it| format!("w{}", first + it)).collect();
        Some(Tail { members, made: made.join(", "), is_sum: is_sum(function, given) })
    }

    /// The functor, named by where its text stands among `texts`, to which it is added. Its operand
    /// lies where the result goes, if that `is_in_place`.
    pub(crate) fn named(self, texts: &mut Vec<String>, is_in_place: bool) -> Functor {
        let Tail { members, made, is_sum } = self;
        let place = texts.iter().position(|it| *it == members).unwrap_or(texts.len());
        if place == texts.len() {
            texts.push(members.clone());
        }
        let name = format!("Tail{place}");
        let text = format!("struct {name} {{\n{members}}};\n");
        let make = format!("{name}{{{made}}}");
        Functor { make, name, text, adds: is_sum && is_in_place }
    }
}

/// Whether `given` is the sum of the two parameters of a tail, which have the same axes: of the
/// product, which comes first, and another.
fn is_sum(function: &Function, given: Value) -> bool {
    let Some(node) = function.maker(given) else { return false };
    let adds = matches!(&node.op, Op::Binary(it) if it.function == BinaryFn::Add);
    let params: Vec<Value> = function.param_values().collect();
    let axes = |it: &Value| &function.ty(*it).axes;
    let [a, b] = params[..] else { return false };
    let is_of_both = node.operands == [a, b] || node.operands == [b, a];
    adds && is_of_both && params.iter().all(|it| axes(it) == axes(&given))
}

/// Whether elements are sums of so many terms that a warp shares one.
fn is_shared(module: &Module, function: &Function) -> bool {
    let size = |axes: &[Axis]| {
        let sizes = axes.iter().map(|it| module.axes.bound(it).unwrap_or(usize::MAX));
        sizes.fold(1, usize::saturating_mul)
    };
    function.nodes().iter().any(|node| match &node.op {
        Op::Reduce(it) => SHARED <= size(&it.over),
        Op::Contract(it) => SHARED <= size(&it.over),
        Op::ArgMax(it) => SHARED <= size(std::slice::from_ref(&it.axis)),
        _ => false,
    })
}
