//! Build reports: of every family, without weights, and the same each time.

use std::fs;

use treen::{Options, Report, Spec};

use crate::models::spec;

fn report(spec: &Spec) -> Report {
    let module = spec.compile().unwrap_or_else(|why| panic!("{why}")).module;
    let mut report = Report::new(&module);
    // Contracts are checked by the tests of the pipeline.
    let options = Options { check: false, ..Options::default() };
    let lowered = treen::lower(module, &options, &mut |step| report.observe(step));
    report.finish(&lowered.unwrap_or_else(|why| panic!("{why}")), None);
    report
}

#[test]
fn every_family_has_a_report() {
    let mut files: Vec<_> = fs::read_dir("../models")
        .expect("models")
        .map(|it| it.expect("an entry").path())
        .filter(|it| it.extension().is_some_and(|it| it == "tn") && !it.ends_with("prelude.tn"))
        .collect();
    files.sort();
    for file in files {
        let spec = spec(file.to_str().expect("a readable name"));
        let (first, second) = (report(&spec), report(&spec));
        assert_eq!(first.to_json(), second.to_json(), "{}", file.display());
        let page = first.to_html();
        assert_eq!(page, second.to_html(), "{}", file.display());
        let pictures = first.graph.len() + first.lowered.len() + 1;
        assert_eq!(page.matches("<svg ").count(), pictures, "{}", file.display());
        assert!(!page.contains("http"), "{}: it needs something from elsewhere", file.display());
        let json: serde_json::Value = serde_json::from_str(&first.to_json()).expect("JSON");
        assert!(json["metrics"]["launches"].as_u64().is_some_and(|it| 0 < it));
        // The chart holds what the plan says.
        let end = first.buffers.iter().map(|it| it.offset + it.bytes).max();
        assert!(end <= Some(first.metrics["arena bytes"]), "{}", file.display());
    }
}
