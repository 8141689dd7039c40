//! Multiplies instead of dividing by a power of two, which gives the same bits.

use ir::{
    Module, Op, Real,
    ops::{BinaryFn, Constant},
};
use passes::{Contract, Cx, Fault, Pass};

/// See the module.
pub(super) struct PowersOfTwo;

impl Pass for PowersOfTwo {
    fn name(&self) -> &'static str {
        "powers-of-two"
    }

    fn about(&self) -> &'static str {
        "multiplies instead of dividing by a power of two"
    }

    fn contract(&self) -> Contract {
        Contract::Exact
    }

    fn run(&self, module: &Module, cx: &mut Cx) -> Result<Module, Fault> {
        Ok(module.map(|done, function| {
            let scope = done.scope();
            cx.rewrite(scope, function, |f, op, operands| {
                let (Some(BinaryFn::Div), &[x, y]) = (op.as_binary(), operands) else {
                    return None;
                };
                let Op::Constant(divisor) = f.maker(y)?.op.clone() else { return None };
                let inverse = exact_inverse(&divisor)?;
                let factor = f.add(scope, Constant { values: vec![inverse], ..divisor }, &[]);
                Some(f.add_all(scope, Op::binary(BinaryFn::Mul), &[x, factor]))
            })
        }))
    }
}

/// One over the number, where a float of any width holds both.
fn exact_inverse(divisor: &Constant) -> Option<Real> {
    let [Real(number)] = divisor.values[..] else { return None };
    (-14..=14).map(|it| 2f64.powi(it)).find(|it| *it == number).map(|it| Real(1.0 / it))
}
