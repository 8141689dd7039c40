//! Laws that every op obeys. An op is tested by standing in the list.

use ir::{
    Axes, DType, Example, Function, Module, Name, Role, Sizes, Tensor, Type, differentiate, eval,
};

#[test]
fn every_op_obeys() {
    for example in ir::op::Op::all().iter().flat_map(|it| it.rules().examples()) {
        let module = module_of(&example);
        assert_eq!(ir::verify(&module), Vec::<String>::new(), "{module}");
        text_round_trips(&module);
        typed_meaning_is_near(&module);
        gradient_is_the_slope(module);
    }
}

#[test]
fn every_op_has_an_example() {
    for op in ir::op::Op::all() {
        assert!(!op.rules().examples().is_empty(), "{}", op.rules().name());
    }
}

/// A module whose entry is the example alone.
pub(crate) fn module_of(example: &Example) -> Module {
    let mut module = Module { axes: example.axes.clone(), functions: example.functions.clone() };
    let mut entry = Function::new("entry");
    let operands: Vec<_> = example
        .operands
        .iter()
        .enumerate()
        .map(|(i, ty)| entry.param(format!("x{i}"), Role::Input, ty.clone()))
        .collect();
    let results = entry.add_all(module.scope(), example.op.clone(), &operands);
    for (i, result) in results.into_iter().enumerate() {
        entry.output(format!("y{i}"), result);
    }
    module.functions.push(entry);
    module
}

fn text_round_trips(module: &Module) {
    let text = module.to_string();
    let parsed = ir::parse(&text).unwrap_or_else(|why| panic!("{why}\n{text}"));
    assert_eq!(parsed, *module, "{text}");
    assert_eq!(parsed.to_string(), text);
}

fn sizes(axes: &Axes) -> Sizes {
    axes.sizes(&Default::default()).expect("examples have fixed axes")
}

fn arguments(module: &Module, sizes: &Sizes) -> Vec<Tensor> {
    let params = module.entry().params.iter().enumerate();
    params.map(|(i, it)| noise(i, &it.ty, sizes)).collect()
}

/// Values that no rounding ties and no maximum repeats: distinct, away from 0 and positive enough
/// for logarithms; small indices for integers.
fn noise(seed: usize, ty: &Type, sizes: &Sizes) -> Tensor {
    let n: usize = sizes.shape(&ty.axes).iter().product();
    let real = |i: usize| 1.3 + (1.0 + 1.7 * i as f64 + 7.3 * seed as f64).sin();
    let data = (0..n).map(|i| match ty.dtype {
        DType::I32 => ((i * 3 + seed + 1) % 4) as f64,
        DType::Bool => ((i + seed) % 2) as f64,
        _ => real(i),
    });
    Tensor::new(ty.clone(), sizes, data.collect())
}

fn run(module: &Module, arguments: &[Tensor], typed: bool) -> Vec<Tensor> {
    let arguments: Vec<&Tensor> = arguments.iter().collect();
    eval(module, &arguments, &sizes(&module.axes), typed).expect("fitting arguments")
}

/// Rounding every result to its type moves it by no more than rounding can.
fn typed_meaning_is_near(module: &Module) {
    let arguments: Vec<Tensor> =
        arguments(module, &sizes(&module.axes)).into_iter().map(Tensor::round).collect();
    let (exact, typed) = (run(module, &arguments, false), run(module, &arguments, true));
    for (x, y) in exact.iter().zip(&typed) {
        let half_ulp = if y.ty.dtype == DType::BF16 { 4e-3 } else { 1e-6 };
        for (x, y) in x.data.iter().zip(&y.data) {
            assert!((x - y).abs() <= half_ulp * (1.0 + x.abs()), "{x} against {y}\n{module}");
        }
    }
}

fn gradient_is_the_slope(module: Module) {
    let sizes = sizes(&module.axes);
    let values = arguments(&module, &sizes);
    let entry = module.entry().name.clone();
    let mut with_gradients = module.clone();
    let Some(name) = differentiate(&mut with_gradients, entry.as_str()) else { return };
    as_entry(&mut with_gradients, &name);
    assert_eq!(ir::verify(&with_gradients), Vec::<String>::new(), "{with_gradients}");
    text_round_trips(&with_gradients);

    let float_outputs: Vec<usize> = (0..module.entry().outputs.len())
        .filter(|&i| module.entry().output_types()[i].dtype.is_float())
        .collect();
    let n = values.len();
    let seeds: Vec<Tensor> = float_outputs
        .iter()
        .map(|&i| noise(n + i, &module.entry().output_types()[i], &sizes))
        .collect();
    let by_rule = run(&with_gradients, &[values.clone(), seeds.clone()].concat(), false);

    let loss = |values: &[Tensor]| -> f64 {
        let outputs = run(&module, values, false);
        let dot = |(x, y): (&Tensor, &Tensor)| -> f64 {
            x.data.iter().zip(&y.data).map(|(x, y)| x * y).sum()
        };
        float_outputs.iter().map(|&i| &outputs[i]).zip(&seeds).map(dot).sum()
    };
    let floats = (0..n).filter(|&i| values[i].ty.dtype.is_float());
    for (i, gradient) in floats.zip(&by_rule) {
        assert_eq!(gradient.ty.axes, values[i].ty.axes, "{with_gradients}");
        for j in 0..values[i].data.len() {
            let nudged = |by: f64| {
                let mut values = values.clone();
                values[i].data[j] += by;
                loss(&values)
            };
            let slope = (nudged(1e-5) - nudged(-1e-5)) / 2e-5;
            assert!(
                (slope - gradient.data[j]).abs() < 1e-6 * (1.0 + slope.abs()),
                "gradient {i}[{j}] is {}, but the slope is {slope}\n{with_gradients}",
                gradient.data[j]
            );
        }
    }
}

/// Makes `name` the entry, which has roles.
fn as_entry(module: &mut Module, name: &Name) {
    let at = module.functions.iter().position(|it| it.name == *name).expect("the gradient");
    let mut entry = module.functions.remove(at);
    entry.params.iter_mut().for_each(|it| it.role = Role::Input);
    let former = module.functions.iter_mut().flat_map(|it| &mut it.params);
    former.for_each(|it| it.role = Role::Value);
    module.functions.push(entry);
}
