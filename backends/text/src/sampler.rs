//! Chooses the next token: the one definition of it, which devices follow bit by bit.
//!
//! A token's distance from the most probable one is counted in halvings of its probability, as a
//! whole number. All that follows is done on whole numbers, whose sums do not depend on how they
//! are divided: tokens are ordered by distance and then by number, and a token is drawn by a random
//! number of its place in the text alone. So neither threads, nor the texts of a batch, nor what
//! runs the model change what is drawn from the same logits.

use crate::philox;

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

/// How the tokens of one text are chosen, in the numbers that all targets compute with.
///
/// The temperature applies first, then top-k, then top-p to what top-k left, then min-p: the order
/// of Transformers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// Halvings of probability for each unit that a logit is below the greatest; 0 takes the most
    /// probable token.
    pub scale: f32,
    /// The most tokens that are considered.
    pub top_k: u32,
    /// The share of the whole weight that is considered, in parts of 2^64; all of it where it is
    /// the greatest number.
    pub top_p: u64,
    /// The greatest distance that is considered.
    pub farthest: u32,
    /// The key of all random numbers.
    pub seed: u64,
    /// The number of the text: others draw other random numbers.
    pub sequence: u64,
}

impl Rule {
    /// Takes the most probable token.
    pub const GREEDY: Rule =
        Rule { scale: 0.0, top_k: 1, top_p: u64::MAX, farthest: 0, seed: 0, sequence: 0 };

    /// What `settings` mean for the text of that number.
    pub fn new(settings: &SamplerSettings, sequence: u64) -> Rule {
        let SamplerSettings { temperature, top_k, top_p, min_p, seed } = *settings;
        let is_warm = 0.0 < temperature && temperature.is_finite();
        if !is_warm || top_k == 1 {
            return Rule::GREEDY;
        }
        // Conversions saturate.
        let share = (f64::from(top_p) * 2f64.powi(64)) as u64;
        Rule {
            scale: (std::f32::consts::LOG2_E / temperature).min(f32::MAX),
            top_k: u32::try_from(top_k).ok().filter(|it| 0 < *it).unwrap_or(u32::MAX),
            // What reaches exactly the share is enough.
            top_p: if top_p < 1.0 { share.saturating_sub(1) } else { u64::MAX },
            farthest: (-f64::from(min_p).log2() * f64::from(HALVING)) as u32,
            seed,
            sequence,
        }
    }

    /// Whether it takes the most probable token.
    pub fn is_greedy(&self) -> bool {
        self.scale == 0.0
    }
}

/// The distance at which a token is half as probable.
const HALVING: f32 = (1 << 26) as f32;

/// 2^-t for t from 0 to 1, off by a part in 2^21.
const POWERS: [f32; 6] =
    [-9.449_022e-4, 9.205_795e-3, -5.529_735_6e-2, 0.240_180_13, -0.693_143_7, 1.0];

/// How far a logit is below the greatest; the greatest number for those too far to be drawn, and
/// for what is no number.
fn distance(logit: f32, peak: f32, scale: f32) -> u32 {
    let halvings = (peak - logit) * scale;
    if halvings < 64.0 { (halvings * HALVING) as u32 } else { u32::MAX }
}

/// The probability at a distance, in parts of 2^40 of that of the most probable token.
fn weight(distance: u32) -> u64 {
    let [whole, rest] = [distance >> 26, distance & ((1 << 26) - 1)];
    let part = rest as f32 * (1.0 / HALVING);
    let power = POWERS.iter().fold(0.0, |sum, it| sum * part + it);
    u64::from((power * (1 << 24) as f32) as u32) << 16 >> whole
}

/// A token in order: by its distance, and where that is the same, by its number.
type Place = u64;

fn weight_of(place: &Place) -> u64 {
    weight((place >> 32) as u32)
}

/// So many parts of 2^64 of a number.
fn part(of: u64, share: u64) -> u64 {
    ((u128::from(of) * u128::from(share)) >> 64) as u64
}

/// Chooses tokens.
#[derive(Clone, Debug, Default)]
pub struct Sampler {
    /// Kept from one call to the next, for its memory.
    places: Vec<Place>,
}

impl Sampler {
    /// The token of a text at `position`, counted from 0, by the logits that precede it. With no
    /// logits it is 0. Logits that are not numbers are never chosen.
    pub fn sample(&mut self, logits: &[f32], rule: &Rule, position: u64) -> u32 {
        let best = greedy(logits);
        let peak = logits.get(best as usize).copied().unwrap_or(f32::NAN);
        if rule.is_greedy() || !peak.is_finite() {
            return best;
        }
        self.collect(logits, peak, rule);
        let places = &mut self.places;
        if rule.top_p < u64::MAX {
            let last = find(places, rule.top_p);
            places.truncate(last + 1);
        }
        places.retain(|it| (it >> 32) as u32 <= rule.farthest);
        let drawn = find(places, philox::bits(rule.seed, position, rule.sequence));
        places.get(drawn).map_or(best, |it| *it as u32)
    }

