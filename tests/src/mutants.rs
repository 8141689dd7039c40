//! Passes that are wrong on purpose: each real pass with one mistake that somebody could make. The
//! checks must catch every one of them, and say where.
//!
//! To add one, write a line in a file of `mutants/`: its name, the pass that makes the mistake, the
//! passes before it, and the mistake. The table of who catches what is a snapshot.

mod absorb;
mod arithmetic;
mod attention;
mod codecs;
mod eight;
mod joins;
mod loops;
mod norms;
mod promises;
mod rules;
mod shapes;
mod slices;
mod storage;

use std::sync::Arc;

use ir::{Function, Module, Node, Op, Scope, Value, ops::BinaryFn};
use passes::{
    Absorb, Contract, Cx, Failure, Fault, FaultKind, Fuse, Manager, Pass, PassOption, Pipeline,
    rules::Rules,
};

use crate::{
    models::{folders, spec},
    passes::ir_files,
    snapshots::snapshot,
};

/// A pass with a mistake.
#[derive(Clone, Copy)]
struct Mutant {
    /// What the mistake is called.
    name: &'static str,
    /// The pass that makes it.
    of: &'static str,
    /// The passes that run before.
    before: &'static str,
    /// The mistake.
    mistake: Mistake,
}

/// What is done to the result of the pass.
#[derive(Clone, Copy)]
enum Mistake {
    /// To each node, after its operands.
    Node(fn(&mut At<'_>) -> Option<Vec<Value>>),
    /// To all of it; nothing where it does not apply.
    Whole(fn(&Module) -> Option<Module>),
    /// By a rule, in place of those that `fuse` or `absorb` has.
    Rule(&'static str),
}

/// A mistake of `canonicalise`, which has the rules of algebra.
const fn rule(name: &'static str, it: fn(&mut At<'_>) -> Option<Vec<Value>>) -> Mutant {
    Mutant { name, of: "canonicalise", before: "", mistake: Mistake::Node(it) }
}

/// A mistake of a pass.
const fn by(of: &'static str, before: &'static str, mutant: Mutant) -> Mutant {
    Mutant { of, before, ..mutant }
}

/// A node that a mistake may be made at.
struct At<'a> {
    f: &'a mut Function,
    scope: Scope<'a>,
    op: &'a Op,
    x: &'a [Value],
}

impl At<'_> {
    /// Whether the node is this function of two numbers.
    fn is(&self, function: BinaryFn) -> bool {
        self.op.as_binary() == Some(function)
    }

    /// `op` instead of the node.
    fn put(&mut self, op: impl Into<Op>, operands: &[Value]) -> Option<Vec<Value>> {
        Some(self.f.add_all(self.scope, op, operands))
    }

    /// A function of two numbers instead of the node.
    fn binary(&mut self, function: BinaryFn, x: Value, y: Value) -> Option<Vec<Value>> {
        self.put(Op::binary(function), &[x, y])
    }

    /// The node with its first two operands in the other order.
    fn swapped(&mut self) -> Option<Vec<Value>> {
        let mut operands = self.x.to_vec();
        operands.swap(0, 1);
        self.put(self.op.clone(), &operands)
    }

    /// What makes `value`.
    fn maker(&self, value: Value) -> Option<Node> {
        self.f.maker(value).cloned()
    }

    /// The number that `value` is.
    fn number(&self, value: Value) -> Option<f64> {
        match self.maker(value)?.op {
            Op::Constant(it) if it.values.len() == 1 => Some(it.values[0].0),
            _ => None,
        }
    }

    /// A number.
    fn constant(&mut self, number: f64) -> Value {
        let constant = ir::ops::Constant::scalar(ir::DType::F32, number);
        self.f.add(self.scope, constant, &[])
    }
}

impl Mutant {
    fn pass(&self) -> Arc<dyn Pass> {
        let passes = treen::passes();
        let found = passes.into_iter().find(|it| it.name() == self.of);
        found.unwrap_or_else(|| panic!("there is no pass {}", self.of))
    }
}

impl Pass for Mutant {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        "makes a mistake"
    }

    fn options(&self) -> &'static [PassOption] {
        self.pass().options()
    }

    fn contract(&self) -> Contract {
        self.pass().contract()
    }

    fn run(&self, module: &Module, cx: &mut Cx) -> Result<Module, Fault> {
        let right = |cx: &Cx| self.pass().run(module, &mut cx.with_limit(None));
        match self.mistake {
            Mistake::Rule(text) if self.of == "absorb" => {
                Absorb::new(Arc::new(parsed(text))).run(module, cx)
            }
            Mistake::Rule(text) => Fuse::new(Arc::new(parsed(text))).run(module, cx),
            Mistake::Whole(mistake) => {
                let right = right(cx)?;
                match mistake(&right) {
                    Some(wrong) if cx.allows(&right.entry().name, self.name) => Ok(wrong),
                    _ => Ok(right),
                }
            }
            Mistake::Node(mistake) => Ok(right(cx)?.map(|done, function| {
                let scope = done.scope();
                let wrong =
                    cx.rewrite(scope, function, |f, op, x| mistake(&mut At { f, scope, op, x }));
                wrong.rewrite(scope, |_, _, _| None)
            })),
        }
    }
}

