//! Cutting axes: which weights an axis touches, and that all forms of a cut agree, on the tiny
//! model of every family.

use std::fmt::Write;

use ir::Module;
use passes::{Class, Links, Manager, Pipeline};

use crate::models::{folders, spec};

fn module(name: &str) -> Module {
    spec(name).compile().unwrap_or_else(|why| panic!("{name}: {why}")).module
}

/// What there is to say of a class, in a line.
fn line(links: &Links, class: &Class) -> String {
    let why = links.rigid(class.atom.as_str());
    let mut line = format!("{} ", passes::key(links, class));
    if let Some(layers) = &class.layers {
        let _ = write!(line, "of each {layers} ");
    }
    if let Some(group) = passes::group(class) {
        let _ = write!(line, "in each {group} ");
    }
    if let Some(why) = why {
        let _ = write!(line, "[{why}] ");
    }
    let holders = class.holders.iter().map(|it| format!("{}/{}", it.param, it.axis));
    line + ": " + &holders.collect::<Vec<_>>().join(" ")
}

#[test]
fn which_weights_an_axis_touches() {
    let mut text = String::new();
    for path in folders() {
        let name = path.file_name().and_then(|it| it.to_str()).expect("a readable name");
        let links = Links::of(&module(path.to_str().expect("a readable name")));
        let _ = writeln!(text, "{name}");
        let is_layer = |it: &Class| it.layers.as_ref() == Some(&it.atom);
        for class in links.classes().iter().filter(|it| !is_layer(it)) {
            let _ = writeln!(text, "  {}", line(&links, class));
        }
    }
    insta::assert_snapshot!("links", text);
}

fn slice(module: Module, to: &str) -> Result<Module, String> {
    let pipeline = Pipeline::parse(&format!("slice{{to={to}}}"), &passes::all()).expect("a pass");
    let done = Manager::default().run(&pipeline, module, &mut |_| {});
    done.map(|it| it.0).map_err(|why| why.to_string())
}

#[test]
fn forms_of_a_cut_agree_in_every_family() {
    for path in folders() {
        let module = module(path.to_str().expect("a readable name"));
        let links = Links::of(&module);
        // All that can be cut, each to half.
        let free = links.classes().iter().filter(|it| links.rigid(it.atom.as_str()).is_none());
        let mut to: Vec<String> = free
            .map(|it| {
                let size = module.axes.fixed(&(&it.atom).into()).expect("an extent");
                format!("{}={}", it.atom, size.div_ceil(2))
            })
            .collect();
        to.dedup();
        slice(module, &to.join(" ")).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
    }
}

/// Heads within groups, their channels, feed-forward, query heads and the stream: each combination
/// of the whole and half of them.
#[test]
fn every_combination_of_a_hybrid_agrees() {
    let small = slice(module("fixtures/nemotron_h"), "D=3 E=12 F=14 G=1 J=2");
    let small = small.unwrap_or_else(|why| panic!("{why}"));
    let sizes = ["D", "E", "F", "G", "J", "H"].map(|it| small.axes.fixed(&ir::Axis::atom(it)));
    assert_eq!(sizes, [Some(3), Some(12), Some(14), Some(1), Some(2), Some(2)]);
}

/// A product that is one only by number has no groups to keep the first of.
#[test]
fn flat_prefixes_are_refused() {
    let text = "axis H = 2
         axis I = 6
         axis J = 3
         axis S <= 8
         fn @model (input %x : f32[S], weight %w : f32[I], weight %d : f32[H]) {
           %0 = mul %x %w : f32[S, I]
           %1 = split %0 {axis = I, into = [H, J]} : f32[S, H, J]
           %2 = contract %1 %d {over = [H, J]} : f32[S]
           return y = %2
         }";
    let module = ir::parse(text).unwrap_or_else(|why| panic!("{why}"));
    for to in ["I=4", "J=2", "I=4 J=2"] {
        let why = slice(module.clone(), to).expect_err(to);
        assert!(why.contains("can not be cut: another axis is as long as it"), "{why}");
    }
}

#[test]
fn what_is_counted_or_told_is_not_cut() {
    let hybrid = module("fixtures/nemotron_h");
    for (to, said) in [
        ("V=10", "`V` can not be cut: "),
        ("S=10", "`S` has no extent to cut"),
        ("Q=10", "there is no axis `Q`"),
        ("F", "`F` is not an axis with its extent: `F=8960`"),
    ] {
        let why = slice(hybrid.clone(), to).expect_err(to);
        assert!(why.contains(said), "{why}");
    }
}
