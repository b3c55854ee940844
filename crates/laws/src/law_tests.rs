//! Known laws come back, intervals hold what they promise, and bad data is refused.

use super::*;
use crate::interval::{REPLICATES, bootstrap};
use crate::random::Random;
use proptest::prelude::*;

/// Parameters of five models between 124M and 2.6B, as an edge machine is profiled with.
const SIZES: [f64; 5] = [124e6, 350e6, 494e6, 1.24e9, 2.57e9];
/// Simulated data sets; the standard error of a 95 % coverage is then 0.5 %.
const SIMULATIONS: u64 = 2_000;

fn points(x: &[f64], y: impl Fn(f64) -> f64) -> Vec<Point> {
    x.iter().enumerate().map(|(i, &x)| Point { group: i as u32, x, y: y(x) }).collect()
}

fn noisy(law: Law, x: &[f64], sd: f64, random: &mut Random) -> Vec<Point> {
    let mut exact = points(x, |x| law.at(x));
    exact.iter_mut().for_each(|point| point.y *= (sd * random.normal()).exp());
    exact
}

#[test]
fn exact_laws_come_back() {
    let laws = [
        Law { form: Form::Power, a: 3e-8, b: 0.93 },
        Law { form: Form::Power, a: 5.0, b: -0.5 },
        Law { form: Form::Power, a: 2.0, b: 0.0 },
        Law { form: Form::Affine, a: 1.5, b: 4e-8 },
        Law { form: Form::Affine, a: 7.0, b: 0.0 },
        Law { form: Form::Affine, a: -0.1, b: 1e-7 },
    ];
    for law in laws {
        let fit = Fit::new(law.form, &points(&SIZES, |x| law.at(x))).unwrap();
        assert!((fit.law.a / law.a - 1.0).abs() < 1e-6, "{law}: {}", fit.law);
        assert!((fit.law.b - law.b).abs() <= 1e-9 * law.b.abs().max(1e-9), "{law}: {}", fit.law);
        assert!(fit.spread_factor - 1.0 < 1e-6, "{law}");
        if law.b != 0.0 {
            assert!(fit.r2_log.unwrap() > 0.999_999, "{law}");
        }
        let (value, interval) = fit.predict(1.5e9, 0.95).unwrap();
        assert!((value / law.at(1.5e9) - 1.0).abs() < 1e-6 && interval.high / interval.low < 1.000_01);
        assert_eq!(fit.x_range, [SIZES[0], SIZES[4]]);
    }
}

#[test]
fn bad_data_is_refused() {
    let y_of = |at: usize, y: f64| {
        let mut points = points(&SIZES, |x| x);
        points[at].y = y;
        points
    };
    let same_group: Vec<Point> = points(&SIZES, |x| x).iter().map(|p| Point { group: 1, ..*p }).collect();
    for form in Form::ALL {
        let error = |points: &[Point]| Fit::new(form, points).unwrap_err();
        assert!(matches!(error(&[]), LawError::TooFew { found: 0, least: 3, .. }));
        assert!(matches!(error(&points(&SIZES[..2], |x| x)), LawError::TooFew { found: 2, least: 3, .. }));
        assert!(matches!(error(&same_group), LawError::TooFew { found: 1, least: 3, .. }));
        assert!(matches!(error(&y_of(2, 0.0)), LawError::NotPositive { index: 2, .. }));
        assert!(matches!(error(&y_of(1, -4.0)), LawError::NotPositive { index: 1, .. }));
        assert!(matches!(error(&y_of(0, f64::NAN)), LawError::NotFinite { index: 0, .. }));
        assert!(matches!(error(&y_of(4, f64::INFINITY)), LawError::NotFinite { index: 4, .. }));
        assert!(matches!(error(&points(&[-1.0, 1.0, 2.0], |_| 1.0)), LawError::NotPositive { index: 0, .. }));
        assert_eq!(error(&points(&[2.0; 4], |_| 1.0)), LawError::NoSpread { what: "x".into() });
        assert!(Law::through(form, &points(&[1.0], |x| x)).is_err());
        let fit = Fit::new(form, &points(&SIZES, |x| x)).unwrap();
        for x in [0.0, -1.0, f64::NAN] {
            assert!(fit.predict(x, 0.95).is_err(), "{form} at {x}");
        }
        assert!(matches!(fit.predict(1e9, 1.0), Err(LawError::Level { .. })));
    }
}

