//! A choice of formats by what each costs the model: sensitivities are measured one group of
//! weights at a time, then groups are taken in the order of loss for bits saved.

use ir::storage::Encoding;
use passes::Formats;

use super::{Assignment, Contraction, Request, depth, fitting};
use crate::Error;

/// Parts that the depth of the model is divided into: a group is a parameter in one of them.
const PARTS: usize = 4;
/// More runs than this for sensitivities are too many: depth is divided into fewer parts.
const MOST_RUNS: usize = 96;

/// Measures the divergence on the calibration text of the model with these formats.
pub type Measure<'a> = dyn FnMut(&Formats) -> Result<f64, Error> + 'a;

/// A parameter in neighbouring layers, which are stored alike.
#[derive(Clone, Debug)]
struct Group {
    contraction: usize,
    layers: std::ops::Range<usize>,
    elements: f64,
    /// For each format that it may have the divergence it causes alone; none for others.
    losses: Vec<Option<f64>>,
    /// Its format; `None` while it stays.
    format: Option<usize>,
}

/// Storing a group in a narrower format.
struct Move {
    group: usize,
    format: usize,
    /// Divergence, as if losses added up.
    loss: f64,
}

/// The formats of `request` for `contractions`, whose numbers take `stored` bits as they are.
///
/// # Errors
///
/// When a measurement fails, or the budget is less than the narrowest formats take.
pub fn search(
    request: &Request,
    contractions: &[Contraction],
    stored: f64,
    measure: &mut Measure<'_>,
) -> Result<Assignment, Error> {
    let mut groups = groups(request, contractions);
    let mut runs = 0;
    for i in 0..groups.len() {
        for (j, format) in request.formats.iter().enumerate() {
            if fitting(Some(*format), contractions[groups[i].contraction].columns).is_err() {
                continue;
            }
            groups[i].format = Some(j);
            let alone = assignment(request, contractions, &groups[i..=i]);
            groups[i].losses[j] = Some(measure(&alone.formats)?.max(0.0));
            groups[i].format = None;
            runs += 1;
        }
    }
    let moves = moves(&groups, &request.formats, stored);
    let apply = |groups: &[Group], n: usize| {
        let mut groups = groups.to_vec();
        moves[..n].iter().for_each(|it| groups[it.group].format = Some(it.format));
        groups
    };
    let mut most = moves.len();
    if let Some(budget) = request.budget {
        let bits = |n| mean_bits(&apply(&groups, n), &request.formats, stored);
        most = (0..=moves.len()).find(|it| bits(*it) <= budget + 1e-9).ok_or_else(|| {
            let least = bits(moves.len());
            let message = format!("a budget of {budget} bits, where {least:.2} are the least");
            Error::new("C0307", message).help("let more weights change, or allow narrower formats")
        })?;
    }
    let mut of_prefix = |n: usize| {
        let chosen = assignment(request, contractions, &apply(&groups, n));
        runs += 1;
        measure(&chosen.formats).map(|kl| (chosen, kl))
    };
    let (mut best, mut kl) = of_prefix(most)?;
    if let Some(bound) = request.kl.filter(|it| *it < kl) {
        // The longest prefix within the bound, by halving.
        let (mut within, mut beyond) = (0, most);
        (best, kl) = of_prefix(0)?;
        while within + 1 < beyond {
            let middle = usize::midpoint(within, beyond);
            let (chosen, found) = of_prefix(middle)?;
            if found <= bound {
                (within, best, kl) = (middle, chosen, found);
            } else {
                beyond = middle;
            }
        }
    }
    Ok(Assignment { runs, calibrated: Some(kl), ..best })
}

/// Every parameter that may change, in parts of the depth.
fn groups(request: &Request, contractions: &[Contraction]) -> Vec<Group> {
    let last = depth(contractions);
    let changes = |it: &&(usize, &Contraction)| {
        it.1.layers.iter().any(|layer| request.keeps(&it.1.param, *layer, last).is_none())
    };
    let indexed: Vec<_> = contractions.iter().enumerate().collect();
    let changing: Vec<_> = indexed.iter().filter(changes).collect();
    let of_each = MOST_RUNS / (changing.len() * request.formats.len()).max(1);
    let parts = PARTS.min(of_each).max(1);
    let mut groups = Vec::new();
    for &&(contraction, it) in &changing {
        let n = it.layers.len();
        for part in 0..parts {
            let layers = n * part / parts..n * (part + 1) / parts;
            let open = layers
                .clone()
                .filter(|layer| request.keeps(&it.param, it.layers[*layer], last).is_none());
            let elements = open.count() as f64 * it.elements as f64;
            if 0.0 < elements {
                let losses = vec![None; request.formats.len()];
                groups.push(Group { contraction, layers, elements, losses, format: None });
            }
        }
    }
    groups
}

