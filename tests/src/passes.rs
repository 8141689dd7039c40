//! Passes: the before and after in their module comments, files of modules, and passes that lie.

mod powers_of_two;

use std::{fs, path::Path, sync::Arc};

use ir::{DType, Module, Op, ops};
use passes::{Contract, Cx, Failure, Fault, Manager, Pass, Pipeline, Step};

/// Runs `pipeline`, with every contract checked.
fn run(pipeline: &str, module: &Module) -> Result<Module, Box<Failure>> {
    let pipeline = Pipeline::parse(pipeline, &passes::all()).expect("a pipeline");
    Manager::default().run(&pipeline, module.clone(), &mut |_| {}).map(|it| it.0)
}

fn parse(text: &str) -> Module {
    let module = ir::parse(text).unwrap_or_else(|why| panic!("{why}\n{text}"));
    assert_eq!(ir::verify(&module), Vec::<String>::new(), "{text}");
    module
}

#[test]
fn pass_docs() {
    for pass in passes::all() {
        let file = Path::new("../passes/src").join(format!("{}.rs", pass.name().replace('-', "_")));
        let source = fs::read_to_string(&file).expect("a file named after the pass");
        let blocks = ir_blocks(&source);
        let [before, after] = blocks.as_slice() else {
            panic!("{}: wants two ```ir blocks", file.display())
        };
        let module = parse(before);
        assert_eq!(module.to_string(), *before, "the text form must round-trip");
        let result = run(pass.name(), &module).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(result.to_string(), *after, "{}:\n{result}", pass.name());
    }
}

/// The ```ir blocks of the module comment.
fn ir_blocks(source: &str) -> Vec<String> {
    let docs: Vec<&str> = source
        .lines()
        .map_while(|it| it.strip_prefix("//!"))
        .map(|it| it.strip_prefix(' ').unwrap_or(it))
        .collect();
    docs.split(|it| it.starts_with("```"))
        .enumerate()
        .filter(|(fence_idx, _)| fence_idx % 2 == 1)
        .map(|(_, lines)| lines.iter().map(|it| format!("{it}\n")).collect())
        .collect()
}

/// Each file names its pipeline in a line `// passes: ...`. The snapshot beside it is compared, and
/// written, only after every contract has been checked.
#[test]
fn pass_files() {
    for (stem, text) in ir_files("passes") {
        let pipeline = pipeline_of(&text);
        let result = run(pipeline, &parse(&text));
        let result = result.unwrap_or_else(|why| panic!("{stem}: {why}"));
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path("../passes");
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.set_description(pipeline);
        settings.bind(|| insta::assert_snapshot!(stem, result));
    }
}

/// The graphs in text form of a folder, by name.
pub(crate) fn ir_files(folder: &str) -> Vec<(String, String)> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut files: Vec<_> = entries
        .map(|it| it.expect("an entry").path())
        .filter(|it| it.extension().is_some_and(|it| it == "ir"))
        .collect();
    files.sort();
    let read = |it: &std::path::PathBuf| {
        let stem = it.file_stem().and_then(|it| it.to_str()).expect("a name").to_owned();
        (stem, fs::read_to_string(it).expect("a text file"))
    };
    files.iter().map(read).collect()
}

/// The passes that a text names.
fn pipeline_of(text: &str) -> &str {
    text.lines().find_map(|it| it.strip_prefix("// passes: ")).expect("a line of passes")
}

#[test]
fn passes_may_stop_anywhere() {
    for (_, text) in ir_files("passes") {
        let module = parse(&text);
        let pipeline = Pipeline::parse(pipeline_of(&text), &passes::all()).expect("a pipeline");
        let run = |limit| {
            let manager = Manager { limit: Some(limit), ..Manager::default() };
            let done = manager.run(&pipeline, module.clone(), &mut |_| {});
            let (_, records) = done.unwrap_or_else(|why| panic!("at {limit}: {why}"));
            records.iter().map(passes::Record::n_counted).sum::<usize>()
        };
        let total = run(usize::MAX);
        (0..total).for_each(|limit| assert_eq!(run(limit), limit));
    }
}

/// A pass that does what it is told, whatever it promises.
struct Told {
    contract: Contract,
    run: fn(&Module) -> Module,
}

