//! What `prune` leaves: a spec, its weights, and where they stood in the whole model.

use std::fmt::Write;
use std::path::Path;

use passes::Links;
use serde_json::{Value, json};
use treen::export::{self, Dtype, Tensor, Tensors};
use treen::slices::{ORDER, Sliced};
use treen::{Error, Ranking};

use super::{Pruned, Whole, config};
use crate::cli::folder::{self, Folder};

/// Writes the orders, and the cut model if there is one.
pub(super) fn write(
    folder: &Path,
    whole: &Whole<'_>,
    best: &Pruned,
    ranking: &Ranking,
    sliced: Option<&Sliced>,
) -> Result<(), Error> {
    let folder = Folder::create(folder)?;
    folder.tensors("orders.safetensors", &orders(whole, ranking))?;
    let Some(sliced) = sliced else { return Ok(()) };
    let small = sliced.spec.compile()?;
    let target = small.weights.iter().find(|it| it.format == "hf").ok_or_else(|| {
        Error::new("C0202", "the spec has no section `weights hf`, by which weights are written")
    })?;
    let checkpoint = whole.checkpoint()?;
    let maps = &sliced.compiled.weights;
    let exported = export::tensors(&small.module, maps, target, &checkpoint, None)?;
    folder.tensors("model.safetensors", &exported.tensors)?;
    folder.save("model.tn", sliced.spec.text()?.as_bytes())?;
    folder.save("weight-map.json", format!("{}\n", weight_map(whole, best, ranking)).as_bytes())?;
    let config = folder::config(&whole.spec);
    let stack = treen::Stack::of(&whole.spec, &whole.compiled.module);
    let n_layers = stack.as_ref().map_or(0, treen::Stack::n_layers);
    let kept = stack.map_or(Vec::new(), |it| it.kept(&best.choice.skipped));
    let config = Value::Object(config::cut(config, &small.module, n_layers, &kept));
    folder.save("config.json", format!("{config:#}\n").as_bytes())?;
    folder.copy_same(&whole.spec)
}

/// Orders as tensors of places.
fn orders(whole: &Whole<'_>, ranking: &Ranking) -> Tensors {
    let module = &whole.compiled.module;
    let links = Links::of(module);
    let tensor = |shape: Vec<usize>, places: &[usize]| {
        let places = places.iter().map(|it| i32::try_from(*it).unwrap_or(i32::MAX));
        Tensor { dtype: Dtype::I32, shape, bytes: places.flat_map(i32::to_le_bytes).collect() }
    };
    let mut tensors = Tensors::new();
    for class in links.classes() {
        let key = passes::key(&links, class);
        if let Some(order) = ranking.orders.get(&key) {
            let shape = passes::order_shape(module, class);
            tensors.insert(format!("{ORDER}{key}"), tensor(shape, order));
        }
    }
    if let Some(layers) = &ranking.layers {
        let name = format!("{ORDER}{}", passes::LAYERS);
        tensors.insert(name, tensor(vec![layers.len()], layers));
    }
    tensors
}

/// For each axis that was cut, the places of the whole model that are kept, in order; and the
/// layers.
fn weight_map(whole: &Whole<'_>, best: &Pruned, ranking: &Ranking) -> Value {
    let module = &whole.compiled.module;
    let links = Links::of(module);
    let mut axes = serde_json::Map::new();
    for class in links.classes() {
        let Some(kept) = best.choice.widths.get(class.atom.as_str()) else { continue };
        let key = passes::key(&links, class);
        let mut shape = passes::order_shape(module, class);
        let size = shape.last().copied().unwrap_or(1);
        let rows = shape[..shape.len() - 1].iter().product();
        let plain: Vec<usize> = (0..rows).flat_map(|_| 0..size).collect();
        let order = ranking.orders.get(&key).unwrap_or(&plain);
        let places: Vec<&[usize]> = order.chunks(size).map(|it| &it[..kept.min(size)]).collect();
        if let Some(last) = shape.last_mut() {
            *last = kept.min(size);
        }
        let holders: Vec<String> = class.holders.iter().map(|it| it.param.to_string()).collect();
        let row = json!({ "of": size, "shape": shape, "places": places, "parameters": holders });
        axes.insert(key, row);
    }
    let stack = treen::Stack::of(&whole.spec, module);
    let layers = stack.map(|it| it.kept(&best.choice.skipped));
    json!({ "axes": axes, "layers": layers })
}

/// The report for people.
pub(super) fn text(report: &Value) -> String {
    let mut text = String::new();
    let mut line = |name: &str, from: &Value, to: &Value| {
        let _ = writeln!(text, "{name:<16} {from} -> {to}");
    };
    if let Some(axes) = report["axes"].as_object() {
        axes.iter().for_each(|(name, it)| line(name, &it["from"], &it["to"]));
    }
    let parameters = &report["parameters"];
    line("parameters", &parameters["from"], &parameters["to"]);
    let perplexity = &report["perplexity"];
    if let (Some(from), Some(to)) = (perplexity["from"].as_f64(), perplexity["to"].as_f64()) {
        let _ = writeln!(text, "{:<16} {from:.4} -> {to:.4}", "perplexity");
    }
    if let Some(skipped) = report["skipped_layers"].as_array().filter(|it| !it.is_empty()) {
        let skipped: Vec<String> = skipped.iter().map(Value::to_string).collect();
        let _ = writeln!(text, "without layers   {}", skipped.join(" "));
    }
    let candidates = report["candidates"].as_array().map_or(&[][..], Vec::as_slice);
    for it in candidates.iter().filter(|it| !it["kl"].is_null()) {
        let (sizes, n, kl) = (&it["sizes"], &it["parameters"], &it["kl"]);
        let skipped = it["skipped_layers"].as_array().filter(|it| !it.is_empty());
        let without = skipped.map(|it| it.iter().map(|it| format!(" {it}")).collect::<String>());
        let without = without.map_or(String::new(), |it| format!(" without layers{it}"));
        let _ = writeln!(text, "tried            {sizes}{without}: {n}, KL {kl}");
    }
    text
}
