//! Coverage: what share of tasks k samples solve, by estimators, by laws, and by spending samples well.
//!
//! The data are counts: task i was sampled nᵢ times and passed cᵢ times. Two questions are asked of them. What would k
//! samples have solved? Where nᵢ ≥ k for every task and nᵢ was fixed beforehand, [`pass`] answers without any
//! assumption. What will more samples solve than were drawn? Then a law must say how many tasks are how much harder than
//! the drawn samples can show, and the laws here differ in nothing else.
//!
//! | module | job |
//! |---|---|
//! | [`pass`] | unbiased pass@k |
//! | [`beta`] | beta-binomial law, with or without unsolvable tasks |
//! | [`graded`] | the same where tasks get harder, or easier, along the set |
//! | [`curve`] | laws of the curve alone: `exp(−a·k^−b)` and `1 − exp(−α·k^β)` |
//! | [`populations`] | two populations of tasks, averaged over all that the data leave open |
//! | [`first_pass`] | how likely a curve makes the first passes: the score that all laws share |
//! | [`study`] | all laws of one model: intervals, held-out deviance, which one to go by |
//! | [`joint`] | how coverage depends on the size of the model |
//! | [`simulation`] | tasks made up from known laws |
//! | [`allocation`] | which task gets the next sample |
//! | [`agreement`] | when enough samples agree |

pub mod agreement;
pub mod allocation;
pub mod beta;
pub mod curve;
pub mod first_pass;
pub mod graded;
pub mod joint;
pub mod pass;
pub mod populations;
mod simplex;
pub mod simulation;
mod spread;
pub mod study;

use crate::random::Random;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Why there is no coverage.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CoverageError {
    /// Nothing to speak of.
    #[error("there is no task: give the counts of at least one")]
    NoTasks,
    /// More passes than samples.
    #[error("{correct} passes of {samples} samples cannot be: passes are counted among the samples")]
    Counts {
        /// Samples.
        samples: u32,
        /// Passes.
        correct: u32,
    },
    /// pass@k of a task whose number of samples depended on their outcomes.
    #[error(
        "task {task} (from 0) was stopped by its outcomes, so pass@k would be biased: fit a law, or sample every task \
         equally often"
    )]
    Stopped {
        /// Which task, from 0.
        task: usize,
    },
}

/// What came of sampling one task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Counts {
    /// Samples drawn.
    pub samples: u32,
    /// Samples that passed.
    pub correct: u32,
    /// Whether the number of samples depended on their outcomes (stopped at the first pass, say).
    pub stopped: bool,
}

impl Counts {
    /// Counts of a number of samples that was fixed beforehand.
    ///
    /// # Errors
    /// More passes than samples.
    pub fn new(samples: u32, correct: u32) -> Result<Self, CoverageError> {
        if correct > samples {
            return Err(CoverageError::Counts { samples, correct });
        }
        Ok(Self { samples, correct, stopped: false })
    }
}

/// How many tasks have which counts: all that a law needs to see.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tally(Vec<(Counts, f64)>);

impl Tally {
    /// Of these tasks. Tasks without a sample say nothing and are left out.
    pub fn new<'a>(counts: impl IntoIterator<Item = &'a Counts>) -> Self {
        let mut found: BTreeMap<Counts, f64> = BTreeMap::new();
        for task in counts.into_iter().filter(|task| task.samples > 0) {
            let correct = task.correct.min(task.samples);
            *found.entry(Counts { correct, ..*task }).or_default() += 1.0;
        }
        Self(found.into_iter().collect())
    }

    /// Samples, passes, and how many tasks have them.
    pub fn rows(&self) -> impl Iterator<Item = (u32, u32, f64)> + '_ {
        self.0.iter().map(|(counts, weight)| (counts.samples, counts.correct, *weight))
    }

    /// The different counts, and how many tasks have them.
    pub fn counts(&self) -> &[(Counts, f64)] {
        &self.0
    }

    /// How many tasks there are.
    pub fn tasks(&self) -> f64 {
        self.0.iter().map(|(_, weight)| weight).sum()
    }

    /// As many tasks, drawn with replacement.
    pub fn resampled(&self, random: &mut Random) -> Self {
        let tasks = self.tasks().round() as usize;
        let mut drawn = vec![0.0; self.0.len()];
        for _ in 0..tasks {
            let mut at = random.below(tasks) as f64;
            for ((_, weight), drawn) in self.0.iter().zip(&mut drawn) {
                if at < *weight {
                    *drawn += 1.0;
                    break;
                }
                at -= weight;
            }
        }
        let rows = self.0.iter().zip(drawn).filter(|(_, drawn)| *drawn > 0.0);
        Self(rows.map(|((counts, _), drawn)| (*counts, drawn)).collect())
    }
}
