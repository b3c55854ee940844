//! How sure a figure is.
//!
//! Four ways, for four questions:
//!
//! - **Student's t** where the errors are about normal (here: logarithms of times and energies) and their size has to
//!   be learned from few points. With five models the 95 % quantile is 3.2 and not 1.96: that is what five models are
//!   worth.
//! - **The bootstrap over models** (Efron 1979, resampling whole groups as in Davison and Hinkley 1997, 3.8) where rows
//!   of one model hang together. Its percentile intervals fall short of their promise: of exponents from five models a
//!   nominal 95 % holds the truth in 91 % of simulated sweeps, from 25 models in 92 % (a test in [`crate::law`]).
//! - **Percentiles** of draws for whatever is computed from uncertain inputs.
//! - **The score interval** of a share (Wilson 1927): also where nobody passed, which no resampling ever doubts.

use crate::LawError;
use crate::random::Random;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

/// Resamples for a bootstrap: the 2.5 % point of a thousand draws rests on 25 of them, which moves an end of the
/// interval by less than a tenth of its width from seed to seed.
pub const REPLICATES: u32 = 1_000;
/// Share of the resamples that must give a law. Below it the interval would speak only of the lucky ones.
const USABLE_MIN: f64 = 0.8;
/// Fewest draws for a percentile interval: at 40, 2.5 % is one draw on each side.
const DRAWS_MIN: usize = 40;

/// A range that holds the value with a stated confidence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// Whether `value` lies in it, ends included.
    pub fn holds(self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }

    /// The interval of twice, a thousandth… of the value; `factor` must not be negative.
    pub fn times(self, factor: f64) -> Self {
        Self { low: self.low * factor, high: self.high * factor }
    }

    /// The interval of a sum if both errors go the same way: the widest it can be, whatever ties the two together.
    pub fn plus(self, other: Self) -> Self {
        Self { low: self.low + other.low, high: self.high + other.high }
    }

    /// The part that is not below `least`.
    pub fn at_least(self, least: f64) -> Self {
        Self { low: self.low.max(least), high: self.high.max(least) }
    }
}

/// The two-sided quantile of Student's t: a normal figure lies within this many estimated standard deviations with
/// probability `level`.
///
/// # Errors
/// No degree of freedom, or a level that is no probability.
pub fn student_t(level: f64, freedom: usize) -> Result<f64, LawError> {
    if freedom == 0 {
        return Err(LawError::TooFew { what: "degrees of freedom", found: 0, least: 1 });
    }
    if !(level > 0.0 && level < 1.0) {
        return Err(LawError::Level { level });
    }
    let t = StudentsT::new(0.0, 1.0, freedom as f64).map_err(|_| LawError::TooFew {
        what: "degrees of freedom",
        found: freedom,
        least: 1,
    })?;
    Ok(t.inverse_cdf(f64::midpoint(1.0, level)))
}

/// The middle of the values (mean of the two middle ones for an even count); missing where there are none or one is
/// NaN.
pub fn median(values: &[f64]) -> Option<f64> {
    percentile(values, 0.5)
}

/// The value below which the share `p` of the values lies, between two of them by interpolation (Hyndman and Fan's
/// type 7); missing where there are none or one is NaN.
pub fn percentile(values: &[f64], p: f64) -> Option<f64> {
    if values.is_empty() || values.iter().any(|value| value.is_nan()) {
        return None;
    }
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let at = p.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    Some(low + (high - low) * at.fract())
}

/// The middle `level` of the draws; missing for fewer than 40.
pub fn of_draws(draws: &[f64], level: f64) -> Option<Interval> {
    if draws.len() < DRAWS_MIN || !(0.0..1.0).contains(&level) {
        return None;
    }
    let outside = (1.0 - level) / 2.0;
    Some(Interval { low: percentile(draws, outside)?, high: percentile(draws, 1.0 - outside)? })
}

/// The interval of a mean of `shares`, each between 0 and 1: Wilson's score interval, with as many trials as would scatter
/// like the shares do (Korn and Graubard 1998), but `most` at most. Where all shares are 0 or 1 that is one trial each.
/// Missing without a share, or for a level that is no probability.
pub fn of_shares(shares: &[f64], most: f64, level: f64) -> Option<Interval> {
    let count = shares.len() as f64;
    let mean = shares.iter().sum::<f64>() / count;
    let variance = shares.iter().map(|share| (share - mean).powi(2)).sum::<f64>() / count;
    let alone = mean * (1.0 - mean);
    let trials = if alone > 0.0 { (count * alone / variance).min(most).max(count) } else { count };
    wilson(mean, trials, level)
}