#[test]
fn an_affine_law_says_where_it_ends() {
    let fit = Fit::new(Form::Affine, &points(&SIZES, |x| 1e-7 * x - 5.0)).unwrap();
    assert!(matches!(fit.predict(10e6, 0.95), Err(LawError::OutOfReach { .. })));
}

/// Weighted by 1/y², a law that is off by 10 % at the smallest model costs as much as one off by 10 % at the largest.
#[test]
fn the_affine_law_minds_small_models_too() {
    let mut data = points(&SIZES, |x| 1.0 + 1e-8 * x);
    data[4].y *= 1.2;
    let law = Law::through(Form::Affine, &data).unwrap();
    for point in &data[..3] {
        assert!((law.at(point.x) / point.y - 1.0).abs() < 0.1, "{law} at {}", point.x);
    }
}

/// How often intervals of a stated confidence hold the truth.
struct Coverage {
    prediction: f64,
    slope: f64,
    slope_bootstrap: f64,
}

fn coverage(law: Law, sizes: &[f64], sd: f64, bootstraps: u64) -> Coverage {
    let (mut prediction, mut slope, mut slope_bootstrap) = (0, 0, 0);
    for simulation in 0..SIMULATIONS {
        let mut random = Random::new(42, simulation);
        let data = noisy(law, sizes, sd, &mut random);
        let fit = Fit::new(law.form, &data).unwrap();
        let unseen = 1.54e9;
        let measured = law.at(unseen) * (sd * random.normal()).exp();
        prediction += u32::from(fit.predict(unseen, 0.95).unwrap().1.holds(measured));
        slope += u32::from(fit.b_interval.holds(law.b));
        if simulation < bootstraps {
            let groups: Vec<u32> = data.iter().map(|point| point.group).collect();
            let interval = bootstrap(&groups, REPLICATES / 5, 0.95, simulation, |resample| {
                let drawn: Vec<Point> = resample.iter().map(|&at| data[at]).collect();
                Law::through(law.form, &drawn).ok().map(|law| vec![law.b])
            });
            slope_bootstrap += u32::from(interval.unwrap()[0].holds(law.b));
        }
    }
    let share = |count: u32, of: u64| f64::from(count) / of as f64;
    Coverage {
        prediction: share(prediction, SIMULATIONS),
        slope: share(slope, SIMULATIONS),
        slope_bootstrap: share(slope_bootstrap, bootstraps.max(1)),
    }
}

#[test]
fn intervals_hold_what_they_promise() {
    let eleven: Vec<f64> = (0..11).map(|i| 124e6 * 1.36f64.powi(i)).collect();
    let power = Law { form: Form::Power, a: 3e-8, b: 0.93 };
    let affine = Law { form: Form::Affine, a: 2.0, b: 3e-8 };
    // The affine interval is exact to first order only.
    for (law, sizes, sd, slack) in [
        (power, &SIZES[..], 0.1, 0.015),
        (power, &SIZES[..3], 0.1, 0.015),
        (power, &eleven[..], 0.3, 0.015),
        (affine, &SIZES[..], 0.05, 0.02),
        (affine, &eleven[..], 0.1, 0.02),
    ] {
        let seen = coverage(law, sizes, sd, 0);
        for (what, share) in [("prediction", seen.prediction), ("slope", seen.slope)] {
            assert!((share - 0.95).abs() < slack, "{law}, {} models, {what}: {share}", sizes.len());
        }
    }
}

/// The reason why Student's t is the interval to go by, where it can be had.
#[test]
fn the_bootstrap_holds_less_than_it_promises() {
    let power = Law { form: Form::Power, a: 3e-8, b: 0.93 };
    let twenty_five: Vec<f64> = (0..25).map(|i| 124e6 * 1.135f64.powi(i)).collect();
    let few = coverage(power, &SIZES, 0.1, SIMULATIONS).slope_bootstrap;
    let many = coverage(power, &twenty_five, 0.1, SIMULATIONS).slope_bootstrap;
    assert!((0.88..0.935).contains(&few), "five models: {few}");
    assert!((0.89..0.94).contains(&many), "twenty-five models: {many}");
}

