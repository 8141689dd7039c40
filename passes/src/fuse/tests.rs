//! What rules make of small functions, and what is said of rules that lie.

use ir::{Module, Stored};

use super::{saturate::saturate, why_not};
use crate::{
    Manager, Pipeline, Record,
    rules::{Rule, Rules},
};

use super::*;

fn parse(text: &str) -> Module {
    let module = ir::parse(text).unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(ir::verify(&module), Vec::<String>::new());
    module
}

fn run(rules: Rules, module: Module) -> Result<(Module, Record), String> {
    let pipeline = Pipeline::default().then(Arc::new(Fuse::new(Arc::new(rules))));
    let ran = Manager::default().run(&pipeline, module, &mut |_| {});
    ran.map(|(module, mut records)| (module, records.remove(0))).map_err(|it| it.to_string())
}

fn rules(text: &str) -> Rules {
    Rules::parse(text).unwrap_or_else(|why| panic!("{why}"))
}

/// A gated feed-forward with biases, in a loop over layers.
fn mlp(layers: usize) -> Module {
    parse(&format!(
        "axis E = 4
         axis F = 6
         axis L = {layers}
         axis S <= 8
         fn @layer (%x : f32[S, E], %gate : f32[F, E], %up : f32[F, E], %b : f32[F], \
         %down : f32[E, F]) {{
           %0 = contract %x %gate {{over = [E]}} : f32[S, F]
           %1 = contract %x %up {{over = [E]}} : f32[S, F]
           %2 = add %1 %b : f32[S, F]
           %3 = neg %0 : f32[S, F]
           %4 = exp %3 : f32[S, F]
           %5 = constant {{dtype = f32, axes = [], values = [1.0]}} : f32[]
           %6 = add %5 %4 : f32[S, F]
           %7 = div %5 %6 : f32[S, F]
           %8 = mul %0 %7 : f32[S, F]
           %9 = mul %8 %2 : f32[S, F]
           %10 = contract %9 %down {{over = [F]}} : f32[S, E]
           %11 = add %x %10 : f32[S, E]
           return x = %11
         }}
         fn @model (input %x : f32[S, E], weight %gate : f32[L, F, E], \
         weight %up : f32[L, F, E], weight %b : f32[L, F], weight %down : f32[L, E, F]) {{
           %0 = scan %x %gate %up %b %down \
         {{body = @layer, axis = L, carries = 1, banked = 4, reverse = false}} : f32[S, E]
           return y = %0
         }}"
    ))
}

fn told(record: &Record) -> Vec<String> {
    record.rewrites.iter().map(ToString::to_string).collect()
}

#[test]
fn tails_join_their_product() -> Result<(), String> {
    let (module, record) = run(Rules::standard(), mlp(2))?;
    let layer = module.function("layer").expect("the layer");
    assert_eq!(layer.nodes().len(), 2, "{module}");
    let told = told(&record);
    assert!(told.iter().any(|it| it.contains("bias") && it.contains("up")), "{told:#?}");
    Ok(())
}

#[test]
fn depth_changes_nothing() -> Result<(), String> {
    let [(one, first), (hundred, last)] =
        [run(Rules::standard(), mlp(1))?, run(Rules::standard(), mlp(100))?];
    let text = |it: &Module| it.functions.iter().map(|it| it.name.to_string()).collect::<Vec<_>>();
    assert_eq!(one.function("layer"), hundred.function("layer"));
    assert_eq!((text(&one), told(&first)), (text(&hundred), told(&last)));
    Ok(())
}

#[test]
fn a_rule_that_lies_is_named() {
    let lie = "exact rewrite lie: max(y, 0) => y";
    let module = parse(
        "axis A = 300
         fn @model (input %x : f32[A]) {
           %0 = constant {dtype = f32, axes = [], values = [0.0]} : f32[]
           %1 = max %x %0 : f32[A]
           %2 = exp %1 : f32[A]
           return y = %2
         }",
    );
    let said = run(rules(lie), module).expect_err("it lies");
    assert!(
        said.contains("the rule `lie` (exact) does not hold in @model: output before"),
        "{said}"
    );
}

#[test]
fn a_rule_of_other_sums_is_left_out() -> Result<(), String> {
    let rule = "reassociates rewrite a: exp(x) => x";
    let module = parse(
        "axis A = 3\nfn @model (input %x : f32[A]) {\n%0 = exp %x : f32[A]\nreturn y = %0\n}",
    );
    assert_eq!(run(rules(rule), module.clone())?.0, module);
    Ok(())
}

#[test]
fn near_misses_say_why() {
    let module = mlp(2);
    let rules = Rules::standard();
    let found = why_not(&module, &rules, rules.get("bias").expect("a rule"));
    let said: Vec<String> =
        found.iter().map(|it| format!("{}: {}", it.place, it.failures.join("; "))).collect();
    assert!(said.contains(&"%7 = add: ".to_owned()), "{said:#?}");
    assert!(said.contains(&"%16 = add: `b` is no weight".to_owned()), "{said:#?}");
    assert!(found.iter().any(|it| it.names.contains(&"`b` is %b".to_owned())), "{found:#?}");
}

#[test]
fn what_was_not_derived_is_refused() {
    let module = mlp(1);
    let function = module.function("layer").expect("the layer");
    let weights = Weights::of(&module, &Stored::new(&module), function, &|_| false);
    let rules = Rules::standard();
    let rules: Vec<&Rule> = rules.list.iter().collect();
    let parts = Parts::of(module.scope(), function, &weights);
    let saturated = saturate(module.scope(), &parts.bodies[0], &rules);
    let bank = Bank::new(&saturated.classes);
    let (a, b) = (saturated.values[0].expect("x"), saturated.values[1].expect("gate"));
    assert!(!bank.follows(&[], a, b));
    assert!(bank.replay(&[(a, b, "relu".into())], &rules).is_err());
    assert!(bank.replay(&[(a, b, "no-such-rule".into())], &rules).is_err());
}
