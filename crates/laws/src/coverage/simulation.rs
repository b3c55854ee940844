//! Tasks made up from known laws, to ask estimators what they make of them.
//!
//! Every family here is one that the literature has seen or fears: beta (the assumption of the beta-binomial law),
//! log-normal and logit-normal (a difficulty made of many small causes), a power law near zero (what `exp(−a·k^−b)`
//! needs), a share of unsolvable tasks, and two populations mixed; and the two curves, as the mixtures of tasks that they
//! are.
//!
//! **A curve as a mixture.** With `p = 1 − e^−X` a task stays unsolved by k samples with probability `E[e^−kX]`, so a
//! curve is a Laplace transform, and turning it back gives X. Of `1 − exp(−α·k^β)` it is a positive stable law of index
//! β (drawn after Kanter 1975). Of `exp(−a·k^−b)` it is `P(X < x) = Σ (−1)^(j+1) a^j x^(bj) / (j! Γ(bj + 1))`, term by
//! term. That sum rises to one and a little beyond before it falls, so no set of tasks has this curve down to k = 0; cut
//! where it reaches one, the mixture keeps the curve to 10⁻⁴ at every k from 1 on while `a` is below 2.5, and from k = 10
//! on while it is below 4.

use super::Counts;
use super::beta::Difficulty;
use super::curve::{Curve, Shape};
use crate::random::Random;
use statrs::function::gamma::ln_gamma;

/// Terms of the sum for `exp(−a·k^−b)`: with `a` below 5 the last is below 10⁻³⁰ wherever the sum is below one.
const TERMS: u32 = 160;
/// Logarithms of X between which it is looked for: below, no one draws so many samples; above, a sample surely passes.
const LN_X: [f64; 2] = [-60.0, 4.0];
/// Halvings of that range: X is then known to 10⁻⁸.
const HALVINGS: u32 = 33;

/// A law of pass probabilities.
#[derive(Debug, Clone, PartialEq)]
pub enum Family {
    /// Beta, with unsolvable tasks or without.
    Beta(Difficulty),
    /// `ln p` normal with this mean and deviation; what would be above one is one.
    LogNormal {
        /// Of `ln p`.
        mean: f64,
        /// Of `ln p`.
        deviation: f64,
    },
    /// The logit of p normal.
    LogitNormal {
        /// Of the logit.
        mean: f64,
        /// Of the logit.
        deviation: f64,
    },
    /// `P(p < x) = (x/largest)^exponent` up to `largest`.
    Power {
        /// Small: many tasks are nearly out of reach.
        exponent: f64,
        /// Largest pass probability.
        largest: f64,
    },
    /// The first with this share, else the second.
    Mixed(f64, Box<Self>, Box<Self>),
    /// Tasks whose coverage is this curve.
    Curve(Curve),
    /// Pass probabilities with their weights, which sum to one.
    Table(Vec<(f64, f64)>),
}

impl Family {
    /// One task's pass probability.
    pub fn draw(&self, random: &mut Random) -> f64 {
        match self {
            Self::Beta(difficulty) => {
                if random.uniform() < difficulty.unsolvable {
                    return 0.0;
                }
                // In logarithms: with a small shape both gammas may underflow.
                let (x, y) =
                    (ln_gamma_variate(difficulty.alpha, random), ln_gamma_variate(difficulty.beta, random));
                1.0 / (1.0 + (y - x).exp())
            }
            Self::LogNormal { mean, deviation } => (mean + deviation * random.normal()).exp().min(1.0),
            Self::LogitNormal { mean, deviation } => {
                1.0 / (1.0 + (-mean - deviation * random.normal()).exp())
            }
            Self::Power { exponent, largest } => largest * (1.0 - random.uniform()).powf(1.0 / exponent),
            Self::Mixed(share, first, second) => {
                if random.uniform() < *share { first } else { second }.draw(random)
            }
            Self::Curve(curve) => {
                let x = match curve.shape {
                    Shape::Stretched => {
                        curve.factor.powf(1.0 / curve.exponent) * stable_variate(curve.exponent, random)
                    }
                    Shape::ExpPower => at_share(curve, random.uniform()),
                };
                -(-x).exp_m1()
            }
            Self::Table(points) => {
                let mut at = random.uniform();
                let found = points.iter().find(|(_, weight)| {
                    at -= weight;
                    at < 0.0
                });
                found.or(points.last()).map_or(0.0, |(p, _)| *p)
            }
        }
    }
}

