//! How often the intervals of coverage and of the laws' parameters hold the truth, in simulations.
//!
//! `cargo run --release -p qeil-laws --example intervals -- [SIMULATIONS] [NAME]` draws 128 tasks with up to 50 samples
//! each from a known law, fits that law, and counts the 95 % intervals that hold the truth, at k within the samples and
//! beyond. Each law is asked about tasks drawn from itself; the average over populations also about tasks of families
//! that are not its own. NAME picks one law. The standard error of a share of 500 is 1 %.

use qeil_laws::coverage::beta::Difficulty;
use qeil_laws::coverage::curve::{Curve, Shape};
use qeil_laws::coverage::populations::Populations;
use qeil_laws::coverage::simulation::{Family, fixed, until_first_pass};
use qeil_laws::coverage::study::Law;
use qeil_laws::coverage::{Counts, Tally};
use qeil_laws::random::Random;

const SIMULATIONS: u64 = 500;
/// Not the seed of the simulations from which the kinds of interval were chosen (61).
const SEED: u64 = 1_061;
const REPLICATES: u32 = 200;
const TASKS: usize = 128;
const SAMPLES: u32 = 50;
const AT: [f64; 3] = [10.0, 100.0, 500.0];
/// Draws for the true coverage of a family that has no formula: it is then known to 0.001.
const DRAWS: u32 = 200_000;

/// Where the tasks of one simulation come from.
enum Source {
    /// The same law each time.
    Law(Family),
    /// One drawn anew from what the average over populations believes before any sample.
    Prior(Populations),
}

/// What is simulated and which law is asked.
struct Case {
    law: Law,
    source: Source,
    stopped: bool,
    label: String,
    /// Parameters by name; none for an average.
    parameters: Vec<(&'static str, f64)>,
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let simulations = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(SIMULATIONS);
    let only = arguments.next();
    println!("share of 95 % intervals that hold the truth (standard error), {simulations} simulations");
    for case in cases().into_iter().filter(|case| only.as_ref().is_none_or(|name| name == case.law.name())) {
        let names: Vec<String> = AT
            .iter()
            .map(|k| format!("coverage at {k}"))
            .chain(case.parameters.iter().map(|(name, _)| (*name).to_owned()))
            .collect();
        let mut held = vec![0u32; names.len()];
        let known = match &case.source {
            Source::Law(family) => truths(family),
            Source::Prior(_) => Vec::new(),
        };
        for stream in 0..simulations {
            let mut random = Random::new(SEED, stream);
            let (family, mut truth) = match &case.source {
                Source::Law(family) => (family.clone(), known.clone()),
                Source::Prior(prior) => {
                    let family = prior.draw(&mut random);
                    let truth = truths(&family);
                    (family, truth)
                }
            };
            truth.extend(case.parameters.iter().map(|(_, value)| *value));
            let counts: Vec<Counts> = (0..TASKS)
                .map(|_| {
                    let p = family.draw(&mut random);
                    let sample = if case.stopped { until_first_pass } else { fixed };
                    sample(SAMPLES, p, &mut random)
                })
                .collect();
            let tally = Tally::new(&counts);
            let intervals = case.law.fit(&tally).intervals(&tally, &AT, 0.95, REPLICATES, stream);
            for ((held, interval), truth) in held.iter_mut().zip(intervals).zip(truth) {
                *held += u32::from(interval.is_some_and(|interval| interval.holds(truth)));
            }
        }
        let cells: String = names
            .iter()
            .zip(held)
            .map(|(name, held)| {
                let share = f64::from(held) / simulations as f64;
                let error = (share * (1.0 - share) / simulations as f64).sqrt();
                format!("  {name} {:.1} % ({:.1})", 100.0 * share, 100.0 * error)
            })
            .collect();
        println!("{} by {}:{cells}", case.label, case.law.name());
    }
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |law, label: &str, family: Family, stopped, parameters| {
        let how = if stopped { "stopped at the first pass" } else { "fixed" };
        cases.push(Case {
            law,
            label: format!("{label}, {how},"),
            source: Source::Law(family),
            stopped,
            parameters,
        });
    };
    for (alpha, beta, stopped) in [(0.5, 5.0, false), (0.3, 20.0, false), (0.5, 5.0, true)] {
        let family = Family::Beta(Difficulty { alpha, beta, unsolvable: 0.0 });
        let parameters = vec![("alpha", alpha), ("beta", beta)];
        add(Law::BetaBinomial, &format!("beta {alpha}, {beta}"), family, stopped, parameters);
    }
    for (alpha, beta, unsolvable) in [(0.8, 8.0, 0.3), (1.5, 30.0, 0.4)] {
        let family = Family::Beta(Difficulty { alpha, beta, unsolvable });
        let parameters = vec![("alpha", alpha), ("beta", beta), ("unsolvable", unsolvable)];
        let label = format!("beta {alpha}, {beta}, {unsolvable} never");
        add(Law::ZeroInflated, &label, family, false, parameters);
    }
    for (law, shape, name, factor, exponent, stopped) in [
        (Law::ExpPower, Shape::ExpPower, "exp(−a·k^−b)", 2.0, 0.25, false),
        (Law::ExpPower, Shape::ExpPower, "exp(−a·k^−b)", 3.0, 0.2, false),
        (Law::ExpPower, Shape::ExpPower, "exp(−a·k^−b)", 2.0, 0.25, true),
        (Law::Stretched, Shape::Stretched, "1 − exp(−α·k^β)", 0.05, 0.6, false),
        (Law::Stretched, Shape::Stretched, "1 − exp(−α·k^β)", 0.1, 0.4, false),
        (Law::Stretched, Shape::Stretched, "1 − exp(−α·k^β)", 0.05, 0.6, true),
    ] {
        let parameters = vec![("factor", factor), ("exponent", exponent)];
        let family = Family::Curve(Curve { shape, factor, exponent });
        add(law, &format!("{name} with {factor}, {exponent}"), family, stopped, parameters);
    }
    let beta = |alpha, beta, unsolvable| Family::Beta(Difficulty { alpha, beta, unsolvable });
    for (label, family) in [
        ("beta 0.5, 5", beta(0.5, 5.0, 0.0)),
        ("beta 0.8, 8, 0.3 never", beta(0.8, 8.0, 0.3)),
        ("logit-normal −4, 2", Family::LogitNormal { mean: -4.0, deviation: 2.0 }),
        (
            "1 − exp(−α·k^β) with 0.05, 0.6",
            Family::Curve(Curve { shape: Shape::Stretched, factor: 0.05, exponent: 0.6 }),
        ),
    ] {
        add(Law::Populations, label, family, false, Vec::new());
    }
    cases.push(Case {
        law: Law::Populations,
        source: Source::Prior(Populations::prior(SAMPLES)),
        stopped: false,
        label: "its own prior".into(),
        parameters: Vec::new(),
    });
    cases
}

/// Coverage of such tasks at each k.
fn truths(family: &Family) -> Vec<f64> {
    let solved = |p: f64, k: f64| -(k * (-p).ln_1p()).exp_m1();
    let at = |k: f64| match family {
        Family::Beta(difficulty) => difficulty.coverage(k),
        Family::Curve(curve) => curve.coverage(k),
        Family::Table(points) => points.iter().map(|(p, weight)| weight * solved(*p, k)).sum(),
        family => {
            let mut random = Random::new(SEED, u64::MAX);
            (0..DRAWS).map(|_| solved(family.draw(&mut random), k)).sum::<f64>() / f64::from(DRAWS)
        }
    };
    AT.into_iter().map(at).collect()
}
