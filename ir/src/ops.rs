//! Every op. To add one: write its file, then add its lines here.

mod argmax;
mod call;
mod cast;
mod concat;
mod constant;
mod contract;
mod extent;
mod gather;
mod iota;
mod merge;
mod pad;
mod pointwise;
mod reduce;
mod rename;
mod scan;
mod scatter_add;
mod select;
mod slice;
mod split;
mod transpose;

pub use argmax::ArgMax;
pub use call::Call;
pub use cast::Cast;
pub use concat::Concat;
pub use constant::Constant;
pub use contract::Contract;
pub use extent::ExtentOf;
pub use gather::Gather;
pub use iota::Iota;
pub use merge::Merge;
pub use pad::Pad;
pub use pointwise::{Binary, BinaryFn, Unary, UnaryFn};
pub use reduce::{Reduce, ReduceKind};
pub use rename::Rename;
pub use scan::Scan;
pub use scatter_add::ScatterAdd;
pub use select::Select;
pub use slice::Slice;
pub use split::Split;
pub use transpose::Transpose;

use crate::{Attribute, Axis, DType, Mismatch, Name, Rules, Run, Scope, Tensor, Type, Visit};

macro_rules! ops {
    ($($op:ident,)*) => {
        /// Any op.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub enum Op {
            $(#[doc = concat!("See [`", stringify!($op), "`].")] $op($op),)*
        }

        impl Op {
            /// One of each op, with default attributes; the parser picks from these by name.
            pub fn all() -> Vec<Op> {
                let mut all = Vec::new();
                $(all.extend($op::variants().into_iter().map(Op::$op));)*
                all
            }

            /// What the compiler knows of this op.
            pub fn rules(&self) -> &dyn Rules {
                match self { $(Op::$op(op) => op,)* }
            }

            /// The same, to set attributes.
            pub fn rules_mut(&mut self) -> &mut dyn Rules {
                match self { $(Op::$op(op) => op,)* }
            }
        }

        $(impl From<$op> for Op {
            fn from(op: $op) -> Op { Op::$op(op) }
        })*
    };
}

ops! {
    ArgMax,
    Binary,
    Call,
    Cast,
    Concat,
    Constant,
    Contract,
    ExtentOf,
    Gather,
    Iota,
    Merge,
    Pad,
    Reduce,
    Rename,
    Scan,
    ScatterAdd,
    Select,
    Slice,
    Split,
    Transpose,
    Unary,
}

/// The ops that one struct stands for: itself, for all but the pointwise families.
trait Variants: Sized + Default {
    fn variants() -> Vec<Self> {
        vec![Self::default()]
    }
}

impl Op {
    /// The function that it runs.
    pub fn callee(&self) -> Option<&Name> {
        match self {
            Op::Call(call) => Some(&call.function),
            Op::Scan(scan) => Some(&scan.body),
            _ => None,
        }
    }

    /// Every axis that its attributes name, as `visit` leaves it.
    pub fn visit_axes(&mut self, visit: &mut dyn FnMut(&mut Axis)) {
        struct Axes<'a>(&'a mut dyn FnMut(&mut Axis));
        impl Visit for Axes<'_> {
            fn attribute(&mut self, _: &'static str, value: &mut dyn Attribute) {
                value.axes().iter_mut().for_each(&mut *self.0);
            }
        }
        self.rules_mut().attributes(&mut Axes(visit));
    }

    /// Every atom that its attributes name.
    pub fn named_axes(&self) -> Vec<Name> {
        let mut atoms = Vec::new();
        self.clone().visit_axes(&mut |it| atoms.extend(it.atoms().cloned()));
        atoms
    }
}

/// The axes of a pointwise result: those of the first operand, then what the others add.
fn broadcast(operands: &[Type]) -> Result<Vec<Axis>, Mismatch> {
    let mut axes: Vec<Axis> = Vec::new();
    for axis in operands.iter().flat_map(|it| &it.axes) {
        if !axes.contains(axis) {
            axes.push(axis.clone());
        }
    }
    let ty = Type::new(DType::F32, axes);
    match ty.repeated_atom() {
        Some(atom) => Err(format!("`{atom}` stands in two axes of {ty}; split or rename one")),
        None => Ok(ty.axes),
    }
}

/// The element type of a pointwise result: what holds the values of all operands.
fn promote(operands: &[Type]) -> Result<DType, Mismatch> {
    let mut dtypes = operands.iter().map(|it| it.dtype.value_type());
    let first = dtypes.next().unwrap_or(DType::F32);
    dtypes.try_fold(first, |a, b| match (a, b) {
        _ if a == b => Ok(a),
        (DType::F64, it) | (it, DType::F64) if it.is_float() => Ok(DType::F64),
        _ if a.is_float() && b.is_float() => Ok(DType::F32),
        _ => Err(format!("{a} against {b}; cast one")),
    })
}

/// The element type of sums of products: `f32`, or `f64` where an operand has it.
fn accumulator(operands: &[&Type]) -> DType {
    if operands.iter().any(|it| it.dtype == DType::F64) { DType::F64 } else { DType::F32 }
}

/// The first axis that a list names twice.
fn repeated(axes: &[Axis]) -> Option<&Axis> {
    (1..axes.len()).find(|&i| axes[..i].contains(&axes[i])).map(|i| &axes[i])
}

/// `ty` with `from` replaced by `to`, in place.
fn replace_axis(ty: &Type, from: &Axis, to: &[Axis]) -> Result<Type, Mismatch> {
    let at = ty.position(from).ok_or_else(|| format!("no axis `{from}` in {ty}"))?;
    let mut axes = ty.axes.clone();
    axes.splice(at..=at, to.iter().cloned());
    let result = Type::new(ty.dtype.value_type(), axes);
    match result.repeated_atom() {
        Some(atom) => Err(format!("`{atom}` would stand twice in {result}")),
        None => Ok(result),
    }
}

/// Whether two axes are known to be equally long: by name, by declaration or by number.
fn same_extent(scope: Scope<'_>, a: &Axis, b: &Axis) -> Result<(), Mismatch> {
    let (x, y) = (scope.axes.resolve(a), scope.axes.resolve(b));
    if x == y {
        return Ok(());
    }
    match (scope.axes.fixed(a), scope.axes.fixed(b)) {
        (Some(m), Some(n)) if m == n => Ok(()),
        (Some(m), Some(n)) => Err(format!("`{a}` is {m} long, but `{b}` is {n}")),
        _ => Err(format!("`{a}` is not known to be as long as `{b}`")),
    }
}

/// How far apart neighbours along each of `axes` lie in `operand`; 0 along those it lacks.
fn strides_along(operand: &Tensor, axes: &[Axis]) -> Vec<usize> {
    let strides = operand.strides();
    axes.iter().map(|it| operand.ty.position(it).map_or(0, |at| strides[at])).collect()
}

/// The place of `index` under `strides`.
fn offset(index: &[usize], strides: &[usize]) -> usize {
    index.iter().zip(strides).map(|(i, s)| i * s).sum()
}

/// `operand` read along `axes`, each in turn.
fn pointwise(operands: &[&Tensor], ty: &Type, run: Run<'_>, f: impl Fn(&[f64]) -> f64) -> Tensor {
    let strides: Vec<_> = operands.iter().map(|it| strides_along(it, &ty.axes)).collect();
    let mut arguments = vec![0.0; operands.len()];
    Tensor::from_fn(ty.clone(), run.sizes, |index| {
        for ((argument, operand), strides) in arguments.iter_mut().zip(operands).zip(&strides) {
            *argument = operand.data[offset(index, strides)];
        }
        f(&arguments)
    })
}
