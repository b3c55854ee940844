//! How hard tasks are: a beta distribution of the probability `p` that one sample passes, and a share of tasks that no
//! sample ever solves.
//!
//! Everything follows from one integral, `E[p^c (1−p)^m] = B(α+c, β+m)/B(α, β)`. Coverage at k is one minus it with
//! `c = 0, m = k` (Levi 2024; Kazdan et al. 2025 for coverage under a beta distribution), a task's posterior is the
//! same with its own counts added, and the likelihood of a task is the integral at its counts. The binomial coefficient
//! is left out: it does not depend on the law, and without it the likelihood is also that of a task that was stopped
//! by a rule which looks only at past outcomes, its first pass for instance (the likelihood principle; Berger and
//! Wolpert 1988). The fit of adaptive runs and that of fixed k are therefore one and the same.
//!
//! **Hyperprior.** Few samples fix neither parameter. A wide normal distribution of the logits of the mean and of the
//! logarithm of the smaller shape keeps them finite, and is worth less than one task's outcome where there are dozens.

pub mod profile;

use super::Tally;
use super::simplex::least;
use serde::{Deserialize, Serialize};
use statrs::function::gamma::ln_gamma;

/// Largest logarithm of a shape: the difficulties then differ by a few per cent, which no sample of tasks can tell from
/// not at all; and smallest: nearly all tasks are then either sure or out of reach.
const LOG_SHAPE: [f64; 2] = [-5.0, 5.0];
/// Largest logit of the mean pass probability, either way: one pass in 10^8 samples, far below what anyone can draw.
const LOGIT_MEAN_MAX: f64 = 18.4;
/// Largest logit of the share of unsolvable tasks.
const LOGIT_UNSOLVABLE_MAX: f64 = 8.0;
/// Largest count up to which a rising factorial is a plain sum: beyond it two log-gammas are quicker.
const SUM_MAX: u32 = 12;
/// Size of the first simplex, in logits: where a mean is off by a factor of two.
const STEP: f64 = 0.7;

/// A distribution of pass probabilities over tasks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Difficulty {
    /// First shape of the beta distribution; small: many tasks are nearly out of reach.
    pub alpha: f64,
    /// Second shape.
    pub beta: f64,
    /// Share of tasks that no sample ever solves, 0 to 1.
    pub unsolvable: f64,
}

/// A weak belief about a [`Difficulty`] before any sample: normal in the logit of the mean and in the logarithm of the
/// smaller shape. Either may be flat (an infinite deviation).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hyperprior {
    /// Centre and standard deviation of the logit of the mean pass probability.
    pub logit_mean: [f64; 2],
    /// Centre and standard deviation of the logarithm of the smaller shape.
    pub log_shape: [f64; 2],
}

impl Hyperprior {
    /// Knows nothing: maximum likelihood, held only by the bounds.
    pub const FLAT: Self = Self { logit_mean: [0.0, f64::INFINITY], log_shape: [0.0, f64::INFINITY] };
    /// What is weakly believed of any model and task set. Centre of the mean: between the few per cent of small models
    /// and the half of good ones; its deviation spans, at twice, one in 10⁴ to all. Shapes fitted to repeated sampling
    /// lie between 0.1 and 3 (Levi 2024), a decade and a half, which is twice the deviation.
    pub const WEAK: Self = Self { logit_mean: [-1.5, 3.5], log_shape: [-0.5, 1.0] };

    /// Near another task set's difficulty, known to a factor of e.
    pub fn near(difficulty: Difficulty) -> Self {
        let at = Coordinates::of(difficulty);
        Self { logit_mean: [at.logit_mean, 1.0], log_shape: [at.log_shape, 1.0] }
    }

    fn penalty(&self, at: &Coordinates) -> f64 {
        let square = |value: f64, [centre, deviation]: [f64; 2]| ((value - centre) / deviation).powi(2) / 2.0;
        square(at.logit_mean, self.logit_mean) + square(at.log_shape, self.log_shape)
    }
}

