//! The beta-binomial law by hand, from simulated tasks, and at its extremes.

use super::*;
use crate::coverage::Counts;
use crate::coverage::simulation::{Family, fixed, until_first_pass};
use crate::random::Random;

const TRUTH: Difficulty = Difficulty { alpha: 0.4, beta: 4.0, unsolvable: 0.0 };

fn simulate(
    truth: Difficulty,
    tasks: usize,
    stream: u64,
    each: impl Fn(f64, &mut Random) -> Counts,
) -> Tally {
    let mut random = Random::new(51, stream);
    let counts: Vec<Counts> = (0..tasks)
        .map(|_| {
            let p = Family::Beta(truth).draw(&mut random);
            each(p, &mut random)
        })
        .collect();
    Tally::new(&counts)
}

#[test]
fn integrals_by_hand() {
    let uniform = Difficulty { alpha: 1.0, beta: 1.0, unsolvable: 0.0 };
    // ∫ p^c (1−p)^m = c! m!/(n + 1)!.
    for (samples, correct, expected) in
        [(1, 0, 0.5), (2, 1, 1.0 / 6.0), (5, 2, 1.0 / 60.0), (30, 0, 1.0 / 31.0)]
    {
        let found = uniform.ln_likelihood(samples, correct).exp();
        assert!((found / expected - 1.0).abs() < 1e-10, "{samples} {correct}: {found}");
    }
    assert!((uniform.coverage(9.0) - 0.9).abs() < 1e-12);
    let half = Difficulty { unsolvable: 0.5, ..uniform };
    assert!((half.coverage(9.0) - 0.45).abs() < 1e-12);
    assert!((half.ln_likelihood(1, 0).exp() - 0.75).abs() < 1e-12);
    assert!((half.ln_likelihood(1, 1).exp() - 0.25).abs() < 1e-12);
    // After one failure: 0.5 unsolvable against 0.25 that would have failed.
    let after = half.posterior(1, 0);
    assert!((after.unsolvable - 2.0 / 3.0).abs() < 1e-12 && after.beta == 2.0);
    assert_eq!(half.posterior(3, 1).unsolvable, 0.0);
    assert!((after.pass_probability() - 1.0 / 9.0).abs() < 1e-12);
    // Half of the tasks failed once, half passed once: (1/3·(1 − 1/2·…)).
    let tally = Tally::new(&[Counts::new(1, 0).unwrap(), Counts::new(1, 1).unwrap()]);
    let by_hand = f64::midpoint(uniform.posterior(1, 0).coverage(1.0), uniform.posterior(1, 1).coverage(1.0));
    assert!(
        (uniform.coverage_of_tasks(&tally, 1.0) - by_hand).abs() < 1e-12 && (by_hand - 0.5).abs() < 1e-12
    );
}

#[test]
fn parameters_come_back() {
    for (truth, zero_inflated) in [
        (TRUTH, false),
        (Difficulty { alpha: 3.0, beta: 1.5, unsolvable: 0.0 }, false),
        (Difficulty { alpha: 0.8, beta: 6.0, unsolvable: 0.35 }, true),
    ] {
        let tally = simulate(truth, 4_000, 1, |p, random| fixed(60, p, random));
        let fit = if zero_inflated {
            Difficulty::fit_zero_inflated(&tally, &Hyperprior::FLAT)
        } else {
            Difficulty::fit(&tally, &Hyperprior::FLAT)
        };
        assert!((fit.alpha / truth.alpha - 1.0).abs() < 0.15, "{fit:?} for {truth:?}");
        assert!((fit.beta / truth.beta - 1.0).abs() < 0.15, "{fit:?} for {truth:?}");
        assert!((fit.unsolvable - truth.unsolvable).abs() < 0.04, "{fit:?} for {truth:?}");
        let again = fit.refit(&tally, &Hyperprior::FLAT);
        assert!((again.coverage(1e3) - fit.coverage(1e3)).abs() < 1e-3, "{again:?} after {fit:?}");
    }
}

#[test]
fn stopping_at_the_first_pass_leaves_no_bias() {
    const RUNS: u64 = 40;
    let (mut error, mut naive_error) = (0.0, 0.0);
    for stream in 0..RUNS {
        let tally = simulate(TRUTH, 200, stream, |p, random| until_first_pass(40, p, random));
        let fit = Difficulty::fit(&tally, &Hyperprior::FLAT);
        error += (fit.coverage(10.0) - TRUTH.coverage(10.0)) / RUNS as f64;
        let naive: f64 = tally
            .rows()
            .map(|(n, c, weight)| weight * (1.0 - (1.0 - f64::from(c) / f64::from(n)).powi(10)))
            .sum();
        naive_error += (naive / 200.0 - TRUTH.coverage(10.0)) / RUNS as f64;
    }
    assert!(error.abs() < 0.01, "{error}");
    assert!(naive_error.abs() > 0.03, "{naive_error}");
}

#[test]
fn extremes_stay_finite() {
    for counts in
        [vec![], vec![(10, 0); 5], vec![(10, 10); 5], vec![(1, 1)], vec![(1, 0)], vec![(9, 0), (9, 9)]]
    {
        let counts: Vec<Counts> = counts.iter().map(|&(n, c)| Counts::new(n, c).unwrap()).collect();
        let tally = Tally::new(&counts);
        for hyperprior in [Hyperprior::FLAT, Hyperprior::WEAK] {
            for fit in
                [Difficulty::fit(&tally, &hyperprior), Difficulty::fit_zero_inflated(&tally, &hyperprior)]
            {
                let coverage = fit.coverage(100.0);
                assert!((0.0..=1.0).contains(&coverage), "{counts:?}: {fit:?}");
                assert!(fit.alpha.is_finite() && fit.beta.is_finite() && fit.alpha > 0.0 && fit.beta > 0.0);
            }
        }
    }
}
