//! A function as a picture: nodes in layers, operands above those that take them.

use ir::{Function, Node, Op, Param, Value};

use super::html::escaped;

/// Width and height of a node, and what is between nodes.
const WIDTH: usize = 216;
const HEIGHT: usize = 34;
const GAP: usize = 26;
/// The most letters of a line in a node.
const LETTERS: usize = 28;

/// The picture.
pub(super) fn of(function: &Function) -> String {
    let layers = layers(function);
    let places = places(function, &layers);
    let width = places.iter().flatten().map(|it| it.0 + WIDTH + GAP).max().unwrap_or(GAP);
    let height = layers.len() * (HEIGHT + GAP) + GAP;
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

/// Whether a node stands for itself: numbers and layers of weights are not drawn.
fn is_drawn(function: &Function, node: &Node) -> bool {
    match node.op {
        Op::Constant(_) => false,
        Op::Gather(_) => layer_of(function, node).is_none(),
        _ => true,
    }
}

/// The weights of which `node` takes one layer.
fn layer_of<'a>(function: &'a Function, node: &Node) -> Option<&'a Param> {
    let &[bank, layer] = node.operands.as_slice() else { return None };
    let is_known = matches!(function.maker(layer)?.op, Op::Constant(_));
    function.as_param(bank).filter(|_| is_known && matches!(node.op, Op::Gather(_)))
}

/// The nodes that are needed, each below all it takes and as near as can be to what takes it.
fn layers(function: &Function) -> Vec<Vec<usize>> {
    let (nodes, live) = (function.nodes(), function.live());
    let operands = |i: usize| nodes[i].operands.iter().filter_map(|it| maker(function, *it));
    let is_drawn = |i: &usize| live[*i] && is_drawn(function, &nodes[*i]);
    let drawn: Vec<usize> = (0..nodes.len()).filter(is_drawn).collect();
    let mut depths: Vec<Option<usize>> = vec![None; nodes.len()];
    for &i in &drawn {
        let above = operands(i).filter_map(|it| depths[it]).max();
        depths[i] = Some(above.map_or(0, |it| it + 1));
    }
    let mut latest: Vec<Option<usize>> = vec![None; nodes.len()];
    for &i in drawn.iter().rev() {
        depths[i] = latest[i].or(depths[i]);
        let before = depths[i].map(|it| it.saturating_sub(1));
        operands(i).for_each(|it| latest[it] = latest[it].or(before).min(before));
    }
    let mut layers: Vec<Vec<usize>> = Vec::new();
    for i in drawn {
        let depth = depths[i].unwrap_or(0);
        layers.resize(layers.len().max(depth + 1), Vec::new());
        layers[depth].push(i);
    }
    layers
}

/// Left and top of each node: in the middle below what it takes, or as near as there is room.
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
        let mut free = GAP;
        for (wish, i) in order {
            let left = wish.max(free);
            places[i] = Some((left, GAP + depth * (HEIGHT + GAP)));
            free = left + WIDTH + GAP;
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
    let param = |it: &Value| {
        let of_layer = function.maker(*it).and_then(|it| layer_of(function, it));
        function.as_param(*it).or(of_layer)
    };
    let params = node.operands.iter().filter_map(param);
    let params: String = params.map(|it| format!(" %{}", it.name)).collect();
    let what = match &node.op {
        Op::Call(call) => format!("@{}{params}", call.function),
        Op::Scan(scan) => format!("scan @{}{params}", scan.body),
        op => format!("{}{params}", op.rules().name()),
    };
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