/// The parameters as the fit moves them: unbounded and about independent.
#[derive(Debug, Clone, Copy)]
struct Coordinates {
    logit_mean: f64,
    log_shape: f64,
    logit_unsolvable: Option<f64>,
}

/// Where a search begins that knows no better.
const START: Coordinates = Coordinates { logit_mean: 0.0, log_shape: -0.5, logit_unsolvable: None };

impl Coordinates {
    fn of(difficulty: Difficulty) -> Self {
        Self {
            logit_mean: (difficulty.alpha / difficulty.beta).ln(),
            log_shape: difficulty.alpha.min(difficulty.beta).ln(),
            logit_unsolvable: (difficulty.unsolvable > 0.0)
                .then(|| (difficulty.unsolvable / (1.0 - difficulty.unsolvable)).ln()),
        }
    }

    /// The nearest within bounds, and how far off it is: the search is drawn back by that.
    fn bounded(self) -> (Self, f64) {
        let logit_mean = self.logit_mean.clamp(-LOGIT_MEAN_MAX, LOGIT_MEAN_MAX);
        let log_shape = self.log_shape.clamp(LOG_SHAPE[0], LOG_SHAPE[1]);
        let logit_unsolvable =
            self.logit_unsolvable.map(|logit| logit.clamp(-LOGIT_UNSOLVABLE_MAX, LOGIT_UNSOLVABLE_MAX));
        let off = (self.logit_mean - logit_mean).powi(2)
            + (self.log_shape - log_shape).powi(2)
            + self.logit_unsolvable.zip(logit_unsolvable).map_or(0.0, |(a, b)| (a - b).powi(2));
        (Self { logit_mean, log_shape, logit_unsolvable }, off)
    }

    fn difficulty(self) -> Difficulty {
        let shape = self.log_shape.exp();
        let ratio = self.logit_mean.exp();
        let (alpha, beta) = if ratio <= 1.0 { (shape, shape / ratio) } else { (shape * ratio, shape) };
        let unsolvable = self.logit_unsolvable.map_or(0.0, |logit| 1.0 / (1.0 + (-logit).exp()));
        Difficulty { alpha, beta, unsolvable }
    }
}

/// `ln Γ(x + m) − ln Γ(x)`.
fn ln_rise(x: f64, m: u32) -> f64 {
    if m <= SUM_MAX {
        (0..m).map(|j| (x + f64::from(j)).ln()).sum()
    } else {
        ln_gamma(x + f64::from(m)) - ln_gamma(x)
    }
}

impl Difficulty {
    /// `ln E[p^correct (1−p)^(samples−correct)]` under the beta distribution alone.
    fn ln_moment(&self, samples: u32, correct: u32) -> f64 {
        ln_rise(self.alpha, correct) + ln_rise(self.beta, samples - correct)
            - ln_rise(self.alpha + self.beta, samples)
    }

    /// Log-likelihood of one task's outcomes in the order they came, whatever rule stopped them.
    pub fn ln_likelihood(&self, samples: u32, correct: u32) -> f64 {
        let solvable = (-self.unsolvable).ln_1p() + self.ln_moment(samples, correct);
        if correct > 0 || self.unsolvable == 0.0 {
            solvable
        } else {
            let unsolvable = self.unsolvable.ln();
            let larger = solvable.max(unsolvable);
            larger + ((solvable - larger).exp() + (unsolvable - larger).exp()).ln()
        }
    }

    /// The same for all tasks.
    pub fn ln_likelihood_of(&self, tally: &Tally) -> f64 {
        tally.rows().map(|(samples, correct, weight)| weight * self.ln_likelihood(samples, correct)).sum()
    }

    /// Share of such tasks that `k` samples solve: `1 − E[(1−p)^k]`.
    pub fn coverage(&self, k: f64) -> f64 {
        let missed = ln_gamma(self.beta + k) - ln_gamma(self.beta) - ln_gamma(self.alpha + self.beta + k)
            + ln_gamma(self.alpha + self.beta);
        (1.0 - self.unsolvable) * -missed.min(0.0).exp_m1()
    }

