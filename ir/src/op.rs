//! What an op is. All the compiler knows of one op stands behind [`Rules`], in one file of `ops/`.

use crate::{Axes, Axis, DType, Function, Module, Name, Sizes, Tensor, Type, Value, grad::Grad};

pub use crate::ops::Op;

/// What type rules may look up.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    /// The axis table.
    pub axes: &'a Axes,
    /// The functions that may be called.
    pub functions: &'a [Function],
}

impl<'a> Scope<'a> {
    /// The function of that name.
    pub fn function(&self, name: &str) -> Option<&'a Function> {
        self.functions.iter().find(|it| it.name == *name)
    }
}

/// What meanings may look up.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    /// The module being run.
    pub module: &'a Module,
    /// The extents of this run.
    pub sizes: &'a Sizes,
    /// Whether every result is rounded to its type.
    pub typed: bool,
}

/// The rules of one op.
pub trait Rules {
    /// Name in the text form.
    fn name(&self) -> &'static str;

    /// Shows each attribute to `visit`, which reads it (printing) or writes it (parsing).
    fn attributes(&mut self, _visit: &mut dyn Visit) {}

    /// The types of the results, or why the operands do not fit.
    fn infer(&self, operands: &[Type], scope: Scope<'_>) -> Result<Vec<Type>, Mismatch>;

    /// What the op means, in double precision. `results` are the types that `infer` gave.
    fn eval(&self, operands: &[&Tensor], results: &[Type], run: Run<'_>) -> Vec<Tensor>;

    /// The gradient of each operand, given those of the results; `None` for what has none.
    fn gradient(
        &self,
        grad: &mut Grad<'_>,
        operands: &[Value],
        results: &[Value],
        upstream: &[Option<Value>],
    ) -> Vec<Option<Value>>;

    /// Arithmetic done and elements of memory touched, ignoring fusion. `size` measures axes.
    fn cost(&self, operands: &[Type], results: &[Type], size: &dyn Fn(&Axis) -> u64) -> Cost {
        let elements = results.iter().map(|it| elements(it, size));
        Cost {
            flops: elements.fold(0, u64::saturating_add),
            bytes: bytes_moved(operands, results, size),
        }
    }

    /// Which atoms of operands are the same index as which of the first result, beyond those of
    /// axes of equal name.
    fn links(&self) -> Vec<Link> {
        Vec::new()
    }

    /// Uses that show the op at work; the laws run each of them.
    fn examples(&self) -> Vec<Example>;
}

/// One use of an op, for the laws.
pub struct Example {
    /// The op.
    pub op: Op,
    /// The types of its operands.
    pub operands: Vec<Type>,
    /// The axes that they name.
    pub axes: Axes,
    /// The functions that it calls.
    pub functions: Vec<Function>,
}

impl Example {
    /// An example over axes of the given extents, with operands as text.
    ///
    /// # Panics
    ///
    /// When the text is not a type: examples are part of the source.
    pub fn new(op: impl Into<Op>, axes: &[(&str, usize)], operands: &[&str]) -> Example {
        let mut table = Axes::default();
        for &(name, size) in axes {
            table.fix(name, size);
        }
        let operands = operands.iter().map(|it| Type::parse(it).expect("a type")).collect();
        Example { op: op.into(), operands, axes: table, functions: Vec::new() }
    }
}

/// Atoms of an operand's axis that are, one by one, the same indices as atoms of an axis of the
/// result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Which operand.
    pub operand: usize,
    /// An axis of it.
    pub from: Axis,
    /// How many atoms of `from` stand before.
    pub from_skipped: usize,
    /// The axis of the result.
    pub to: Axis,
    /// How many atoms of `to` stand before.
    pub to_skipped: usize,
    /// How many they are.
    pub n_atoms: usize,
}

impl Link {
    /// All atoms of `from` and, one by one, those of `to` behind the first `to_skipped`; nothing
    /// where `to` does not end in atoms like them.
    pub(crate) fn into_whole(from: &Axis, to: &Axis, to_skipped: usize) -> Option<Link> {
        let n_atoms = from.atoms().count();
        let fits = to.atoms().skip(to_skipped).take(n_atoms).count() == n_atoms;
        let (from, to) = (from.clone(), to.clone());
        fits.then_some(Link { operand: 0, from, from_skipped: 0, to, to_skipped, n_atoms })
    }

    /// The same atoms with the sides exchanged.
    pub(crate) fn turned(self) -> Link {
        let Link { operand, from, from_skipped, to, to_skipped, n_atoms } = self;
        let (from, from_skipped, to, to_skipped) = (to, to_skipped, from, from_skipped);
        Link { operand, from, from_skipped, to, to_skipped, n_atoms }
    }

