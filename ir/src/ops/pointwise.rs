//! Pointwise arithmetic. One more function is one more row in a table here.

use super::{Variants, broadcast, pointwise, promote};
use crate::{DType, Example, Mismatch, Op, Rules, Run, Scope, Tensor, Type, Value, grad::Grad};

/// A function of one number, with its name, meaning and slope.
macro_rules! unary {
    ($($variant:ident $name:literal $meaning:expr, $slope:expr;)*) => {
        /// A function of one number.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
        #[expect(missing_docs, reason = "each variant is its own name")]
        pub enum UnaryFn { #[default] $($variant,)* }

        impl UnaryFn {
            /// Every function.
            pub const ALL: &[UnaryFn] = &[$(UnaryFn::$variant,)*];

            /// Name in the text form and in the language.
            pub fn name(self) -> &'static str {
                match self { $(UnaryFn::$variant => $name,)* }
            }

            /// What it computes.
            pub fn apply(self, x: f64) -> f64 {
                let meaning: fn(f64) -> f64 = match self { $(UnaryFn::$variant => $meaning,)* };
                meaning(x)
            }

            /// The slope at `x`, where the function gives `y`; `None` where it is flat.
            fn slope(self, grad: &mut Grad<'_>, x: Value, y: Value) -> Option<Value> {
                type Slope = fn(&mut Grad<'_>, Value, Value) -> Option<Value>;
                let slope: Slope = match self { $(UnaryFn::$variant => $slope,)* };
                slope(grad, x, y)
            }
        }
    };
}

// Name, meaning, slope.
unary! {
    Neg "neg" |x| -x, |g, _, _| Some(g.number(-1.0));
    Abs "abs" f64::abs, |g, x, _| Some(g.sign(x));
    Exp "exp" f64::exp, |_, _, y| Some(y);
    Log "log" f64::ln, |g, x, _| { let one = g.number(1.0); Some(g.div(one, x)) };
    Sin "sin" f64::sin, |g, x, _| Some(g.unary(UnaryFn::Cos, x));
    Cos "cos" f64::cos, |g, x, _| { let s = g.unary(UnaryFn::Sin, x); Some(g.unary(UnaryFn::Neg, s)) };
    Tanh "tanh" f64::tanh, |g, _, y| { let yy = g.mul(y, y); let one = g.number(1.0); Some(g.sub(one, yy)) };
    Sqrt "sqrt" f64::sqrt, |g, _, y| { let half = g.number(0.5); Some(g.div(half, y)) };
    Rsqrt "rsqrt" |x| 1.0 / x.sqrt(), |g, x, y| {
        let ratio = g.div(y, x);
        let minus_half = g.number(-0.5);
        Some(g.mul(minus_half, ratio))
    };
    Erf "erf" erf, |g, x, _| {
        let xx = g.mul(x, x);
        let minus = g.unary(UnaryFn::Neg, xx);
        let bell = g.unary(UnaryFn::Exp, minus);
        let scale = g.number(std::f64::consts::FRAC_2_SQRT_PI);
        Some(g.mul(scale, bell))
    };
    Floor "floor" f64::floor, |_, _, _| None;
    Not "not" |x| f64::from(x == 0.0), |_, _, _| None;
}

/// The error function, by its series where that converges fast and its continued fraction beyond
/// (Abramowitz and Stegun 7.1.6 and 7.1.14).
fn erf(x: f64) -> f64 {
    if 6.0 < x.abs() {
        return x.signum();
    }
    if x.abs() < 2.5 {
        let (mut term, mut sum) = (x, x);
        for n in 1..100 {
            term *= 2.0 * x * x / f64::from(2 * n + 1);
            sum += term;
        }
        return std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp() * sum;
    }
    let z = x.abs();
    let fraction = (1..=80).rev().fold(z, |tail, n| z + f64::from(n) / 2.0 / tail);
    let complement = (-z * z).exp() / fraction * std::f64::consts::FRAC_2_SQRT_PI / 2.0;
    x.signum() * (1.0 - complement)
}

/// A function of one number, applied to each element.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Unary {
    /// Which.
    pub function: UnaryFn,
}

