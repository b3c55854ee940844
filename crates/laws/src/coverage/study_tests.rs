//! All laws side by side: what intervals hold, which law is chosen, and what adaptive data do to them.

use super::*;
use crate::coverage::simulation::{Family, fixed, until_first_pass};

const AT: [f64; 3] = [10.0, 100.0, 1_000.0];

fn tasks(family: &Family, tasks: usize, samples: u32, stream: u64) -> Vec<Counts> {
    let mut random = Random::new(61, stream);
    (0..tasks)
        .map(|_| {
            let p = family.draw(&mut random);
            fixed(samples, p, &mut random)
        })
        .collect()
}

fn beta(alpha: f64, beta: f64, unsolvable: f64) -> Family {
    Family::Beta(Difficulty { alpha, beta, unsolvable })
}

/// Intervals of `law` over 60 simulated models of 128 tasks that hold the truth, figure by figure.
fn held(law: Law, samples: u32, truth: impl Fn(&mut Random) -> (Family, Vec<f64>)) -> Vec<u32> {
    let mut held = Vec::new();
    for stream in 0..SIMULATIONS {
        let mut random = Random::new(61, stream);
        let (family, truths) = truth(&mut random);
        let counts: Vec<Counts> = (0..128)
            .map(|_| {
                let p = family.draw(&mut random);
                fixed(samples, p, &mut random)
            })
            .collect();
        let tally = Tally::new(&counts);
        let intervals = law.fit(&tally).intervals(&tally, &[10.0, 500.0], 0.95, 100, stream);
        assert_eq!(intervals.len(), truths.len(), "{law:?}");
        held.resize(truths.len(), 0);
        for ((held, interval), truth) in held.iter_mut().zip(&intervals).zip(truths) {
            *held += u32::from(interval.unwrap().holds(truth));
        }
    }
    held
}

const SIMULATIONS: u64 = 60;

#[test]
fn intervals_hold_the_truth() {
    // 500 simulations of each law are in an example of this crate; these few catch what is plainly wrong. Of 60
    // intervals that hold in 95 % fewer than 51 do with probability 10⁻³.
    let of_curve = |shape, factor, exponent| {
        let curve = Curve { shape, factor, exponent };
        let truths = vec![curve.coverage(10.0), curve.coverage(500.0), factor, exponent];
        (Family::Curve(curve), truths)
    };
    let of_beta = |alpha, beta, unsolvable| {
        let law = Difficulty { alpha, beta, unsolvable };
        let mut truths = vec![law.coverage(10.0), law.coverage(500.0), alpha, beta];
        truths.extend((unsolvable > 0.0).then_some(unsolvable));
        (Family::Beta(law), truths)
    };
    for (law, (family, truths)) in [
        (Law::BetaBinomial, of_beta(0.5, 5.0, 0.0)),
        (Law::ZeroInflated, of_beta(1.5, 30.0, 0.4)),
        (Law::ExpPower, of_curve(Shape::ExpPower, 2.0, 0.25)),
        (Law::Stretched, of_curve(Shape::Stretched, 0.05, 0.6)),
    ] {
        let held = held(law, 50, |_| (family.clone(), truths.clone()));
        println!("{law:?}: {held:?} of {SIMULATIONS}");
        assert!(held.iter().all(|&held| held >= 51), "{law:?}: {held:?}");
    }
}

#[test]
fn intervals_of_the_average_hold_under_its_own_prior() {
    let prior = Populations::prior(50);
    let held = held(Law::Populations, 50, |random| {
        let family = prior.draw(random);
        let Family::Table(points) = &family else { panic!("{family:?}") };
        let solved = |k: f64| points.iter().map(|(p, weight)| -weight * (k * (-p).ln_1p()).exp_m1()).sum();
        let truths = vec![solved(10.0), solved(500.0)];
        (family, truths)
    });
    println!("{held:?} of {SIMULATIONS}");
    assert!(held.iter().all(|&held| held >= 51), "{held:?}");
}

#[test]
fn the_interval_is_wide_where_nothing_is_known() {
    let counts = vec![Counts::new(20, 0).unwrap(); 30];
    let study = Study::new(&counts, &AT, 0.95, 100, 1).unwrap();
    let chosen = study.chosen().unwrap();
    assert_eq!(chosen.law, Law::Populations);
    // No pass in 600 samples: little at 10, and at 1,000 nearly anything.
    let interval = chosen.intervals[2].unwrap();
    assert!(chosen.coverage[0] < 0.02 && interval.low < 0.01 && interval.high > 0.1, "{chosen:?}");
}