    /// Links of `parts`, laid side by side, with the atoms of `whole`; nothing where they are not
    /// its atoms by name.
    pub(crate) fn parts(parts: &[Axis], whole: &Axis) -> Vec<Link> {
        if Axis::product(parts).as_ref() != Some(whole) {
            return Vec::new();
        }
        let mut skipped = 0;
        let link = |part: &Axis| {
            let link = Link::into_whole(part, whole, skipped);
            skipped += part.atoms().count();
            link
        };
        parts.iter().filter_map(link).collect()
    }

    /// The link of `part` with the segments of `whole` behind those of `after`, if they are the
    /// same by name.
    pub(crate) fn segment(part: &Axis, whole: &Axis, after: &[Axis]) -> Vec<Link> {
        if !whole.begins_with(after.iter().chain([part])) {
            return Vec::new();
        }
        let skipped = after.iter().map(|it| it.atoms().count()).sum();
        Link::into_whole(part, whole, skipped).into_iter().collect()
    }
}

/// Why operands do not fit an op.
pub type Mismatch = String;

/// An estimate for the roofline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Arithmetic operations; a multiply-add counts two.
    pub flops: u64,
    /// Bytes read and written.
    pub bytes: u64,
}

/// Elements of a value, as `size` measures its axes.
pub(crate) fn elements(ty: &Type, size: &dyn Fn(&Axis) -> u64) -> u64 {
    ty.axes.iter().map(size).fold(1, u64::saturating_mul)
}

/// Bytes of all operands and results.
pub(crate) fn bytes_moved(operands: &[Type], results: &[Type], size: &dyn Fn(&Axis) -> u64) -> u64 {
    let bytes = |it: &Type| {
        let (bytes, len) = (it.dtype.block_bytes() as u64, it.dtype.block_len() as u64);
        elements(it, size).saturating_mul(bytes) / len
    };
    operands.iter().chain(results).map(bytes).fold(0, u64::saturating_add)
}

/// Reads or writes attributes by name.
pub trait Visit {
    /// Visits one attribute.
    fn attribute(&mut self, name: &'static str, value: &mut dyn Attribute);
}

/// A value that can stand in an attribute.
pub trait Attribute {
    /// Text form.
    fn print(&self) -> String;
    /// Reads the text form back.
    fn parse(&mut self, text: &str) -> Result<(), String>;
    /// The axes in it.
    fn axes(&mut self) -> &mut [Axis] {
        &mut []
    }
}

/// A real number that compares by its bits, so that it can be hashed.
#[derive(Clone, Copy, Default)]
pub struct Real(pub f64);

impl PartialEq for Real {
    fn eq(&self, other: &Real) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Eq for Real {}

impl std::hash::Hash for Real {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

impl std::fmt::Debug for Real {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// `Attribute` for what has `to_string` and a fallible reading.
macro_rules! attribute {
    ($($ty:ty, $print:expr, $parse:expr $(, $axes:expr)?;)*) => {
        $(impl Attribute for $ty {
            fn print(&self) -> String {
                let print: fn(&$ty) -> String = $print;
                print(self)
            }
            fn parse(&mut self, text: &str) -> Result<(), String> {
                let parse: fn(&str) -> Option<$ty> = $parse;
                *self = parse(text.trim()).ok_or_else(|| format!("`{text}` does not fit here"))?;
                Ok(())
            }
            $(fn axes(&mut self) -> &mut [Axis] {
                let axes: fn(&mut $ty) -> &mut [Axis] = $axes;
                axes(self)
            })?
        })*
    };
}

attribute! {
    usize, |it| it.to_string(), |text| text.parse().ok();
    bool, |it| it.to_string(), |text| text.parse().ok();
    Real, |it| format!("{:?}", it.0), |text| text.parse().ok().map(Real);
    Axis, |it| it.to_string(), |text| Axis::parse(text).ok(), std::slice::from_mut;
    DType, |it| it.to_string(), DType::from_name;
    Name, |it| format!("@{it}"), |text| {
        text.strip_prefix('@').filter(|it| Name::is_valid(it)).map(Name::from)
    };
    Vec<Axis>, |it| bracketed(it.iter().map(Axis::to_string)), |text| {
        unbracketed(text)?.map(|it| Axis::parse(it).ok()).collect()
    }, |it| it.as_mut_slice();
    Vec<Real>, |it| bracketed(it.iter().map(Attribute::print)), |text| {
        unbracketed(text)?.map(|it| it.trim().parse().ok().map(Real)).collect()
    };
}

fn bracketed(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

fn unbracketed(text: &str) -> Option<impl Iterator<Item = &str>> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    Some(inner.split(',').filter(|it| !it.trim().is_empty()))
}