/// The score interval of a share that was seen in so many trials (Wilson 1927): it stays inside 0 to 1 and holds up for few of
/// them. Missing for a share outside of 0 to 1, no trial, or a level that is no probability.
pub fn wilson(share: f64, trials: f64, level: f64) -> Option<Interval> {
    if !((0.0..=1.0).contains(&share) && trials > 0.0 && level > 0.0 && level < 1.0) {
        return None;
    }
    let z = Normal::standard().inverse_cdf(f64::midpoint(1.0, level));
    let (z2, shrunk) = (z * z, 1.0 + z * z / trials);
    let centre = (share + z2 / (2.0 * trials)) / shrunk;
    let half = z / shrunk * (share * (1.0 - share) / trials + z2 / (4.0 * trials * trials)).sqrt();
    Some(Interval { low: (centre - half).clamp(0.0, share), high: (centre + half).clamp(share, 1.0) })
}

/// A draw of the share behind none of so many trials: its middle 95 % (or any other part) ends where [`wilson`] does.
pub fn draw_of_none(random: &mut Random, trials: f64) -> f64 {
    let z = random.normal().max(0.0);
    z * z / (trials + z * z)
}

/// Percentile intervals of several figures at once, by resampling groups.
///
/// `groups` says which group each point belongs to. For each of `replicates` resamples, as many groups as there are
/// get drawn with replacement, and `figures` computes from the numbers of their points; `None` where that resample
/// gives no law (all the same model, say). Missing where less than 80 % of the resamples gave one.
pub fn bootstrap(
    groups: &[u32],
    replicates: u32,
    level: f64,
    seed: u64,
    mut figures: impl FnMut(&[usize]) -> Option<Vec<f64>>,
) -> Option<Vec<Interval>> {
    let mut members: Vec<(u32, Vec<usize>)> = Vec::new();
    for (point, &group) in groups.iter().enumerate() {
        match members.iter_mut().find(|(known, _)| *known == group) {
            Some((_, points)) => points.push(point),
            None => members.push((group, vec![point])),
        }
    }
    let mut draws: Vec<Vec<f64>> = Vec::new();
    for replicate in 0..replicates {
        let mut random = Random::new(seed, u64::from(replicate));
        let mut resample = Vec::with_capacity(groups.len());
        for _ in 0..members.len() {
            resample.extend(&members[random.below(members.len())].1);
        }
        draws.extend(figures(&resample));
    }
    let count = draws.first()?.len();
    if (draws.len() as f64) < USABLE_MIN * f64::from(replicates) {
        return None;
    }
    (0..count)
        .map(|at| {
            let of_one: Vec<f64> = draws.iter().filter_map(|figures| figures.get(at).copied()).collect();
            of_draws(&of_one, level)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_student() {
        // NIST/SEMATECH e-Handbook 1.3.6.7.2.
        for (level, freedom, expected) in [
            (0.95, 1, 12.706),
            (0.95, 2, 4.303),
            (0.95, 3, 3.182),
            (0.95, 9, 2.262),
            (0.95, 30, 2.042),
            (0.90, 4, 2.132),
            (0.99, 5, 4.032),
        ] {
            let t = student_t(level, freedom).unwrap();
            assert!((t - expected).abs() < 6e-4, "{level} at {freedom}: {t}");
        }
        assert!(matches!(student_t(0.95, 0), Err(LawError::TooFew { .. })));
        for level in [0.0, 1.0, -1.0, f64::NAN] {
            assert!(matches!(student_t(level, 3), Err(LawError::Level { .. })), "{level}");
        }
    }

    #[test]
    fn percentiles() {
        let values = [4.0, 1.0, 3.0, 2.0];
        for (p, expected) in [(0.0, 1.0), (0.5, 2.5), (1.0, 4.0), (1.0 / 3.0, 2.0), (0.25, 1.75)] {
            assert!((percentile(&values, p).unwrap() - expected).abs() < 1e-12, "{p}");
        }
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[1.0, f64::NAN]), None);
        assert_eq!(of_draws(&[1.0; 39], 0.95), None);
        let draws: Vec<f64> = (0..=1000).map(f64::from).collect();
        let middle = of_draws(&draws, 0.95).unwrap();
        assert!((middle.low - 25.0).abs() < 1e-9 && (middle.high - 975.0).abs() < 1e-9, "{middle:?}");
    }

    #[test]
    fn the_score_interval_of_a_share() {
        let of = |passed: usize, tasks: usize| {
            let shares: Vec<f64> = (0..tasks).map(|task| f64::from(u8::from(task < passed))).collect();
            of_shares(&shares, 1e9, 0.95).unwrap()
        };
        // By hand from Wilson's formula; the first is z²/(n + z²).
        for (passed, tasks, low, high) in
            [(0, 50, 0.0, 0.0714), (50, 50, 0.9286, 1.0), (2, 50, 0.0110, 0.1346)]
        {
            let got = of(passed, tasks);
            assert!((got.low - low).abs() < 1e-4 && (got.high - high).abs() < 1e-4, "{passed}: {got:?}");
        }
        // Fifty tasks that all pass once in ten times say more than fifty tasks of which five passed, if so many samples
        // were drawn: as much as a hundred trials here.
        let alike = of_shares(&[0.1; 50], 100.0, 0.95).unwrap();
        let ten = of(10, 100);
        assert!((alike.low - ten.low).abs() < 1e-9 && (alike.high - ten.high).abs() < 1e-9, "{alike:?}");
        assert!(of(5, 50).low < alike.low && alike.high < of(5, 50).high);
        assert_eq!(of_shares(&[], 1.0, 0.95), None);
        assert_eq!(of_shares(&[0.5], 1.0, 1.0), None);
        assert_eq!(of_shares(&[f64::NAN], 1.0, 0.95), None);
    }

    #[test]
    fn the_score_interval_of_trials() {
        // Published values: Newcombe 1998, table I, rows (a) to (d), method 3.
        for (passed, of, low, high) in [
            (81.0, 263.0, 0.2553, 0.3662),
            (15.0, 148.0, 0.0624, 0.1605),
            (0.0, 20.0, 0.0000, 0.1611),
            (1.0, 29.0, 0.0061, 0.1718),
        ] {
            let found = wilson(passed / of, of, 0.95).unwrap();
            let near = (found.low - low).abs() < 5e-5 && (found.high - high).abs() < 5e-5;
            assert!(near, "{passed}/{of}: {found:?}");
        }
        assert_eq!(wilson(1.1, 5.0, 0.95), None);
        assert_eq!(wilson(0.5, 0.0, 0.95), None);
    }

    #[test]
    fn draws_of_none_end_where_the_score_interval_does() {
        let mut random = Random::new(5, 1);
        let draws: Vec<f64> = (0..100_000).map(|_| draw_of_none(&mut random, 50.0)).collect();
        let (drawn, score) = (of_draws(&draws, 0.95).unwrap(), wilson(0.0, 50.0, 0.95).unwrap());
        assert!(drawn.low == 0.0 && (drawn.high / score.high - 1.0).abs() < 0.02, "{drawn:?} {score:?}");
    }

    #[test]
    fn the_score_interval_holds_the_truth() {
        let mut random = Random::new(3, 1);
        for (truth, tasks) in [(0.01, 50), (0.1, 50), (0.5, 20), (0.97, 120)] {
            let mut held = 0;
            for _ in 0..2000 {
                let shares: Vec<f64> =
                    (0..tasks).map(|_| f64::from(u8::from(random.uniform() < truth))).collect();
                held += u32::from(of_shares(&shares, 1e9, 0.95).unwrap().holds(truth));
            }
            assert!((1820..=1990).contains(&held), "{held} of 2000 at {truth}, {tasks} tasks");
        }
    }

    #[test]
    fn arithmetic_of_intervals() {
        let a = Interval { low: 1.0, high: 3.0 };
        assert!(a.holds(1.0) && a.holds(3.0) && !a.holds(3.1) && !a.holds(f64::NAN));
        assert_eq!(a.times(2.0), Interval { low: 2.0, high: 6.0 });
        assert_eq!(a.plus(a), Interval { low: 2.0, high: 6.0 });
        assert_eq!(a.at_least(2.0), Interval { low: 2.0, high: 3.0 });
        assert_eq!(a.at_least(5.0), Interval { low: 5.0, high: 5.0 });
    }

    #[test]
    fn groups_are_drawn_whole() {
        let groups = [7, 7, 7, 1, 2, 2];
        let mut seen = 0;
        bootstrap(&groups, 200, 0.95, 1, |points| {
            let count = |point| points.iter().filter(|&&p| p == point).count();
            assert_eq!((count(0), count(4)), (count(2), count(5)));
            assert_eq!(count(0) + count(3) + count(4), 3);
            seen += 1;
            Some(vec![0.0])
        });
        assert_eq!(seen, 200);
    }

    #[test]
    fn the_interval_of_a_mean() {
        let mut random = Random::new(11, 0);
        let values: Vec<f64> = (0..100).map(|_| 5.0 + random.normal()).collect();
        let groups: Vec<u32> = (0..100).collect();
        let mean = |points: &[usize]| Some(vec![points.iter().map(|&p| values[p]).sum::<f64>() / 100.0]);
        let one = bootstrap(&groups, REPLICATES, 0.95, 1, mean).unwrap()[0];
        assert_eq!(
            one,
            bootstrap(&groups, REPLICATES, 0.95, 1, mean).unwrap()[0],
            "same seed, same interval"
        );
        assert_ne!(one, bootstrap(&groups, REPLICATES, 0.95, 2, mean).unwrap()[0]);
        // The standard error of the mean is 0.1.
        assert!((one.high - one.low - 2.0 * 1.96 * 0.1).abs() < 0.08, "{one:?}");
        assert!(one.holds(values.iter().sum::<f64>() / 100.0), "{one:?}");
    }

    #[test]
    fn too_many_failures_give_no_interval() {
        let mut calls = 0;
        let mut some = |share: u32| {
            calls = 0;
            bootstrap(&[1, 2, 3], 100, 0.95, 1, |_| {
                calls += 1;
                (calls % 10 < share).then(|| vec![f64::from(calls)])
            })
        };
        assert!(some(9).is_some());
        assert!(some(7).is_none());
        assert!(some(0).is_none());
    }
}
