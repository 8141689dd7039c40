//! A choice of formats by what each costs the model: it is measured once how sensitive each group
//! of weights is, then groups are taken in the order of loss for bits saved.

use ir::storage::{Encoding, decode_rows, encode};
use passes::Formats;

use super::{Assignment, Contraction, Request, depth, fitting};
use crate::Error;

/// Parts that the depth of the model is divided into: a group is a parameter in one of them.
const PARTS: usize = 4;
/// More runs than this for sensitivities are too many: depth is divided into fewer parts.
const MOST_RUNS: usize = 40;
/// The most runs of a choice as a whole.
const MOST_CHECKS: usize = 8;

/// What a search asks of the model.
pub trait Judge {
    /// The divergence that these formats cause on the calibration text; a `brief` answer is for
    /// comparisons.
    ///
    /// # Errors
    ///
    /// When the model can not be run.
    fn divergence(&mut self, formats: &Formats, brief: bool) -> Result<f64, Error>;

    /// The squared error of a layer of a parameter in a format, of the squares of its numbers.
    ///
    /// # Errors
    ///
    /// When the numbers can not be had.
    fn noise(&mut self, of: &Contraction, layer: usize, format: Encoding) -> Result<f64, Error>;
}

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
    judge: &mut dyn Judge,
) -> Result<Assignment, Error> {
    let mut groups = groups(request, contractions);
    for group in &mut groups {
        group.losses = losses(request, contractions, group, judge)?;
    }
    let moves = moves(&groups, &request.formats, stored);
    let most = match request.budget {
        None => moves.len(),
        Some(budget) => {
            let bits = |n| mean_bits(&after(&groups, &moves[..n]), &request.formats, stored);
            (0..=moves.len()).find(|it| bits(*it) <= budget + 1e-9).ok_or_else(|| {
                let least = bits(moves.len());
                let message = format!("a budget of {budget} bits, where {least:.2} are the least");
                Error::new("C0307", message)
                    .help("let more weights change, or allow narrower formats")
            })?
        }
    };
    let mut checks = Checks {
        expected: (0..=most).map(|n| expected(&after(&groups, &moves[..n]))).collect(),
        chosen: |n| assignment(request, contractions, &after(&groups, &moves[..n])),
        runs: groups.len(),
        judge,
    };
    match request.kl {
        None => checks.run(most),
        Some(bound) => checks.longest(bound),
    }
}

/// What a group costs alone in each format. Divergence grows with the square of the error, so that
/// one run tells it of all.
fn losses(
    request: &Request,
    contractions: &[Contraction],
    group: &Group,
    judge: &mut dyn Judge,
) -> Result<Vec<Option<f64>>, Error> {
    let of = &contractions[group.contraction];
    let fitted = |it: &Encoding| fitting(Some(*it), of.columns).ok().flatten();
    let formats: Vec<Option<Encoding>> = request.formats.iter().map(fitted).collect();
    let fitting = formats.iter().enumerate().filter_map(|(i, it)| Some((i, (*it)?)));
    let bits = |it: &(usize, Encoding)| it.1.nominal_bits();
    let narrowest = fitting.clone().min_by(|a, b| bits(a).total_cmp(&bits(b)));
    let mut losses = vec![None; formats.len()];
    let Some((narrowest, format)) = narrowest else { return Ok(losses) };
    let alone = Group { format: Some(narrowest), ..group.clone() };
    let alone = assignment(request, contractions, std::slice::from_ref(&alone));
    let loss = judge.divergence(&alone.formats, true)?.max(0.0);
    let middle = group.layers.start.midpoint(group.layers.end);
    let most = judge.noise(of, middle, format)?;
    for (i, it) in fitting {
        let share = if 0.0 < most { judge.noise(of, middle, it)? / most } else { 1.0 };
        losses[i] = Some(loss * share);
    }
    Ok(losses)
}

/// Runs of beginnings of the list of moves.
struct Checks<'a, C> {
    /// For each length the divergence, as if losses added up.
    expected: Vec<f64>,
    chosen: C,
    runs: usize,
    judge: &'a mut dyn Judge,
}

