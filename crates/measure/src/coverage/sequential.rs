//! The allocator of `qeil-laws` at work on a schedule.
//!
//! It speaks of tasks that can be solved; those that only vote are not its concern, so the two count tasks differently.

use super::plan::TaskLabel;
use super::schedule::Allocate;
use qeil_laws::coverage::allocation::Allocator;
use std::collections::BTreeMap;

/// See the module's text.
#[derive(Debug)]
pub struct Sequential {
    allocator: Allocator,
    /// Its number of each task that it knows.
    of: Vec<Option<usize>>,
    /// The schedule's number of each of its tasks.
    tasks: Vec<usize>,
}

impl Sequential {
    /// Over these tasks, with at most so many samples each.
    pub fn new(labels: &[TaskLabel], samples_max: u32) -> Self {
        let tasks: Vec<usize> = (0..labels.len()).filter(|&task| !labels[task].votes).collect();
        let mut of = vec![None; labels.len()];
        let mut kinds: BTreeMap<Option<&str>, u32> = BTreeMap::new();
        let mut kind_of = Vec::with_capacity(tasks.len());
        for (at, &task) in tasks.iter().enumerate() {
            of[task] = Some(at);
            let next = kinds.len() as u32;
            kind_of.push(*kinds.entry(labels[task].kind.as_deref()).or_insert(next));
        }
        Self { allocator: Allocator::new(&kind_of, samples_max), of, tasks }
    }
}

impl Allocate for Sequential {
    fn pick(&mut self) -> Option<usize> {
        self.allocator.pick().map(|at| self.tasks[at])
    }

    fn record(&mut self, task: usize, passed: bool, cost: f64) {
        if let Some(at) = self.of[task] {
            self.allocator.record(at, passed, Some(cost));
        }
    }

    fn abandon(&mut self, task: usize) {
        if let Some(at) = self.of[task] {
            self.allocator.abandon(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn voters_are_never_picked_and_numbers_are_the_schedules() {
        let label = |id: &str, votes| TaskLabel { id: id.into(), kind: None, votes };
        let labels = [label("a", true), label("b", false), label("c", true), label("d", false)];
        let mut sequential = Sequential::new(&labels, 2);
        let mut picked: Vec<usize> = std::iter::from_fn(|| sequential.pick()).collect();
        picked.sort_unstable();
        assert_eq!(picked, [1, 1, 3, 3]);
        sequential.abandon(3);
        assert_eq!(sequential.pick(), Some(3));
        sequential.record(1, true, 10.0);
        sequential.abandon(1);
        assert_eq!(sequential.pick(), None, "solved, and the other has its two samples in flight");
    }
}
