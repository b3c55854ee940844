//! What a run has so far, task by task.
//!
//! The rows of a run are replayed through the schedule, so a report counts exactly the samples that decided, and it does
//! not matter whether the run was interrupted, in which order samples ended, or what was drawn beyond a decision.

use super::plan::{CoveragePlan, SampleRow, TaskLabel};
use super::schedule::{Allocate, Mark, Rules, Schedule};
use qeil_laws::coverage::{Counts, agreement};
use std::collections::{BTreeMap, HashMap};

/// One task of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskOutcome<'a> {
    /// The task.
    pub label: &'a TaskLabel,
    /// All its samples, by number.
    pub rows: Vec<&'a SampleRow>,
    /// How many of them count: the leading ones, up to the task's decision.
    pub counted: u32,
    /// Whether it needs nothing more.
    pub settled: bool,
}

impl TaskOutcome<'_> {
    /// The samples that count, by number.
    pub fn counting(&self) -> impl Iterator<Item = &SampleRow> {
        self.rows.iter().copied().filter(|row| row.sample < self.counted)
    }

    /// Samples and passes; `stopped` says whether the run's rules let outcomes decide how many were drawn.
    pub fn counts(&self, stopped: bool) -> Counts {
        let correct = self.counting().filter(|row| row.passed == Some(true)).count() as u32;
        Counts { samples: self.counted, correct, stopped }
    }

    /// Whether a sample that counts passed.
    pub fn is_solved(&self) -> bool {
        self.counting().any(|row| row.passed == Some(true))
    }

    /// The answers of the samples that count, each with its votes, most votes first.
    pub fn votes(&self) -> Vec<(&str, u32)> {
        let mut votes: BTreeMap<&str, u32> = BTreeMap::new();
        for answer in self.counting().filter_map(|row| row.answer.as_deref()) {
            *votes.entry(answer).or_default() += 1;
        }
        let mut votes: Vec<(&str, u32)> = votes.into_iter().collect();
        votes.sort_by_key(|(_, votes)| std::cmp::Reverse(*votes));
        votes
    }
}

/// The tasks of a run, in their order.
pub fn outcomes<'a>(plan: &'a CoveragePlan, samples: &'a [SampleRow]) -> Vec<TaskOutcome<'a>> {
    let schedule = schedule(plan, samples, None);
    let mut rows: HashMap<&str, Vec<&SampleRow>> = HashMap::new();
    for row in samples {
        rows.entry(&row.task).or_default().push(row);
    }
    let outcome = |(task, label): (usize, &'a TaskLabel)| {
        let mut rows = rows.remove(label.id.as_str()).unwrap_or_default();
        rows.sort_by_key(|row| row.sample);
        TaskOutcome { label, rows, counted: schedule.counted(task), settled: schedule.is_settled(task) }
    };
    plan.tasks.iter().enumerate().map(outcome).collect()
}

/// The schedule of a plan, with what is known already.
pub fn schedule(plan: &CoveragePlan, known: &[SampleRow], allocator: Option<Box<dyn Allocate>>) -> Schedule {
    let rules = Rules {
        samples: plan.samples,
        parallel: plan.parallel,
        stop_at_pass: plan.stop_at_pass,
        votes: plan.stop_at_pass.then_some((plan.confidence, agreement::settled)),
    };
    let votes: Vec<bool> = plan.tasks.iter().map(|task| task.votes).collect();
    let mut schedule = Schedule::new(&votes, rules, allocator);
    let place: HashMap<&str, usize> =
        plan.tasks.iter().enumerate().map(|(at, task)| (task.id.as_str(), at)).collect();
    for row in known {
        if let Some(&task) = place.get(row.task.as_str()) {
            schedule.known(task, row.sample, cost(row), mark(row));
        }
    }
    schedule
}

/// What one more sample like this one would cost, in tokens, the same unit for all: what it says, and the step that starts
/// it. The task's prompt is computed by then, and waits in the worker's cache.
pub fn cost(row: &SampleRow) -> f64 {
    f64::from(row.tokens) + 1.0
}

/// What a sample shows.
pub fn mark(row: &SampleRow) -> Mark<'_> {
    match (row.passed, &row.answer) {
        (Some(true), _) => Mark::Passed,
        (None, Some(answer)) => Mark::Vote(answer),
        // A sample without an answer votes for nobody.
        (Some(false), _) | (None, None) => Mark::Failed,
    }
}

/// Tasks that can be solved.
pub fn solvable(plan: &CoveragePlan) -> usize {
    plan.tasks.iter().filter(|task| !task.votes).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coverage::plan::tests::{plan, row};

    #[test]
    fn what_counts_is_what_decided() {
        // task a: its third sample passes, a later one ended first and is surplus; task b: the second is missing
        let samples = [
            row("a", 3, true),
            row("a", 0, false),
            row("a", 1, false),
            row("a", 2, true),
            row("b", 0, false),
            row("b", 2, true),
        ];
        let plan = plan();
        let found = outcomes(&plan, &samples);
        let of =
            |at: usize| (found[at].counted, found[at].settled, found[at].is_solved(), found[at].rows.len());
        assert_eq!(of(0), (3, true, true, 4));
        assert_eq!(of(1), (1, false, false, 2), "nobody knows yet whether the second one passed");
        assert_eq!(found[0].counts(true), Counts { samples: 3, correct: 1, stopped: true });
        let all = CoveragePlan { stop_at_pass: false, ..plan };
        let found = outcomes(&all, &samples);
        assert_eq!(found[0].counts(false), Counts { samples: 4, correct: 2, stopped: false });
    }

    #[test]
    fn votes_are_counted_up_to_the_decision() {
        let mut plan = plan();
        plan.samples = 8;
        plan.tasks[0].votes = true;
        let said = |sample, answer: Option<&str>| SampleRow {
            passed: None,
            answer: answer.map(str::to_owned),
            ..row("a", sample, false)
        };
        let samples: Vec<SampleRow> =
            ["x", "x", "y", "x", "x", "x", "x", "x"].iter().zip(0..).map(|(a, n)| said(n, Some(a))).collect();
        let found = outcomes(&plan, &samples);
        assert_eq!(found[0].votes(), [("x", 5), ("y", 1)], "more could not change it");
        assert!(found[0].settled);
        let undecided = [said(0, Some("x")), said(1, None)];
        let found = outcomes(&plan, &undecided);
        assert_eq!((found[0].votes(), found[0].counted, found[0].settled), (vec![("x", 1)], 2, false));
    }
}
