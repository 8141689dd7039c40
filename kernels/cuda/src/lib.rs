//! Kernels for CUDA: device code in `*.cuh`, and beside each family a file here that prints what of
//! it a launch needs.
//!
//! An [`Instance`] is real CUDA C++: includes, the functors that generated code fills in, and the
//! body of one `__global__` function over the words `w0, w1, ..` that `kernels::Kernel::words`
//! lists. It knows no driver.

mod attention;
mod matmul;
pub mod pack;
pub mod random;
mod rows;
mod scan;
mod tuned;

use ir::{Axis, DType};

pub use tuned::{Tunable, Tuned};

/// Every header, by the name under which others include it.
pub const HEADERS: &[(&str, &str)] = &[
    ("argmax.cuh", include_str!("../argmax.cuh")),
    ("arrange.cuh", include_str!("../arrange.cuh")),
    ("attention_hopper.cuh", include_str!("../attention_hopper.cuh")),
    ("attention_mma.cuh", include_str!("../attention_mma.cuh")),
    ("attention_parts.cuh", include_str!("../attention_parts.cuh")),
    ("attention_prompt.cuh", include_str!("../attention_prompt.cuh")),
    ("attention_token.cuh", include_str!("../attention_token.cuh")),
    ("base.cuh", include_str!("../base.cuh")),
    ("ceilings.cuh", include_str!("../ceilings.cuh")),
    ("ceilings_hopper.cuh", include_str!("../ceilings_hopper.cuh")),
    ("conv_prompt.cuh", include_str!("../conv_prompt.cuh")),
    ("conv_token.cuh", include_str!("../conv_token.cuh")),
    ("draw.cuh", include_str!("../draw.cuh")),
    ("fragments.cuh", include_str!("../fragments.cuh")),
    ("gemm.cuh", include_str!("../gemm.cuh")),
    ("gemm_packed.cuh", include_str!("../gemm_packed.cuh")),
    ("gemm_small.cuh", include_str!("../gemm_small.cuh")),
    ("gemm_split.cuh", include_str!("../gemm_split.cuh")),
    ("gemm_split_packed.cuh", include_str!("../gemm_split_packed.cuh")),
    ("hopper.cuh", include_str!("../hopper.cuh")),
    ("last.cuh", include_str!("../last.cuh")),
    ("ldmatrix.cuh", include_str!("../ldmatrix.cuh")),
    ("naive.cuh", include_str!("../naive.cuh")),
    ("norm.cuh", include_str!("../norm.cuh")),
    ("numbers.cuh", include_str!("../numbers.cuh")),
    ("packed_stages.cuh", include_str!("../packed_stages.cuh")),
    ("placed.cuh", include_str!("../placed.cuh")),
    ("ptx.cuh", include_str!("../ptx.cuh")),
    ("random.cuh", include_str!("../random.cuh")),
    ("results.cuh", include_str!("../results.cuh")),
    ("rows.cuh", include_str!("../rows.cuh")),
    ("skinny.cuh", include_str!("../skinny.cuh")),
    ("softmax.cuh", include_str!("../softmax.cuh")),
    ("ssd_prompt.cuh", include_str!("../ssd_prompt.cuh")),
    ("ssd_token.cuh", include_str!("../ssd_token.cuh")),
    ("tails.cuh", include_str!("../tails.cuh")),
    ("unpack.cuh", include_str!("../unpack.cuh")),
    ("weights.cuh", include_str!("../weights.cuh")),
];