#[test]
fn a_study_of_each_family() {
    for (name, family) in [
        ("beta", beta(0.4, 4.0, 0.0)),
        ("zero-inflated", beta(1.5, 30.0, 0.4)),
        ("logit-normal", Family::LogitNormal { mean: -4.0, deviation: 2.0 }),
    ] {
        let mut random = Random::new(62, 0);
        let p: Vec<f64> = (0..400).map(|_| family.draw(&mut random)).collect();
        let counts: Vec<Counts> = p.iter().map(|&p| fixed(100, p, &mut random)).collect();
        let truth = |k: f64| p.iter().map(|p| 1.0 - (1.0 - p).powf(k)).sum::<f64>() / p.len() as f64;
        let study = Study::new(&counts, &AT, 0.95, 60, 1).unwrap();
        let chosen = study.chosen().unwrap();
        for (at, k) in AT.into_iter().enumerate() {
            let allowed = if k > 100.0 { 0.08 } else { 0.02 };
            assert!(
                (chosen.coverage[at] - truth(k)).abs() < allowed,
                "{name} at {k}: {chosen:?}, {}",
                truth(k)
            );
        }
        assert!(study.disagreement[2] > study.disagreement[1], "{name}: laws part beyond the samples");
        let rising = |law: &LawStudy| law.coverage.windows(2).all(|pair| pair[0] <= pair[1] + 1e-9);
        assert!(study.laws.iter().all(rising), "{name}: {study:?}");
        for law in &study.laws {
            for (coverage, interval) in law.coverage.iter().zip(&law.intervals) {
                let interval = interval.unwrap();
                assert!((0.0..=1.0).contains(coverage) && interval.low <= interval.high, "{name}: {law:?}");
            }
            assert!(law.held_out_deviance.unwrap() > 0.0);
        }
    }
}

#[test]
fn one_seed_one_study() {
    let counts = tasks(&beta(0.5, 5.0, 0.0), 40, 30, 3);
    let of = |seed| Study::new(&counts, &AT, 0.95, 60, seed).unwrap();
    assert_eq!(of(1), of(1));
    assert_ne!(of(1).laws[3].intervals, of(2).laws[3].intervals);
    assert_eq!(of(1).laws[1].coverage, of(2).laws[1].coverage);
}

#[test]
fn laws_from_runs_that_stop_at_the_first_pass() {
    // Every law that has a likelihood of such data comes near the truth; the share of passes does not.
    let family = beta(0.5, 5.0, 0.0);
    let truth = Difficulty { alpha: 0.5, beta: 5.0, unsolvable: 0.0 }.coverage(20.0);
    let mut random = Random::new(63, 0);
    let counts: Vec<Counts> = (0..3_000)
        .map(|_| {
            let p = family.draw(&mut random);
            until_first_pass(40, p, &mut random)
        })
        .collect();
    let tally = Tally::new(&counts);
    for law in Law::ALL {
        let found = law.fit(&tally).coverage(20.0);
        assert!((found - truth).abs() < 0.03, "{law:?}: {found} for {truth}");
    }
    let seen = earlier(counts[0], 40, &mut random);
    assert!(seen.samples <= 10);
}

#[test]
fn a_cut_depends_on_no_outcome() {
    let mut random = Random::new(1, 0);
    for (samples, correct, expected) in [
        (3, 1, (3, 1)),
        (10, 1, (10, 1)),
        (11, 1, (10, 0)),
        (40, 0, (10, 0)),
        (4, 0, (4, 0)),
        (11, 2, (10, 1)),
    ] {
        let cut = earlier(Counts { samples, correct, stopped: true }, 40, &mut random);
        assert_eq!((cut.samples, cut.correct), expected, "{samples} {correct}");
    }
}

#[test]
fn a_law_is_chosen_over_the_average_only_if_surely_better() {
    let scores = |theirs: [f64; 4]| -> Vec<Vec<f64>> {
        let mut scores = vec![[30.0, 20.0, 10.0, 20.0].repeat(5), theirs.repeat(5)];
        scores.extend(vec![vec![99.0; 20]; 3]);
        scores
    };
    let (same, better) = ([30.0, 20.0, 10.0, 20.0], [29.0, 19.0, 9.0, 18.0]);
    for (label, same_samples, more_samples, expected) in [
        ("better in both", better, better, Law::BetaBinomial),
        ("better on the same samples only", better, same, Law::Populations),
        ("better on more samples only", same, better, Law::Populations),
        ("better on average, but not surely", [2.0, 24.0, 14.0, 24.0], better, Law::Populations),
        ("surely better, but hardly", better, [29.9, 19.9, 9.9, 19.9], Law::Populations),
        ("the same", same, same, Law::Populations),
    ] {
        let scores = Scores { same_samples: scores(same_samples), more_samples: scores(more_samples) };
        assert_eq!(choose(&scores), expected, "{label}");
    }
}

#[test]
fn nothing_to_study() {
    assert_eq!(Study::new(&[], &AT, 0.95, 60, 1), Err(CoverageError::NoTasks));
    let unsampled = [Counts::new(0, 0).unwrap()];
    assert_eq!(Study::new(&unsampled, &AT, 0.95, 60, 1), Err(CoverageError::NoTasks));
}
