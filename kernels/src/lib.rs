//! What kernels may compute in place of generated loops.
//!
//! A kernel is a pair of siblings: code for the device (`cpu/src/matmul.rs`) and a file here of the
//! same name that says which nodes the kernel may [`Kernel::claim`] and which words to call it with
//! ([`Kernel::words`]). [`cover`] chooses among the claims and makes each chosen one a function of
//! its own, whose body is what the kernel has to compute: the graph keeps its meaning, and can be
//! run by the reference before and after.

mod add_norm;
mod attention;
mod conv1d;
mod cover;
mod gather;
mod layer_norm;
mod matmul;
mod norm_matmul;
mod rms_norm;
mod softmax;
mod ssd;

pub use cover::{cover, is_group};

use ir::{Axis, DType, Function, Node, Op, Origin, Scope};

/// What is known of the graph around a node.
pub struct Site<'a> {
    /// Axes and functions.
    pub scope: Scope<'a>,
    /// The function that the node is in.
    pub function: &'a Function,
    /// How often each value of it is used.
    pub uses: &'a [usize],
    /// Which of its values are weights.
    pub stored: &'a [bool],
}

impl Site<'_> {
    /// Whether `value` is a weight.
    pub fn is_stored(&self, value: ir::Value) -> bool {
        self.stored.get(value.index()).is_some_and(|it| *it)
    }

    /// The origin of the function that `node` calls.
    pub fn origin_of_call(&self, node: &Node) -> Option<&Origin> {
        let Op::Call(call) = &node.op else { return None };
        self.scope.function(call.function.as_str())?.origin.as_ref()
    }

    /// The node `root`, if it calls a function of that origin for which `fits` is true.
    fn calls(&self, root: usize, origin: &str, fits: fn(&Function) -> bool) -> Option<Vec<usize>> {
        let node = &self.function.nodes()[root];
        let callee = self.scope.function(node.op.callee()?.as_str())?;
        let is_it = self.origin_of_call(node)?.function == origin && fits(callee);
        is_it.then(|| vec![root])
    }
}

/// One word of a kernel's arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// Where result `i` goes.
    Output(usize),
    /// Where operand `i` lies: of a weight with a `Format` its packed bytes.
    Operand(usize),
    /// The storage format of an operand, which is a packed table.
    Format {
        /// Which operand.
        operand: usize,
        /// The axes that count its rows.
        rows: Vec<Axis>,
        /// The axes along a row.
        columns: Vec<Axis>,
    },
    /// The product of the extents of these axes.
    Size(Vec<Axis>),
    /// A number.
    Bits(u64),
    /// Two words: the code of [`Kernel::tail`] for result `i`, or 0, and which word is the first of
    /// its own. Those stand behind all others.
    Tail(usize),
    /// Scratch memory of the calling thread.
    Scratch,
}

impl Word {
    /// A real number.
    pub fn real(value: f64) -> Word {
        Word::Bits(value.to_bits())
    }

    /// A truth value.
    pub fn flag(value: bool) -> Word {
        Word::Bits(u64::from(value))
    }
}

/// An operand that a kernel overwrites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Update {
    /// Which operand.
    pub operand: usize,
    /// The result that is left in its place.
    pub result: usize,
}

/// What is computed of a kernel's products by generated code, while they are in a cache.
pub struct Tail {
    /// Takes products, then other values, element by element; its result has their axes.
    pub function: Function,
    /// How many of its parameters are products.
    pub products: usize,
    /// For each further parameter, which one of the kernel's function it is.
    pub operands: Vec<usize>,
}

/// A kernel as the compiler sees it.
pub trait Kernel: Sync {
    /// Its name among the kernels of the device.
    fn name(&self) -> &'static str;