/// All that can be stored more narrowly, cheapest first: for each group its formats from wide to
/// narrow, ordered by loss for bits saved. A narrower format that loses less replaces the wider.
fn moves(groups: &[Group], formats: &[Encoding], stored: f64) -> Vec<Move> {
    let mut moves = Vec::new();
    for (group, it) in groups.iter().enumerate() {
        let mut order: Vec<usize> =
            (0..formats.len()).filter(|f| it.losses[*f].is_some()).collect();
        order.sort_by(|a, b| formats[*b].nominal_bits().total_cmp(&formats[*a].nominal_bits()));
        let (mut bits, mut loss, mut price) = (stored, 0.0, 0.0f64);
        for format in order {
            let (own, narrow) = (it.losses[format].unwrap_or(0.0), formats[format].nominal_bits());
            let saved = (bits - narrow) * it.elements;
            if saved <= 0.0 {
                continue;
            }
            // A group's moves keep their order.
            price = price.max((own - loss).max(0.0) / saved);
            moves.push((price, Move { group, format, loss: own }));
            (bits, loss) = (narrow, own);
        }
    }
    moves.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.loss.total_cmp(&b.1.loss)));
    moves.into_iter().map(|it| it.1).collect()
}

/// Bits for an element of all groups.
fn mean_bits(groups: &[Group], formats: &[Encoding], stored: f64) -> f64 {
    let bits = |it: &Group| it.format.map_or(stored, |it| formats[it].nominal_bits());
    let total: f64 = groups.iter().map(|it| it.elements).sum();
    groups.iter().map(|it| bits(it) * it.elements).sum::<f64>() / total.max(1.0)
}

fn assignment(request: &Request, contractions: &[Contraction], groups: &[Group]) -> Assignment {
    Assignment::choose(request, contractions, |contraction, layer| {
        let is_it = |it: &&Group| it.contraction == contraction && it.layers.contains(&layer);
        let group = groups.iter().find(is_it);
        let loss = |format: usize| group.and_then(|it| it.losses[format]).unwrap_or(0.0);
        match group.and_then(|it| it.format) {
            Some(it) => (Some(request.formats[it]), format!("KL {:.2e} alone", loss(it))),
            None => (None, format!("KL {:.2e} if it were {}", loss(0), request.formats[0])),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contractions() -> Vec<Contraction> {
        let of = |param: &str, elements| Contraction {
            param: param.into(),
            layers: (0..8).collect(),
            elements,
            columns: 64,
        };
        vec![of("layers.a", 64), of("layers.b", 64), of("head", 64)]
    }

    /// `layers.b` suffers tenfold, late layers more than early ones.
    fn loss(formats: &Formats) -> Result<f64, Error> {
        let of = |param: &str, weight: f64| -> f64 {
            let each = (0..8).filter_map(|it| Some((it, formats.of(param, it)?)));
            each.map(|(it, f)| weight * (1.0 + it as f64) / f.nominal_bits().powi(2)).sum()
        };
        Ok(of("layers.a", 0.001) + of("layers.b", 0.01))
    }

    fn found(text: &str) -> Assignment {
        let request = Request::parse(text).unwrap();
        search(&request, &contractions(), 16.0, &mut loss).unwrap()
    }

    fn bits(found: &Assignment) -> f64 {
        let of = |param: &str| (0..8).map(|it| found.formats.of(param, it)).collect::<Vec<_>>();
        let all = of("layers.a").into_iter().chain(of("layers.b"));
        all.map(|it| it.map_or(16.0, |it| it.nominal_bits())).sum::<f64>() / 16.0
    }

    #[test]
    fn what_suffers_least_is_stored_narrowest() {
        let found = found("nvfp4,fp8-row,budget=6bpw");
        assert!(bits(&found) <= 6.0, "{}", found.formats);
        let nvfp4 = Encoding::from_name("nvfp4");
        assert!((0..8).all(|it| found.formats.of("layers.a", it) == nvfp4), "{}", found.formats);
        assert_ne!(found.formats.of("layers.b", 7), nvfp4);
        assert_eq!(found.formats.of("head", 0), None);
        assert_eq!(found.runs, 2 * 4 * 2 + 1);
    }

    #[test]
    fn loss_stays_within_its_bound() {
        for bound in [0.0, 1e-4, 1e-3, 1e-2, 1.0] {
            let found = found(&format!("kl<={bound}"));
            assert!(loss(&found.formats).unwrap() <= bound, "{bound}: {}", found.formats);
        }
        assert_eq!(bits(&found("kl<=1")), 4.5);
    }

    #[test]
    fn a_budget_below_the_narrowest_format_is_refused() {
        let request = Request::parse("nvfp4,budget=4bpw").unwrap();
        assert!(search(&request, &contractions(), 16.0, &mut loss).is_err());
        assert_eq!(bits(&found("nvfp4,budget=4.5bpw")), 4.5);
    }
}
