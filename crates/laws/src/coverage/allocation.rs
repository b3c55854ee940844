//! Which task gets the next sample: the one whose expected gain in coverage per joule is greatest.
//!
//! A task that is solved has nothing to gain. An unsolved one gains one task of coverage with the posterior probability
//! that its next sample passes, given how often it failed, at the energy that a sample of it is expected to cost. Taking
//! the greatest ratio looks one sample ahead, and needs to look no further: with every failure a task's posterior pass
//! probability falls, so its best rate is always the next sample's, which makes the ratio its Gittins index (Gittins
//! 1979) and the greedy order the best one for a known distribution of difficulties.
//!
//! That distribution is learned on the way. All tasks together give one [`Graded`] difficulty; tasks of one kind give
//! their own, drawn towards the common one, so that a kind which is solved at once is sampled before one that never is.
//! Both are fitted anew as outcomes come in, by the likelihood that holds for adaptive data (see [`super::beta`]), under
//! a weak hyperprior that works from no outcome at all.
//!
//! **Order.** A task's grade is its place among those of its kind, from −1 for the first to 1 for the last. Many sets are
//! graded, each kind from its easiest task to its hardest (the one that comes with QEIL is); there most samples would go
//! to tasks at the hard end, whose failures look like bad luck to who does not know where they stand. Nothing is assumed
//! of the direction: a slope is learned from outcomes like everything else, and on a shuffled set it stays near none.
//!
//! **In flight.** Several samples run at once. One whose outcome is not known counts as if it had failed: a second
//! sample of its task is taken only if it is worth it even then. A task that passes while others of its samples are in
//! flight is done; what those bring is recorded like any other outcome, since they were chosen before it was known. A
//! sample that is cancelled instead is [`Allocator::abandon`]ed and leaves no trace; cancel only regardless of how the
//! sample goes (not the long ones first), or the estimates of adaptive data are no longer unbiased.

use super::beta::{Difficulty, Hyperprior};
use super::graded::{Graded, Slope, by_grade};
use super::{Counts, Tally};

/// A task's own energy counts as much as this many samples of the average task: the first tells little, since lengths
/// of answers vary by about their mean.
const ENERGY_PRIOR_SAMPLES: f64 = 2.0;
/// The difficulties are fitted anew when outcomes have grown by one part in this many: the fit then lags by 5 %.
const REFIT_PART: u64 = 10;
/// Rates that differ by less than this share are equal, and the task with fewer samples goes first.
const RATE_TIE: f64 = 1e-9;
/// How steep the slope of all tasks is believed to be: at one deviation either way, the odds of a pass change by e⁴
/// between a kind's first task and its last, from mostly solved to hardly ever.
const SLOPE: Slope = Slope { centre: 0.0, deviation: 2.0 };
/// How far a kind's slope lies from that of all tasks: what grades one kind of a set grades the others.
const SLOPE_OF_KIND: f64 = 0.5;
/// How far the logarithm of a kind's shape lies from that of all tasks: kinds differ in how hard they are more than in
/// how much their tasks differ, of which a dozen tasks say little.
const SHAPE_OF_KIND: f64 = 0.5;

/// What the next sample of a task is expected to bring.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prospect {
    /// Probability that it passes.
    pub pass_probability: f64,
    /// What it costs, in the unit of the recorded costs (joules); 1 where none was recorded.
    pub energy_j: f64,
}

impl Prospect {
    /// Expected tasks solved per joule.
    pub fn gain_per_j(&self) -> f64 {
        self.pass_probability / self.energy_j
    }
}

/// What is known of one task.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Progress {
    samples: u32,
    correct: u32,
    in_flight: u32,
    energy_j: f64,
    energy_samples: u32,
}

