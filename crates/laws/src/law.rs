//! The two laws in one predictor: a power of it, or a constant and a share of it.
//!
//! **Power**, `y = a·x^b`: least squares in logarithms. The error it minimises is a factor, the same for small and
//! large models.
//!
//! **Affine**, `y = a + b·x`: what a machine does that has a fixed cost (a kernel launch, a barrier) and then moves
//! bytes at one speed. Least squares with weights 1/y², which minimises `Σ (1 − ŷ/y)²`, the squared *relative* errors:
//! unweighted, the largest model would decide alone and the small ones could be off by any factor. That also makes the
//! two laws comparable, since for small errors a relative error and a difference of logarithms are the same thing.
//!
//! **Intervals** are Student's t in logarithms: `ŷ·exp(± t·s·√(1 + h))`, where `s` is the residual spread, `h` the
//! leverage of the predictor (how far it lies from what was fitted) and `t` has as many degrees of freedom as there are
//! groups (models) less two. The 1 is the scatter of a new model about the law, `h` the uncertainty of the law itself;
//! for the power law this is exact if residuals are log-normal, for the affine one to first order in `s`. It was
//! preferred to intervals made of leave-one-out residuals because those cannot reach 95 % with fewer than 19 models
//! (Barber et al. 2021, the jackknife+): the widest of five residuals is seen no more often than five times in six.

use crate::LawError;
use crate::interval::{Interval, student_t};
use crate::linear::{Solution, least_squares};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Coefficients of each law.
const COEFFICIENTS: usize = 2;
/// Degrees of freedom from which on Student's t is a normal distribution for our purposes (1.962 at 95 %).
const MANY: usize = 1000;
/// Fewest groups that a law is fitted to: two fix the law, the third is the first to contradict it.
pub const GROUPS_MIN: usize = 3;

/// One measured point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Points of one group (one model, or twins of one shape) are not independent and are left out together.
    pub group: u32,
    /// The predictor, above zero.
    pub x: f64,
    /// What was measured, above zero.
    pub y: f64,
}

/// Which law.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// `y = a·x^b`.
    Power,
    /// `y = a + b·x`.
    Affine,
}

impl Form {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Power, Self::Affine];

    /// The other one.
    pub fn rival(self) -> Self {
        match self {
            Self::Power => Self::Affine,
            Self::Affine => Self::Power,
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Power => "power law",
            Self::Affine => "affine law",
        })
    }
}

/// A law with its coefficients.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Law {
    /// Which.
    pub form: Form,
    /// The factor of a power law; the constant of an affine one.
    pub a: f64,
    /// The exponent of a power law; the slope of an affine one.
    pub b: f64,
}

impl Law {
    /// The law that fits these points best; two different predictors suffice.
    ///
    /// # Errors
    /// Too few points, a figure that is not above zero, or one predictor for all.
    pub fn through(form: Form, points: &[Point]) -> Result<Self, LawError> {
        solve(form, points).map(|(law, _)| law)
    }

    /// What it gives at `x`. An affine law may give zero or less far from its points.
    pub fn at(self, x: f64) -> f64 {
        match self.form {
            Form::Power => self.a * x.powf(self.b),
            Form::Affine => self.a + self.b * x,
        }
    }
}

impl fmt::Display for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.form {
            Form::Power => write!(f, "{:.3e}·x^{:.3}", self.a, self.b),
            Form::Affine => write!(f, "{:.3e} + {:.3e}·x", self.a, self.b),
        }
    }
}

/// A law and how well it holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fit {
    /// The law.
    pub law: Law,
    /// Points it was fitted to.
    pub points: usize,
    /// Groups (models) they belong to.
    pub groups: usize,
    /// Smallest and largest predictor among them: beyond these the law extrapolates.
    pub x_range: [f64; 2],
    /// Share of the variance of the logarithms that it explains; missing where all measured values are the same.
    pub r2_log: Option<f64>,
    /// Residual spread as a factor, `exp(s)` with `s` the standard deviation of the logarithms: 1.05 means that two
    /// models of three lie within 5 % of the law.
    pub spread_factor: f64,
    /// 95 % interval of `a` by Student's t.
    pub a_interval: Interval,
    /// 95 % interval of `b` by Student's t: of the exponent, for a power law.
    pub b_interval: Interval,
    /// Standard deviation of the logarithms of measured over predicted.
    residual_sd: f64,
    /// Standard deviation of the logarithm of a figure from one run to the next, as [`Fit::with_repeats`] was told.
    repeat_sd: f64,
    /// `(XᵀWX)⁻¹` of the least squares.
    covariance_unscaled: Vec<Vec<f64>>,
}

/// The confidence of the intervals in a [`Fit`].
pub const LEVEL: f64 = 0.95;

