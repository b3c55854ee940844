//! Plans carried out: the mean over many tasks is what was expected.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod spaces;

use qeil_laws::random::Random;
use qeil_plan::problem::Stop;
use qeil_plan::trial::carry_out;
use qeil_plan::{Goal, plan};
use spaces::{Size, space};

#[test]
fn a_mean_over_tasks_comes_to_what_was_expected() {
    let size = Size {
        models: 2,
        devices: 3,
        settings: 1,
        samples_max: 6,
        batches: 2,
        lanes_max: 3,
        ladder_max: 1,
        split: true,
    };
    let mut shared_out = 0;
    for seed in 0..8 {
        let mut problem = space(seed, size);
        problem.menu.stops = vec![Stop::All, Stop::UntilPass];
        // Every sample of a task is as hard as the other: C(k) = 1 − (1 − p)^k.
        let pass = [0.15, 0.3];
        for (model, p) in problem.models.iter_mut().zip(pass) {
            let coverage = model.coverage.as_mut().unwrap();
            coverage.by_samples = (1..=6).map(|k| 1.0 - (1.0f64 - p).powi(k)).collect();
        }
        let planned = plan(&problem, Goal::Energy).unwrap();
        let mut random = Random::new(seed, 7);
        let tasks = 200_000;
        for candidate in planned.front.iter().step_by(planned.front.len().div_ceil(12)) {
            shared_out += usize::from(candidate.rungs[0].lanes.len() > 1);
            let trials =
                carry_out(&problem, &candidate.rungs, tasks, |_, model| random.uniform() < pass[model])
                    .unwrap();
            let mean = |of: &dyn Fn(&qeil_plan::trial::Trial) -> f64| {
                trials.iter().map(of).sum::<f64>() / tasks as f64
            };
            let figures = candidate.figures;
            for (what, got, expected) in [
                ("seconds", mean(&|trial| trial.seconds), figures.latency_s),
                ("joules", mean(&|trial| trial.joules), figures.energy_j.unwrap()),
                ("coverage", mean(&|trial| f64::from(u8::from(trial.solved))), figures.coverage.unwrap()),
            ] {
                // Two hundred thousand tasks: a standard error of half a per cent where 15 % are solved.
                assert!(
                    (got / expected - 1.0).abs() < 0.03,
                    "seed {seed}: {what} {got} instead of {expected}"
                );
            }
        }
    }
    assert!(shared_out > 0, "no plan that was carried out shares samples out over devices");
}