fn parsed(text: &str) -> Rules {
    Rules::parse(text).unwrap_or_else(|why| panic!("{why}\n{text}"))
}

/// Everything that mutants run on, small things first: modules made for mutants, those of the pass
/// tests, and the models.
fn subjects() -> Vec<(String, Module)> {
    let texts = ir_files("mutants").into_iter().chain(ir_files("passes"));
    let parsed = |(stem, text): (String, String)| (stem, ir::parse(&text).expect("a module"));
    let mut subjects: Vec<(String, Module)> = texts.map(parsed).collect();
    for folder in folders() {
        let name = folder.file_name().and_then(|it| it.to_str()).expect("a name").to_owned();
        let module = spec(folder.to_str().expect("a name")).compile();
        subjects.push((name, module.unwrap_or_else(|why| panic!("{why}")).module));
    }
    subjects
}

/// Who catches `mutant` on `module`; the passes before it may not be for such a module.
fn caught(mutant: &Mutant, module: &Module) -> Option<Box<Failure>> {
    let before = Pipeline::parse(mutant.before, &treen::passes()).expect("a pipeline");
    let trust = Manager { check: false, ..Manager::default() };
    let (module, _) = trust.run(&before, module.clone(), &mut |_| {}).ok()?;
    let pipeline = Pipeline::default().then(Arc::new(*mutant));
    let failure = Manager::default().run(&pipeline, module, &mut |_| {}).err()?;
    // Rules of which types do not fit are refused where they are applied.
    let is_rule = matches!(mutant.mistake, Mistake::Rule(_));
    let is_caught = match failure.fault.kind() {
        FaultKind::Unchecked => false,
        FaultKind::Refusal => is_rule,
        _ => true,
    };
    is_caught.then_some(failure)
}

/// What a user is told of a mutant.
fn told(subjects: &[(String, Module)]) {
    let is_it = |it: &&Mutant| it.name == "rotation the other way";
    let mutant = attention::ALL.iter().find(is_it).expect("a mutant");
    let (_, module) = subjects.iter().find(|(name, _)| name == "llama-tied").expect("a model");
    let failure = caught(mutant, module).expect("it is caught");
    snapshot("mutant-message", format!("{failure}\n\n{}", failure.details()));
}

#[test]
fn every_mutant_is_caught() {
    let subjects = subjects();
    let all = [
        absorb::ALL,
        arithmetic::ALL,
        attention::ALL,
        joins::ALL,
        loops::ALL,
        norms::ALL,
        promises::ALL,
        rules::ALL,
        shapes::ALL,
        slices::ALL,
        storage::ALL,
    ];
    told(&subjects);
    let mut table = format!(
        "{:<32} {:<13} {:<24} {:<10} {:>5}  first wrong rewrite\n",
        "mutant", "pass", "on", "caught by", "nodes"
    );
    let mut survivors = Vec::new();
    for mutant in all.concat() {
        if let Mistake::Rule(text) = mutant.mistake {
            parsed(text);
        }
        let found = subjects.iter().find_map(|(on, module)| Some((on, caught(&mutant, module)?)));
        let Some((on, failure)) = found else {
            survivors.push(mutant.name);
            continue;
        };
        let again = ir::parse(&failure.reproducer()).expect("a reproducer reads as it prints");
        assert_eq!(again, failure.reduced, "{}", mutant.name);
        let nodes: usize = failure.reduced.functions.iter().map(|it| it.nodes().len()).sum();
        let rewrite = failure.first.as_ref().map(|it| it.1.to_string());
        table += &format!(
            "{:<32} {:<13} {on:<24} {:<10} {nodes:>5}  {}\n",
            mutant.name,
            mutant.of,
            failure.fault.kind().name(),
            rewrite.as_deref().unwrap_or("-"),
        );
    }
    assert_eq!(survivors, Vec::<&str>::new(), "nobody caught these; the others:\n{table}");
    let codecs = codecs::MISTAKES.len() + eight::MISTAKES;
    table += &format!("\n{} of passes, and {codecs} of codecs\n", all.concat().len());
    snapshot("mutants", table);
}
