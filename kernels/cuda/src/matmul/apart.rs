//! Products of one launch whose weights are in different formats, where no kernel takes these at
//! once: one format after the other, and by way of scratch memory where a tail takes two products
//! that are not in the same.

use ir::DType;

use super::{Made, MatMul, Part, THREADS};
use crate::{Grid, Instance};

/// A tail, and where the products lie that it takes.
struct Combined<'a> {
    made: Made<'a>,
    part: Part,
    products: [Place; 2],
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
    /// Whether a tail takes products with weights in different formats.
    pub(super) fn is_mixed(&self) -> bool {
        self.parts().any(|it| it.1.is_mixed())
    }

    /// Every form, the fastest first.
    pub(super) fn apart(&self) -> Result<Vec<Instance>, String> {
        // What lies behind the scratch memory of all is known when they are.
        let (groups, _) = self.groups(Place::default());
        let mut end = Place::default();
        for form in groups.iter().map(|it| it.at_once()).collect::<Result<Vec<_>, _>>()?.concat() {
            let (fixed, each, _) = form.scratch.unwrap_or_default();
            end = Place { fixed: end.fixed.max(fixed), each: end.each.max(each) };
        }
        let (groups, combined) = self.groups(end.aligned());
        let products = combined.iter().map(|it| 2 * 4 * it.part.n.next_multiple_of(4));
        let scratch = (end.aligned().fixed, end.aligned().each + products.sum::<u64>(), 2);
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

    /// The products in each format, and what combines those of which a tail takes two; these lie at
    /// `end` and behind it.
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
            if !part.is_mixed() {
                add(part.formats[0], Made { parts: vec![part.clone()], ..made.clone() });
                continue;
            }
            let products = [0, 1].map(|i| {
                let place = next;
                next.each += 4 * part.n.next_multiple_of(4);
                let (weights, formats) = (vec![part.weights[i]], vec![part.formats[i]]);
                let parts = vec![Part { weights, formats, first: 0, n: part.n }];
                let one =
                    Made { dtype: DType::F32, tail: None, parts, place: Some(place), ..*made };
                add(part.formats[i], one);
                place
            });
            let (made, part) = (made.clone(), part.clone());
            combined.push(Combined { made, part, products });
        }
        (groups.into_iter().map(|it| it.1).collect(), combined)
    }

    /// Applies a tail to two products.
    fn combine(&self, of: &Combined<'_>) -> Instance {
        let Combined { made, part, products } = of;
        let (columns, rows) = (self.call.text(made.at + 1), self.call.text(2));
        let [first, second] = products.map(|it| it.pointer(&rows));
        let body = format!(
            "combine<{THREADS}>({}, {columns}, {first}, {second}, {rows}, {}, {});",
            self.output(made, part),
            part.n,
            self.tail(made, part)
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

/// Whether `form` takes all rows that `other` takes, on the same architectures.
fn takes_place_of(form: &Instance, other: &Instance) -> bool {
    form.products.is_empty()
        && form.rows.is_none_or(|it| other.rows.is_some_and(|other| other.1 <= it.1))
        && form.architecture.is_none_or(|it| other.architecture == Some(it))
}
