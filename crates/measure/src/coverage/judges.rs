//! Samples being judged, beside the generation of others.
//!
//! Verifiers block: one runs unit tests of somebody's code for seconds. They work in threads of their own, a bounded
//! number at once, and what waits for them is bounded by the schedule, which starts nothing while they are far behind.

use super::group::Written;
use super::prompts::Asked;
use crate::error::MeasureError;
use qeil_tasks::sandbox::Sandbox;
use qeil_tasks::{Judge, Verdict};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::task::{JoinError, JoinSet};

/// A sample with its verdict.
#[derive(Debug)]
pub struct Judged {
    /// Number of its task.
    pub task: usize,
    /// The sample.
    pub sample: Written,
    /// What the verifier found.
    pub verdict: Verdict,
}

/// See the module's text.
#[derive(Debug)]
pub struct Judges {
    asked: Arc<Vec<Asked>>,
    sandbox: Option<Sandbox>,
    at_once: usize,
    waiting: VecDeque<(usize, Written)>,
    working: JoinSet<Judged>,
    /// What each of those at work is judging, by its id in `working`.
    subjects: Vec<(tokio::task::Id, usize, u32)>,
}

impl Judges {
    /// `at_once` of them, over these tasks.
    pub fn new(asked: Arc<Vec<Asked>>, sandbox: Option<Sandbox>, at_once: usize) -> Self {
        Self {
            asked,
            sandbox,
            at_once: at_once.max(1),
            waiting: VecDeque::new(),
            working: JoinSet::new(),
            subjects: Vec::new(),
        }
    }

    /// Samples that no judge has taken up yet.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether there is nothing to judge.
    pub fn is_idle(&self) -> bool {
        self.working.is_empty() && self.waiting.is_empty()
    }

    /// Hand in a sample.
    pub fn take(&mut self, task: usize, sample: Written) {
        self.waiting.push_back((task, sample));
        self.work();
    }

    /// The next verdict; `None` where nothing is being judged.
    ///
    /// # Errors
    /// When a verifier ended its thread.
    pub async fn next(&mut self) -> Option<Result<Judged, MeasureError>> {
        let judged = self.working.join_next_with_id().await?;
        let id = match &judged {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let subject = self.subjects.iter().position(|(known, ..)| *known == id);
        let subject = subject.map(|at| self.subjects.swap_remove(at));
        self.work();
        Some(judged.map(|(_, judged)| judged).map_err(|_: JoinError| {
            let (task, sample) = subject
                .map_or((String::new(), 0), |(_, task, sample)| (self.asked[task].task.id.clone(), sample));
            MeasureError::Verifier { task, sample }
        }))
    }

    fn work(&mut self) {
        while self.working.len() < self.at_once
            && let Some((task, sample)) = self.waiting.pop_front()
        {
            let (asked, sandbox) = (Arc::clone(&self.asked), self.sandbox.clone());
            let number = sample.number;
            let handle = self.working.spawn_blocking(move || {
                let judge = Judge { sandbox: sandbox.as_ref() };
                let verdict = asked[task].task.verifier.verify(&sample.text, &judge);
                Judged { task, sample, verdict }
            });
            self.subjects.push((handle.id(), task, number));
        }
    }
}
