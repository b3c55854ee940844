//! What repeated measurements say.
//!
//! The median is the headline, since a machine that others share gives outliers on one side only; minimum and
//! maximum show the spread that was seen; the interval of the mean (Student's t) shows how sure the mean is. One
//! measurement has no interval: it is missing, not zero.

use serde::{Deserialize, Serialize};

/// Two-sided 95 % quantiles of Student's t for 1 to 30 degrees of freedom (any statistics text, e.g. NIST/SEMATECH
/// e-Handbook 1.3.6.7.2).
const T_95: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];
/// The same for the normal distribution, used above 30 degrees of freedom (the error is below 2 %).
const Z_95: f64 = 1.960;

/// Repeated measurements of one quantity, in that quantity's unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// How many measurements.
    pub repetitions: u32,
    /// The middle one (mean of the two middle ones for an even count).
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// Their mean.
    pub mean: f64,
    /// 95 % interval of the mean by Student's t; missing for a single measurement.
    pub mean_interval_95: Option<[f64; 2]>,
}

impl Summary {
    /// Summarise `values`; `None` if there are none or one is not finite.
    pub fn of(values: &[f64]) -> Option<Self> {
        if values.is_empty() || values.iter().any(|v| !v.is_finite()) {
            return None;
        }
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let n = sorted.len();
        let mean = sorted.iter().sum::<f64>() / n as f64;
        let interval = (n > 1).then(|| {
            let variance = sorted.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1) as f64;
            let half = T_95.get(n - 2).copied().unwrap_or(Z_95) * (variance / n as f64).sqrt();
            [mean - half, mean + half]
        });
        Some(Self {
            repetitions: n as u32,
            median: f64::midpoint(sorted[(n - 1) / 2], sorted[n / 2]),
            min: sorted[0],
            max: sorted[n - 1],
            mean,
            mean_interval_95: interval,
        })
    }
}

/// Tokens per second, or `None` where no time or no token was counted.
pub fn tokens_per_s(tokens: u32, ms: f64) -> Option<f64> {
    (tokens > 0 && ms > 0.0).then(|| f64::from(tokens) * 1e3 / ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries() {
        // values, median, mean, half width of the interval (t from the table, by hand)
        let cases: &[(&[f64], f64, f64, Option<f64>)] = &[
            (&[3.0], 3.0, 3.0, None),
            (&[2.0, 4.0], 3.0, 3.0, Some(12.706)), // s = √2, s/√2 = 1
            (&[5.0, 1.0, 3.0], 3.0, 3.0, Some(4.303 * 2.0 / 3f64.sqrt())),
            (&[1.0, 1.0, 1.0, 9.0], 1.0, 3.0, Some(3.182 * 2.0)), // s = 4, s/√4 = 2
        ];
        for (values, median, mean, half) in cases {
            let s = Summary::of(values).unwrap();
            assert_eq!(s.repetitions as usize, values.len());
            assert!((s.median - median).abs() < 1e-12, "median of {values:?}: {}", s.median);
            assert!((s.mean - mean).abs() < 1e-12, "mean of {values:?}: {}", s.mean);
            match (half, s.mean_interval_95) {
                (None, None) => {}
                (Some(half), Some([low, high])) => {
                    assert!((high - mean - half).abs() < 1e-9, "interval of {values:?}: {low} to {high}");
                    assert!((mean - low - half).abs() < 1e-9, "interval of {values:?}: {low} to {high}");
                }
                other => panic!("interval of {values:?}: {other:?}"),
            }
            assert!(s.min <= s.median && s.median <= s.max);
        }
    }

    #[test]
    fn nothing_in_nothing_out() {
        assert_eq!(Summary::of(&[]), None);
        assert_eq!(Summary::of(&[1.0, f64::NAN]), None);
        assert_eq!(Summary::of(&[1.0, f64::INFINITY]), None);
    }

    #[test]
    fn large_samples_use_the_normal_quantile() {
        let values: Vec<f64> = (0..100).map(|i| f64::from(i % 2)).collect();
        let [low, high] = Summary::of(&values).unwrap().mean_interval_95.unwrap();
        let s = (25.0f64 / 99.0).sqrt();
        assert!(((high - low) / 2.0 - 1.960 * s / 10.0).abs() < 1e-9);
    }

    #[test]
    fn rates() {
        assert_eq!(tokens_per_s(100, 500.0), Some(200.0));
        assert_eq!(tokens_per_s(0, 500.0), None);
        assert_eq!(tokens_per_s(100, 0.0), None);
    }
}
