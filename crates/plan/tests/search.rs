//! What is lost where a space is narrowed: the narrowed search against the exact front, on spaces that both can do.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod spaces;

use qeil_plan::plan::{Effort, Method, plan_within};
use qeil_plan::{Figures, Goal, plan};
use spaces::{Size, space};

fn value(figures: Figures, goal: Goal) -> f64 {
    match goal {
        Goal::Energy => figures.energy_j.unwrap(),
        Goal::Latency => figures.latency_s,
        Goal::Coverage => -figures.coverage.unwrap(),
        Goal::Cost => figures.usd.unwrap(),
    }
}

/// Share of the best model's coverage that is asked for.
const COVERAGE_SHARE: f64 = 0.8;

/// Mean and largest share that the narrowed search loses on the goal.
fn gap(size: Size, effort: Effort, goal: Goal) -> (f64, f64) {
    let seeds = 40;
    let gaps: Vec<f64> = (0..seeds)
        .filter_map(|seed| {
            let mut problem = space(seed, size);
            // Most of what can be solved is asked for, so that one sample is not the answer to all.
            let most = problem.models.iter().map(|model| model.coverage.as_ref().unwrap().at(u32::MAX));
            problem.limits.coverage_min = Some(COVERAGE_SHARE * most.fold(0.0, f64::max));
            let exact = plan(&problem, goal).unwrap();
            assert_eq!(exact.method, Method::Enumerated, "seed {seed}");
            let narrowed = plan_within(&problem, goal, effort).unwrap();
            // A space that is small enough is not narrowed, and has no gap to show.
            let Method::Searched(how) = &narrowed.method else { return None };
            println!("seed {seed}: {how:?}");
            Some(value(narrowed.choice.figures, goal) / value(exact.choice.figures, goal) - 1.0)
        })
        .collect();
    assert!(gaps.len() > seeds as usize / 2, "only {} spaces were narrowed", gaps.len());
    assert!(gaps.iter().all(|gap| *gap > -1e-9), "better than the exact front: {gaps:?}");
    (gaps.iter().sum::<f64>() / gaps.len() as f64, gaps.iter().copied().fold(0.0, f64::max))
}

#[test]
fn narrowing_loses_little() {
    let shared = Size {
        models: 2,
        devices: 3,
        settings: 1,
        samples_max: 8,
        batches: 4,
        lanes_max: 3,
        ladder_max: 1,
        split: true,
    };
    let ladders = Size { models: 3, devices: 2, lanes_max: 2, samples_max: 6, ladder_max: 2, ..shared };
    let few_rungs = Effort { rungs: 4_000, ladders: u64::MAX };
    let few_ladders = Effort { ladders: 1_000, ..Effort::default() };
    for (what, size, effort) in [("samples shared out", shared, few_rungs), ("ladders", ladders, few_ladders)]
    {
        for goal in [Goal::Energy, Goal::Latency, Goal::Cost] {
            let (mean, most) = gap(size, effort, goal);
            println!("{what}, {goal}: mean gap {:.2} %, largest {:.2} %", 100.0 * mean, 100.0 * most);
            assert!(mean < 0.01 && most < 0.05, "{what}, {goal}: {mean} {most}");
        }
    }
}