/// Prints the instances of a kernel for a call, the fastest first.
pub type Template = fn(&Call<'_>) -> Result<Vec<Instance>, String>;

/// The templates, by the names of kernels.
pub const TEMPLATES: &[(&str, Template)] = &[
    ("matmul", matmul::instances),
    ("norm_matmul", matmul::normed_instances),
    ("attention", attention::instances),
    ("rms_norm", rows::rms_norm),
    ("layer_norm", rows::layer_norm),
    ("softmax", rows::softmax),
    ("gather", rows::gather),
    ("conv1d", scan::conv1d),
    ("ssd", scan::ssd),
    ("copy", rows::copy),
];

/// The template of that name.
pub fn template(name: &str) -> Option<Template> {
    TEMPLATES.iter().find(|it| it.0 == name).map(|it| it.1)
}

/// What is known of a word of a call when its code is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// A number.
    Known(u64),
    /// A number or an address that is known when running.
    Given,
    /// An address in a state of which each row has its own: that for the first row is `wi`, each
    /// further row is `ci` bytes on, and each of the `past[row]` positions that it has, `bi`.
    Own,
    /// The address of a weight in that format.
    Weight(DType),
    /// The code of a tail, a functor.
    Tail(Functor),
}

/// Generated code that a kernel calls for an element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Functor {
    /// The name of its type.
    pub name: String,
    /// Its definition: `float operator()(int row, int column, float p0, ..) const`.
    pub text: String,
    /// What makes one: an expression over words.
    pub make: String,
    /// Whether it adds to a product what lies where the result goes, and does nothing else.
    pub adds: bool,
}

/// A call of a kernel.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// Its words, those of tails behind.
    pub words: &'a [Word],
    /// Word by word, the element type of what lies at an address.
    pub types: &'a [DType],
    /// Word by word, whether it is the address of what no kernel writes.
    pub is_constant: &'a [bool],
    /// Word by word, whether it is an address in a state, of whose earlier positions no kernel of
    /// the step writes.
    pub is_state: &'a [bool],
    /// Whether kernels may round what they multiply to 16 bits where others do not.
    pub rounds: bool,
    /// What was found by measuring.
    pub tuned: &'a Tuned,
}

impl Call<'_> {
    /// Word `i` as C++: a number, or a variable of type `long`.
    pub fn text(&self, i: usize) -> String {
        match &self.words[i] {
            Word::Known(number) => (*number as i64).to_string(),
            _ => format!("w{i}"),
        }
    }

    /// Word `i` as a pointer.
    pub fn pointer(&self, i: usize, ty: &str) -> String {
        format!("({ty}*)w{i}")
    }

    /// Word `i` as a pointer, for `row` where each has its own.
    pub fn row_pointer(&self, i: usize, ty: &str) -> String {
        match self.is_own(i) {
            true => format!("({ty}*)(w{i} + row * c{i})"),
            false => self.pointer(i, ty),
        }
    }

    /// Whether each row has its own of what word `i` points to.
    pub fn is_own(&self, i: usize) -> bool {
        self.words[i] == Word::Own
    }

    /// Word `i`, if it is a number that is known.
    pub fn known(&self, i: usize) -> Option<u64> {
        match self.words[i] {
            Word::Known(number) => Some(number),
            _ => None,
        }
    }

    /// Word `i`, which has to be known.
    pub fn fixed(&self, i: usize) -> Result<u64, String> {
        self.known(i).ok_or_else(|| format!("word {i} is not known when compiling"))
    }

    /// Word `i`, a real number, as C++.
    pub fn real(&self, i: usize) -> Result<String, String> {
        Ok(format!("{:?}f", f64::from_bits(self.fixed(i)?) as f32))
    }
}

/// How many blocks a launch has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grid {
    /// The product of these words and of the extents of these axes is what the blocks share...
    pub of: Vec<usize>,
    /// See above.
    pub axes: Vec<Axis>,
    /// ... so much of it each...
    pub each: u64,
    /// ... but there are no more than so many.
    pub most: u64,
}

/// Enough blocks to fill any device that there is.
pub const MANY: u64 = 2048;

impl Grid {
    /// A block for `each` of the product of the words `of`, but no more than [`MANY`].
    pub fn over(of: &[usize], each: u64) -> [Grid; 2] {
        [Grid { of: of.to_vec(), axes: Vec::new(), each, most: MANY }, Grid::fixed(1)]
    }

    /// A block for `each` of the product of the words `of`.
    pub fn all(of: &[usize], each: u64) -> Grid {
        Grid { of: of.to_vec(), axes: Vec::new(), each, most: 1 << 30 }
    }

