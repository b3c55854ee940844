//! How often the intervals of coverage and of the laws' parameters hold the truth, in simulations.
//!
//! `cargo run --release -p qeil-fit --example intervals -- [SIMULATIONS]` draws 128 tasks with 50 samples each from a
//! known law, fits that law and the average over populations, and counts the 95 % intervals that hold the truth.

use qeil_laws::coverage::beta::Difficulty;
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
const NAMES: [&str; 6] = ["coverage at 10", "at 100", "at 500", "alpha", "beta", "unsolvable"];

fn main() {
    let simulations = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(SIMULATIONS);
    let law = |alpha, beta, unsolvable| Difficulty { alpha, beta, unsolvable };
    for (law, truth, stopped) in [
        (Law::BetaBinomial, law(0.5, 5.0, 0.0), false),
        (Law::BetaBinomial, law(0.3, 20.0, 0.0), false),
        (Law::BetaBinomial, law(0.5, 5.0, 0.0), true),
        (Law::ZeroInflated, law(0.8, 8.0, 0.3), false),
    ] {
        let mut truths: Vec<f64> = AT.iter().map(|&k| truth.coverage(k)).collect();
        truths.extend([truth.alpha, truth.beta, truth.unsolvable]);
        for fitted_law in [law, Law::Populations] {
            let mut held = [0u32; NAMES.len()];
            let mut asked = [0u32; NAMES.len()];
            for stream in 0..simulations {
                let mut random = Random::new(SEED, stream);
                let counts: Vec<Counts> = (0..TASKS)
                    .map(|_| {
                        let p = Family::Beta(truth).draw(&mut random);
                        if stopped {
                            until_first_pass(SAMPLES, p, &mut random)
                        } else {
                            fixed(SAMPLES, p, &mut random)
                        }
                    })
                    .collect();
                let tally = Tally::new(&counts);
                let intervals = fitted_law.fit(&tally).intervals(&tally, &AT, 0.95, REPLICATES, stream);
                for (at, interval) in intervals.iter().enumerate() {
                    asked[at] += 1;
                    held[at] += u32::from(interval.is_some_and(|interval| interval.holds(truths[at])));
                }
            }
            let cells: String = (0..NAMES.len())
                .filter(|&at| asked[at] > 0)
                .map(|at| {
                    format!("  {} {:.1} %", NAMES[at], 100.0 * f64::from(held[at]) / f64::from(asked[at]))
                })
                .collect();
            let how = if stopped { "stopped at the first pass" } else { "fixed" };
            println!("{truth:?}, {how}, by {}:{cells}", fitted_law.name());
        }
    }
}
