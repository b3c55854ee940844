//! Laws of the coverage curve alone.
//!
//! **Power of the logarithm**, `exp(−a·k^−b)`: minus the logarithm of coverage falls as a power of k (Brown et al. 2024,
//! "Large language monkeys"). **Stretched**, `1 − exp(−α·k^β)`: the law of Kumar and Jha 2026 for one model, whose size
//! and tokens are in α; it starts as a power of k and ends at certainty.
//!
//! Both are fitted by the likelihood of the first passes ([`super::first_pass`]) and not by least squares to points of
//! pass@k: those points share all their samples, so their errors are neither equal nor independent, and a least squares
//! fit answers mostly for the small k that need no law. Neither says anything of single tasks.

use super::Tally;
use super::first_pass::FirstPasses;
use super::simplex::least;
use serde::{Deserialize, Serialize};

/// Range of the logarithms of `a` and α: coverage of one sample between e⁻⁴⁰⁰ and, at the other end, one less 10⁻⁶.
const LOG_FACTOR: [f64; 2] = [-16.0, 6.0];
/// Range of the logarithm of the exponent: from a curve that is flat for ever to nearly a step.
const LOG_EXPONENT: [f64; 2] = [-5.0, 1.0];
/// Largest logarithm of the exponent of a stretched curve: at 1 all tasks are equally hard, and none is more equal.
const LOG_STRETCH_MAX: f64 = 0.0;
/// Size of the first simplex: a factor of about 1.6.
const STEP: f64 = 0.5;

/// Which curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// `exp(−a·k^−b)`.
    ExpPower,
    /// `1 − exp(−α·k^β)`.
    Stretched,
}

/// A curve with its coefficients.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// Which.
    pub shape: Shape,
    /// `a` or α.
    pub factor: f64,
    /// `b` or β.
    pub exponent: f64,
}

impl Curve {
    /// Coverage of `k` samples.
    pub fn coverage(&self, k: f64) -> f64 {
        match self.shape {
            Shape::ExpPower => (-self.factor * k.powf(-self.exponent)).exp(),
            Shape::Stretched => -(-self.factor * k.powf(self.exponent)).exp_m1(),
        }
    }

    /// The curve under which the first passes are likeliest.
    pub fn fit(shape: Shape, tally: &Tally) -> Self {
        let start = match shape {
            Shape::ExpPower => Self { shape, factor: 3.0, exponent: 0.3 },
            Shape::Stretched => Self { shape, factor: 0.05, exponent: 0.6 },
        };
        start.refit(&FirstPasses::new(tally))
    }

    /// The same, starting from a fit to similar first passes.
    pub fn refit(&self, passes: &FirstPasses) -> Self {
        let at = |&[log_factor, log_exponent]: &[f64; 2]| bounded(self.shape, log_factor, log_exponent);
        let cost = |point: &[f64; 2]| {
            let (curve, off) = at(point);
            off - passes.ln_likelihood(|k| curve.coverage(k))
        };
        at(&least([self.factor.ln(), self.exponent.ln()], STEP, cost).0).0
    }

    /// The factor under which a stretched curve with this exponent makes the first passes likeliest, and the
    /// log-likelihood.
    pub(crate) fn fit_stretched_factor(exponent: f64, passes: &FirstPasses) -> (f64, f64) {
        let at = |log_factor| bounded(Shape::Stretched, log_factor, exponent.ln());
        let cost = |&[log_factor]: &[f64; 1]| {
            let (curve, off) = at(log_factor);
            off - passes.ln_likelihood(|k| curve.coverage(k))
        };
        let ([log_factor], cost) = least([-3.0], STEP, cost);
        (at(log_factor).0.factor, -cost)
    }
}

/// The curve within bounds, and how far off the point is.
fn bounded(shape: Shape, log_factor: f64, log_exponent: f64) -> (Curve, f64) {
    let top = if shape == Shape::Stretched { LOG_STRETCH_MAX } else { LOG_EXPONENT[1] };
    let (factor, exponent) =
        (log_factor.clamp(LOG_FACTOR[0], LOG_FACTOR[1]), log_exponent.clamp(LOG_EXPONENT[0], top));
    let off = (log_factor - factor).powi(2) + (log_exponent - exponent).powi(2);
    (Curve { shape, factor: factor.exp(), exponent: exponent.exp() }, off)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coverage::Counts;
    use crate::random::Random;

    #[test]
    fn curves_come_back() {
        // First passes drawn from the curve itself, by its inverse, each task stopped there or at 1,000 samples.
        for (curve, label) in [
            (Curve { shape: Shape::ExpPower, factor: 3.0, exponent: 0.4 }, "exp power"),
            (Curve { shape: Shape::Stretched, factor: 0.02, exponent: 0.6 }, "stretched"),
        ] {
            let mut random = Random::new(8, 0);
            let counts: Vec<Counts> = (0..4_000)
                .map(|_| {
                    let u = 1.0 - random.uniform();
                    let first = match curve.shape {
                        Shape::ExpPower => (-u.ln() / curve.factor).powf(-1.0 / curve.exponent),
                        Shape::Stretched => (-u.ln() / curve.factor).powf(1.0 / curve.exponent),
                    };
                    let samples = first.ceil().clamp(1.0, 1e3) as u32;
                    Counts { samples, correct: u32::from(first <= 1e3), stopped: true }
                })
                .collect();
            let fit = Curve::fit(curve.shape, &Tally::new(&counts));
            assert!((fit.factor / curve.factor - 1.0).abs() < 0.15, "{label}: {fit:?}");
            assert!((fit.exponent / curve.exponent - 1.0).abs() < 0.05, "{label}: {fit:?}");
        }
    }

    #[test]
    fn extremes_stay_finite() {
        for shape in [Shape::ExpPower, Shape::Stretched] {
            for correct in [0, 1, 20] {
                let tally = Tally::new(&[Counts::new(20, correct).unwrap(); 3]);
                let curve = Curve::fit(shape, &tally);
                let at = curve.coverage(20.0);
                assert!((0.0..=1.0).contains(&at), "{shape:?} {correct}: {curve:?}");
                assert!(correct > 0 || at < 0.1, "{shape:?}: {curve:?}");
                assert!(correct < 20 || at > 0.9, "{shape:?}: {curve:?}");
            }
        }
    }
}