    /// The nodes, by their places in the function, that the kernel can compute at once where
    /// `root` is. The results are what it gives, if it is the last of them, and what is used
    /// elsewhere of the nodes after it.
    fn claim(&self, site: &Site<'_>, root: usize) -> Option<Vec<usize>>;

    /// Whether what is used elsewhere of the nodes before the root may be results too; else they
    /// must be used by the claim alone.
    fn gives_inner(&self) -> bool {
        false
    }

    /// The words to call the kernel with, for a function that [`cover`] made of a claim.
    fn words(&self, scope: Scope<'_>, function: &Function) -> Vec<Word>;

    /// Which operand lies where which result goes: the kernel finds the one and leaves the other
    /// there. [`Word::Operand`] of such an operand and [`Word::Output`] of such a result are that
    /// place.
    fn updates(&self, _function: &Function) -> Vec<Update> {
        Vec::new()
    }

    /// Which operands may lie where which results go, since the kernel has read each of their
    /// numbers before it writes one there.
    fn reuses(&self, _function: &Function) -> Vec<Update> {
        Vec::new()
    }

    /// What the kernel leaves to generated code for one of the results.
    fn tail(&self, _: Scope<'_>, _function: &Function, _result: usize) -> Option<Tail> {
        None
    }

    /// Whether values that are no weights may be `f16` or `bf16`.
    fn takes_half(&self) -> bool {
        false
    }
}

/// All kernels. Of claims that cover equally many nodes the first kernel's wins.
const ALL: &[&dyn Kernel] = &[
    &norm_matmul::NormMatMul,
    &matmul::MatMul,
    &attention::Attention,
    &rms_norm::RmsNorm,
    &layer_norm::LayerNorm,
    &softmax::Softmax,
    &gather::Gather,
    &conv1d::Conv1d,
    &ssd::Ssd,
    &add_norm::AddNorm,
];

/// The kernels of GPUs: all but the one whose parts are composed there anyway.
pub const CUDA: &[&dyn Kernel] = ALL.split_at(ALL.len() - 1).0;

/// The kernels of CPUs: all but the one that saves a launch where launches are dear.
pub const CPU: &[&dyn Kernel] = ALL.split_at(1).1;

/// The kernel that a function of [`cover`] is for.
pub fn of_function(function: &Function) -> Option<&'static dyn Kernel> {
    let name = function.origin.as_ref()?.function.strip_prefix("kernel::")?;
    ALL.iter().copied().find(|it| it.name() == name)
}

/// The axes of a type but its last `n`.
fn rows(axes: &[Axis], n: usize) -> Vec<Axis> {
    axes[..axes.len() - n].to_vec()
}

/// The function that the only node of `function` calls.
fn callee<'a>(scope: Scope<'a>, function: &Function) -> &'a Function {
    let callee = function.nodes().iter().find_map(|it| it.op.callee());
    callee.and_then(|it| scope.function(it.as_str())).expect("a claimed call")
}

/// A number that the callee of `function` was made with.
fn number(callee: &Function, name: &str) -> f64 {
    callee.origin.as_ref().and_then(|it| it.numbers.get(name)).map_or(0.0, |it| it.0)
}

/// Whether some kernel may claim calls of `function`, so that it is not to be expanded.
pub fn is_claimable(function: &Function) -> bool {
    let Some(origin) = &function.origin else { return false };
    match origin.function.as_str() {
        "prelude::attention" | "prelude::rms_norm" | "prelude::layer_norm" | "prelude::softmax" => {
            true
        }
        "prelude::conv1d" => conv1d::is_as_the_kernel(function),
        "prelude::ssd" => ssd::is_as_the_kernel(function),
        _ => false,
    }
}

/// Whether numbers of type `dtype` are values of 16 bits.
fn half(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16)
}

/// How numbers are stored: 0 for `f32`, 1 for `f16`, 2 for `bf16`.
fn stored_word(dtype: DType) -> Word {
    Word::Bits(match dtype {
        DType::F16 => 1,
        DType::BF16 => 2,
        _ => 0,
    })
}

/// The axes of each parameter of `function`.
fn param_axes(function: &Function) -> Vec<&[Axis]> {
    function.params.iter().map(|it| it.ty.axes.as_slice()).collect()
}
