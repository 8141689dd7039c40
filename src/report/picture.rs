//! A function as a picture: nodes in layers, operands above those that take them.

use ir::{Function, Node, Op, Value};

use super::html::escaped;

/// Width and height of a node, and what is between nodes.
const WIDTH: usize = 200;
const HEIGHT: usize = 34;
const GAP: usize = 26;
/// The most letters of a line in a node.
const LETTERS: usize = 29;

/// The picture.
pub(super) fn of(function: &Function) -> String {
    let layers = layers(function);
    let columns = layers.iter().map(Vec::len).max().unwrap_or(0);
    let (width, height) = (columns * (WIDTH + GAP) + GAP, layers.len() * (HEIGHT + GAP) + GAP);
    let places = places(function, &layers);
    let nodes = function.nodes().iter().zip(&places);
    let mut text = format!("<svg width=\"{width}\" height=\"{height}\">\n");
    for (node, place) in nodes.clone() {
        let operands = node.operands.iter().filter_map(|it| maker(function, *it));
        for from in operands.filter_map(|it| places[it]) {
            text += &place.map(|to| edge(from, to)).unwrap_or_default();
        }
    }
    text += &nodes.filter_map(|(node, at)| Some(drawn(function, node, (*at)?))).collect::<String>();
    text + "</svg>"
}

/// The place of the node that makes `value`.
fn maker(function: &Function, value: Value) -> Option<usize> {
    let node = function.maker(value)?;
    function.nodes().iter().position(|it| std::ptr::eq(it, node))
}

/// The nodes that are needed, each below all it takes; numbers are not drawn.
fn layers(function: &Function) -> Vec<Vec<usize>> {
    let mut depths: Vec<Option<usize>> = vec![None; function.nodes().len()];
    let mut layers: Vec<Vec<usize>> = Vec::new();
    let live = function.live();
    for (i, node) in function.nodes().iter().enumerate() {
        if !live[i] || matches!(node.op, Op::Constant(_)) {
            continue;
        }
        let above = node.operands.iter().filter_map(|it| depths[maker(function, *it)?]).max();
        let depth = above.map_or(0, |it| it + 1);
        depths[i] = Some(depth);
        layers.resize(layers.len().max(depth + 1), Vec::new());
        layers[depth].push(i);
    }
    layers
}

/// Left and top of each node: in the middle below what it takes, as far as there is room.
fn places(function: &Function, layers: &[Vec<usize>]) -> Vec<Option<(usize, usize)>> {
    let mut places: Vec<Option<(usize, usize)>> = vec![None; function.nodes().len()];
    for (depth, layer) in layers.iter().enumerate() {
        let wish = |i: usize| {
            let makers = function.nodes()[i].operands.iter().filter_map(|it| maker(function, *it));
            let above: Vec<usize> = makers.filter_map(|it| Some(places[it]?.0)).collect();
            above.iter().sum::<usize>() / above.len().max(1)
        };
        let mut order: Vec<(usize, usize)> = layer.iter().map(|&i| (wish(i), i)).collect();
        order.sort_unstable();
        for (column, &(_, i)) in order.iter().enumerate() {
            let (x, y) = (GAP + column * (WIDTH + GAP), GAP + depth * (HEIGHT + GAP));
            places[i] = Some((x, y));
        }
    }
    places
}

fn edge(from: (usize, usize), to: (usize, usize)) -> String {
    let (x, y, to_x, to_y) = (from.0 + WIDTH / 2, from.1 + HEIGHT, to.0 + WIDTH / 2, to.1);
    let (bend, to_bend) = (y + GAP / 2, to_y.saturating_sub(GAP / 2));
    let path = format!("M{x} {y} C{x} {bend} {to_x} {to_bend} {to_x} {to_y}");
    format!("<path d=\"{path}\" fill=\"none\" stroke=\"#999\"/>\n")
}

/// A box: what is done to which parameters, and the type of the result.
fn drawn(function: &Function, node: &Node, (x, y): (usize, usize)) -> String {
    let callee = node.op.callee().map(|it| format!(" @{it}")).unwrap_or_default();
    let params = node.operands.iter().filter_map(|it| function.as_param(*it));
    let params: String = params.map(|it| format!(" %{}", it.name)).collect();
    let what = format!("{}{callee}{params}", node.op.rules().name());
    let types: Vec<String> = node.results().map(|it| function.ty(it).to_string()).collect();
    let is_output = node.results().any(|it| function.outputs.iter().any(|o| o.value == it));
    let fill = match &node.op {
        _ if is_output => "#fde9c8",
        Op::Call(_) | Op::Scan(_) => "#dcebfa",
        _ => "#f1f1ee",
    };
    let (left, first, second) = (x + 6, y + 14, y + 28);
    format!(
        "<g><title>{}</title><rect x=\"{x}\" y=\"{y}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         rx=\"4\" fill=\"{fill}\" stroke=\"#888\"/><text x=\"{left}\" y=\"{first}\">{}</text>\
         <text x=\"{left}\" y=\"{second}\" fill=\"#555\">{}</text></g>\n",
        escaped(&function.node_text(node)),
        escaped(&cut(&what)),
        escaped(&cut(&types.join(", "))),
    )
}

/// As much of a text as fits.
fn cut(text: &str) -> String {
    if text.chars().count() <= LETTERS {
        return text.to_owned();
    }
    text.chars().take(LETTERS - 1).chain(['…']).collect()
}