impl Pass for Told {
    fn name(&self) -> &'static str {
        "told"
    }

    fn about(&self) -> &'static str {
        "does what it is told"
    }

    fn contract(&self) -> Contract {
        self.contract
    }

    fn run(&self, module: &Module, _: &mut Cx) -> Result<Module, Fault> {
        Ok((self.run)(module))
    }
}

/// What the manager says of a pass that lies about a sum of products.
fn judge(contract: Contract, run: fn(&Module) -> Module) -> String {
    let module = parse(
        "axis A = 300
         fn @model (input %x : f32[A], input %y : f32[A]) {
           %0 = mul %x %y : f32[A]
           %1 = reduce %0 {over = [A], kind = sum} : f32[]
           return z = %1
         }",
    );
    let pipeline = Pipeline::default().then(Arc::new(Told { contract, run }));
    let failure = match Manager::default().run(&pipeline, module, &mut |_| {}) {
        Ok(_) => return "fine".to_owned(),
        Err(failure) => failure,
    };
    let again = parse(&failure.reproducer());
    Manager::default().run(&pipeline, again, &mut |_| {}).expect_err("it fails again");
    failure.to_string()
}

/// The same sum of what `ops` make of the products.
fn sum_of(module: &Module, ops: &[Op]) -> Module {
    module.map(|done, function| {
        function.rewrite(done.scope(), |f, op, operands| {
            let Op::Reduce(_) = op else { return None };
            let scope = done.scope();
            let inner = ops.iter().fold(operands[0], |it, op| f.add(scope, op.clone(), &[it]));
            Some(f.add_all(scope, op.clone(), &[inner]))
        })
    })
}

#[test]
fn lies_are_caught() {
    let keep = |module: &Module| module.clone();
    assert_eq!(judge(Contract::Exact, keep), "fine");
    let bend = |module: &Module| sum_of(module, &[Op::unary(ops::UnaryFn::Sin)]);
    let said = judge(Contract::Reassociates, bend);
    assert!(said.starts_with("pass `told` (contract: reassociates): output z [] is "), "{said}");
    // Double precision does not see a rounding; the bits do.
    let round = |module: &Module| {
        let cast = |dtype| ops::Cast { dtype }.into();
        sum_of(module, &[cast(DType::BF16), cast(DType::F32)])
    };
    assert_eq!(judge(Contract::Reassociates, round), "fine");
    let said = judge(Contract::Exact, round);
    assert!(said.ends_with("(rounded to types)"), "{said}");
    let rename = |module: &Module| {
        let mut module = module.clone();
        module.functions[0].params[0].name = "z".into();
        module
    };
    assert!(judge(Contract::Exact, rename).ends_with("it changes the parameters of the entry"));
    let forget = |module: &Module| {
        let mut module = module.clone();
        module.functions[0].outputs.clear();
        module
    };
    assert!(judge(Contract::Exact, forget).contains("@model: it gives nothing"));
}

#[test]
fn a_look_ahead_is_no_step() {
    let ahead = "%1 = reduce %0 {over = [T], kind = max} : f32[A]";
    let back = "%1 = rename %0 {axis = T, into = S} : f32[S, A]";
    for nodes in [ahead, back] {
        let module = parse(&format!(
            "axis A = 2
             axis S <= 8
             axis T = S
             fn @model (input %x : f32[S, A]) {{
               %0 = rename %x {{axis = S, into = T}} : f32[T, A]
               {nodes}
               %2 = add %x %1 : f32[S, A]
               return y = %2
             }}"
        ));
        let said = run("incremental", &module).expect_err("not causal").to_string();
        let beginning = "pass `incremental` (contract: lowers): the model is not causal in `S`: ";
        assert!(said.starts_with(beginning), "{said}");
    }
}

#[test]
fn wrong_pipelines_are_told() {
    let said = |pipeline: &str| match Pipeline::parse(pipeline, &passes::all()) {
        Ok(it) => it.to_string(),
        Err(why) => why.to_string(),
    };
    assert_eq!(said(" fold , tail { axis = N, rows=M }"), "fold,tail{axis=N,rows=M}");
    assert_eq!(said(""), "");
    assert_eq!(said("tail{axis"), "`tail{axis` is not closed");
    assert_eq!(said("tail{axis}"), "`axis` is not `option=value`");
    assert_eq!(said("tail{k=2}"), "tail: no option `k`; there is axis, rows");
    assert_eq!(said("fold{k=2}"), "fold: no option `k`; there is none");
    assert!(said("unroll").starts_with("no pass `unroll`; there is absorb, active, cache, "));
}