impl<C: Fn(usize) -> Assignment> Checks<'_, C> {
    /// The first `n` moves with what they cost.
    fn run(&mut self, n: usize) -> Result<Assignment, Error> {
        let chosen = (self.chosen)(n);
        self.runs += 1;
        let kl = self.judge.divergence(&chosen.formats, false)?;
        Ok(Assignment { calibrated: Some(kl), runs: self.runs, ..chosen })
    }

    /// The longest beginning that costs at most `bound`, as far as few runs tell: by what was
    /// expected of it and of the last one, and by halves where that leads nowhere.
    fn longest(&mut self, bound: f64) -> Result<Assignment, Error> {
        let mut best = Assignment { calibrated: Some(0.0), ..(self.chosen)(0) };
        let (mut within, mut beyond, mut next) = (0, self.expected.len(), self.expected.len() - 1);
        for check in 1..=MOST_CHECKS {
            let found = self.run(next)?;
            let kl = found.calibrated.unwrap_or(f64::INFINITY);
            let scale = kl / self.expected[next].max(f64::MIN_POSITIVE);
            if kl <= bound {
                (within, best) = (next, found);
            } else {
                beyond = next;
            }
            if beyond - within <= 1 {
                break;
            }
            let fits = |it: &usize| scale * self.expected[*it] <= bound;
            let guess = (within + 1..beyond).rev().find(fits).unwrap_or(within + 1);
            let by_halves = check % 2 == 0;
            next = if by_halves { usize::midpoint(within, beyond) } else { guess };
        }
        Ok(Assignment { runs: self.runs, ..best })
    }
}

/// `groups` with the formats that `moves` give them.
fn after(groups: &[Group], moves: &[Move]) -> Vec<Group> {
    let mut groups = groups.to_vec();
    moves.iter().for_each(|it| groups[it.group].format = Some(it.format));
    groups
}

/// The squared error of rows of `columns` numbers in a format, of their squares; `bytes` are what
/// they are stored as, where that is known.
///
/// # Errors
///
/// When the rows are not whole blocks.
pub fn noise(
    format: Encoding,
    columns: usize,
    numbers: &[f32],
    bytes: Option<&[u8]>,
) -> Result<f64, Error> {
    let mut stored = vec![0.0; numbers.len()];
    let bytes = bytes.map_or_else(|| encode(format, columns, numbers), |it| Ok(it.to_vec()));
    let decoded = bytes.and_then(|it| decode_rows(format.dtype, columns, &it, &mut stored));
    decoded.map_err(|why| Error::new("C0203", why.to_string()))?;
    let square = |it: f32| f64::from(it).powi(2);
    let (error, all) = numbers
        .iter()
        .zip(&stored)
        .fold((0.0, 0.0), |(error, all), (x, y)| (error + square(x - y), all + square(*x)));
    Ok(error / f64::max(all, f64::MIN_POSITIVE))
}

/// What `groups` cost, as if losses added up.
fn expected(groups: &[Group]) -> f64 {
    groups.iter().filter_map(|it| it.losses[it.format?]).sum()
}

