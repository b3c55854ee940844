//! How coverage depends on the size of the model: `1 − exp(−α·N^βN·S^βS)` over several models.
//!
//! The law of Kumar and Jha 2026, without the power of the tokens T, which counts of samples do not hold. One exponent
//! of the samples S is common to all models and fitted with a factor of each by the likelihood of their first passes;
//! then the factors are a power law of the parameters N, with the models as its points. In that order, because models
//! scatter about any law of their size by far more than their samples leave open: a likelihood over all tasks of all
//! models would take each task as evidence about N, and its interval would be many times too narrow.

use super::Tally;
use super::curve::Curve;
use super::first_pass::FirstPasses;
use crate::LawError;
use crate::interval::{Interval, bootstrap};
use crate::law::{Fit, Form, LEVEL, Point};
use serde::{Deserialize, Serialize};

/// Resamples of models for the interval of the common exponent.
const REPLICATES: u32 = 1_000;
/// Smallest logarithm of the common exponent that is looked at: coverage that grows as the twentieth root of the
/// samples. The largest is 0, where all tasks are equally hard.
const LOG_EXPONENT_MIN: f64 = -3.0;
/// Exponents that are looked at, each 5 % over the one before; between them a parabola is enough.
const EXPONENTS: usize = 61;

/// One model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelTally {
    /// Its parameters, N.
    pub parameters: f64,
    /// Its counts.
    pub tally: Tally,
}

/// The joint law.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JointCoverage {
    /// α: the factor for one parameter and one sample.
    pub factor: f64,
    /// βN: how the factor grows with the parameters.
    pub parameters_exponent: f64,
    /// 95 % interval of βN, by Student's t over models.
    pub parameters_interval: Interval,
    /// βS: how the exponent of coverage grows with the samples.
    pub samples_exponent: f64,
    /// 95 % interval of βS, by bootstrap over models; missing where too few resamples gave one.
    pub samples_interval: Option<Interval>,
    /// Models.
    pub models: usize,
    /// How far a model's factor typically lies from the law, as a factor.
    pub spread_factor: f64,
}

impl JointCoverage {
    /// Fit it to at least three models of different sizes; `seed` is of the bootstrap. Models without a pass are left
    /// out: their factor may be anything small, and the law would follow whatever bound it is held at.
    ///
    /// # Errors
    /// Too few models, sizes that are not above zero, or one size for all.
    pub fn fit(models: &[ModelTally], seed: u64) -> Result<Self, LawError> {
        let models: Vec<&ModelTally> =
            models.iter().filter(|model| model.tally.rows().any(|(_, correct, _)| correct > 0)).collect();
        let passes: Vec<FirstPasses> = models.iter().map(|model| FirstPasses::new(&model.tally)).collect();
        let profiles: Vec<Vec<f64>> = passes.iter().map(profile).collect();
        let all: Vec<usize> = (0..models.len()).collect();
        let samples_exponent = common_exponent(&profiles, &all);
        let points: Vec<Point> = passes
            .iter()
            .zip(&models)
            .enumerate()
            .map(|(group, (passes, model))| Point {
                group: group as u32,
                x: model.parameters,
                y: Curve::fit_stretched_factor(samples_exponent, passes).0,
            })
            .collect();
        let fit = Fit::new(Form::Power, &points)?;
        let groups: Vec<u32> = points.iter().map(|point| point.group).collect();
        let intervals = bootstrap(&groups, REPLICATES, LEVEL, seed, |drawn| {
            Some(vec![common_exponent(&profiles, drawn)])
        });
        Ok(Self {
            factor: fit.law.a,
            parameters_exponent: fit.law.b,
            parameters_interval: fit.b_interval,
            samples_exponent,
            samples_interval: intervals.and_then(|each| each.first().copied()),
            models: models.len(),
            spread_factor: fit.spread_factor,
        })
    }

    /// Coverage of a model with these parameters at `k` samples.
    pub fn coverage(&self, parameters: f64, k: f64) -> f64 {
        let exponent =
            self.factor * parameters.powf(self.parameters_exponent) * k.powf(self.samples_exponent);
        -(-exponent).exp_m1()
    }
}

fn log_exponent(at: f64) -> f64 {
    LOG_EXPONENT_MIN * (1.0 - at / (EXPONENTS - 1) as f64)
}