/// A positive stable variate of this index, whose Laplace transform is `exp(−s^index)`.
fn stable_variate(index: f64, random: &mut Random) -> f64 {
    let exponential = -(1.0 - random.uniform()).ln();
    // Never at an end, where a sine is 0.
    let angle = std::f64::consts::PI * (1.0 - random.uniform()).min(1.0 - f64::EPSILON);
    let rest = 1.0 - index;
    let ln = (index * angle).sin().ln() - angle.sin().ln() / index
        + rest / index * ((rest * angle).sin() / exponential).ln();
    ln.exp()
}

/// The X below which a share of the tasks of `exp(−a·k^−b)` lies.
fn at_share(curve: &Curve, share: f64) -> f64 {
    let ln_terms: Vec<f64> = (1..=TERMS)
        .map(f64::from)
        .map(|j| j * curve.factor.ln() - ln_gamma(j + 1.0) - ln_gamma(curve.exponent * j + 1.0))
        .collect();
    let below = |ln_x: f64| -> f64 {
        let terms = ln_terms.iter().zip(1..);
        terms
            .map(|(ln, j)| {
                let term = (ln + f64::from(j) * curve.exponent * ln_x).exp();
                if j % 2 == 1 { term } else { -term }
            })
            .sum()
    };
    // The first place where the sum is above the share: beyond it the sum may fall again, or lose its digits.
    let mut low = LN_X[0];
    while low < LN_X[1] && below(low + 1.0) < share {
        low += 1.0;
    }
    let mut high = low + 1.0;
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if below(middle) < share { low = middle } else { high = middle }
    }
    high.exp()
}

/// The logarithm of a gamma variate (Marsaglia and Tsang 2000; below shape 1 with the power of a uniform one).
fn ln_gamma_variate(shape: f64, random: &mut Random) -> f64 {
    if shape < 1.0 {
        return ln_gamma_variate(shape + 1.0, random) + (1.0 - random.uniform()).ln() / shape;
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = random.normal();
        let v = (1.0 + c * x).powi(3);
        if v > 0.0 && (1.0 - random.uniform()).ln() < x * x / 2.0 + d - d * v + d * v.ln() {
            return (d * v).ln();
        }
    }
}

/// Passes among `samples` samples, by the gaps between them, which are geometric.
pub fn passes(samples: u32, p: f64, random: &mut Random) -> u32 {
    if p <= 0.0 {
        return 0;
    }
    if p >= 1.0 {
        return samples;
    }
    let per_failure = (-p).ln_1p();
    let (mut at, mut found) = (0.0, 0);
    loop {
        at += ((1.0 - random.uniform()).ln() / per_failure).floor() + 1.0;
        if at > f64::from(samples) {
            return found;
        }
        found += 1;
    }
}

/// A task sampled `samples` times, whatever comes.
pub fn fixed(samples: u32, p: f64, random: &mut Random) -> Counts {
    Counts { samples, correct: passes(samples, p, random), stopped: false }
}

/// A task sampled until its first pass, at most `samples_max` times.
pub fn until_first_pass(samples_max: u32, p: f64, random: &mut Random) -> Counts {
    for samples in 1..=samples_max {
        if random.uniform() < p {
            return Counts { samples, correct: 1, stopped: true };
        }
    }
    Counts { samples: samples_max, correct: 0, stopped: true }
}

