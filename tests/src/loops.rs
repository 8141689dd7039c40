//! Machine code of generated loops against the meaning of their graphs: every op that a loop may
//! hold, with axes inside and outside, in lanes and in what does not fill them.

use std::{collections::BTreeMap, sync::Arc};

use ir::{
    Axis, DType, Module, Name, Role, StepAxes, Tensor, Type,
    ops::{BinaryFn, UnaryFn},
};
use passes::{Manager, Pipeline};
use runtime::{Code, Model, Pages, Pool, Session, WeightSlot};

/// What each module begins with. `W` fills lanes; the others leave some over.
const HEAD: &str = "axis A = 6
axis B = 5
axis C = 3
axis D = 2
axis K = 4
axis O <= 7
axis P <= 16
axis S <= 7 from P
axis T = P | S
axis V = 7
axis W = 8

fn @model (input %n : i32[S], weight %i : i32[A], weight %j : i32[A, W], weight %m : bool[A, B], \
weight %t : f32[V, W], weight %u : f32[W], weight %x : f32[A, B], weight %y : f32[B], \
weight %z : f32[A, W]) {
";

/// Lines of a function that gives the last of them.
const CASES: &[&str] = &[
    "select %m %x %y : f32[A, B]",
    "not %m : bool[A, B]
     and %m %0 : bool[A, B]
     or %1 %m : bool[A, B]
     less %x %y : bool[A, B]
     and %3 %2 : bool[A, B]",
    "cast %m {dtype = f32} : f32[A, B]\nadd %0 %y : f32[A, B]",
    "cast %m {dtype = i32} : i32[A, B]",
    "cast %x {dtype = i32} : i32[A, B]",
    "cast %x {dtype = bool} : bool[A, B]",
    "cast %j {dtype = f32} : f32[A, W]\nmul %0 %u : f32[A, W]",
    "cast %j {dtype = bool} : bool[A, W]",
    "neg %j : i32[A, W]\nabs %0 : i32[A, W]\nmul %0 %1 : i32[A, W]\nmax %2 %j : i32[A, W]
     min %3 %i : i32[A, W]\nsub %4 %1 : i32[A, W]\nadd %5 %j : i32[A, W]",
    "less_equal %j %i : bool[A, W]",
    "iota {axis = S} : i32[S]\nadd %0 %n : i32[S]",
    "iota {axis = T} : i32[T]\niota {axis = S} : i32[S]\nless_equal %0 %1 : bool[T, S]
     cast %2 {dtype = f32} : f32[T, S]\nreduce %3 {over = [T], kind = sum} : f32[S]",
    "iota {axis = W} : i32[W]\nadd %0 %i : i32[W, A]",
    "extent {axis = B} : f32[]\ndiv %x %0 : f32[A, B]",
    "extent {axis = T} : f32[]\nmul %u %0 : f32[W]",
    "gather %t %n {axis = V} : f32[S, W]\nneg %0 : f32[S, W]",
    "gather %t %i {axis = V} : f32[A, W]",
    "gather %t %j {axis = V} : f32[A, W]",
    "gather %u %i {axis = W} : f32[A]\nexp %0 : f32[A]",
    "gather %j %i {axis = W} : i32[A]",
    "gather %m %i {axis = B} : bool[A]\nnot %0 : bool[A]",
    "slice %z {axis = W, after = [C], last = false, into = K} : f32[A, K]",
    "slice %z {axis = A, after = [C], last = false, into = D} : f32[D, W]\nexp %0 : f32[D, W]",
    "slice %z {axis = W, after = [], last = true, into = B} : f32[A, B]\nadd %0 %x : f32[A, B]",
    "gather %t %n {axis = V} : f32[S, W]
     slice %0 {axis = S, after = [], last = true, into = O} : f32[O, W]\nneg %1 : f32[O, W]",
    "pad %x {axis = B, after = [C], last = false, into = W, value = 0.5} : f32[A, W]",
    "pad %x {axis = B, after = [], last = true, into = W, value = -1.5} : f32[A, W]
     exp %0 : f32[A, W]",
    "pad %x {axis = A, after = [], last = true, into = V, value = 2.0} : f32[V, B]",
    "pad %m {axis = B, after = [], last = false, into = W, value = 1.0} : bool[A, W]",
    "pad %i {axis = A, after = [], last = false, into = W, value = 3.0} : i32[W]",
    "concat %x %z {parts = [B, W]} : f32[A, B | W]",
    "neg %y : f32[B]\nexp %u : f32[W]\nconcat %0 %1 %y {parts = [B, W, B]} : f32[B | W | B]",
    "concat %x %z {parts = [B, W]} : f32[A, B | W]\nsin %0 : f32[A, B | W]",
    "concat %z %t {parts = [A, V]} : f32[A | V, W]\nmul %0 %u : f32[A | V, W]",
    "concat %z %t {parts = [A, V]} : f32[A | V, W]
     reduce %0 {over = [A | V], kind = sum} : f32[W]",
    "concat %i %n {parts = [A, S]} : i32[A | S]\nneg %0 : i32[A | S]
     slice %1 {axis = A | S, after = [A], last = false, into = S} : i32[S]",
    "concat %m %m {parts = [B, B]} : bool[A, B | B]\nnot %0 : bool[A, B | B]",
    "transpose %z {to = [W, A]} : f32[W, A]",
    "transpose %z {to = [W, A]} : f32[W, A]\nexp %0 : f32[W, A]\nadd %0 %1 : f32[W, A]",
    "exp %z : f32[A, W]\nsplit %0 {axis = W, into = [D, K]} : f32[A, D, K]
     transpose %1 {to = [K, D, A]} : f32[K, D, A]",
    "exp %z : f32[A, W]\nsplit %0 {axis = W, into = [D, K]} : f32[A, D, K]
     neg %1 : f32[A, D, K]",
    "exp %u : f32[W]\nsplit %0 {axis = W, into = [K, D]} : f32[K, D]
     transpose %1 {to = [D, K]} : f32[D, K]\nmerge %2 {axes = [D, K], into = W} : f32[W]
     mul %2 %y : f32[D, K, B]",
    "exp %z : f32[A, W]\nmerge %0 {axes = [A, W], into = A*W} : f32[A*W]\nneg %1 : f32[A*W]",
    "rename %z {axis = W, into = D*K} : f32[A, D*K]\nsqrt %0 : f32[A, D*K]",
    "reduce %x {over = [B], kind = sum} : f32[A]",
    "reduce %x {over = [A], kind = sum} : f32[B]",
    "reduce %z {over = [A], kind = max} : f32[W]",
    "reduce %z {over = [A, W], kind = max} : f32[]",
    "exp %u : f32[W]\nmul %0 %z : f32[W, A]\nreduce %1 {over = [W, A], kind = sum} : f32[]",
    "gather %t %n {axis = V} : f32[S, W]\nreduce %0 {over = [S], kind = sum} : f32[W]",
    "gather %t %n {axis = V} : f32[S, W]\ncontract %0 %z {over = [W]} : f32[S, A]",
    "contract %x %y {over = [B]} : f32[A]",
    "contract %z %z {over = [A]} : f32[W]",
    "contract %z %x {over = [A]} : f32[W, B]",
    "contract %x %u {over = []} : f32[A, B, W]",
    "contract %z %u {over = [W]} : f32[A]\nsub %x %0 : f32[A, B]\nexp %1 : f32[A, B]
     reduce %2 {over = [B], kind = sum} : f32[A]\ndiv %2 %3 : f32[A, B]",
    "argmax %z {axis = W} : i32[A]",
    "argmax %z {axis = A} : i32[W]",
    "scatter_add %z %i {axis = V, into = [V, W]} : f32[V, W]",
    "scatter_add %z %j {axis = V, into = [V]} : f32[V]",
    "scatter_add %z %j {axis = V, into = [A, V]} : f32[A, V]",
    "constant {dtype = f32, axes = [B], values = [1.0, -2.0, 3.0, 0.5, 1e9]} : f32[B]
     mul %x %0 : f32[A, B]",
    "constant {dtype = bool, axes = [], values = [1.0]} : bool[]\nselect %0 %x %y : f32[A, B]",
    "constant {dtype = bool, axes = [B], values = [1.0, 0.0, 1.0, 1.0, 0.0]} : bool[B]
     select %0 %y %x : f32[B, A]",
    "constant {dtype = i32, axes = [W], values = [-7.0]} : i32[W]\nadd %0 %i : i32[W, A]",
];

/// The module whose entry gives the last of `lines`; results are numbered from `%0`.
fn module_of(lines: &str) -> Module {
    let mut text = HEAD.to_owned();
    let lines: Vec<&str> = lines.lines().map(str::trim).collect();
    for (i, line) in lines.iter().enumerate() {
        text += &format!("  %{i} = {line}\n");
    }
    text += &format!("  return y = %{}\n}}\n", lines.len() - 1);
    let module = ir::parse(&text).unwrap_or_else(|why| panic!("{why}\n{text}"));
    assert_eq!(ir::verify(&module), Vec::<String>::new(), "{text}");
    module
}

/// A weight: numbers around zero, some at the ends of what functions take; places in and around
/// tables.
fn weight(ty: &Type, module: &Module) -> Tensor {
    const REALS: [f64; 11] = [0.0, 1.5, -1.0, 0.3, -2.5, 1e-3, 88.5, -0.0, 3.7, -95.0, 2.0];
    const WHOLE: [f64; 7] = [0.0, 3.0, -1.0, 6.0, 7.0, 2.0, 5.0];
    let shape: Vec<usize> = ty.axes.iter().map(|it| module.axes.fixed(it).unwrap_or(0)).collect();
    let data = (0..shape.iter().product()).map(|i: usize| match ty.dtype {
        DType::I32 => WHOLE[i % WHOLE.len()],
        DType::Bool => f64::from(u8::from(i % 3 == 1)),
        _ if ty.axes.len() == 1 => 0.4 * i as f64 - 0.7,
        _ => REALS[i % REALS.len()],
    });
    Tensor { ty: ty.clone(), data: data.collect(), shape: shape.clone() }.round()
}

/// An element as generated code holds it.
fn bits(dtype: DType, number: f64) -> [u8; 4] {
    match dtype {
        DType::Bool => (-i32::from(number != 0.0)).to_le_bytes(),
        DType::I32 => (number as i32).to_le_bytes(),
        _ => (number as f32).to_le_bytes(),
    }
}

/// What generated code left, as a number.
fn number(dtype: DType, element: f32) -> f64 {
    let whole = f64::from(element.to_bits() as i32);
    match dtype {
        // Anything but all bits or none is no truth value.
        DType::Bool => -whole,
        DType::I32 => whole,
        _ => f64::from(element),
    }
}

/// A session that runs `module`, grouped into loops.
fn session(module: &Module, weights: &BTreeMap<Name, Tensor>, threads: usize) -> Session {
    let pipeline = Pipeline::parse("loops", &passes::all()).expect("a pipeline");
    let manager = Manager { check: false, ..Manager::default() };
    let (grouped, _) = manager.run(&pipeline, module.clone(), &mut |_| {}).expect("groups");
    let [new, past, last] = ["S", "P", "O"].map(Name::from);
    let axes = StepAxes { new, past: Some(past), last: Some(last), source: None, first: None };
    let compiled = cpu::compile(&grouped, &axes);
    let mut program = compiled.unwrap_or_else(|why| panic!("{why}\n{grouped}")).program;
    program.vocabulary = 7;
    let mut bytes: Vec<u8> = Vec::new();
    for slot in &mut program.weights {
        let WeightSlot { name, offset, bytes: n, .. } = slot;
        let weight = &weights[name.as_str()];
        bytes.resize(bytes.len().next_multiple_of(64), 0);
        *offset = bytes.len() as u64;
        weight.data.iter().for_each(|&it| bytes.extend(bits(weight.ty.dtype, it)));
        *n = bytes.len() as u64 - *offset;
    }
    let pages = Arc::new(Pages::copy_of(&bytes).expect("memory"));
    let code = Code::from_bytes(&program.code).expect("code");
    let pool = Pool::new(Some(threads)).expect("threads");
    Session::new(&program, code, pages, pool, None).unwrap_or_else(|why| panic!("{why}\n{grouped}"))
}

/// Runs `module` on `threads` threads step by step, and compares each step with its meaning.
fn check(module: &Module, threads: usize) {
    let entry = module.entry();
    let params = entry.params.iter().filter(|it| it.role == Role::Weight);
    let weights: BTreeMap<Name, Tensor> =
        params.map(|it| (it.name.clone(), weight(&it.ty, module))).collect();
    let mut session = session(module, &weights, threads);
    let ty = entry.ty(entry.outputs[0].value);
    let has = |name: &str| ty.axes.contains(&Axis::atom(name));
    let mut past = 0;
    for tokens in [&[1, 6, 0][..], &[5], &[2, 2, 4, 3, 6, 1, 0]] {
        let last = if has("S") { tokens.len() } else { 1 };
        let extents = [("S", tokens.len()), ("P", past), ("O", last)];
        let extents = extents.map(|(name, n)| (Name::from(name), n)).into();
        let sizes = module.axes.sizes(&extents).expect("extents within bounds");
        let numbers = tokens.iter().map(|&it| f64::from(it)).collect();
        let input = Tensor::new(entry.params[0].ty.clone(), &sizes, numbers);
        let argument = |it: &ir::Param| weights.get(&it.name).unwrap_or(&input);
        let arguments: Vec<&Tensor> = entry.params.iter().map(argument).collect();
        let [exact, typed] = [false, true].map(|typed| {
            ir::eval(module, &arguments, &sizes, typed).expect("arguments that fit").remove(0)
        });
        let found = session.step(tokens, last).unwrap_or_else(|why| panic!("{why}\n{module}"));
        let found: Vec<f64> = found.iter().map(|&it| number(ty.dtype, it)).collect();
        compare(module, &arguments, &exact, &typed, &found);
        past += tokens.len();
    }
}

/// The error is at most twice that of rounding each result to its type, and four units in the last
/// place; those of the largest number given or made where numbers are added up.
fn compare(module: &Module, given: &[&Tensor], exact: &Tensor, typed: &Tensor, found: &[f64]) {
    assert_eq!(found.len(), exact.data.len(), "{module}");
    let sums = |it: &ir::Node| {
        matches!(it.op, ir::Op::Reduce(_) | ir::Op::Contract(_) | ir::Op::ScatterAdd(_))
    };
    let adds = module.entry().nodes().iter().any(sums);
    let numbers = given.iter().copied().chain([exact]).flat_map(|it| &it.data);
    let finite = numbers.map(|it| it.abs()).filter(|it| it.is_finite());
    let largest = finite.fold(0.0, f64::max);
    for (i, ((&exact, &typed), &found)) in exact.data.iter().zip(&typed.data).zip(found).enumerate()
    {
        let same = typed == found || (typed.is_nan() && found.is_nan());
        let unit = if adds { largest } else { exact.abs() } * f64::from(f32::EPSILON);
        let allowed = match typed.is_finite() {
            true if exact.is_finite() => 2.0 * (typed - exact).abs() + 4.0 * unit + 6e-45,
            _ => 0.0,
        };
        let near = (found - exact).abs() <= allowed && !module_is_whole(module);
        assert!(same || near, "element {i} is {found:?}, not {typed:?} or {exact:?}\n{module}");
    }
}

/// Whether the output has no fractions, and so no rounding.
fn module_is_whole(module: &Module) -> bool {
    !module.entry().ty(module.entry().outputs[0].value).dtype.is_float()
}

#[test]
fn loops_compute_what_graphs_mean() {
    for case in CASES {
        let module = module_of(case);
        (1..=3).for_each(|threads| check(&module, threads));
    }
}

#[test]
fn every_function_of_one_number() {
    for function in UnaryFn::ALL.iter().filter(|it| **it != UnaryFn::Not) {
        let name = function.name();
        check(&module_of(&format!("{name} %x : f32[A, B]")), 1);
        check(&module_of(&format!("{name} %z : f32[A, W]")), 2);
    }
}

#[test]
fn every_function_of_two_numbers() {
    for function in BinaryFn::ALL {
        let logic = matches!(function, BinaryFn::And | BinaryFn::Or);
        let (name, x) = (function.name(), if logic { "%m" } else { "%x" });
        let dtype = |it: bool| if it { "bool" } else { "f32" };
        let result = dtype(logic || function.is_comparison());
        check(&module_of(&format!("{name} {x} {x} : {result}[A, B]")), 1);
        if !logic {
            check(&module_of(&format!("{name} %x %y : {result}[A, B]")), 2);
            check(&module_of(&format!("{name} %u %z : {result}[W, A]")), 1);
        }
    }
}