impl Variants for Unary {
    fn variants() -> Vec<Unary> {
        UnaryFn::ALL.iter().map(|&function| Unary { function }).collect()
    }
}

impl Rules for Unary {
    fn name(&self) -> &'static str {
        self.function.name()
    }

    fn infer(&self, operands: &[Type], _: Scope<'_>) -> Result<Vec<Type>, Mismatch> {
        let [x] = operands else { return Err("takes one operand".into()) };
        let is_not = self.function == UnaryFn::Not;
        let fits = if is_not { x.dtype == DType::Bool } else { x.dtype.is_float() };
        let whole = x.dtype == DType::I32 && matches!(self.function, UnaryFn::Neg | UnaryFn::Abs);
        if !fits && !whole {
            return Err(format!("does not take {}", x.dtype));
        }
        Ok(vec![x.with_dtype(x.dtype.value_type())])
    }

    fn eval(&self, operands: &[&Tensor], results: &[Type], _: Run<'_>) -> Vec<Tensor> {
        let data = operands[0].data.iter().map(|&x| self.function.apply(x)).collect();
        vec![Tensor { ty: results[0].clone(), shape: operands[0].shape.clone(), data }]
    }

    fn gradient(
        &self,
        grad: &mut Grad<'_>,
        operands: &[Value],
        results: &[Value],
        upstream: &[Option<Value>],
    ) -> Vec<Option<Value>> {
        let Some(upstream) = upstream[0] else { return vec![None] };
        let slope = self.function.slope(grad, operands[0], results[0]);
        vec![slope.map(|it| grad.mul(upstream, it))]
    }

    fn examples(&self) -> Vec<Example> {
        let ty = if self.function == UnaryFn::Not { "bool[A, B]" } else { "f32[A, B]" };
        vec![Example::new(self.clone(), &[("A", 2), ("B", 3)], &[ty])]
    }
}

/// Names and meanings of the functions of two numbers.
macro_rules! binary {
    ($($variant:ident $name:literal $meaning:expr;)*) => {
        /// A function of two numbers.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
        #[expect(missing_docs, reason = "each variant is its own name")]
        pub enum BinaryFn { #[default] $($variant,)* }

        impl BinaryFn {
            /// Every function.
            pub const ALL: &[BinaryFn] = &[$(BinaryFn::$variant,)*];

            /// Name in the text form.
            pub fn name(self) -> &'static str {
                match self { $(BinaryFn::$variant => $name,)* }
            }

            /// What it computes.
            pub fn apply(self, x: f64, y: f64) -> f64 {
                let meaning: fn(f64, f64) -> f64 =
                    match self { $(BinaryFn::$variant => $meaning,)* };
                meaning(x, y)
            }
        }
    };
}

binary! {
    Add "add" |x, y| x + y;
    Sub "sub" |x, y| x - y;
    Mul "mul" |x, y| x * y;
    Div "div" |x, y| x / y;
    Max "max" f64::max;
    Min "min" f64::min;
    Pow "pow" f64::powf;
    Less "less" |x, y| f64::from(x < y);
    LessEqual "less_equal" |x, y| f64::from(x <= y);
    Equal "equal" |x, y| f64::from(x == y);
    And "and" |x, y| f64::from(x != 0.0 && y != 0.0);
    Or "or" |x, y| f64::from(x != 0.0 || y != 0.0);
}

impl BinaryFn {
    /// Whether the result is a truth value.
    pub fn is_comparison(self) -> bool {
        matches!(self, BinaryFn::Less | BinaryFn::LessEqual | BinaryFn::Equal)
    }

    fn is_logic(self) -> bool {
        matches!(self, BinaryFn::And | BinaryFn::Or)
    }
}

/// A function of two numbers, applied to elements at the same place of each common axis.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Binary {
    /// Which.
    pub function: BinaryFn,
}