#[test]
fn passes_refuse_what_they_can_not_do() {
    let module = parse("axis A = 2\nfn @model (input %x : f32[A]) {\n  return y = %x\n}");
    for (pipeline, why) in [
        ("incremental", "there is no run-time axis `S`"),
        ("tail{axis=A}", "there is no run-time axis `A`"),
    ] {
        let said = run(pipeline, &module).expect_err(pipeline).to_string();
        assert!(said.ends_with(why), "{said}");
    }
}

#[test]
fn the_observer_sees_each_change() {
    let text = "axis A = 2\nfn @model (input %x : f32[A]) {\n  %0 = neg %x : f32[A]\n  \
                %1 = neg %0 : f32[A]\n  return y = %1\n}";
    let pipeline = Pipeline::parse("canonicalise,fold", &passes::all()).expect("a pipeline");
    let mut seen = Vec::new();
    let mut observe =
        |it: &Step<'_>| seen.push((it.stage.to_string(), passes::diff(it.before, it.after)));
    let (_, records) =
        Manager::default().run(&pipeline, parse(text), &mut observe).expect("two passes");
    assert_eq!((records[0].nodes_before, records[0].nodes_after), (2, 0));
    assert_eq!(seen[0].0, "canonicalise");
    assert!(seen[0].1.contains("-  return y = %1\n+  return y = %x\n"), "{}", seen[0].1);
    assert_eq!(seen[1], ("fold".to_owned(), String::new()));
}

#[test]
fn the_manual_is_right() {
    let manual = fs::read_to_string("../docs/passes.md").expect("the manual");
    let example = include_str!("passes/powers_of_two.rs");
    assert!(manual.contains(&format!("```rust\n{example}```\n")), "its pass is another one");
    for pass in passes::all() {
        let options: Vec<String> =
            pass.options().iter().map(|it| format!("`{}`", it.name)).collect();
        let (name, about, contract) = (pass.name(), pass.about(), pass.contract().name());
        let cells = format!("| `{name}` | {about} | {contract} | {}", options.join(", "));
        assert!(manual.contains(cells.trim_end()), "{cells}");
    }
}

#[test]
fn the_pass_of_the_manual_works() {
    let mut known = passes::all();
    known.push(Arc::new(powers_of_two::PowersOfTwo));
    let pipeline = Pipeline::parse("fold,powers-of-two", &known).expect("a pipeline");
    let module = parse(
        "axis A = 3
         axis B = 4
         fn @model (input %x : f32[A, B]) {
           %0 = extent {axis = A} : f32[]
           %1 = extent {axis = B} : f32[]
           %2 = div %x %0 : f32[A, B]
           %3 = div %2 %1 : f32[A, B]
           return y = %3
         }",
    );
    let (after, _) = Manager::default().run(&pipeline, module, &mut |_| {}).expect("it is exact");
    let text = after.to_string();
    assert!(text.contains("div %x") && text.contains("values = [0.25]"), "{text}");
}

/// Sixty functions that each call the one before twice would run for ever.
#[test]
fn calls_of_calls_are_refused() {
    let mut text =
        "axis A = 2\nfn @f0 (%x : f32[A]) {\n%0 = sin %x : f32[A]\nreturn y = %0\n}\n".to_owned();
    for i in 1..60 {
        let call = format!("{{function = @f{}}} : f32[A]", i - 1);
        let (role, calls) = (
            if i == 59 { "input " } else { "" },
            format!("%0 = call %x {call}\n%1 = call %0 {call}"),
        );
        text += &format!("fn @f{i} ({role}%x : f32[A]) {{\n{calls}\nreturn y = %1\n}}\n");
    }
    let module = parse(&text);
    assert!(run("inline", &module).expect_err("too long").to_string().ends_with("65536 nodes"));
    assert!(run("fold", &module).expect_err("too slow").to_string().ends_with("too much work"));
}
