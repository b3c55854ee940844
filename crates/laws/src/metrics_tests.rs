//! The metrics by hand, what is missing, and what is refused.

use super::*;

fn repetition(wall_s: f64, energy_j: f64) -> Repetition {
    Repetition { wall: Seconds(wall_s), energy: Some(Labelled::measured(Joules(energy_j), "counter")) }
}

fn price() -> Price {
    // 500 USD over 10^7 s of work; a kilowatt-hour for 0.36 USD is 10^-7 USD a joule.
    Price { device: Usd(500.0), life: Seconds(1e7), electricity_per_kwh: Usd(0.36) }
}

/// 20 tasks, 8 samples each, half solved, in 100 s and 2000 J: 20 W.
fn run() -> Run {
    Run {
        tasks: 20,
        repetitions: vec![repetition(100.0, 2000.0)],
        coverage: Some(Coverage { samples: 8, share: 0.5, draws: Vec::new(), spend: Vec::new() }),
        price: Some(price()),
    }
}

fn metrics(run: &Run) -> Metrics {
    Metrics::new(run, None, 1).unwrap()
}

fn all(m: &Metrics) -> [(&'static str, &Metric); 10] {
    [
        ("power", &m.power_w),
        ("energy", &m.energy_per_task_j),
        ("rate", &m.tasks_per_s),
        ("cost of tasks", &m.usd_per_thousand_tasks),
        ("IPW", &m.ipw),
        ("IPJ", &m.ipj),
        ("ECE", &m.ece),
        ("marginal ECE", &m.marginal_ece),
        ("PPP", &m.ppp),
        ("cost", &m.usd_per_thousand_solved),
    ]
}

#[test]
fn by_hand() {
    let smaller = Run {
        repetitions: vec![repetition(50.0, 1000.0)],
        coverage: Some(Coverage { samples: 2, share: 0.3, draws: Vec::new(), spend: Vec::new() }),
        ..run()
    };
    let m = Metrics::new(&run(), Some(&smaller), 1).unwrap();
    let expected = [
        20.0,
        100.0,
        0.2,
        1000.0 / 20.0 * (500.0 * 100.0 / 1e7 + 2000.0 * 1e-7),
        0.5 / 20.0,
        0.5 / 100.0,
        10.0 / 2000.0,
        (10.0 - 6.0) / 1000.0,
        0.1 / (20.0 * 500.0),
        1000.0 / 10.0 * (500.0 * 100.0 / 1e7 + 2000.0 * 1e-7),
    ];
    for ((name, metric), expected) in all(&m).into_iter().zip(expected) {
        let value = metric.value().unwrap_or_else(|| panic!("{name}: {metric:?}"));
        assert!((value / expected - 1.0).abs() < 1e-12, "{name}: {value} for {expected}");
        assert!(
            matches!(metric, Metric::Known { interval: None, provenance: Provenance::Measured, .. }),
            "{name}: one repetition has no interval: {metric:?}"
        );
    }
    assert_eq!(m.samples, Some(8));
}

#[test]
fn a_share_of_none_or_all_is_doubted_as_its_score_interval_is() {
    let with = |share: f64, draws: Vec<f64>| Run {
        coverage: Some(Coverage { samples: 8, share, spend: vec![1.0; draws.len()], draws }),
        ..run()
    };
    let ece = |run: &Run| match metrics(run).ece {
        Metric::Known { value, interval, .. } => (value, interval),
        missing => panic!("{missing:?}"),
    };
    for (share, low, high) in [(0.0, 0.0, 0.1611), (1.0, 0.8389, 1.0)] {
        let (value, interval) = ece(&with(share, vec![share; 1000]));
        let interval = interval.unwrap();
        // 20 tasks in 2000 J; Newcombe 1998 has 0.1611 for none of 20.
        assert_eq!(value, share * 0.01);
        let near = |a: f64, b: f64| (a - b * 0.01).abs() < 2e-4;
        assert!(near(interval.low, low) && near(interval.high, high), "{share}: {interval:?}");
        assert_eq!(ece(&with(share, Vec::new())).1, None, "nobody said how sure it is");
    }
}

#[test]
fn what_is_missing_says_why() {
    let without = |change: fn(&mut Run)| {
        let mut run = run();
        change(&mut run);
        metrics(&run)
    };
    let cases: [(Metrics, &[(&str, Missing)]); 4] = [
        (
            without(|run| run.coverage = None),
            &[
                ("IPW", Missing::Accuracy),
                ("IPJ", Missing::Accuracy),
                ("ECE", Missing::Accuracy),
                ("marginal ECE", Missing::Accuracy),
                ("PPP", Missing::Accuracy),
                ("cost", Missing::Accuracy),
            ],
        ),
        (
            without(|run| run.repetitions[0].energy = None),
            &[
                ("power", Missing::Energy),
                ("energy", Missing::Energy),
                ("cost of tasks", Missing::Energy),
                ("IPW", Missing::Energy),
                ("IPJ", Missing::Energy),
                ("ECE", Missing::Energy),
                ("marginal ECE", Missing::Energy),
                ("PPP", Missing::Energy),
                ("cost", Missing::Energy),
            ],
        ),
        (
            without(|run| run.price = None),
            &[
                ("cost of tasks", Missing::Price),
                ("marginal ECE", Missing::SmallerRun),
                ("PPP", Missing::Price),
                ("cost", Missing::Price),
            ],
        ),
        (
            without(|run| {
                run.coverage = Some(Coverage { samples: 8, share: 0.0, draws: Vec::new(), spend: Vec::new() })
            }),
            &[("marginal ECE", Missing::SmallerRun), ("cost", Missing::NothingSolved)],
        ),
    ];
    for (m, missing) in cases {
        let found: Vec<(&str, Missing)> = all(&m)
            .into_iter()
            .filter_map(|(name, metric)| match metric {
                Metric::Missing(why) => Some((name, *why)),
                Metric::Known { .. } => None,
            })
            .collect();
        assert_eq!(found, missing);
    }
}

#[test]
fn the_weakest_label_wins() {
    let mut run = run();
    run.repetitions.push(Repetition {
        wall: Seconds(100.0),
        energy: Some(Labelled::estimated(Joules(2000.0), "CPU time × envelope")),
    });
    let m = metrics(&run);
    assert!(matches!(m.ece, Metric::Known { provenance: Provenance::Estimated, .. }));
    assert!(matches!(m.tasks_per_s, Metric::Known { provenance: Provenance::Measured, .. }));
}

#[test]
fn uncertain_inputs_give_intervals() {
    let mut run = run();
    run.repetitions = [1900.0, 2000.0, 2100.0, 1950.0, 2050.0].map(|e| repetition(e / 20.0, e)).to_vec();
    let m = metrics(&run);
    let width = |metric: &Metric| match metric {
        Metric::Known { value, interval: Some(interval), .. } => {
            assert!(interval.holds(*value), "{metric:?}");
            interval.high - interval.low
        }
        other => panic!("{other:?}"),
    };
    // Energy and time of a repetition stay together, so power is always 20 W.
    assert!(width(&m.power_w) < 1e-9);
    let energy_alone = width(&m.ece);
    assert!(energy_alone > 0.0);
    // Coverage of 20 tasks is the larger doubt.
    let draws = (0..200).map(|i| 0.3 + 0.4 * f64::from(i) / 199.0).collect();
    run.coverage = Some(Coverage { samples: 8, share: 0.5, draws, spend: Vec::new() });
    let with_coverage = metrics(&run);
    assert!(width(&with_coverage.ece) > 3.0 * energy_alone);
    assert!(width(&with_coverage.energy_per_task_j) < 1.2 * width(&m.energy_per_task_j));
    assert_eq!(with_coverage, metrics(&run), "same seed, same figures");
    // One repetition: the doubt about coverage is left.
    run.repetitions.truncate(1);
    assert!(width(&metrics(&run).ece) > 0.0);
    assert!(matches!(metrics(&run).power_w, Metric::Known { interval: None, .. }));
}

#[test]
fn hard_tasks_cost_more_and_the_interval_holds_both() {
    let draws: Vec<f64> = (0..200).map(|i| 0.3 + 0.4 * f64::from(i) / 199.0).collect();
    let with = |spend: Vec<f64>, samples, joules| Run {
        repetitions: vec![repetition(50.0, joules)],
        coverage: Some(Coverage { samples, share: 0.5, draws: draws.clone(), spend }),
        ..run()
    };
    let width = |metric: &Metric| match metric {
        Metric::Known { interval: Some(interval), .. } => interval.high - interval.low,
        other => panic!("{other:?}"),
    };
    let metrics = |run: &Run| Metrics::new(run, None, 1).unwrap();
    // Resamples with more solved tasks hold more easy ones, which take less: solved tasks by joule vary by both.
    let cheap: Vec<f64> = draws.iter().map(|share| 1.5 - share).collect();
    let dear: Vec<f64> = draws.iter().map(|share| 0.5 + share).collect();
    let alone = metrics(&with(Vec::new(), 8, 1000.0));
    let [cheap_ece, dear_ece] =
        [&cheap, &dear].map(|spend| width(&metrics(&with(spend.clone(), 8, 1000.0)).ece));
    assert!(cheap_ece > 1.2 * width(&alone.ece), "{cheap_ece}");
    assert!(dear_ece < 0.8 * width(&alone.ece), "{dear_ece}");
    assert!(matches!(alone.energy_per_task_j, Metric::Known { interval: None, .. }));
    assert!(width(&metrics(&with(cheap.clone(), 8, 1000.0)).energy_per_task_j) > 0.0);
    // More samples of the same tasks: where both runs hold the same resamples, what a joule more buys is sharper.
    let smaller = |spend| {
        let mut run = with(spend, 4, 500.0);
        let coverage = run.coverage.as_mut().unwrap();
        coverage.share = 0.4;
        coverage.draws.iter_mut().for_each(|share| *share *= 0.8);
        run
    };
    let marginal = |spend: Vec<f64>| {
        let run = with(spend.clone(), 8, 1000.0);
        width(&Metrics::new(&run, Some(&smaller(spend)), 1).unwrap().marginal_ece)
    };
    assert!(marginal(vec![1.0; 200]) < 0.5 * marginal(Vec::new()));
}

#[test]
fn a_marginal_gain_needs_a_smaller_run_that_was_cheaper() {
    let with = |samples, energy_j| Run {
        repetitions: vec![repetition(50.0, energy_j)],
        coverage: Some(Coverage { samples, share: 0.3, draws: Vec::new(), spend: Vec::new() }),
        ..run()
    };
    for (smaller, expected) in [
        (with(8, 1000.0), Missing::SmallerRun),
        (with(16, 1000.0), Missing::SmallerRun),
        (Run { tasks: 10, ..with(2, 1000.0) }, Missing::SmallerRun),
        (Run { coverage: None, ..with(2, 1000.0) }, Missing::SmallerRun),
        (with(2, 2000.0), Missing::NoMoreEnergy),
    ] {
        let m = Metrics::new(&run(), Some(&smaller), 1).unwrap();
        assert_eq!(m.marginal_ece, Metric::Missing(expected));
    }
}

#[test]
fn nonsense_is_refused() {
    let cases: [fn(&mut Run); 12] = [
        |run| run.tasks = 0,
        |run| run.repetitions.clear(),
        |run| run.repetitions[0].wall = Seconds(0.0),
        |run| run.repetitions[0].wall = Seconds(f64::NAN),
        |run| run.repetitions[0].energy = Some(Labelled::measured(Joules(-1.0), "counter")),
        |run| run.coverage = Some(Coverage { samples: 1, share: 1.5, draws: Vec::new(), spend: Vec::new() }),
        |run| {
            run.coverage = Some(Coverage { samples: 1, share: 0.5, draws: vec![f64::NAN], spend: Vec::new() })
        },
        |run| {
            run.coverage = Some(Coverage { samples: 1, share: 0.5, draws: vec![0.5], spend: vec![1.0, 1.0] });
        },
        |run| run.coverage = Some(Coverage { samples: 1, share: 0.5, draws: vec![0.5], spend: vec![0.0] }),
        |run| run.price = Some(Price { device: Usd(0.0), ..price() }),
        |run| run.price = Some(Price { life: Seconds(-1.0), ..price() }),
        |run| run.price = Some(Price { electricity_per_kwh: Usd(f64::INFINITY), ..price() }),
    ];
    for (at, change) in cases.into_iter().enumerate() {
        let mut run = run();
        change(&mut run);
        assert!(Metrics::new(&run, None, 1).is_err(), "case {at}");
    }
}