/// Every parameter that may change, in parts of the depth.
fn groups(request: &Request, contractions: &[Contraction]) -> Vec<Group> {
    let last = depth(contractions);
    let changes = |it: &&(usize, &Contraction)| {
        it.1.layers.iter().any(|layer| request.keeps(&it.1.param, *layer, last).is_none())
    };
    let indexed: Vec<_> = contractions.iter().enumerate().collect();
    let changing: Vec<_> = indexed.iter().filter(changes).collect();
    let of_each = MOST_RUNS / changing.len().max(1);
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
        let Some(group) = group else { return (None, String::new()) };
        if let Some(it) = group.format {
            let loss = group.losses[it].unwrap_or(0.0);
            return (Some(request.formats[it]), format!("KL {loss:.2e} alone"));
        }
        let known =
            group.losses.iter().zip(&request.formats).filter_map(|it| Some(((*it.0)?, it.1)));
        match known.min_by(|a, b| a.0.total_cmp(&b.0)) {
            Some((loss, it)) => (None, format!("KL {loss:.2e} if it were {it}")),
            // None of them fits, as the reason will say.
            None => (request.formats.first().copied(), String::new()),
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

    /// Divergence of a model that costs nothing to run.
    struct Formula(fn(&Formats) -> f64);

    impl Judge for Formula {
        fn divergence(&mut self, formats: &Formats, _: bool) -> Result<f64, Error> {
            Ok((self.0)(formats))
        }

        fn noise(&mut self, _: &Contraction, _: usize, format: Encoding) -> Result<f64, Error> {
            Ok(format.nominal_bits().powi(-2))
        }
    }

    /// `layers.b` suffers tenfold, late layers more than early ones.
    fn loss(formats: &Formats) -> f64 {
        let of = |param: &str, weight: f64| -> f64 {
            let each = (0..8).filter_map(|it| Some((it, formats.of(param, it)?)));
            each.map(|(it, f)| weight * (1.0 + it as f64) / f.nominal_bits().powi(2)).sum()
        };
        of("layers.a", 0.001) + of("layers.b", 0.01)
    }

    fn found_by(text: &str, loss: fn(&Formats) -> f64) -> Result<Assignment, Error> {
        search(&Request::parse(text).unwrap(), &contractions(), 16.0, &mut Formula(loss))
    }

    fn found(text: &str) -> Assignment {
        found_by(text, loss).unwrap()
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
        assert_eq!(found.runs, 2 * 4 + 1);
    }

    #[test]
    fn loss_stays_within_its_bound() {
        // As expected, more than the sum of what each costs alone, and less.
        let laws: [fn(&Formats) -> f64; 3] =
            [loss, |it| 40.0 * loss(it).powi(2), |it| 0.1 * loss(it).sqrt()];
        for bound in [0.0, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 1.0] {
            for law in laws {
                let found = found_by(&format!("kl<={bound}"), law).unwrap();
                assert!(law(&found.formats) <= bound, "{bound}: {}", found.formats);
                assert_eq!(found.calibrated, Some(law(&found.formats)), "{bound}");
                assert!(found.runs <= 2 * 4 + MOST_CHECKS, "{bound}: {} runs", found.runs);
            }
        }
        assert_eq!(bits(&found("kl<=1")), 4.5);
    }

    #[test]
    fn as_much_is_stored_narrowly_as_the_bound_allows() {
        let all: Vec<f64> =
            [1e-4, 3e-4, 1e-3, 3e-3].iter().map(|it| bits(&found(&format!("kl<={it}")))).collect();
        assert!(all.is_sorted_by(|a, b| b < a) && all[0] < 16.0, "{all:?}");
        let tight = found("kl<=1e-3");
        assert!(5e-4 < loss(&tight.formats), "{:?}", tight.calibrated);
    }

    #[test]
    fn what_stays_says_what_it_would_cost_in_a_format_that_it_may_have() {
        let narrow = Contraction { columns: 40, ..contractions().remove(0) };
        let none = Contraction { columns: 40, ..contractions().remove(1) };
        let reasons = |text: &str, of: &Contraction| {
            let request = Request::parse(text).unwrap();
            let found = search(&request, std::slice::from_ref(of), 16.0, &mut Formula(loss));
            found.unwrap().reasons[0].1[0].clone()
        };
        assert_eq!(reasons("nvfp4,fp8-row,kl<=0", &narrow), "KL 4.69e-5 if it were fp8-row");
        assert_eq!(reasons("nvfp4,mxfp8,kl<=0", &none), "rows of 40 are no whole blocks of 16");
    }

    #[test]
    fn a_budget_below_the_narrowest_format_is_refused() {
        assert!(found_by("nvfp4,budget=4bpw", loss).is_err());
        assert_eq!(bits(&found("nvfp4,budget=4.5bpw")), 4.5);
    }
}
