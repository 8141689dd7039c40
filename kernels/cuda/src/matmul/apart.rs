//! Products of one launch whose weights are in different formats, where no kernel takes these at
//! once: one format after the other, and by way of scratch memory where a tail takes several
//! products that are not in the same, or more than two.

use ir::DType;

use super::{Made, MatMul, Part, THREADS};
use crate::{COUNTER_BYTES, Grid, Instance};

/// A tail, and where the products lie that it takes.
struct Combined<'a> {
    made: Made<'a>,
    part: Part,
    products: Vec<Place>,
}

/// Bytes of scratch memory behind its beginning, and so many more for each row.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    fixed: u64,
    each: u64,
}

impl Place {
    /// It as a pointer, for so many rows.
    pub(super) fn pointer(self, rows: &str) -> String {
        format!("(float*)(w5 + {} + {} * {rows})", self.fixed, self.each)
    }

    /// Both so large that what begins here begins at 16 bytes.
    fn aligned(self) -> Place {
        let [fixed, each] = [self.fixed, self.each].map(|it| it.next_multiple_of(16));
        Place { fixed, each }
    }
}

impl MatMul<'_> {
    /// Whether a tail takes products that no kernel computes together.
    pub(super) fn has_apart(&self) -> bool {
        self.parts().any(|it| it.1.is_apart())
    }

    /// Every form, the fastest first.
    pub(super) fn apart(&self) -> Result<Vec<Instance>, String> {
        // What lies behind the scratch memory of all is known when they are.
        let (groups, _) = self.groups(Place::default());
        let mut end = Place { fixed: COUNTER_BYTES, each: 0 };
        for form in groups.iter().map(|it| it.at_once()).collect::<Result<Vec<_>, _>>()?.concat() {
            let (fixed, each, _) = form.scratch.unwrap_or_default();
            end = Place { fixed: end.fixed.max(fixed), each: end.each.max(each) };
        }
        let (groups, combined) = self.groups(end.aligned());
        let bytes = |it: &Combined<'_>| it.products.len() as u64 * row_bytes(&it.part);
        let products: u64 = combined.iter().map(bytes).sum();
        let scratch = (end.aligned().fixed, end.aligned().each + products, 2);
        let forms: Vec<Vec<Instance>> =
            groups.iter().map(MatMul::at_once).collect::<Result<_, _>>()?;
        let [first, others @ ..] = &forms[..] else { return Ok(Vec::new()) };
        let kernels = first.iter().filter(|it| it.products.is_empty());
        let whole = kernels.filter_map(|form| {
            let others = others.iter().map(|it| it.iter().find(|it| takes_place_of(it, form)));
            let others = others.collect::<Option<Vec<_>>>()?.into_iter().cloned();
            let chain = others.chain(combined.iter().map(|it| self.combine(it)));
            let last = chain.fold(form.clone(), |before, it| it.after(before));
            Some(Instance { rows: form.rows, scratch: Some(scratch), ..last })
        });
        Ok(whole.collect())
    }

    /// The products in each format, and what combines those that a tail takes; these lie at `end`
    /// and behind it.
    fn groups(&self, end: Place) -> (Vec<MatMul<'_>>, Vec<Combined<'_>>) {
        let mut groups: Vec<(DType, MatMul<'_>)> = Vec::new();
        let mut add = |format, made| match groups.iter_mut().find(|it| it.0 == format) {
            Some(group) => group.1.made.push(made),
            None => {
                groups.push((format, MatMul { made: vec![made], norm: self.norm.clone(), ..*self }))
            }
        };
        let (mut combined, mut next) = (Vec::new(), end);
        for (made, part) in self.parts() {
            if !part.is_apart() {
                add(part.format(), Made { parts: vec![part.clone()], ..made.clone() });
                continue;
            }
            let one = |i: usize| {
                let place = next;
                next.each += row_bytes(part);
                let (weights, formats) = (vec![part.weights[i]], vec![part.formats[i]]);
                let parts = vec![Part { weights, formats, first: 0, n: part.n }];
                let one =
                    Made { dtype: DType::F32, tail: None, parts, place: Some(place), ..*made };
                add(part.formats[i], one);
                place
            };
            let products = (0..part.weights.len()).map(one).collect();
            let (made, part) = (made.clone(), part.clone());
            combined.push(Combined { made, part, products });
        }
        (groups.into_iter().map(|it| it.1).collect(), combined)
    }

    /// Applies a tail to products.
    fn combine(&self, of: &Combined<'_>) -> Instance {
        let Combined { made, part, products } = of;
        let (columns, rows) = (self.call.text(made.at + 1), self.call.text(2));
        let products: Vec<String> = products.iter().map(|it| it.pointer(&rows)).collect();
        let body = format!(
            "combine<{THREADS}>({}, {columns}, {rows}, {}, {}, {}, {});",
            self.output(made, part),
            part.n,
            made.tail.map_or("Same{}", |it| it.make.as_str()),
            part.first,
            products.join(", "),
        );
        Instance {
            includes: vec!["naive.cuh", "tails.cuh"],
            preface: self.preface(),
            body,
            threads: THREADS,
            grid: Grid::over(&[2, part.weights[0] + 2], u64::from(THREADS)),
            ..Instance::default()
        }
    }
}

/// Bytes of scratch memory for each row of a product, so many that the next begins at 16 bytes.
fn row_bytes(part: &Part) -> u64 {
    4 * part.n.next_multiple_of(4)
}

/// Whether `form` takes all rows that `other` takes, on the same architectures.
fn takes_place_of(form: &Instance, other: &Instance) -> bool {
    form.products.is_empty()
        && form.rows.is_none_or(|it| other.rows.is_some_and(|other| other.1 <= it.1))
        && form.architecture.is_none_or(|it| other.architecture == Some(it))
}
