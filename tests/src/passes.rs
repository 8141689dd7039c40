//! Passes: the before and after in their module comments, files of modules, and passes that lie.

use std::{fs, path::Path};

use ir::Module;
use passes::{Failure, Manager, Pipeline};

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
    let mut files: Vec<_> = fs::read_dir("passes")
        .expect("tests/passes")
        .map(|it| it.expect("an entry").path())
        .filter(|it| it.extension().is_some_and(|it| it == "ir"))
        .collect();
    files.sort();
    for file in files {
        let text = fs::read_to_string(&file).expect("a text file");
        let pipeline = text.lines().find_map(|it| it.strip_prefix("// passes: "));
        let pipeline = pipeline.unwrap_or_else(|| panic!("{}: names no passes", file.display()));
        let result = run(pipeline, &parse(&text));
        let result = result.unwrap_or_else(|why| panic!("{}: {why}", file.display()));
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path("../passes");
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.set_description(pipeline);
        let stem = file.file_stem().and_then(|it| it.to_str()).expect("a name");
        settings.bind(|| insta::assert_snapshot!(stem, result));
    }
}
