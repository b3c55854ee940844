//! How likely a coverage curve makes the data: the likelihood of when each task passed first.
//!
//! Coverage at k is the probability that a task's first pass comes within k samples, so a curve is a distribution of
//! that position, and each task is one draw of it, censored where nothing passed. Counts do not say where the passes
//! lay; given n and c every order is equally likely, so the log-likelihood is averaged over them: the first pass is
//! within j with probability pass@j. For a task that was stopped at its first pass the position is known.
//!
//! It uses less than the counts hold (a second pass tells of the task, too), but any law that gives a curve has it, so
//! it is what laws are compared by, and what curves without a distribution of difficulty are fitted by. Positions are
//! taken together in bins that grow by a quarter: a curve that bends within such a bin is none of ours.

use super::Tally;
use super::pass::pass_at_k;

/// Each edge of a bin over the one before.
const BIN_GROWTH: f64 = 1.25;
/// Least probability of a bin: a curve that gives less is wrong, but not infinitely so.
const PROBABILITY_MIN: f64 = 1e-12;

/// First passes in bins.
#[derive(Debug, Clone, PartialEq)]
pub struct FirstPasses {
    /// Upper ends of the bins, in samples.
    edges: Vec<u32>,
    /// Tasks whose first pass lies in the bin.
    passed: Vec<f64>,
    /// Tasks that had no pass up to this edge and were not sampled on.
    missed: Vec<f64>,
}

impl FirstPasses {
    /// Of these tasks.
    pub fn new(tally: &Tally) -> Self {
        let most = tally.counts().iter().map(|(counts, _)| counts.samples).max().unwrap_or(0);
        let mut edges: Vec<u32> = tally.counts().iter().map(|(counts, _)| counts.samples).collect();
        let mut edge = 1;
        while edge < most {
            edges.push(edge);
            edge = ((f64::from(edge) * BIN_GROWTH) as u32).max(edge + 1);
        }
        edges.sort_unstable();
        edges.dedup();
        let (mut passed, mut missed) = (vec![0.0; edges.len()], vec![0.0; edges.len()]);
        for (counts, weight) in tally.counts() {
            let last = edges.partition_point(|&edge| edge < counts.samples);
            if counts.correct == 0 {
                missed[last] += weight;
            } else if counts.stopped {
                // The passes came last: one, and those that were in flight when it came.
                let first = counts.samples - counts.correct + 1;
                passed[edges.partition_point(|&edge| edge < first)] += weight;
            } else {
                let mut before = 0.0;
                for (passed, &edge) in passed.iter_mut().zip(&edges[..=last]) {
                    let within = pass_at_k(counts.samples, counts.correct, edge).unwrap_or(1.0);
                    *passed += weight * (within - before);
                    before = within;
                }
            }
        }
        Self { edges, passed, missed }
    }

    /// Log-likelihood under a law that gives this coverage at k samples.
    pub fn ln_likelihood(&self, coverage: impl Fn(f64) -> f64) -> f64 {
        let (mut sum, mut before) = (0.0, 0.0);
        for ((&edge, passed), missed) in self.edges.iter().zip(&self.passed).zip(&self.missed) {
            let within = coverage(f64::from(edge));
            if *passed > 0.0 {
                sum += passed * (within - before).max(PROBABILITY_MIN).ln();
            }
            if *missed > 0.0 {
                sum += missed * (1.0 - within).max(PROBABILITY_MIN).ln();
            }
            before = within;
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coverage::Counts;

    #[test]
    fn by_hand() {
        let half = |k: f64| 1.0 - 0.5f64.powf(k);
        let of = |samples, correct, stopped| {
            FirstPasses::new(&Tally::new(&[Counts { samples, correct, stopped }])).ln_likelihood(half)
        };
        let ln2 = 2f64.ln();
        for (samples, correct, stopped, expected) in [
            (3, 0, false, -3.0 * ln2),
            (3, 0, true, -3.0 * ln2),
            (1, 1, false, -ln2),
            // First, second or third, equally likely.
            (3, 1, false, -2.0 * ln2),
            (3, 1, true, -3.0 * ln2),
            // First with 2/3, second with 1/3.
            (3, 2, false, -4.0 / 3.0 * ln2),
            (3, 2, true, -2.0 * ln2),
            (3, 3, false, -ln2),
        ] {
            let found = of(samples, correct, stopped);
            assert!((found - expected).abs() < 1e-12, "{samples} {correct} {stopped}: {found}");
        }
    }

    #[test]
    fn no_curve_is_infinitely_wrong() {
        let tally = Tally::new(&[Counts::new(10, 1).unwrap(), Counts::new(10, 0).unwrap()]);
        for constant in [0.0, 1.0] {
            assert!(FirstPasses::new(&tally).ln_likelihood(|_| constant).is_finite());
        }
    }
}
