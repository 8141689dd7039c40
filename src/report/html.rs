//! The report as a page: no scripts, nothing from elsewhere.

use super::{FunctionReport, PassReport, Report, WeightReport, memory};

const STYLE: &str = "
body { font: 15px/1.45 system-ui, sans-serif; }
body { max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
pre, code, svg { font-family: ui-monospace, monospace; font-size: 12px; }
pre { background: #f6f6f4; padding: .6rem; overflow-x: auto; }
table { border-collapse: collapse; }
td, th { padding: .15rem .8rem .15rem 0; text-align: left; vertical-align: top; }
td.n { text-align: right; }
details { margin: .4rem 0; }
summary { cursor: pointer; }
.scroll { overflow-x: auto; }
.del { color: #a11; } .ins { color: #171; }
";

/// The page.
pub(super) fn page(report: &Report) -> String {
    let name = escaped(&report.model);
    let passes: String = report.passes.iter().map(pass).collect();
    let graph: String = report.graph.iter().map(function).collect();
    let lowered: String = report.lowered.iter().map(function).collect();
    let (axes, plan) = (escaped(&report.axes.join("\n")), escaped(&report.plan.join("\n")));
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{name}</title>\n\
         <style>{STYLE}</style>\n<h1>{name}</h1>\n{}\
         <details><summary>Axes</summary><pre>{axes}</pre></details>\n\
         <h2>Passes</h2>\n{passes}\
         <h2>The graph as the spec says it</h2>\n{graph}\
         <h2>The graph as it runs</h2>\n{lowered}\
         <h2>Memory over time</h2>\n{}\
         <h2>Plan</h2>\n<pre>{plan}</pre>\n\
         <h2>Weights</h2>\n{}{}</html>\n",
        metrics(report),
        memory::chart(&report.buffers),
        weights(&report.weights),
        precision(report),
    )
}

/// What is stored anew, and why.
fn precision(report: &Report) -> String {
    let text = |it: &crate::precision::Report| {
        format!("<h2>Precision</h2>\n<pre>{}</pre>\n", escaped(&it.to_string()))
    };
    report.precision.as_ref().map_or(String::new(), text)
}

/// `text` as it stands in a page.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn metrics(report: &Report) -> String {
    let row = |(name, n): (&&str, &u64)| format!("<tr><td>{name}<td class=\"n\">{n}\n");
    format!("<table>\n{}</table>\n", report.metrics.iter().map(row).collect::<String>())
}

fn pass(it: &PassReport) -> String {
    let times: usize = it.rewrites.iter().map(|it| it.times).sum();
    let check = it.check.unwrap_or("not checked");
    let row = |it: &super::RewriteReport| {
        let (what, function) = (escaped(&it.what), escaped(&it.function));
        format!("<tr><td class=\"n\">{}<td>{what}<td>@{function}\n", it.times)
    };
    let rewrites: String = it.rewrites.iter().map(row).collect();
    let notes: String = it.notes.iter().map(|it| format!("<p>{}.\n", escaped(it))).collect();
    format!(
        "<details><summary><code>{}</code>: {times} rewrites, {} to {} nodes</summary>\n\
         <p>Contract: {}; {check}.\n{notes}<table>\n{rewrites}</table>\n<pre>{}</pre></details>\n",
        escaped(&it.stage),
        it.nodes_before,
        it.nodes_after,
        it.contract,
        coloured(&it.diff),
    )
}

fn coloured(diff: &str) -> String {
    let line = |line: &str| match line.as_bytes().first() {
        Some(b'-') => format!("<span class=\"del\">{}</span>\n", escaped(line)),
        Some(b'+') => format!("<span class=\"ins\">{}</span>\n", escaped(line)),
        _ => format!("{}\n", escaped(line)),
    };
    diff.lines().map(line).collect()
}

fn function(it: &FunctionReport) -> String {
    let origin = it.origin.as_ref().map(|it| format!(" of {}", escaped(it))).unwrap_or_default();
    format!(
        "<details><summary><code>@{}</code>{origin}</summary>\n<div class=\"scroll\">{}</div>\n\
         <pre>{}</pre></details>\n",
        escaped(&it.name),
        it.picture,
        escaped(&it.text),
    )
}

fn weights(weights: &[WeightReport]) -> String {
    let row = |it: &WeightReport| {
        let layers = match it.layers {
            1 => it.layer.to_string(),
            n => format!("{} to {}", it.layer, it.layer + n - 1),
        };
        let form = if it.packed { "packed" } else { "rows" };
        let [rows, columns] = it.shape;
        format!(
            "<tr><td>{}<td>{layers}<td>{rows} &times; {columns}<td>{}<td>{form}<td class=\"n\">{}\n",
            escaped(&it.name),
            it.format.unwrap_or("not bound"),
            it.bytes,
        )
    };
    let rows: String = weights.iter().map(row).collect();
    format!(
        "<table>\n<tr><th>weight<th>layers<th>shape<th>format<th>form<th>bytes\n{rows}</table>\n"
    )
}
