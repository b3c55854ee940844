//! Tasks made up from known laws, to ask estimators what they make of them.
//!
//! Every family here is one that the literature has seen or fears: beta (the assumption of the beta-binomial law),
//! log-normal and logit-normal (a difficulty made of many small causes), a power law near zero (what `exp(−a·k^−b)`
//! needs), a share of unsolvable tasks, and two populations mixed.

use super::Counts;
use super::beta::Difficulty;
use crate::random::Random;

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
        }
    }
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