/// `drawn` of the samples of a task, without replacement: passes among them are hypergeometric.
pub fn thinned(counts: Counts, drawn: u32, random: &mut Random) -> Counts {
    let (mut left, mut correct_left, mut correct) = (counts.samples, counts.correct, 0);
    for _ in 0..drawn.min(counts.samples) {
        if random.below(left as usize) < correct_left as usize {
            correct += 1;
            correct_left -= 1;
        }
        left -= 1;
    }
    Counts { samples: drawn.min(counts.samples), correct, stopped: counts.stopped }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_of_the_families() {
        const DRAWS: u32 = 40_000;
        let beta = Family::Beta(Difficulty { alpha: 0.3, beta: 2.7, unsolvable: 0.25 });
        let power = Family::Power { exponent: 0.5, largest: 0.6 };
        let mixed = Family::Mixed(0.25, Box::new(beta.clone()), Box::new(power.clone()));
        let narrow = Family::LogNormal { mean: (0.1f64).ln(), deviation: 1e-3 };
        let logit = Family::LogitNormal { mean: 0.0, deviation: 2.0 };
        for (family, mean, square) in [
            // E p = 0.75·0.1; E p² = 0.75·0.3·1.3/(3·4).
            (beta, 0.075, 0.024_375),
            // ∫ of x over d(x/0.6)^½: 0.6·0.5/1.5; 0.36·0.5/2.5.
            (power, 0.2, 0.072),
            (mixed, 0.25 * 0.075 + 0.75 * 0.2, 0.25 * 0.024_375 + 0.75 * 0.072),
            (narrow, 0.1, 0.01),
            (logit, 0.5, f64::NAN),
        ] {
            let mut random = Random::new(5, 0);
            let draws: Vec<f64> = (0..DRAWS).map(|_| family.draw(&mut random)).collect();
            let of = |power: i32| draws.iter().map(|p| p.powi(power)).sum::<f64>() / f64::from(DRAWS);
            assert!((of(1) - mean).abs() < 0.004, "{family:?}: {}", of(1));
            assert!(square.is_nan() || (of(2) - square).abs() < 0.003, "{family:?}: {}", of(2));
        }
    }

    #[test]
    fn tasks_of_a_curve_have_that_curve() {
        const DRAWS: u32 = 20_000;
        for curve in [
            Curve { shape: Shape::ExpPower, factor: 2.0, exponent: 0.25 },
            Curve { shape: Shape::ExpPower, factor: 3.0, exponent: 0.2 },
            Curve { shape: Shape::Stretched, factor: 0.05, exponent: 0.6 },
        ] {
            let mut random = Random::new(7, 0);
            let draws: Vec<f64> = (0..DRAWS).map(|_| Family::Curve(curve).draw(&mut random)).collect();
            for k in [1.0, 10.0, 100.0, 10_000.0] {
                let missed = draws.iter().map(|p| (k * (-p).ln_1p()).exp()).sum::<f64>() / f64::from(DRAWS);
                // Three standard errors are at most 0.0106.
                assert!(
                    (1.0 - missed - curve.coverage(k)).abs() < 0.0106,
                    "{curve:?} at {k}: {}",
                    1.0 - missed
                );
            }
        }
        let table = Family::Table(vec![(0.0, 0.5), (0.25, 0.25), (1.0, 0.25)]);
        let mut random = Random::new(8, 0);
        let mean = (0..DRAWS).map(|_| table.draw(&mut random)).sum::<f64>() / f64::from(DRAWS);
        assert!((mean - 0.3125).abs() < 0.01, "{mean}");
    }

    #[test]
    fn counts_of_a_task() {
        let mut random = Random::new(6, 0);
        let mut sums = [0.0; 3];
        for _ in 0..20_000 {
            sums[0] += f64::from(fixed(50, 0.07, &mut random).correct);
            sums[1] += f64::from(until_first_pass(50, 0.07, &mut random).samples);
            sums[2] += f64::from(thinned(Counts::new(40, 10).unwrap(), 8, &mut random).correct);
        }
        // n·p; (1 − 0.93^50)/0.07; 8·10/40.
        for (sum, expected) in sums.iter().zip([3.5, 13.906, 2.0]) {
            assert!((sum / 20_000.0 / expected - 1.0f64).abs() < 0.02, "{sum} {expected}");
        }
        assert_eq!((passes(9, 0.0, &mut random), passes(9, 1.0, &mut random)), (0, 9));
        assert_eq!(thinned(Counts::new(5, 2).unwrap(), 9, &mut random), Counts::new(5, 2).unwrap());
    }
}
