//! Two ways to run the same tasks, side by side.
//!
//! Both met the same tasks, so tasks are resampled in pairs: how hard a task is cancels out, and what is left is what the
//! ways differ by. A resample carries the samples, seconds and joules of its tasks together.

use crate::interval::{Interval, REPLICATES, of_draws};
use crate::law::LEVEL;
use crate::metrics::Coverage;
use crate::random::Random;
use serde::{Deserialize, Serialize};

/// What one task took, and what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TaskRun {
    /// Samples that were judged, and those that passed.
    pub samples: u32,
    /// See `samples`.
    pub passed: u32,
    /// Seconds from question to answer.
    pub seconds: f64,
    /// Joules; missing where nothing covers them.
    pub joules: Option<f64>,
}

impl TaskRun {
    fn solved(&self) -> f64 {
        f64::from(u8::from(self.passed > 0))
    }

    fn pass_at_1(&self) -> f64 {
        if self.samples == 0 { 0.0 } else { f64::from(self.passed) / f64::from(self.samples) }
    }
}

/// A figure and its 95 % interval over resampled tasks; the interval is missing for fewer than two tasks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Over the tasks as they were.
    pub value: f64,
    /// Over resamples of them.
    pub interval: Option<Interval>,
}

/// What one way differs by from another.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Contrast {
    /// Joules over the other's, less 1, in per cent; missing where a task has none.
    pub energy_percent: Option<Figure>,
    /// Mean seconds of a task over the other's, less 1, in per cent.
    pub latency_percent: Figure,
    /// Difference of the share of tasks solved, in points.
    pub coverage_points: Figure,
    /// Difference of pass@1, in points.
    pub pass_at_1_points: Figure,
}

/// `ours` against `theirs`, task by task in the same order; `None` where there is none or not as many.
pub fn contrast(ours: &[TaskRun], theirs: &[TaskRun], seed: u64) -> Option<Contrast> {
    if ours.is_empty() || ours.len() != theirs.len() {
        return None;
    }
    let paired = |value: &dyn Fn(&[usize]) -> Option<f64>| {
        let all: Vec<usize> = (0..ours.len()).collect();
        let draws: Option<Vec<f64>> = resamples(ours.len(), seed).map(|tasks| value(&tasks)).collect();
        let interval = draws.filter(|_| ours.len() > 1).and_then(|draws| of_draws(&draws, LEVEL));
        Some(Figure { value: value(&all)?, interval })
    };
    let sum = |runs: &[TaskRun], tasks: &[usize], of: &dyn Fn(&TaskRun) -> f64| {
        tasks.iter().map(|&task| of(&runs[task])).sum::<f64>()
    };
    let percent = |of: &dyn Fn(&TaskRun) -> f64| {
        paired(&|tasks| {
            let ratio = sum(ours, tasks, of) / sum(theirs, tasks, of);
            ratio.is_finite().then_some(100.0 * (ratio - 1.0))
        })
    };
    let points = |of: &dyn Fn(&TaskRun) -> f64| {
        paired(&|tasks| Some(100.0 * (sum(ours, tasks, of) - sum(theirs, tasks, of)) / tasks.len() as f64))
    };
    let known = ours.iter().chain(theirs).all(|run| run.joules.is_some());
    Some(Contrast {
        energy_percent: if known { percent(&|run| run.joules.unwrap_or(0.0)) } else { None },
        latency_percent: percent(&|run| run.seconds)?,
        coverage_points: points(&TaskRun::solved)?,
        pass_at_1_points: points(&TaskRun::pass_at_1)?,
    })
}

/// The share of tasks solved, with resamples that carry the joules (or, where there are none, the seconds) of their tasks;
/// `samples` a task. `None` without a task.
pub fn coverage(runs: &[TaskRun], samples: u32, seed: u64) -> Option<Coverage> {
    if runs.is_empty() {
        return None;
    }
    let known = runs.iter().all(|run| run.joules.is_some_and(|joules| joules > 0.0));
    let spend = |run: &TaskRun| if known { run.joules.unwrap_or(0.0) } else { run.seconds };
    let count = runs.len() as f64;
    let all: f64 = runs.iter().map(spend).sum();
    let (mut draws, mut spends) = (Vec::new(), Vec::new());
    for tasks in resamples(runs.len(), seed) {
        draws.push(tasks.iter().map(|&task| runs[task].solved()).sum::<f64>() / count);
        spends.push(tasks.iter().map(|&task| spend(&runs[task])).sum::<f64>() / all);
    }
    let share = runs.iter().map(TaskRun::solved).sum::<f64>() / count;
    Some(Coverage { samples, share, draws, spend: spends })
}

/// Resamples of so many tasks, the same for the same seed.
fn resamples(tasks: usize, seed: u64) -> impl Iterator<Item = Vec<usize>> {
    (0..REPLICATES).map(move |replicate| {
        let mut random = Random::new(seed, u64::from(replicate));
        (0..tasks).map(|_| random.below(tasks)).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(count: u32, factor: f64) -> Vec<TaskRun> {
        let run = |task: u32| TaskRun {
            samples: 4,
            passed: task % 5,
            seconds: factor * f64::from(1 + task % 7),
            joules: Some(10.0 * factor * f64::from(1 + task % 7)),
        };
        (0..count).map(run).collect()
    }

    #[test]
    fn the_same_tasks_at_half_the_cost_are_exactly_that() {
        let found = contrast(&runs(40, 0.5), &runs(40, 1.0), 1).unwrap();
        for figure in [found.energy_percent.unwrap(), found.latency_percent] {
            assert!((figure.value + 50.0).abs() < 1e-9);
            // Pairs: however uneven the tasks are, each takes half.
            let interval = figure.interval.unwrap();
            assert!(interval.high - interval.low < 1e-9, "{interval:?}");
        }
        assert_eq!(found.coverage_points.value, 0.0);
        assert_eq!(found.pass_at_1_points.interval.unwrap(), Interval { low: 0.0, high: 0.0 });
    }

    #[test]
    fn a_difference_by_chance_has_an_interval_that_holds_none() {
        let mut other = runs(50, 1.0);
        other.rotate_left(7);
        let found = contrast(&runs(50, 1.0), &other, 1).unwrap();
        let interval = found.pass_at_1_points.interval.unwrap();
        assert!(interval.low < 0.0 && interval.high > 0.0, "{interval:?}");
        assert!(interval.holds(found.pass_at_1_points.value));
    }

    #[test]
    fn what_is_missing_stays_missing() {
        let mut dark = runs(10, 1.0);
        dark[3].joules = None;
        assert!(contrast(&dark, &runs(10, 1.0), 1).unwrap().energy_percent.is_none());
        assert_eq!(contrast(&dark, &runs(9, 1.0), 1), None);
        assert_eq!(contrast(&[], &[], 1), None);
        let one = contrast(&runs(1, 1.0), &runs(1, 2.0), 1).unwrap();
        assert_eq!(one.latency_percent.interval, None);
    }

    #[test]
    fn coverage_draws_carry_their_spend() {
        let found = coverage(&runs(35, 1.0), 4, 2).unwrap();
        assert!((found.share - 0.8).abs() < 1e-12);
        assert_eq!((found.draws.len(), found.spend.len()), (REPLICATES as usize, REPLICATES as usize));
        let mean = found.spend.iter().sum::<f64>() / f64::from(REPLICATES);
        assert!((mean - 1.0).abs() < 0.02, "{mean}");
    }
}