/// Picks tasks for samples and learns from what comes of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Allocator {
    kinds: Vec<usize>,
    grades: Vec<f64>,
    tasks: Vec<Progress>,
    samples_max: u32,
    outcomes: u64,
    fitted_at: u64,
    common: Graded,
    /// What is believed of each task before its own outcomes.
    priors: Vec<Difficulty>,
}

impl Allocator {
    /// For one task for each entry of `kinds`, which says of what kind it is (any numbers; all the same where kinds are
    /// unknown), in the order of the set. No task gets more than `samples_max` samples.
    pub fn new(kinds: &[u32], samples_max: u32) -> Self {
        let mut known = kinds.to_vec();
        known.sort_unstable();
        known.dedup();
        let kinds: Vec<usize> =
            kinds.iter().map(|kind| known.partition_point(|other| other < kind)).collect();
        let common = Difficulty::fit(&Tally::default(), &Hyperprior::WEAK);
        Self {
            grades: grades(&kinds),
            tasks: vec![Progress::default(); kinds.len()],
            samples_max,
            outcomes: 0,
            fitted_at: 0,
            common: Graded::level(common),
            priors: vec![common; kinds.len()],
            kinds,
        }
    }

    /// The unsolved task whose next sample gains most per joule, marked as being in flight; missing where every task is
    /// solved or has all its samples.
    pub fn pick(&mut self) -> Option<usize> {
        self.refit();
        let mean_energy_j = self.mean_energy_j();
        let mut best: Option<(usize, f64, u32)> = None;
        for task in 0..self.tasks.len() {
            let Some(prospect) = self.prospect_at(task, mean_energy_j) else { continue };
            let (rate, drawn) = (prospect.gain_per_j(), self.drawn(task));
            let better = best.is_none_or(|(_, best_rate, best_drawn)| {
                rate > best_rate * (1.0 + RATE_TIE)
                    || (rate >= best_rate * (1.0 - RATE_TIE) && drawn < best_drawn)
            });
            if better {
                best = Some((task, rate, drawn));
            }
        }
        let (task, ..) = best?;
        self.tasks[task].in_flight += 1;
        Some(task)
    }

    /// A sample of `task` ended, and what it cost where that is known. Samples that were never picked, such as those of
    /// an earlier run that is resumed, are recorded the same way.
    pub fn record(&mut self, task: usize, passed: bool, energy_j: Option<f64>) {
        let progress = &mut self.tasks[task];
        progress.in_flight = progress.in_flight.saturating_sub(1);
        progress.samples += 1;
        progress.correct += u32::from(passed);
        if let Some(energy_j) = energy_j.filter(|energy_j| energy_j.is_finite() && *energy_j > 0.0) {
            progress.energy_j += energy_j;
            progress.energy_samples += 1;
        }
        self.outcomes += 1;
    }

    /// A sample of `task` that was picked will not end.
    pub fn abandon(&mut self, task: usize) {
        self.tasks[task].in_flight = self.tasks[task].in_flight.saturating_sub(1);
    }

    /// What one more sample of `task` would bring, those in flight counted as failed; missing where it is solved or has
    /// all its samples.
    pub fn prospect(&self, task: usize) -> Option<Prospect> {
        self.prospect_at(task, self.mean_energy_j())
    }

    fn prospect_at(&self, task: usize, mean_energy_j: Option<f64>) -> Option<Prospect> {
        let progress = &self.tasks[task];
        if progress.correct > 0 || self.drawn(task) >= self.samples_max {
            return None;
        }
        let posterior = self.priors[task].posterior(self.drawn(task), 0);
        Some(Prospect {
            pass_probability: posterior.pass_probability(),
            energy_j: self.energy_j(task, mean_energy_j),
        })
    }

    /// Whether a sample of `task` has passed.
    pub fn is_solved(&self, task: usize) -> bool {
        self.tasks[task].correct > 0
    }

    /// How many tasks are solved.
    pub fn solved(&self) -> usize {
        self.tasks.iter().filter(|progress| progress.correct > 0).count()
    }