/// Rows of one model are not as many models.
#[test]
fn repeating_points_buys_no_confidence_beyond_the_models() {
    let mut random = Random::new(5, 0);
    let data = noisy(Law { form: Form::Power, a: 1.0, b: 1.0 }, &SIZES, 0.1, &mut random);
    let tenfold: Vec<Point> = data.iter().flat_map(|point| [*point; 10]).collect();
    let (once, often) = (Fit::new(Form::Power, &data).unwrap(), Fit::new(Form::Power, &tenfold).unwrap());
    assert_eq!(often.groups, 5);
    let width = |fit: &Fit| fit.predict(1e9, 0.95).unwrap().1;
    // The factor from the residuals' degrees of freedom, 3 of 5 against 48 of 50, remains; t stays that of 3.
    assert!(
        width(&often).high > 1.0 + 0.7 * (width(&once).high - 1.0),
        "{:?} {:?}",
        width(&once),
        width(&often)
    );
}

proptest! {
    /// A change of units changes the factor and nothing else.
    #[test]
    fn units_do_not_matter(scale_x in 1e-9..1e9f64, scale_y in 1e-6..1e6f64, seed: u64) {
        let mut random = Random::new(seed, 0);
        for form in Form::ALL {
            let law = Law { form, a: 2.0, b: if form == Form::Power { 0.8 } else { 3e-8 } };
            let data = noisy(law, &SIZES, 0.1, &mut random);
            let scaled: Vec<Point> =
                data.iter().map(|p| Point { group: p.group, x: p.x * scale_x, y: p.y * scale_y }).collect();
            let (fit, other) = (Fit::new(form, &data).unwrap(), Fit::new(form, &scaled).unwrap());
            let (value, interval) = fit.predict(1e9, 0.95).unwrap();
            let (value_scaled, interval_scaled) = other.predict(1e9 * scale_x, 0.95).unwrap();
            prop_assert!((value * scale_y / value_scaled - 1.0).abs() < 1e-6);
            prop_assert!((interval.high * scale_y / interval_scaled.high - 1.0).abs() < 1e-6);
            prop_assert!((fit.spread_factor - other.spread_factor).abs() < 1e-6);
        }
    }

    /// Far outside the points the interval is wider than among them, and a higher confidence is wider still.
    #[test]
    fn intervals_widen(seed: u64) {
        let mut random = Random::new(seed, 0);
        let data = noisy(Law { form: Form::Power, a: 1.0, b: 1.0 }, &SIZES, 0.1, &mut random);
        let fit = Fit::new(Form::Power, &data).unwrap();
        let ratio = |x, level| {
            let (_, interval) = fit.predict(x, level).unwrap();
            interval.high / interval.low
        };
        prop_assert!(ratio(1e11, 0.95) > ratio(5e8, 0.95));
        prop_assert!(ratio(5e8, 0.99) > ratio(5e8, 0.95));
        let (_, law) = fit.law_band(5e8, 0.95).unwrap();
        prop_assert!(law.high / law.low < ratio(5e8, 0.95));
    }
}

#[test]
fn scatter_between_runs_widens_a_lucky_law() {
    let exact: Vec<Point> =
        [1.0, 2.0, 4.0, 8.0].iter().zip(0..).map(|(&x, group)| Point { group, x, y: 3.0 * x }).collect();
    let fit = Fit::new(Form::Power, &exact).unwrap();
    let (value, narrow) = fit.predict(3.0, 0.95).unwrap();
    assert!((narrow.high / value - 1.0).abs() < 1e-6, "{narrow:?}");
    let (same, wide) = fit.with_repeats(0.1).predict(3.0, 0.95).unwrap();
    assert!((same - value).abs() < 1e-9);
    // 1.962 standard deviations of 0.1 in the logarithm
    assert!(
        ((wide.high / value).ln() - 0.1962).abs() < 1e-3 && ((value / wide.low).ln() - 0.1962).abs() < 1e-3
    );
}
