//! Products of few rows, which read weights at the speed of memory: `skinny.cuh`.

use ir::DType;

use super::{BLOCKS, Made, MatMul, Part};
use crate::{
    COUNTER_BYTES, Grid, Instance, Tunable, element,
    pack::{self, TILE, skinny_step},
};

/// What a launch gives each block: on Hopper, and before it.
const SKINNY_SHARED: [u64; 2] = [213 * 1024, 160 * 1024];

/// How x comes to the kernel.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// As it is: the kernel normalises it, and takes a number in `f32` as the sum of two.
    AsItIs,
    /// Normalised and rounded to 16 bits before.
    Rounded,
}

impl MatMul<'_> {
    /// The forms for few rows. What is packed would have to be unpacked to memory for more, at five
    /// times the cost, but for Hopper: so it has forms for more rows, for which x is rounded.
    pub(super) fn few_rows(&self) -> Vec<Instance> {
        let mut forms: Vec<Instance> = self.skinny(1, Way::AsItIs).into_iter().collect();
        forms.extend([8, 4, 2].into_iter().find_map(|most| self.skinny(most, Way::AsItIs)));
        let has = forms.last().and_then(|it| it.rows).map_or(0, |it| it.1);
        if self.is_packed() {
            let more = [8, 16].into_iter().filter(|most| has < *most);
            forms.extend(more.filter_map(|most| self.skinny(most, Way::Rounded)));
        }
        forms
    }

    /// At most `most` rows.
    fn skinny(&self, most: u64, way: Way) -> Option<Instance> {
        let before = (way == Way::Rounded && !(self.x == DType::BF16 && self.norm.is_none()))
            .then(|| Box::new(self.prepare(DType::BF16, COUNTER_BYTES)));
        let x = if way == Way::Rounded { DType::BF16 } else { self.x };
        let height = self.height();
        let size = |(_, part)| Skinny::new(part, self.depth, height, most, x, way);
        let sizes: Vec<Skinny> = self.parts().map(size).collect::<Option<_>>()?;
        let warps = sizes.first()?.warps;
        if sizes.iter().any(|it| it.warps != warps) {
            return None;
        }
        let rows = self.skinny_rows(way, before.is_some());
        let mut choices = Vec::new();
        let mut alike: Vec<(Alike, Vec<Share<'_>>)> = Vec::new();
        for ((made, part), size) in self.parts().zip(&sizes) {
            let choice = self.choice(part, most);
            let policy = self.policy(part, size, height, most, self.call.tuned.get(&choice));
            choices.push(choice);
            let kind = self.alike(made, part, policy);
            // As many tiles for each block, and no block that has fewer to no end.
            let tiles = part.n.div_ceil(height);
            let blocks = tiles.div_ceil(tiles.div_ceil(self.share(part)));
            let share = Share { made, part, blocks };
            match alike.iter_mut().find(|it| it.0 == kind) {
                Some(same) => same.1.push(share),
                None => alike.push((kind, vec![share])),
            }
        }
        let (mut body, mut first) = (vec!["SHARED(u8, shared);".to_owned(), rows], 0);
        for (kind, shares) in &alike {
            body.push(self.skinny_parts(&kind.policy, shares, &mut first)?);
        }
        Some(Instance {
            includes: vec!["skinny.cuh", "tails.cuh"],
            preface: self.preface(),
            body: body.join("\n  "),
            threads: 32 * warps as u32,
            residents: 1,
            grid: [Grid::fixed(first), Grid::fixed(1)],
            shared: SKINNY_SHARED[0] as u32,
            shared_before_hopper: Some(SKINNY_SHARED[1] as u32),
            rows: Some((2, most)),
            waits: true,
            scratch: before.as_ref().map(|_| (COUNTER_BYTES, 2 * self.depth, 2)),
            before,
            choices,
            ..Instance::default()
        })
    }

    /// The most blocks for `part`.
    fn share(&self, part: &Part) -> u64 {
        let all: u64 = self.parts().map(|it| it.1.n).sum();
        (BLOCKS * part.n / all).max(1)
    }

    /// Rows of a tile: fewer than usual where the block with most rows has a tenth less of them
    /// then, since so many more blocks read at once, and with two products, which would take too
    /// much of the ring otherwise.
    fn height(&self) -> u64 {
        let of_part =
            |part: &Part, height: u64| height * part.n.div_ceil(height).div_ceil(self.share(part));
        let most = |height: u64| self.parts().map(|it| of_part(it.1, height)).max();
        let has_two = self.parts().any(|it| it.1.weights.len() == 2);
        let usual = most(TILE).map(|it| if has_two { it } else { it * 9 / 10 });
        let reads = |height: &u64| {
            self.parts().all(|it| skinny_step(it.1.format(), self.depth, *height).is_some())
        };
        let fewer = [8, 12].into_iter().filter(|it| reads(it) && most(*it) <= usual);
        fewer.min_by_key(|it| most(*it)).unwrap_or(TILE)
    }

    /// Where x is, and what is to be done to it.
    fn skinny_rows(&self, way: Way, is_prepared: bool) -> String {
        let (x, k) = (element(self.x), self.depth);
        match (&self.norm, way) {
            _ if is_prepared => {
                format!("PlainRows<bf16> in{{(const bf16*)(w5 + {COUNTER_BYTES}), {k}}};")
            }
            (Some((weight, eps)), Way::AsItIs) => format!(
                "{}NormedRows<{x}, float> in{{(const {x}*)w0, {k}, (const float*)w{weight}, \
                 {eps}}};",
                if self.call.is_constant[*weight] { "" } else { "wait_for_earlier();\n  " },
            ),
            _ => format!("PlainRows<{x}> in{{(const {x}*)w0, {k}}};"),
        }
    }

    /// How deep the ring of weights is.
    fn choice(&self, part: &Part, most: u64) -> Tunable {
        let (products, format) = (part.weights.len(), part.format());
        let of = format!("{products} of {format} {}x{} rows {most}", part.n, self.depth);
        Tunable::new("skinny", &of, most)
    }

    /// The type that says how a part is computed.
    fn policy(
        &self,
        part: &Part,
        size: &Skinny,
        height: u64,
        most: u64,
        stages: Option<u64>,
    ) -> String {
        let Skinny { warps, x_parts, stays } = size;
        let stages = stages.map(|it| format!(", {it}")).unwrap_or_default();
        format!(
            "Skinny<{}, {}, {most}, {x_parts}, {stays}, {warps}{stages}>",
            pack::skinny_policy(part.format(), self.depth, height),
            part.weights.len(),
        )
    }

    /// What else decides the code that computes a part.
    fn alike(&self, made: &Made<'_>, part: &Part, policy: String) -> Alike {
        let tail = made.tail.map(|it| it.name.clone());
        let is_own = self.is_own(made);
        Alike { policy, tail, products: part.weights.len(), out: made.dtype, is_own }
    }

    /// The text of parts that are computed by the same code, whose blocks begin at `first`, which
    /// becomes where they end.
    fn skinny_parts(&self, policy: &str, shares: &[Share<'_>], first: &mut u64) -> Option<String> {
        let mut parts = Vec::new();
        for Share { made, part, blocks } in shares {
            let of = |&at: &usize| pack::skinny_weights(part.format(), [part.n, self.depth], at);
            let weights: Vec<String> = part.weights.iter().map(of).collect();
            parts.push(format!(
                "skinny_part<S>({{{weights}}}, {tail}, {out}, {columns}, {first}, {blocks})",
                weights = weights.join(", "),
                tail = self.tail(made, part),
                out = self.output(made, part),
                columns = self.columns(made)?,
            ));
            *first += blocks;
        }
        Some(format!(
            "if (blockIdx.x < {first}) {{\n    \
             using S = {policy};\n    \
             static_assert(S::THREADS <= 512);\n    \
             static_assert(SKINNY_SHARED == {hopper} || SKINNY_SHARED == {before});\n    \
             return skinny(in, (int){rows}, shared,\n      {parts});\n  }}",
            hopper = SKINNY_SHARED[0],
            before = SKINNY_SHARED[1],
            parts = parts.join(",\n      "),
            rows = self.call.text(2),
        ))
    }
}

/// What is the same of parts that the same code computes.
#[derive(PartialEq, Eq)]
struct Alike {
    policy: String,
    tail: Option<String>,
    products: usize,
    out: DType,
    /// Whether each row has a place of its own to go to.
    is_own: bool,
}

/// A part, and how many blocks compute it.
struct Share<'a> {
    made: &'a Made<'a>,
    part: &'a Part,
    blocks: u64,
}