    /// Samples in flight, over all tasks.
    pub fn in_flight(&self) -> u32 {
        self.tasks.iter().map(|progress| progress.in_flight).sum()
    }

    /// What has been recorded, task by task, marked as stopped by outcomes.
    pub fn counts(&self) -> Vec<Counts> {
        let of = |progress: &Progress| Counts {
            samples: progress.samples,
            correct: progress.correct,
            stopped: true,
        };
        self.tasks.iter().map(of).collect()
    }

    /// How hard the tasks are, as far as is known: all of them together, by their grades.
    pub fn difficulty(&self) -> Graded {
        self.common
    }

    /// Ended samples and those in flight.
    fn drawn(&self, task: usize) -> u32 {
        self.tasks[task].samples + self.tasks[task].in_flight
    }

    /// What a sample costs on average over the tasks, which count equally since the hard ones are sampled most; missing
    /// where no cost was recorded.
    fn mean_energy_j(&self) -> Option<f64> {
        let measured = self.tasks.iter().filter(|progress| progress.energy_samples > 0);
        let (sum, tasks) = measured.fold((0.0, 0u32), |(sum, tasks), progress| {
            (sum + progress.energy_j / f64::from(progress.energy_samples), tasks + 1)
        });
        (tasks > 0).then(|| sum / f64::from(tasks))
    }

    /// What a sample of `task` costs: its own mean, drawn towards the mean over all tasks.
    fn energy_j(&self, task: usize, mean_energy_j: Option<f64>) -> f64 {
        let Some(mean_energy_j) = mean_energy_j else { return 1.0 };
        let own = &self.tasks[task];
        (own.energy_j + ENERGY_PRIOR_SAMPLES * mean_energy_j)
            / (f64::from(own.energy_samples) + ENERGY_PRIOR_SAMPLES)
    }

    fn refit(&mut self) {
        if self.outcomes < self.fitted_at + (self.fitted_at / REFIT_PART).max(1) {
            return;
        }
        self.fitted_at = self.outcomes;
        let counts = self.counts();
        let of = |kind: Option<usize>| {
            let tasks = counts.iter().zip(&self.grades).zip(&self.kinds);
            let own = tasks.filter(|(_, of)| kind.is_none_or(|kind| kind == **of));
            by_grade(own.map(|((counts, grade), _)| (*grade, *counts)))
        };
        self.common = Graded::fit(&of(None), &Hyperprior::WEAK, SLOPE);
        let kinds = self.kinds.iter().max().map_or(0, |last| last + 1);
        let by_kind: Vec<Graded> = if kinds == 1 {
            vec![self.common]
        } else {
            let mut near = Hyperprior::near(self.common.middle);
            near.log_shape[1] = SHAPE_OF_KIND;
            let slope = Slope { centre: self.common.slope, deviation: SLOPE_OF_KIND };
            (0..kinds).map(|kind| Graded::fit(&of(Some(kind)), &near, slope)).collect()
        };
        let places = self.kinds.iter().zip(&self.grades);
        self.priors = places.map(|(kind, grade)| by_kind[*kind].at(*grade)).collect();
    }
}

/// The place of each task among those of its kind, from −1 to 1; 0 where it is the only one.
fn grades(kinds: &[usize]) -> Vec<f64> {
    let mut tasks = vec![0u32; kinds.iter().max().map_or(0, |last| last + 1)];
    let places: Vec<u32> = kinds
        .iter()
        .map(|&kind| {
            tasks[kind] += 1;
            tasks[kind] - 1
        })
        .collect();
    let grade = |(place, kind): (&u32, &usize)| match tasks[*kind] {
        1 => 0.0,
        of => 2.0 * f64::from(*place) / f64::from(of - 1) - 1.0,
    };
    places.iter().zip(kinds).map(grade).collect()
}

#[cfg(test)]
#[path = "allocation_tests.rs"]
mod tests;