    /// So many blocks.
    pub fn fixed(most: u64) -> Grid {
        Grid { of: Vec::new(), axes: Vec::new(), each: 1, most }
    }
}

/// The text of a kernel for one launch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Instance {
    /// Headers.
    pub includes: Vec<&'static str>,
    /// Functors.
    pub preface: String,
    /// What the `__global__` function does.
    pub body: String,
    /// Threads of a block.
    pub threads: u32,
    /// Blocks of which a multiprocessor is to hold so many at once; 0 where that is left open.
    pub residents: u32,
    /// Blocks of a cluster; 0 and 1 for none.
    pub cluster: u32,
    /// Blocks along x and y.
    pub grid: [Grid; 2],
    /// Bytes of shared memory that a launch gives each block.
    pub shared: u32,
    /// As many where its code is made for a GPU before Hopper, if that is less.
    pub shared_before_hopper: Option<u32>,
    /// The word that counts rows, and the most that it is made for.
    pub rows: Option<(usize, u64)>,
    /// Whether the body waits for earlier kernels by itself.
    pub waits: bool,
    /// The architecture whose instructions it needs; any where there is none.
    pub architecture: Option<&'static str>,
    /// Tensor maps, which the body knows as `m0`, `m1`, ..
    pub maps: Vec<Map>,
    /// Bytes of scratch memory that it needs anyway, of which [`COUNTER_BYTES`] are counters, and
    /// for each row at the bound of a word.
    pub scratch: Option<(u64, u64, usize)>,
    /// What could be chosen otherwise.
    pub choices: Vec<Tunable>,
    /// What has to run before it.
    pub before: Option<Box<Instance>>,
    /// What cuBLASLt computes, if it is that which does it and not a kernel.
    pub products: Vec<MatrixProduct>,
}

impl Instance {
    /// It with `earlier`, and all that has to run before that, before it.
    pub(crate) fn after(mut self, earlier: Instance) -> Instance {
        let mut first = &mut self.before;
        while let Some(it) = first {
            first = &mut it.before;
        }
        *first = Some(Box::new(earlier));
        self
    }
}

/// A product `y = x w^T` by cuBLASLt, for which all matrices lie in rows, `x` and `w` in `bf16`.
/// Places are words of the call, and bytes further on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatrixProduct {
    /// Where `x` lies.
    pub x: (usize, u64),
    /// Where `w` lies.
    pub weights: (usize, u64),
    /// Where `y` goes.
    pub y: (usize, u64),
    /// The type of `y`: `f32` or `bf16`.
    pub dtype: DType,
    /// The word that counts rows of `x`.
    pub rows: usize,
    /// Columns of `y`, which are rows of `w`.
    pub columns: u64,
    /// Columns of `x` and `w`.
    pub depth: u64,
    /// Numbers from a row of `y` to the next.
    pub stride: u64,
    /// Whether it is added to what lies where `y` goes.
    pub adds: bool,
}

/// A matrix that the copy engine reads in boxes: 128-byte swizzle, zeros out of bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map {
    /// The word of its address.
    pub word: usize,
    /// Bytes further on.
    pub offset: u64,
    /// And so many more for each that a word counts.
    pub behind: Option<(u64, usize)>,
    /// `bf16` or `f8_e4m3`.
    pub dtype: DType,
    /// Elements of a row.
    pub columns: u64,
    /// Rows: a number times a word, if one is named.
    pub rows: (u64, Option<usize>),
    /// Elements of a row in a box, and rows.
    pub boxed: [u32; 2],
}

/// The most sequences of a batch.
pub const MOST_SEQUENCES: u64 = 256;

/// The most tokens that one can be drawn of.
pub const MOST_TOKENS: u64 = 1 << 23;

/// So many bytes of scratch memory are left to counters, which every kernel leaves as zeros.
pub const COUNTER_BYTES: u64 = 1 << 16;

/// The C++ type of an element in memory.
pub fn element(dtype: DType) -> &'static str {
    match dtype {
        DType::F16 => "__half",
        DType::BF16 => "bf16",
        DType::I32 | DType::Bool => "int",
        _ => "float",
    }
}
