//! Coverage: what k samples of each task solve, and what each solved task costs.
//!
//! A run asks a model every task of a set, several times each, judges the answers, and saves every sample as it ends. One
//! worker is kept busy with samples of several tasks at once; samples of one task share the prefill of its prompt. Which
//! sample runs when is decided in a pure state machine that never looks at the clock, so that what a run ends with does
//! not depend on which sample was faster.
//!
//! **What is promised of a resumed run.** A saved sample is never drawn again. What was in flight is drawn again with the
//! same random numbers, and a task's samples count in the order of their numbers. Whether a sample that is drawn again also
//! says the same depends on the engine: floating-point sums may differ with what shares a batch. Under the settings of a
//! `reproducible` plan most do (all, on a quiet machine). Under the faster settings that tuning chooses, a sample drawn
//! again is another draw of the same distribution.
//!
//! | file | its one job |
//! |---|---|
//! | `plan` | what a run is, and the row of a sample |
//! | `schedule` | which samples run next, when a task is settled |
//! | `sequential` | the schedule's choice by expected gain |
//! | `prompts` | tasks into tokens, and the size of the worker |
//! | `group` | one request in flight, as the ends of its samples |
//! | `judges` | verifiers at work beside the generation |
//! | `spend` | joules and CPU seconds while it runs |
//! | `budget` | what it may cost, and why it ended |
//! | `progress` | how far it is |
//! | `outcome` | what a run has so far, task by task |
//! | `run` | the shell around all of these |

mod budget;
mod group;
mod judges;
mod outcome;
mod plan;
mod progress;
mod prompts;
mod run;
mod schedule;
mod sequential;
mod spend;

pub use budget::{Budget, Ended};
pub use outcome::{TaskOutcome, outcomes};
pub use plan::{CoveragePlan, SampleRow, Strategy, TaskLabel};
pub use progress::Progress;
pub use run::{Bench, CoverageEvent, run};
pub use spend::{Sitting, Spent};

#[cfg(test)]
pub(crate) use plan::tests;