/// Log-likelihood of a model's first passes under each exponent, with the factor that suits it best.
fn profile(passes: &FirstPasses) -> Vec<f64> {
    (0..EXPONENTS).map(|at| Curve::fit_stretched_factor(log_exponent(at as f64).exp(), passes).1).collect()
}

/// The exponent of the samples under which the first passes of the models `drawn` are likeliest.
fn common_exponent(profiles: &[Vec<f64>], drawn: &[usize]) -> f64 {
    let sum: Vec<f64> =
        (0..EXPONENTS).map(|at| drawn.iter().map(|&model| profiles[model][at]).sum()).collect();
    let best = (0..EXPONENTS).max_by(|&a, &b| sum[a].total_cmp(&sum[b])).unwrap_or_default();
    let between = match (best.checked_sub(1).map(|before| sum[before]), sum.get(best + 1)) {
        (Some(before), Some(after)) => {
            let bend = before - 2.0 * sum[best] + after;
            if bend < 0.0 { (before - after) / (2.0 * bend) } else { 0.0 }
        }
        _ => 0.0,
    };
    log_exponent(best as f64 + between).exp()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coverage::Counts;
    use crate::random::Random;

    /// First passes by the law itself, tasks stopped there or at 300 samples, with scatter of models.
    fn models(scatter: f64, sizes: &[f64], stream: u64) -> Vec<ModelTally> {
        let mut random = Random::new(12, stream);
        sizes
            .iter()
            .map(|&parameters| {
                let factor = 2e-6 * parameters.powf(0.5) * (scatter * random.normal()).exp();
                let counts: Vec<Counts> = (0..150)
                    .map(|_| {
                        let first = (-(1.0 - random.uniform()).ln() / factor).powf(1.0 / 0.7).ceil();
                        let samples = first.clamp(1.0, 300.0) as u32;
                        Counts { samples, correct: u32::from(first <= 300.0), stopped: true }
                    })
                    .collect();
                ModelTally { parameters, tally: Tally::new(&counts) }
            })
            .collect()
    }

    const SIZES: [f64; 7] = [14e6, 70e6, 160e6, 410e6, 1e9, 2.8e9, 12e9];

    #[test]
    fn exponents_come_back() {
        let fit = JointCoverage::fit(&models(0.0, &SIZES, 0), 1).unwrap();
        assert!((fit.parameters_exponent - 0.5).abs() < 0.05, "{fit:?}");
        assert!((fit.samples_exponent - 0.7).abs() < 0.06, "{fit:?}");
        let truth = 1.0 - (-2e-6 * 1e9f64.powf(0.5) * 100f64.powf(0.7)).exp();
        assert!((fit.coverage(1e9, 100.0) - truth).abs() < 0.05, "{} for {truth}", fit.coverage(1e9, 100.0));
        assert!(fit.samples_interval.is_some_and(|interval| interval.holds(fit.samples_exponent)));
    }

    #[test]
    fn scatter_of_models_is_in_the_interval() {
        let quiet = JointCoverage::fit(&models(0.0, &SIZES, 1), 1).unwrap().parameters_interval;
        let mut held = 0;
        for stream in 0..8 {
            let fit = JointCoverage::fit(&models(0.8, &SIZES, stream), 1).unwrap();
            held += u32::from(fit.parameters_interval.holds(0.5));
            let width = fit.parameters_interval.high - fit.parameters_interval.low;
            assert!(width > quiet.high - quiet.low, "{fit:?}");
        }
        assert!(held >= 6, "{held} of 8");
    }

    #[test]
    fn a_model_without_a_pass_is_left_out() {
        let mut with = models(0.0, &SIZES, 2);
        let fit = JointCoverage::fit(&with, 1).unwrap();
        with.push(ModelTally { parameters: 1e6, tally: Tally::new(&[Counts::new(9, 0).unwrap(); 5]) });
        assert_eq!(JointCoverage::fit(&with, 1).unwrap(), fit);
    }

    #[test]
    fn what_allows_no_law() {
        assert!(matches!(JointCoverage::fit(&models(0.0, &SIZES[..2], 0), 1), Err(LawError::TooFew { .. })));
        assert!(matches!(JointCoverage::fit(&models(0.0, &[1e6; 3], 0), 1), Err(LawError::NoSpread { .. })));
        let mut sizeless = models(0.0, &SIZES, 0);
        sizeless[0].parameters = 0.0;
        assert!(matches!(JointCoverage::fit(&sizeless, 1), Err(LawError::NotPositive { .. })));
    }
}
