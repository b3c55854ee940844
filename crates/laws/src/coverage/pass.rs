//! pass@k without bias: the share of subsets of k samples, out of the n drawn, that hold a pass.
//!
//! `1 − C(n−c, k)/C(n, k)` (Chen et al. 2021, "Evaluating large language models trained on code"). The ratio of two
//! binomial coefficients of thousands overflows, so it is a difference of log-gammas. It is unbiased only if n was
//! fixed beforehand: a task that was stopped at its first pass has been cut where it looks best, and is refused.

use super::{Counts, CoverageError};
use statrs::function::gamma::ln_gamma;

/// Up to so many factors the ratio is a plain product, which keeps its digits where the log-gammas of 10⁹ samples lose
/// theirs; beyond, the log-gammas are quicker, and their difference is too large to be lost.
const PRODUCT_MAX: u32 = 8;

/// The unbiased estimate for one task; missing where fewer than `k` samples were drawn, or no task has as many passes.
pub fn pass_at_k(samples: u32, correct: u32, k: u32) -> Option<f64> {
    if k > samples || correct > samples {
        return None;
    }
    if correct == 0 || k == 0 {
        return Some(0.0);
    }
    let failures = samples - correct;
    if failures < k {
        return Some(1.0);
    }
    // The ratio is symmetric in k and c: the product of `1 − larger/(n − j)` over j below the smaller.
    let (smaller, larger) = (correct.min(k), f64::from(correct.max(k)));
    let missed = if smaller <= PRODUCT_MAX {
        (0..smaller).map(|j| (-larger / f64::from(samples - j)).ln_1p()).sum()
    } else {
        let [n, m, k] = [samples, failures, k].map(f64::from);
        ln_gamma(m + 1.0) - ln_gamma(m - k + 1.0) - ln_gamma(n + 1.0) + ln_gamma(n - k + 1.0)
    };
    Some(-f64::min(missed, 0.0).exp_m1())
}

/// The mean over tasks of the unbiased estimate; missing where one of them has fewer than `k` samples.
///
/// # Errors
/// No task, or one that was stopped by its outcomes.
pub fn mean_pass_at_k(counts: &[Counts], k: u32) -> Result<Option<f64>, CoverageError> {
    if counts.is_empty() {
        return Err(CoverageError::NoTasks);
    }
    if let Some(task) = counts.iter().position(|task| task.stopped) {
        return Err(CoverageError::Stopped { task });
    }
    let each: Option<Vec<f64>> = counts.iter().map(|task| pass_at_k(task.samples, task.correct, k)).collect();
    Ok(each.map(|each| each.iter().sum::<f64>() / each.len() as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of all subsets of `k` among `n` samples whose first `c` passed, the share with a pass.
    fn enumerated(n: u32, c: u32, k: u32) -> f64 {
        let subsets = (0u32..1 << n).filter(|subset| subset.count_ones() == k);
        let (all, hits) = subsets.fold((0u32, 0u32), |(all, hits), subset| {
            (all + 1, hits + u32::from(subset & ((1 << c) - 1) != 0))
        });
        f64::from(hits) / f64::from(all)
    }

    #[test]
    fn it_is_the_share_of_subsets() {
        for n in 0..=12 {
            for c in 0..=n {
                for k in 0..=n {
                    let (found, expected) = (pass_at_k(n, c, k).unwrap(), enumerated(n, c, k));
                    assert!((found - expected).abs() < 1e-12, "n {n}, c {c}, k {k}: {found}, not {expected}");
                }
                assert_eq!(pass_at_k(n, c, n + 1), None);
            }
        }
        assert_eq!(pass_at_k(3, 4, 1), None);
    }

    #[test]
    fn large_counts_keep_their_digits() {
        // One pass among n: exactly k/n.
        for (n, k) in [(10_000u32, 1_000u32), (1_000_000, 10), (4_000_000_000, 1)] {
            let found = pass_at_k(n, 1, k).unwrap();
            let expected = f64::from(k) / f64::from(n);
            assert!(
                (found / expected - 1.0).abs() < 1e-4 || (found - expected).abs() < 1e-8,
                "{n} {k}: {found}"
            );
        }
    }

    #[test]
    fn stopped_tasks_are_refused() {
        let fixed = Counts::new(10, 2).unwrap();
        let stopped = Counts { stopped: true, ..Counts::new(3, 1).unwrap() };
        assert_eq!(mean_pass_at_k(&[fixed, stopped], 1), Err(CoverageError::Stopped { task: 1 }));
        assert_eq!(mean_pass_at_k(&[], 1), Err(CoverageError::NoTasks));
        assert_eq!(mean_pass_at_k(&[fixed, Counts::new(4, 0).unwrap()], 5), Ok(None));
        assert!(
            (mean_pass_at_k(&[fixed, Counts::new(4, 0).unwrap()], 1).unwrap().unwrap() - 0.1).abs() < 1e-12
        );
    }
}
