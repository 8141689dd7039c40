//! Chooses the next token.

/// How to choose. The default takes the most probable token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SamplerSettings {
    /// Logits are divided by it. At 0 the most probable token is taken.
    pub temperature: f32,
    /// Only so many of the most probable tokens are considered; 0 means all.
    pub top_k: usize,
    /// Only the most probable tokens that together reach this probability; 1 means all.
    pub top_p: f32,
    /// Only tokens at least this probable, relative to the most probable; 0 means all.
    pub min_p: f32,
    /// The same seed, settings and logits choose the same tokens.
    pub seed: u64,
}

impl Default for SamplerSettings {
    fn default() -> SamplerSettings {
        SamplerSettings { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: 0 }
    }
}

/// Chooses tokens, one after another.
///
/// The temperature applies first, then top-k, then top-p to what top-k left, then min-p. Logits
/// that are not numbers are never chosen.
#[derive(Clone, Debug)]
pub struct Sampler {
    settings: SamplerSettings,
    random: Pcg,
    /// Kept from one call to the next, for its memory.
    candidates: Vec<Candidate>,
}

/// A token with its logit, or with its probability relative to the most probable token.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    weight: f32,
    token: u32,
}

impl Sampler {
    /// A sampler at the beginning of its sequence of random numbers.
    pub fn new(settings: SamplerSettings) -> Sampler {
        Sampler { settings, random: Pcg::new(settings.seed), candidates: Vec::new() }
    }

    /// The next token. Of equal logits the lowest token goes first. With no logits it is 0.
    pub fn sample(&mut self, logits: &[f32]) -> u32 {
        let SamplerSettings { temperature, top_k, top_p, min_p, .. } = self.settings;
        let best = greedy(logits);
        let peak = logits.get(best as usize).copied().unwrap_or(0.0);
        let is_warm = 0.0 < temperature && temperature.is_finite();
        if !(is_warm && peak.is_finite()) {
            return best;
        }
        let candidates = &mut self.candidates;
        candidates.clear();
        if 0 < top_k && top_k < logits.len() {
            collect_heaviest(candidates, logits, top_k);
        } else {
            let all = logits.iter().zip(0..).filter(|(logit, _)| !logit.is_nan());
            candidates.extend(all.map(|(&weight, token)| Candidate { weight, token }));
        }
        for it in candidates.iter_mut() {
            it.weight = ((it.weight - peak) / temperature).exp();
        }
        if top_p < 1.0 {
            keep_nucleus(candidates, top_p);
        }
        candidates.retain(|it| min_p <= it.weight && 0.0 < it.weight);
        draw(candidates, self.random.unit()).unwrap_or(best)
    }
}

/// The first of the greatest logits; 0 where there is none.
pub fn greedy(logits: &[f32]) -> u32 {
    let mut best = (f32::NEG_INFINITY, 0);
    for (&logit, token) in logits.iter().zip(0..) {
        if best.0 < logit {
            best = (logit, token);
        }
    }
    best.1
}

/// Heavier ones first; of equal ones the lower token.
fn heavier(a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    b.weight.total_cmp(&a.weight).then(a.token.cmp(&b.token))
}

/// Collects the `n` greatest logits, in order. Few logits get past the least of those found so far.
fn collect_heaviest(candidates: &mut Vec<Candidate>, logits: &[f32], n: usize) {
    let mut floor = f32::NEG_INFINITY;
    for (&weight, token) in logits.iter().zip(0..) {
        if weight <= floor || weight.is_nan() {
            continue;
        }
        candidates.push(Candidate { weight, token });
        if candidates.len() == n.saturating_mul(2).saturating_add(256) {
            candidates.select_nth_unstable_by(n - 1, heavier);
            candidates.truncate(n);
            floor = candidates[n - 1].weight;
        }
    }
    candidates.sort_unstable_by(heavier);
    candidates.truncate(n);
}

/// Keeps the fewest heaviest that together have `top_p` of the weight, and at least one.
fn keep_nucleus(candidates: &mut Vec<Candidate>, top_p: f32) {
    let total = total(candidates);
    let wanted = f64::from(top_p.max(0.0)) * total;
    // All those below this weight together have less than the nucleus leaves out.
    let floor = (total - wanted) / candidates.len() as f64;
    candidates.retain(|it| floor <= f64::from(it.weight));
    // The nucleus is mostly small: look for it among few, then among more.
    let mut sorted = 0;
    let mut reached = 0.0;
    while sorted < candidates.len() {
        let rest = &mut candidates[sorted..];
        let n = (3 * sorted + 64).min(rest.len());
        if n < rest.len() {
            rest.select_nth_unstable_by(n, heavier);
        }
        rest[..n].sort_unstable_by(heavier);
        for it in &rest[..n] {
            reached += f64::from(it.weight);
            sorted += 1;
            if wanted <= reached {
                candidates.truncate(sorted);
                return;
            }
        }
    }
}

fn total(candidates: &[Candidate]) -> f64 {
    candidates.iter().map(|it| f64::from(it.weight)).sum()
}

/// The token at this share of the whole weight.
fn draw(candidates: &[Candidate], share: f64) -> Option<u32> {
    let mut left = share * total(candidates);
    for it in candidates {
        left -= f64::from(it.weight);
        if left < 0.0 {
            return Some(it.token);
        }
    }
    candidates.last().map(|it| it.token)
}

/// PCG-XSH-RR 64/32 (O'Neill 2014), on its default stream.
#[derive(Clone, Debug)]
struct Pcg(u64);