/// How a part is computed.
struct Skinny {
    warps: u64,
    /// Numbers of 16 bits that stand for a number of x.
    x_parts: u64,
    /// Whether all of x is in shared memory at once.
    stays: bool,
}

impl Skinny {
    /// In tiles of `height` rows; `None` for what is not taken.
    fn new(part: &Part, depth: u64, height: u64, most: u64, x: DType, way: Way) -> Option<Skinny> {
        let [bytes, step] = skinny_step(part.format(), depth, height)?;
        if !depth.is_multiple_of(4) {
            return None;
        }
        let x_parts = if x == DType::BF16 { 1 } else { 2 };
        let products = part.weights.len() as u64;
        let slot = products * bytes;
        let warps = 16 / (if 4 < most { 2 } else { 1 }) / (if 3072 < slot { 2 } else { 1 });
        let columns = most * x_parts;
        let padded = depth.next_multiple_of(step);
        let stride = padded + if padded.is_multiple_of(64) { 32 } else { 0 };
        let sums = warps * products * columns * 16;
        let round = (4096 / sums).clamp(1, 4);
        let sums = (2 * round * sums + warps * most) * 4;
        // The smaller of what Ampere and Hopper have, so that one text is for both.
        let fits = |x: u64, slot: u64| x + sums + 2 * warps * slot < 160 * 1024;
        let stays = fits(columns * stride * 2, slot);
        // Pieces of eight numbers travel, of eight rows each.
        let travels = way == Way::Rounded
            && depth.is_multiple_of(8)
            && fits(0, slot + step / 32 * columns.div_ceil(8) * 512);
        (stays || travels).then_some(Skinny { warps, x_parts, stays })
    }
}