impl Variants for Binary {
    fn variants() -> Vec<Binary> {
        BinaryFn::ALL.iter().map(|&function| Binary { function }).collect()
    }
}

impl Rules for Binary {
    fn name(&self) -> &'static str {
        self.function.name()
    }

    fn infer(&self, operands: &[Type], _: Scope<'_>) -> Result<Vec<Type>, Mismatch> {
        let [_, _] = operands else { return Err("takes two operands".into()) };
        let dtype = promote(operands)?;
        if self.function.is_logic() != (dtype == DType::Bool) {
            return Err(format!("does not take {dtype}"));
        }
        let whole_only = matches!(self.function, BinaryFn::Div | BinaryFn::Pow);
        if whole_only && !dtype.is_float() {
            return Err(format!("does not take {dtype}; cast it"));
        }
        let dtype = if self.function.is_comparison() { DType::Bool } else { dtype };
        Ok(vec![Type::new(dtype, broadcast(operands)?)])
    }

    fn eval(&self, operands: &[&Tensor], results: &[Type], run: Run<'_>) -> Vec<Tensor> {
        vec![pointwise(operands, &results[0], run, |it| self.function.apply(it[0], it[1]))]
    }

    fn gradient(
        &self,
        grad: &mut Grad<'_>,
        operands: &[Value],
        results: &[Value],
        upstream: &[Option<Value>],
    ) -> Vec<Option<Value>> {
        let Some(upstream) = upstream[0] else { return vec![None, None] };
        let (x, y) = (operands[0], operands[1]);
        let (dx, dy) = match self.function {
            BinaryFn::Add => (upstream, upstream),
            BinaryFn::Sub => (upstream, grad.unary(UnaryFn::Neg, upstream)),
            BinaryFn::Mul => (grad.mul(upstream, y), grad.mul(upstream, x)),
            BinaryFn::Div => {
                let dx = grad.div(upstream, y);
                let ratio = grad.mul(dx, results[0]);
                (dx, grad.unary(UnaryFn::Neg, ratio))
            }
            BinaryFn::Max => grad.choose(BinaryFn::LessEqual, y, x, upstream),
            BinaryFn::Min => grad.choose(BinaryFn::LessEqual, x, y, upstream),
            BinaryFn::Pow => {
                let ratio = grad.div(results[0], x);
                let slope = grad.mul(y, ratio);
                let log = grad.unary(UnaryFn::Log, x);
                let by_exponent = grad.mul(results[0], log);
                (grad.mul(upstream, slope), grad.mul(upstream, by_exponent))
            }
            BinaryFn::Less
            | BinaryFn::LessEqual
            | BinaryFn::Equal
            | BinaryFn::And
            | BinaryFn::Or => return vec![None, None],
        };
        vec![Some(grad.fit(dx, x)), Some(grad.fit(dy, y))]
    }

    fn examples(&self) -> Vec<Example> {
        let axes = [("A", 2), ("B", 3), ("C", 2)];
        if self.function.is_logic() {
            return vec![Example::new(self.clone(), &axes, &["bool[A, B]", "bool[B]"])];
        }
        let cases: [&[&str]; 3] =
            [&["f32[A, B]", "f32[A, B]"], &["f32[A, B]", "f32[B]"], &["f32[A, B]", "f32[C, A]"]];
        cases.iter().map(|it| Example::new(self.clone(), &axes, it)).collect()
    }
}

impl Op {
    /// The unary function that this op applies.
    pub fn as_unary(&self) -> Option<UnaryFn> {
        if let Op::Unary(unary) = self { Some(unary.function) } else { None }
    }

    /// The binary function that this op applies.
    pub fn as_binary(&self) -> Option<BinaryFn> {
        if let Op::Binary(binary) = self { Some(binary.function) } else { None }
    }

    /// The op that applies `function`.
    pub fn unary(function: UnaryFn) -> Op {
        Unary { function }.into()
    }

    /// The op that applies `function`.
    pub fn binary(function: BinaryFn) -> Op {
        Binary { function }.into()
    }
}