impl Pcg {
    const MULTIPLIER: u64 = 6_364_136_223_846_793_005;
    const INCREMENT: u64 = 1_442_695_040_888_963_407;

    fn new(seed: u64) -> Pcg {
        let mut random = Pcg(seed.wrapping_add(Pcg::INCREMENT));
        random.next();
        random
    }

    fn next(&mut self) -> u32 {
        let state = self.0;
        self.0 = state.wrapping_mul(Pcg::MULTIPLIER).wrapping_add(Pcg::INCREMENT);
        let shifted = (((state >> 18) ^ state) >> 27) as u32;
        shifted.rotate_right((state >> 59) as u32)
    }

    /// From 0 up to 1, with 53 bits.
    fn unit(&mut self) -> f64 {
        let bits = u64::from(self.next()) << 32 | u64::from(self.next());
        (bits >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::{Pcg, Sampler, SamplerSettings};

    /// How often each of four tokens is chosen in 20,000 tries, as a share.
    fn shares(logits: &[f32], settings: SamplerSettings) -> Vec<f64> {
        let mut sampler = Sampler::new(settings);
        let mut counts = vec![0.0; logits.len()];
        for _ in 0..20_000 {
            counts[sampler.sample(logits) as usize] += 1.0 / 20_000.0;
        }
        counts
    }

    fn check(logits: &[f32], settings: SamplerSettings, expected: &[f64]) {
        let shares = shares(logits, settings);
        // Five standard deviations of a share of one half.
        let near = |(a, b): (&f64, &f64)| (a - b).abs() < 0.018 && (*b != 0.0 || *a == 0.0);
        assert!(shares.iter().zip(expected).all(near), "{settings:?}: {shares:?}, {expected:?}");
    }

    /// Logits of the probabilities 0.1, 0.4, 0.2, 0.3.
    fn logits() -> [f32; 4] {
        [0.1f32, 0.4, 0.2, 0.3].map(f32::ln)
    }

    const WARM: SamplerSettings =
        SamplerSettings { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: 7 };

    #[test]
    fn greedy_takes_the_first_of_the_greatest() {
        let mut sampler = Sampler::new(SamplerSettings::default());
        assert_eq!(sampler.sample(&[1.0, 3.0, 2.0, 3.0]), 1);
        assert_eq!(sampler.sample(&[f32::NAN, f32::NEG_INFINITY, -5.0]), 2);
        assert_eq!(sampler.sample(&[]), 0);
        assert_eq!(sampler.sample(&[f32::NAN, f32::NAN]), 0);
    }

    #[test]
    fn shares_follow_the_probabilities() {
        check(&logits(), WARM, &[0.1, 0.4, 0.2, 0.3]);
        // Squares: 0.01, 0.16, 0.04, 0.09 of 0.3.
        let cold = SamplerSettings { temperature: 0.5, ..WARM };
        check(&logits(), cold, &[0.0333, 0.5333, 0.1333, 0.3]);
    }

    #[test]
    fn filters_drop_the_improbable() {
        let top_k = SamplerSettings { top_k: 2, ..WARM };
        check(&logits(), top_k, &[0.0, 0.5714, 0.0, 0.4286]);
        let top_p = SamplerSettings { top_p: 0.65, ..WARM };
        check(&logits(), top_p, &[0.0, 0.5714, 0.0, 0.4286]);
        let min_p = SamplerSettings { min_p: 0.45, ..WARM };
        check(&logits(), min_p, &[0.0, 0.4444, 0.2222, 0.3333]);
        // Of the two that top-k leaves, the first has more than half.
        check(&logits(), SamplerSettings { top_k: 2, top_p: 0.5, ..WARM }, &[0.0, 1.0, 0.0, 0.0]);
        check(&logits(), SamplerSettings { top_k: 1, ..WARM }, &[0.0, 1.0, 0.0, 0.0]);
        check(&logits(), SamplerSettings { top_p: 0.0, ..WARM }, &[0.0, 1.0, 0.0, 0.0]);
        check(&logits(), SamplerSettings { min_p: 2.0, ..WARM }, &[0.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn a_wide_nucleus_is_found() {
        let equal = vec![0.0; 1000];
        let mut sampler = Sampler::new(SamplerSettings { top_p: 0.5, ..WARM });
        let tokens: Vec<u32> = (0..2000).map(|_| sampler.sample(&equal)).collect();
        assert!(tokens.iter().all(|&token| token < 500));
        assert!(tokens.iter().any(|&token| 400 < token));
    }

    #[test]
    fn the_seed_decides() {
        let run = |seed| {
            let mut sampler = Sampler::new(SamplerSettings { seed, ..WARM });
            (0..32).map(|_| sampler.sample(&logits())).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn what_is_not_a_number_is_not_chosen() {
        let logits = [f32::NAN, 0.0, f32::NEG_INFINITY, 0.0];
        check(&logits, WARM, &[0.0, 0.5, 0.0, 0.5]);
        check(&logits, SamplerSettings { top_k: 3, ..WARM }, &[0.0, 0.5, 0.0, 0.5]);
    }

    /// Computed by a program that also gives the numbers of the published demo (stream 54).
    #[test]
    fn random_numbers_are_those_of_the_paper() {
        let mut random = Pcg::new(42);
        let numbers: [u32; 3] = std::array::from_fn(|_| random.next());
        assert_eq!(numbers, [0xC2F5_7BD6, 0x6B07_C4A9, 0x72B7_B29B]);
    }
}
