//! What a plan loses where true costs differ from those it was made from: the plan is found in the profile's world and
//! priced in the true one, where an oracle plans with the true costs. `qeil compare simulated` does the same on simulated
//! machines and executes both plans step by step.

use super::spaces::{Size, space};
use qeil_laws::random::Random;
use qeil_plan::cost::{Amount, Prefill};
use qeil_plan::plan::figures_of;
use qeil_plan::{Figures, Goal, Plan, Problem, plan};

/// Deviation of the logarithm of each true cost about its profile: 10 %.
pub const SIGMA: f64 = 0.1;

/// A machine with three devices and three models.
pub const SIZE: Size = Size {
    models: 3,
    devices: 3,
    settings: 2,
    samples_max: 6,
    batches: 8,
    lanes_max: 3,
    ladder_max: 1,
    split: true,
};

/// Shares lost to the oracle on `goal`, one for each seed.
pub fn regrets(goal: Goal, seeds: u64) -> Vec<f64> {
    (0..seeds).map(|seed| regret(goal, seed)).collect()
}

fn regret(goal: Goal, seed: u64) -> f64 {
    let mut profile = space(seed, SIZE);
    // Half of what the best model's samples can solve is asked for, so that doing nothing is no way out.
    let best = profile.models.iter().filter_map(|model| model.coverage.as_ref()?.by_samples.last().copied());
    let mut random = Random::new(seed, 3);
    profile.limits.coverage_min = Some(best.fold(0.0, f64::max) * (0.3 + 0.5 * random.uniform()));
    let truth = perturbed(&profile, SIGMA, seed);
    let planned = plan(&profile, goal).expect("nothing but coverage is limited");
    let oracle = plan(&truth, goal).expect("nothing but coverage is limited");
    carried_out(&truth, &planned, goal) / figure(&oracle, goal) - 1.0
}

/// The goal's figure of a plan's choice under other costs.
fn carried_out(truth: &Problem, planned: &Plan, goal: Goal) -> f64 {
    value(figures_of(truth, &planned.choice.rungs).expect("the choice exists under other costs"), goal)
}

fn figure(planned: &Plan, goal: Goal) -> f64 {
    value(planned.choice.figures, goal)
}

fn value(figures: Figures, goal: Goal) -> f64 {
    match goal {
        Goal::Energy => figures.energy_j.expect("all costs bear joules"),
        Goal::Latency => figures.latency_s,
        Goal::Coverage => figures.coverage.expect("all models have coverage"),
        Goal::Cost => figures.usd.expect("all devices have prices"),
    }
}

/// The same problem with each cost off by a factor of its own, log-normal with deviation `sigma` of the logarithm: one for
/// the seconds and one for the joules of each phase of each offer, and of each transfer. What a machine truly takes,
/// where its profile is that far off.
fn perturbed(problem: &Problem, sigma: f64, seed: u64) -> Problem {
    let mut random = Random::new(seed, 1);
    let mut factor = || (sigma * random.normal()).exp();
    let scaled = |amount: Amount, [s, j]: [f64; 2]| Amount {
        seconds: amount.seconds * s,
        joules: amount.joules.map(|joules| joules * j),
    };
    let mut true_costs = problem.clone();
    for offer in &mut true_costs.offers {
        let by = [factor(), factor()];
        if let Some(prefill) = &mut offer.prefill {
            *prefill = Prefill { fixed: scaled(prefill.fixed, by), per_token: scaled(prefill.per_token, by) };
        }
        let by = [factor(), factor()];
        if let Some(decode) = &mut offer.decode {
            decode.points.iter_mut().for_each(|(_, amount)| *amount = scaled(*amount, by));
            decode.per_context_token = scaled(decode.per_context_token, by);
        }
    }
    for transfer in &mut true_costs.transfers {
        transfer.bytes_per_s /= factor();
        transfer.joules_per_byte *= factor();
    }
    true_costs
}

/// Mean, median and 95th percentile.
pub fn summary(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
    [values.iter().sum::<f64>() / values.len() as f64, at(0.5), at(0.95)]
}