    /// What remains to be believed of a task after `samples` samples of which `correct` passed.
    pub fn posterior(&self, samples: u32, correct: u32) -> Self {
        let unsolvable = if correct > 0 || self.unsolvable == 0.0 {
            0.0
        } else {
            (self.unsolvable.ln() - self.ln_likelihood(samples, correct)).exp().min(1.0)
        };
        Self {
            alpha: self.alpha + f64::from(correct),
            beta: self.beta + f64::from(samples - correct),
            unsolvable,
        }
    }

    /// Share of the very tasks that were counted which `k` samples of each solve: the mean over tasks of what their own
    /// counts leave to be believed.
    pub fn coverage_of_tasks(&self, tally: &Tally, k: f64) -> f64 {
        let sum: f64 = tally
            .rows()
            .map(|(samples, correct, weight)| weight * self.posterior(samples, correct).coverage(k))
            .sum();
        sum / tally.tasks()
    }

    /// Probability that a sample passes.
    pub fn pass_probability(&self) -> f64 {
        (1.0 - self.unsolvable) * self.alpha / (self.alpha + self.beta)
    }

    /// The difficulty under which the counts are likeliest, without a share of unsolvable tasks.
    pub fn fit(tally: &Tally, hyperprior: &Hyperprior) -> Self {
        climb(tally, hyperprior, Coordinates { logit_mean: start(tally), ..START }).0
    }

    /// The same with a share of unsolvable tasks.
    pub fn fit_zero_inflated(tally: &Tally, hyperprior: &Hyperprior) -> Self {
        // Two starts, few unsolvable and many: the likelihood may have a hill on either side.
        let logit_mean = start(tally);
        let few = climb(tally, hyperprior, Coordinates { logit_mean, logit_unsolvable: Some(-3.0), ..START });
        let many = Coordinates { logit_mean: logit_mean + 0.7, log_shape: 0.0, logit_unsolvable: Some(0.0) };
        let many = climb(tally, hyperprior, many);
        if many.1 < few.1 { many.0 } else { few.0 }
    }

    /// The same as the one or the other, starting from a fit to similar counts; with a share of unsolvable tasks if that
    /// has one.
    pub fn refit(&self, tally: &Tally, hyperprior: &Hyperprior) -> Self {
        climb(tally, hyperprior, Coordinates::of(*self)).0
    }
}

/// Logit of the share of passes, with half a pass and half a failure more.
fn start(tally: &Tally) -> f64 {
    let (mut passes, mut failures) = (0.5, 0.5);
    for (samples, correct, weight) in tally.rows() {
        passes += weight * f64::from(correct);
        failures += weight * f64::from(samples - correct);
    }
    (passes / failures).ln()
}

/// The best fit found from `start`, and its cost.
fn climb(tally: &Tally, hyperprior: &Hyperprior, start: Coordinates) -> (Difficulty, f64) {
    let (at, cost) = match start.logit_unsolvable {
        None => {
            let of = |&[logit_mean, log_shape]: &[f64; 2]| Coordinates { logit_mean, log_shape, ..START };
            let (at, cost) =
                least([start.logit_mean, start.log_shape], STEP, |at| penalised(tally, hyperprior, of(at)));
            (of(&at), cost)
        }
        Some(unsolvable) => {
            let of = |&[logit_mean, log_shape, unsolvable]: &[f64; 3]| Coordinates {
                logit_mean,
                log_shape,
                logit_unsolvable: Some(unsolvable),
            };
            let (at, cost) = least([start.logit_mean, start.log_shape, unsolvable], STEP, |at| {
                penalised(tally, hyperprior, of(at))
            });
            (of(&at), cost)
        }
    };
    (at.bounded().0.difficulty(), cost)
}

fn penalised(tally: &Tally, hyperprior: &Hyperprior, at: Coordinates) -> f64 {
    let (bounded, off) = at.bounded();
    hyperprior.penalty(&bounded) + off - bounded.difficulty().ln_likelihood_of(tally)
}

#[cfg(test)]
#[path = "beta_tests.rs"]
mod tests;