    /// Collects the first tokens in order that may be drawn, as many as the rule allows. Few get
    /// past the last of those found so far.
    fn collect(&mut self, logits: &[f32], peak: f32, rule: &Rule) {
        let (places, most) = (&mut self.places, rule.top_k as usize);
        places.clear();
        // Behind it, weights are 0.
        let mut farthest = 41 << 26;
        for (&logit, token) in logits.iter().zip(0u32..) {
            let distance = distance(logit, peak, rule.scale);
            if farthest <= distance {
                continue;
            }
            places.push(u64::from(distance) << 32 | u64::from(token));
            if places.len() == most.saturating_mul(2).saturating_add(256) {
                places.select_nth_unstable(most - 1);
                places.truncate(most);
                // Later tokens come behind those of the same distance.
                farthest = (places[most - 1] >> 32) as u32;
            }
        }
        if most < places.len() {
            places.select_nth_unstable(most - 1);
            places.truncate(most);
        }
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

/// Where in order the weight of the places so far first exceeds a share of the whole weight. Up to
/// there they are in order then, which is mostly not far: looks among few, then among more.
fn find(places: &mut [Place], share: u64) -> usize {
    let target = part(places.iter().map(weight_of).sum(), share);
    let (mut sorted, mut reached) = (0, 0);
    while sorted < places.len() {
        let rest = &mut places[sorted..];
        let n = (3 * sorted + 64).min(rest.len());
        if n < rest.len() {
            rest.select_nth_unstable(n);
        }
        rest[..n].sort_unstable();
        for place in &rest[..n] {
            reached += weight_of(place);
            if target < reached {
                return sorted;
            }
            sorted += 1;
        }
    }
    sorted
}

#[cfg(test)]
mod tests {
    use super::{Rule, Sampler, SamplerSettings, distance, weight};

    fn sample(logits: &[f32], settings: SamplerSettings, position: u64) -> u32 {
        Sampler::default().sample(logits, &Rule::new(&settings, 0), position)
    }

    /// How often each of four tokens is chosen at 20,000 places, as a share.
    fn shares(logits: &[f32], settings: SamplerSettings) -> Vec<f64> {
        let mut counts = vec![0.0; logits.len()];
        for position in 0..20_000 {
            counts[sample(logits, settings, position) as usize] += 1.0 / 20_000.0;
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
        for settings in [SamplerSettings::default(), SamplerSettings { top_k: 1, ..WARM }] {
            let sample = |logits: &[f32]| sample(logits, settings, 0);
            assert_eq!(sample(&[1.0, 3.0, 2.0, 3.0]), 1);
            assert_eq!(sample(&[f32::NAN, f32::NEG_INFINITY, -5.0]), 2);
            assert_eq!(sample(&[]), 0);
            assert_eq!(sample(&[f32::NAN, f32::NAN]), 0);
            assert_eq!(sample(&[0.0, f32::INFINITY]), 1);
        }
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
        let settings = SamplerSettings { top_p: 0.5, ..WARM };
        let tokens: Vec<u32> = (0..2000).map(|it| sample(&equal, settings, it)).collect();
        assert!(tokens.iter().all(|&token| token < 500));
        assert!(tokens.iter().any(|&token| 400 < token));
    }

    #[test]
    fn seed_text_and_place_decide() {
        let run = |seed, sequence| {
            let rule = Rule::new(&SamplerSettings { seed, ..WARM }, sequence);
            let draw = |it| Sampler::default().sample(&logits(), &rule, it);
            (0..32).map(draw).collect::<Vec<_>>()
        };
        assert_eq!(run(1, 0), run(1, 0));
        assert_ne!(run(1, 0), run(2, 0));
        assert_ne!(run(1, 0), run(1, 1));
    }

    /// The same as `sample`, by sorting everything.
    fn plainly(logits: &[f32], rule: &Rule, position: u64) -> u32 {
        let peak = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let place = |(&logit, token): (&f32, u32)| (distance(logit, peak, rule.scale), token);
        let mut places: Vec<(u32, u32)> = logits.iter().zip(0..).map(place).collect();
        places.sort();
        places.truncate(rule.top_k as usize);
        let last = |places: &[(u32, u32)], share| {
            let sum = |some: &[(u32, u32)]| some.iter().map(|it| weight(it.0)).sum::<u64>();
            let target = super::part(sum(places), share);
            (0..places.len()).find(|&it| target < sum(&places[..=it])).unwrap()
        };
        if rule.top_p < u64::MAX {
            places.truncate(last(&places, rule.top_p) + 1);
        }
        places.retain(|it| it.0 <= rule.farthest);
        places[last(&places, crate::philox::bits(rule.seed, position, rule.sequence))].1
    }

    #[test]
    fn what_is_found_fast_is_what_sorting_finds() {
        for count in [1, 7, 400] {
            // Multiples of a quarter: many are equal.
            let logit = |i: u64| (crate::philox::bits(1, i, 0) % 64) as f32 / 4.0;
            let logits: Vec<f32> = (0..count).map(logit).collect();
            for place in 0..200 {
                let settings = SamplerSettings {
                    temperature: [0.3, 1.0, 8.0][place % 3],
                    top_k: [0, 2, 50, 1000][place % 4],
                    top_p: [1.0, 0.9, 0.3, 1e-6, 0.999][place % 5],
                    min_p: [0.0, 0.01, 0.5][place / 3 % 3],
                    seed: 5,
                };
                let rule = Rule::new(&settings, 3);
                let found = Sampler::default().sample(&logits, &rule, place as u64);
                assert_eq!(found, plainly(&logits, &rule, place as u64), "{count} {settings:?}");
            }
        }
    }

    #[test]
    fn weights_are_probabilities() {
        for i in 0..4000 {
            let halvings = f64::from(i) / 100.0;
            let expected = (40.0 - halvings).exp2();
            let found = weight((halvings * f64::from(super::HALVING)) as u32) as f64;
            assert!((found - expected).abs() <= 1.0 + expected / f64::from(1 << 21), "{halvings}");
        }
    }

    #[test]
    fn what_is_not_a_number_is_not_chosen() {
        let logits = [f32::NAN, 0.0, f32::NEG_INFINITY, 0.0];
        check(&logits, WARM, &[0.0, 0.5, 0.0, 0.5]);
        check(&logits, SamplerSettings { top_k: 3, ..WARM }, &[0.0, 0.5, 0.0, 0.5]);
    }
}