impl Fit {
    /// Fit a law to at least three groups.
    ///
    /// # Errors
    /// Too few groups, a figure that is not above zero, one predictor for all, or an affine law that is not above zero
    /// at one of its own points.
    pub fn new(form: Form, points: &[Point]) -> Result<Self, LawError> {
        let groups = count_groups(points);
        if groups < GROUPS_MIN {
            return Err(LawError::TooFew { what: "models", found: groups, least: GROUPS_MIN });
        }
        let (law, solution) = solve(form, points)?;
        let mut residual_sum = 0.0;
        for point in points {
            residual_sum += (point.y / positive_at(law, point.x)?).ln().powi(2);
        }
        let mean_log = points.iter().map(|point| point.y.ln()).sum::<f64>() / points.len() as f64;
        let total: f64 = points.iter().map(|point| (point.y.ln() - mean_log).powi(2)).sum();
        let residual_sd = (residual_sum / (points.len() - COEFFICIENTS) as f64).sqrt();
        let t = student_t(LEVEL, groups - COEFFICIENTS)?;
        let interval = |at: usize| {
            let half = t * residual_sd * solution.covariance_unscaled[at][at].sqrt();
            Interval { low: solution.coefficients[at] - half, high: solution.coefficients[at] + half }
        };
        let a_interval = match form {
            // The coefficient is the logarithm of the factor.
            Form::Power => Interval { low: interval(0).low.exp(), high: interval(0).high.exp() },
            Form::Affine => interval(0),
        };
        Ok(Self {
            law,
            points: points.len(),
            groups,
            x_range: points
                .iter()
                .fold([f64::INFINITY, 0.0], |[low, high], point| [low.min(point.x), high.max(point.x)]),
            r2_log: (total > 0.0).then(|| 1.0 - residual_sum / total),
            spread_factor: residual_sd.exp(),
            a_interval,
            b_interval: interval(1),
            residual_sd,
            repeat_sd: 0.0,
            covariance_unscaled: solution.covariance_unscaled,
        })
    }

    /// What the law gives at `x`, and the range in which a new model's value lies with probability `level`.
    ///
    /// # Errors
    /// `x` is not above zero, the law is not above zero there, or `level` is no probability.
    pub fn predict(&self, x: f64, level: f64) -> Result<(f64, Interval), LawError> {
        self.band(x, level, 1.0)
    }

    /// The same law, with intervals that also hold what a figure varies from one run to the next: `sd` is the standard
    /// deviation of its logarithm over repetitions. A few models may lie on a law by luck, and the best of several laws is
    /// chosen for that luck; a new measurement still comes with the machine's own scatter.
    pub fn with_repeats(self, sd: f64) -> Self {
        Self { repeat_sd: sd, ..self }
    }

    /// What the law gives at `x`, and the range in which the law itself lies with probability `level`, scatter of
    /// single models left out: for drawing.
    ///
    /// # Errors
    /// As [`Fit::predict`].
    pub fn law_band(&self, x: f64, level: f64) -> Result<(f64, Interval), LawError> {
        self.band(x, level, 0.0)
    }

    fn band(&self, x: f64, level: f64, scatter: f64) -> Result<(f64, Interval), LawError> {
        LawError::positive("x", 0, x)?;
        let value = positive_at(self.law, x)?;
        let gradient = match self.law.form {
            Form::Power => [1.0, x.ln()],
            // Of the logarithm of `a + b·x`.
            Form::Affine => [1.0 / value, x / value],
        };
        let leverage = crate::linear::quadratic(&self.covariance_unscaled, &gradient).max(0.0);
        let t = student_t(level, self.groups - COEFFICIENTS)?;
        let model = t * self.residual_sd * (scatter + leverage).sqrt();
        let run = student_t(level, MANY)? * self.repeat_sd * scatter;
        let factor = model.hypot(run).exp();
        Ok((value, Interval { low: value / factor, high: value * factor }))
    }
}

/// How many different groups there are.
pub(crate) fn count_groups(points: &[Point]) -> usize {
    let mut groups: Vec<u32> = points.iter().map(|point| point.group).collect();
    groups.sort_unstable();
    groups.dedup();
    groups.len()
}

fn positive_at(law: Law, x: f64) -> Result<f64, LawError> {
    let value = law.at(x);
    if value.is_finite() && value > 0.0 {
        Ok(value)
    } else {
        Err(LawError::OutOfReach { law: law.to_string(), x, value })
    }
}

fn solve(form: Form, points: &[Point]) -> Result<(Law, Solution), LawError> {
    if points.len() < COEFFICIENTS {
        return Err(LawError::TooFew { what: "points", found: points.len(), least: COEFFICIENTS });
    }
    for (index, point) in points.iter().enumerate() {
        LawError::positive("x", index, point.x)?;
        LawError::positive("y", index, point.y)?;
    }
    if points.iter().all(|point| point.x == points[0].x) {
        return Err(LawError::NoSpread { what: "x".into() });
    }
    let of = |f: fn(&Point) -> f64| -> Vec<f64> { points.iter().map(f).collect() };
    let (x, y, weights) = match form {
        Form::Power => (of(|point| point.x.ln()), of(|point| point.y.ln()), vec![1.0; points.len()]),
        Form::Affine => (of(|point| point.x), of(|point| point.y), of(|point| point.y.powi(-2))),
    };
    let rows: Vec<Vec<f64>> = x.iter().map(|&x| vec![1.0, x]).collect();
    let solution = least_squares(&["constant", "x"], &rows, &y, &weights)?;
    let (a, b) = (solution.coefficients[0], solution.coefficients[1]);
    let a = if form == Form::Power { a.exp() } else { a };
    Ok((Law { form, a, b }, solution))
}

#[cfg(test)]
#[path = "law_tests.rs"]
mod tests;
